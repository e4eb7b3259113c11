"""What an experiment says by now: promote, reject, or not yet. For shadow traffic and canaries alike.

A candidate must be *shown* no worse than its margin on the primary metric and on every guardrail (level alpha / 2 each:
all must hold, so nothing is gained by having many), and is rejected when it is shown worse than the margin on any one
(alpha / 2 shared evenly among them). Between the two lies "not yet", which ends in `inconclusive` at the largest
number of units. Everything may be looked at after every unit: see `policies.evidence`.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from math import inf
from typing import NamedTuple

from policies import evidence
from policies.evidence import Counts, Interval, Ratio

ENOUGH = 100
"""Units on which the primary metric must have been able to tell, before anything is promoted."""


class State(StrEnum):
    RUNNING = "running"
    PROMOTE = "promote"
    REJECT = "reject"
    INCONCLUSIVE = "inconclusive"
    BUDGET_EXHAUSTED = "budget_exhausted"


class Label(StrEnum):
    BETTER = "better"
    EQUIVALENT = "equivalent"
    WORSE = "worse"
    """Worse than the primary, within the margin."""


class Reading(NamedTuple):
    """One metric by now."""

    name: str
    n: int
    """Units on which it could tell."""
    estimate: float | None
    """Mean difference candidate - primary, or the ratio candidate / primary."""
    interval: Interval
    """Its confidence sequence."""
    shown: bool
    """Shown not to be worse than the margin."""
    harmed: bool
    """Shown to be worse than the margin."""
    bound: float
    """The margin as a value of the estimate: below it (a ratio: above it) the candidate is too bad."""
    is_ratio: bool = False

    @property
    def applies(self) -> bool:
        return self.n > 0


class Judgement(NamedTuple):
    state: State
    label: Label | None
    """Of a promoted candidate, by the primary metric."""
    why: str


def difference(
    name: str, counts: Counts, margin: float, alpha: float, metrics: int, *, interval: bool = True
) -> Reading:
    """`margin`: how far below the primary's mean score the candidate's may lie. `metrics`: primary and guardrails.

    The interval costs most by far and decides nothing; without it, it is -1 to 1.
    """
    n = evidence.total(counts)
    shown = harmed = False
    if n:
        shown = evidence.log_above(counts, -margin) >= evidence.bar(alpha)
        harmed = not shown and evidence.log_below(counts, -margin) >= evidence.bar(alpha, metrics)
    estimate = evidence.mean(counts) if n else None
    around = evidence.sequence(counts, alpha) if interval else Interval(-1.0, 1.0)
    return Reading(name, n, estimate, around, shown, harmed, -margin)


def ratio(name: str, sums: Ratio, margin: float, alpha: float, metrics: int) -> Reading:
    """`margin`: 0.1 lets the candidate take a tenth more than the primary. Tells nothing below `ENOUGH` units."""
    bound = 1.0 + margin
    shown = harmed = False
    interval = sums.sequence(alpha) if sums.n >= ENOUGH else Interval(0.0, inf)
    if sums.n >= ENOUGH:
        shown = interval.high < bound or not sums.candidate  # what is free is never dearer
        harmed = sums.sequence(alpha / metrics).low > bound
    return Reading(name, sums.n, sums.value, interval, shown, harmed, bound, is_ratio=True)


def judge(
    primary: Reading | None,
    guardrails: Sequence[Reading],
    *,
    units: int,
    max_units: int,
    ended: str | None = None,
    out_of_budget: bool = False,
) -> Judgement:
    """`ended`: why no more units will come (stopped, its time is over), else None. Without a primary, only a report."""
    readings = ([primary] if primary is not None else []) + list(guardrails)
    harmed = [reading.name for reading in readings if reading.harmed]
    if primary is not None and harmed:
        return Judgement(State.REJECT, None, f"worse than the margin on {_listed(harmed)}")
    missing = [reading.name for reading in readings if reading.applies and not reading.shown]
    if primary is not None and primary.n >= ENOUGH and not missing:
        silent = [reading.name for reading in guardrails if not reading.applies]
        note = f"; {_listed(silent)} applied to no unit" if silent else ""
        return Judgement(State.PROMOTE, label(primary), f"no metric is worse than its margin{note}")
    if out_of_budget:
        return Judgement(State.BUDGET_EXHAUSTED, None, "the budget was used up before there was a verdict")
    if units >= max_units or ended is not None:
        why = ended or f"{max_units} units were not enough"
        return Judgement(State.INCONCLUSIVE, None, f"{why}; not yet shown: {_listed(missing) or 'nothing measured'}")
    if primary is None:
        return Judgement(State.RUNNING, None, "no primary metric is named, so this is a report without a verdict")
    if primary.n < ENOUGH:
        return Judgement(
            State.RUNNING, None, f"{primary.name} could tell on {primary.n} units; at least {ENOUGH} count"
        )
    return Judgement(State.RUNNING, None, f"not yet shown: {_listed(missing)}")


def label(primary: Reading) -> Label:
    if primary.interval.low > 0:
        return Label.BETTER
    return Label.WORSE if primary.interval.high < 0 else Label.EQUIVALENT


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
