"""The report of one experiment as plain data, from the store alone, so that it can be had while nothing runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson

from policies import evidence
from policies.trial import State
from proxy.measure.store.ledger import Event, Ledger
from proxy.shadow.scores import CENTRE
from proxy.shadow.standing import Tally, judged, tally_of
from proxy.shadow.summary import about, accounting, metrics
from proxy.shadow.terms import Gauge, Terms
from proxy.shadow.words import next_step, warnings
from proxy.shadow.worst import worst

Json = dict[str, Any]
_POINTS = 40
"""Of the picture over units."""

_OF = "WHERE experiment = ? AND version = ?"
_UNITS = f"SELECT unit, count(*) AS calls FROM v_shadow_pairs {_OF} GROUP BY 1 ORDER BY 2 DESC LIMIT 1"  # noqa: S608
_DIFFERENCES = f"SELECT bin FROM v_shadow_scores {_OF} AND metric = ? AND bin IS NOT NULL ORDER BY pair_no"  # noqa: S608
_DAYS = (
    f"SELECT substr(at, 1, 10) AS day, bin, count(*) AS n FROM v_shadow_scores {_OF}"  # noqa: S608
    " AND metric = ? AND bin IS NOT NULL GROUP BY 1, 2 ORDER BY 1"
)
_DIFFERENTLY = (
    "SELECT value AS difference, count(*) AS pairs FROM v_shadow_pairs, json_each(differences)"  # noqa: S608
    f" {_OF} GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 20"
)
_MEANS = (
    "SELECT metric, count(*) AS n, avg(primary_score) AS primary_mean, avg(candidate_score) AS candidate_mean"  # noqa: S608
    f" FROM v_shadow_scores {_OF} GROUP BY 1"
)
_ARMS = (
    "SELECT at, stream, primary_ttft_ms, candidate_ttft_ms, primary_e2e_ms, candidate_e2e_ms, primary_cost_usd,"  # noqa: S608
    " candidate_cost_usd, primary_cached_tokens > 0 AS primary_cached, candidate_cached_tokens > 0 AS candidate_cached,"
    " primary_outcome, candidate_outcome, primary_error_kind, candidate_error_kind, served_outcome, usd_source,"
    " primary_output_tokens, candidate_output_tokens"
    f" FROM v_shadow_pairs {_OF}"
)


def names(ledger: Ledger) -> list[str]:
    """Every experiment that the store knows, the oldest first."""
    rows = ledger.rows("SELECT experiment FROM shadow_events WHERE event = 'started' GROUP BY 1 ORDER BY min(n)")
    return [row["experiment"] for row in rows]


def terms_of_record(ledger: Ledger, name: str) -> Terms | None:
    """As it began last."""
    started = [one for one in ledger.events(0) if one.experiment == name and one.event == "started"]
    return Terms.loaded(started[-1].detail) if started else None


def report(ledger: Ledger, name: str, day: str) -> Json | None:
    """None where the store knows no such experiment. `day`: today, as in the records."""
    events = [event for event in ledger.events(0) if event.experiment == name]
    started = [event for event in events if event.event == "started"]
    if not started:
        return None
    terms = Terms.loaded(started[-1].detail)
    events = [event for event in events if event.version in (terms.version, "")]
    known = ledger.restore(name, terms.version, day)
    tally = tally_of(known)
    which = (name, terms.version)
    arms = ledger.rows(_ARMS, which)
    lead = terms.gauges[0] if terms.gauges else None
    made: Json = {
        **about(terms),
        **_state(terms, tally, events),
        "units": tally.units,
        "metrics": metrics(terms, tally),
        "accounting": accounting(known.counts),
        "spent_usd": known.spent.total,
        "spent_today_usd": known.spent_today.total,
        "judge_usd": known.spent.judge,
        "similarity_usd": known.spent.similarity,
        "since": started[-1].at,
        "pace": _pace(arms, tally.units),
        "arms": {arm: _arm(arm, arms) for arm in ("primary", "candidate")},
        "served_errors": sum(row["served_outcome"] not in ("ok", "client_error") for row in arms),
        "pairs": len(arms),
        "assumed_prices": any(row["usd_source"] for row in arms),
        "means": ledger.rows(_MEANS, which),
        "largest_unit": next(iter(ledger.rows(_UNITS, which)), None),
        "days": _days(ledger, terms, lead) if lead is not None else [],
        "judge_centre": _centre(terms, tally),
        "asked_differently": ledger.rows(_DIFFERENTLY, which),
        "course": _course(ledger, terms, lead) if lead is not None and not lead.is_ratio else [],
        "worst": worst(ledger, terms, lead) if lead is not None else [],
        "events": [{"at": one.at, "event": one.event, "detail": _detail(one)} for one in events],
    }
    made["warnings"] = warnings(made)
    made["next"] = next_step(terms, made, tally)
    return made


def _detail(event: Event) -> Json:
    return {} if event.event == "started" else dict(orjson.loads(event.detail))


def _state(terms: Terms, tally: Tally, events: Sequence[Event]) -> Json:
    """What was latched, if anything was; else what the counts say now."""
    latched = [event for event in events if event.event == "verdict"]
    paused = [event.event for event in events if event.event in ("paused", "resumed")][-1:] == ["paused"]
    if latched:
        found = orjson.loads(latched[-1].detail)
        return {
            "state": found["state"],
            "label": found["label"],
            "why": found["why"],
            "decided": {"at": latched[-1].at, "units": found["units"]},
        }
    now = judged(terms, tally)
    state = "paused" if paused and now.state is State.RUNNING else now.state.value
    return {"state": state, "label": now.label, "why": now.why, "decided": None}


def _days(ledger: Ledger, terms: Terms, lead: Gauge) -> list[Json]:
    """The leading metric day by day, each with its own confidence sequence: whether the difference drifts."""
    by_day: dict[str, dict[int, int]] = {}
    for row in ledger.rows(_DAYS, (terms.name, terms.version, lead.name)):
        by_day.setdefault(row["day"], {})[row["bin"]] = row["n"]
    return [{"day": day, "n": evidence.total(counts), **_around(counts, terms)} for day, counts in by_day.items()]


def _centre(terms: Terms, tally: Tally) -> Json | None:
    """How the judge takes two answers of the primary; None where it was never asked."""
    counts = tally.counts.get(CENTRE)
    return {"n": evidence.total(counts), **_around(counts, terms)} if counts else None


def _around(counts: evidence.Counts, terms: Terms) -> Json:
    low, high = evidence.sequence(counts, terms.alpha)
    return {"mean": evidence.mean(counts), "low": low, "high": high}


def _pace(arms: Sequence[Mapping[str, Any]], units: int) -> Json:
    """Units a day and calls a unit, from what there was; None where a day is too far to be seen."""
    if len(arms) < 2:
        return {"units_per_day": None, "calls_per_unit": None}
    first, last = (datetime.fromisoformat(row["at"]) for row in (arms[0], arms[-1]))
    days = (last - first).total_seconds() / 86_400
    per_day = units / days if days > 1 / 24 else None
    return {"units_per_day": per_day, "calls_per_unit": len(arms) / units if units else None}


def _arm(arm: str, rows: Sequence[Mapping[str, Any]]) -> Json:
    def of(column: str) -> list[float]:
        return sorted(row[f"{arm}_{column}"] for row in rows if row[f"{arm}_{column}"] is not None)

    costs, output = of("cost_usd"), of("output_tokens")
    return {
        "ttft_ms": _quantiles(of("ttft_ms")),
        "e2e_ms": _quantiles(of("e2e_ms")),
        "cost_usd": _quantiles(costs),
        "mean_cost_usd": sum(costs) / len(costs) if costs else None,
        "mean_output_tokens": sum(output) / len(output) if output else None,
        "errors": sum(row[f"{arm}_outcome"] not in ("ok", None) for row in rows),
        "error_kinds": dict(
            Counter(row[f"{arm}_error_kind"] for row in rows if row[f"{arm}_error_kind"]).most_common()
        ),
        "cached": sum(1 for row in rows if row[f"{arm}_cached"]),
        "curves": {"ttft_ms": _curve(of("ttft_ms")), "e2e_ms": _curve(of("e2e_ms")), "cost_usd": _curve(costs)},
    }


def _quantiles(values: list[float]) -> Json:
    """p50 and p95 with their confidence sequences, and how many values there are."""
    found: Json = {"n": len(values)}
    for p in (0.5, 0.95):
        if values:
            at, (low, high) = evidence.quantile(values, p, 0.05)
            limits = [None if abs(limit) == float("inf") else limit for limit in (low, high)]
            found[f"p{p * 100:g}"] = {"value": at, "low": limits[0], "high": limits[1]}
    return found


def _curve(values: list[float]) -> list[tuple[float, float]]:
    """The share of the values up to each, thinned out."""
    n = len(values)
    places = sorted({round(step * (n - 1) / 100) for step in range(101)}) if n else []
    return [(values[place], (place + 1) / n) for place in places]


def _course(ledger: Ledger, terms: Terms, lead: Gauge) -> list[Json]:
    """The mean difference and its confidence sequence as units came in."""
    bins = [row["bin"] for row in ledger.rows(_DIFFERENCES, (terms.name, terms.version, lead.name))]
    stops = sorted({round(len(bins) ** (step / _POINTS)) for step in range(1, _POINTS + 1)}) if bins else []
    course, counts, done = [], dict[int, int](), 0
    for stop in stops:
        for bin in bins[done:stop]:
            counts[bin] = counts.get(bin, 0) + 1
        done = stop
        course.append({"units": stop, **_around(counts, terms)})
    return course
