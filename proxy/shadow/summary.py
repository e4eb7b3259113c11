"""An experiment as the API, the live page and the reports show it."""

from __future__ import annotations

from math import isfinite
from typing import Any

from policies.trial import Reading, State
from proxy.shadow.experiment import COMPLETED, DROPPED, FAILED, Experiment
from proxy.shadow.standing import Tally, readings
from proxy.shadow.terms import Gauge, Terms
from proxy.shadow.words import next_step


def summary(experiment: Experiment, tally: Tally, waiting: int) -> dict[str, Any]:
    """As it stands in this process. `waiting`: pairs under way or waiting, of all experiments.

    The confidence sequences cost milliseconds: call it in a thread, with a copy of the experiment's tally.
    """
    terms = experiment.terms
    stands = {
        "state": "paused" if experiment.paused and experiment.state is State.RUNNING else experiment.state.value,
        "label": experiment.label,
        "why": experiment.why,
    }
    return {
        **about(terms),
        **stands,
        "next": next_step(terms, stands, tally),
        "units": tally.units,
        "metrics": metrics(terms, tally),
        "accounting": accounting(experiment.counts),
        "spent_usd": round(experiment.budget.spent, 6),
        "spent_today_usd": round(experiment.budget.spent_today, 6),
        "waiting": waiting,
    }


def about(terms: Terms) -> dict[str, Any]:
    judge = terms.primary.judge if terms.primary is not None else None
    return {
        "name": terms.name,
        "routes": list(terms.routes),
        "candidate": terms.candidate,
        "vendor": terms.vendor,
        "rate": terms.rate,
        "alpha": terms.alpha,
        "max_units": terms.max_units,
        "budget": {"per_day_usd": terms.per_day, "total_usd": terms.total},
        "primary": terms.primary.name if terms.primary is not None else None,
        "judge": None if judge is None else {"model": judge.model, "hash": judge.hash, "rubric": judge.rubric},
        "version": terms.version,
    }


def metrics(terms: Terms, tally: Tally) -> list[dict[str, Any]]:
    """The primary first, then the guardrails."""
    primary, guardrails = readings(terms, tally)
    read = guardrails if primary is None else [primary, *guardrails]
    return [_metric(gauge, one, terms) for gauge, one in zip(terms.gauges, read, strict=True)]


def _metric(gauge: Gauge, reading: Reading, terms: Terms) -> dict[str, Any]:
    return {
        "name": gauge.name,
        "rule": gauge.rule,
        "role": "primary" if gauge == terms.primary else "guardrail",
        "n": reading.n,
        "is_ratio": reading.is_ratio,
        "estimate": reading.estimate,
        "low": _number(reading.interval.low),
        "high": _number(reading.interval.high),
        "bound": reading.bound,
        "standing": "harmed"
        if reading.harmed
        else "shown"
        if reading.shown
        else "open"
        if reading.n
        else "not applicable",
    }


def accounting(counts: dict[str, int]) -> dict[str, Any]:
    """eligible = sampled + unsampled; sampled = completed + failed + dropped + under way."""
    dropped = {reason: counts.get(f"dropped.{reason}", 0) for reason in DROPPED}
    sampled, completed, failed = (counts.get(what, 0) for what in ("sampled", COMPLETED, FAILED))
    return {
        "eligible": counts.get("eligible", 0),
        "sampled": sampled,
        "unsampled": counts.get("unsampled", 0),
        "completed": completed,
        "failed": failed,
        "dropped": dropped,
        "under_way": sampled - completed - failed - sum(dropped.values()),
    }


def _number(value: float) -> float | None:
    return value if isfinite(value) else None
