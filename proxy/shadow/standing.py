"""How an experiment stands: counts in, verdict out. Pure, and the same for counts in memory and counts from SQL."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from policies import trial
from policies.evidence import Ratio
from policies.trial import Judgement, Reading
from proxy.measure.store.ledger import Restored
from proxy.shadow.terms import Terms


class Score(NamedTuple):
    """One metric of one scored pair."""

    metric: str
    primary: float | None
    candidate: float | None
    bin: int | None
    """Of the difference, as `evidence.bin_of` drew it; None where the metric could not tell (or is a ratio)."""


class Tally:
    """Everything that a verdict rests upon; parts of several processes are added."""

    __slots__ = ("counts", "ratios", "units")

    def __init__(self) -> None:
        self.units = 0
        self.counts: dict[str, dict[int, int]] = {}
        """Metric -> bin -> units."""
        self.ratios: dict[str, Ratio] = {}

    def add(self, scores: Iterable[Score]) -> None:
        """One scored unit."""
        self.units += 1
        for score in scores:
            if score.bin is not None:
                self.count(score.metric, score.bin, 1)
            elif score.primary is not None and score.candidate is not None:
                self.ratios[score.metric] = self.ratios.get(score.metric, Ratio()).plus(score.candidate, score.primary)

    def rate(self, scores: Iterable[Score]) -> None:
        """Scores that came later than their units."""
        for score in scores:
            if score.bin is not None:
                self.count(score.metric, score.bin, 1)

    def copy(self) -> Tally:
        """What another thread may read while units are added to this one."""
        made = Tally()
        made.units, made.ratios = self.units, dict(self.ratios)
        made.counts = {metric: dict(counts) for metric, counts in self.counts.items()}
        return made

    def count(self, metric: str, bin: int, units: int) -> None:
        counts = self.counts.setdefault(metric, {})
        counts[bin] = counts.get(bin, 0) + units


def tally_of(known: Restored) -> Tally:
    """From what SQL counts."""
    tally = Tally()
    tally.units = len(known.units)
    for metric, bin, units in known.bins:
        tally.count(metric, bin, units)
    for metric, n, c, p, cc, cp, pp in known.ratios:
        tally.ratios[metric] = Ratio(n, c, p, cc, cp, pp)
    return tally


def readings(terms: Terms, tally: Tally, *, interval: bool = True) -> tuple[Reading | None, list[Reading]]:
    """The primary and the guardrails by now. `interval` False leaves out what costs most and no verdict needs."""
    metrics = len(terms.gauges)
    found = []
    for gauge in terms.gauges:
        if gauge.is_ratio:
            sums = tally.ratios.get(gauge.name, Ratio())
            found.append(trial.ratio(gauge.name, sums, gauge.margin, terms.alpha, metrics))
        else:
            counts = tally.counts.get(gauge.name, {})
            read = trial.difference(gauge.name, counts, gauge.margin, terms.alpha, metrics, interval=interval)
            found.append(read)
    return (found[0], found[1:]) if terms.primary is not None else (None, found)


def judged(
    terms: Terms,
    tally: Tally,
    *,
    ended: str | None = None,
    out_of_budget: bool = False,
    interval: bool = True,
) -> Judgement:
    primary, guardrails = readings(terms, tally, interval=interval)
    return trial.judge(
        primary,
        guardrails,
        units=tally.units,
        max_units=terms.max_units,
        ended=ended,
        out_of_budget=out_of_budget,
    )
