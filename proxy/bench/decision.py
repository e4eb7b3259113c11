"""From figures to a decision: for each use, which target, on what evidence, and what would change it.

Nothing is ranked that the data do not tell apart: targets whose scores overlap are named together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from proxy.bench import stats
from proxy.bench.choices import USES, Choice, InBatches, Standing, choose
from proxy.bench.figures import Figures, Table, components, score
from proxy.bench.stats import Estimate, Floats
from proxy.bench.suite import METRICS, Metric, Suite


class Pair(NamedTuple):
    """One target against the baseline, on the same prompts."""

    target: str
    baseline: str
    difference: Estimate
    """Of mean accuracy."""
    p: float
    """Exact McNemar for scores of 0 and 1, otherwise a permutation of signs."""
    holm: float
    """The same, adjusted for the number of targets."""
    detectable: float
    """The least true difference that this many prompts find with 80 % power."""
    words: str
    """better, worse, or not distinguishable."""


class Decision(NamedTuple):
    standings: list[Standing]
    pairs: list[Pair]
    choices: list[Choice]
    left_out: list[Metric]
    """Metrics that not every target has, and that therefore count for none."""
    weights: dict[Metric, float]


def decide(
    suite: Suite,
    tables: Sequence[Table],
    found: Sequence[Figures],
    providers: Mapping[str, str],
    seed: int = 0,
    batches: Mapping[str, InBatches] | None = None,
) -> Decision:
    """`providers`: the provider behind each target, so that a fallback does not share the primary's fate. `batches`:
    what is known of targets in batches, for offline use.
    """
    rng = np.random.default_rng(seed)
    whole = np.arange(len(tables[0].units)) if tables else np.arange(0)
    parts = [components(suite, table, whole) for table in tables]
    counted: list[Metric] = [
        metric for metric in METRICS if suite.weight(metric) > 0 and all(not math.isnan(part[metric]) for part in parts)
    ]
    weights: dict[Metric, float] = {metric: suite.weight(metric) for metric in counted}
    standings, drawn = _standings(suite, tables, found, parts, weights, rng)
    pairs = compare_all(suite, tables, rng)
    choices: list[Choice] = []
    for use in USES:  # real time first: a fallback stands in for what serves there
        primary = choices[0].target if choices else None
        choices.append(choose(suite, use, tables, found, standings, drawn, providers, primary, batches or {}, rng))
    absent = [metric for metric in METRICS if suite.weight(metric) > 0 and metric not in counted]
    return Decision(standings, pairs, choices, absent, weights)


def compare_all(suite: Suite, tables: Sequence[Table], rng: np.random.Generator) -> list[Pair]:
    """Every target against the baseline (by default the first target), with Holm's correction."""
    if len(tables) < 2:
        return []
    base = next((table for table in tables if table.target == suite.baseline), tables[0])
    pairs = [_pair(table, base, rng) for table in tables if table is not base]
    adjusted = stats.holm([pair.p for pair in pairs])
    return [pair._replace(holm=p, words=_words(pair.difference, p)) for pair, p in zip(pairs, adjusted, strict=True)]


def _pair(table: Table, base: Table, rng: np.random.Generator) -> Pair:
    chosen = np.array([aim == "accuracy" for aim in table.aims], dtype=bool)
    new, old = table.score[chosen], base.score[chosen]
    difference = stats.difference(new, old, rng)
    binary = bool(np.isin(new, (0.0, 1.0)).all() and np.isin(old, (0.0, 1.0)).all())
    p = stats.discordant(new, old).p if binary else stats.sign_flip(new, old, rng)
    differing = float(np.mean((new - old) ** 2)) if new.size else 0.0
    return Pair(table.target, base.target, difference, p, p, stats.detectable(int(new.size), max(differing, 1e-4)), "")


def _words(difference: Estimate, p: float) -> str:
    if not difference.known or difference.value is None or difference.low is None or difference.high is None:
        return "too little to say"
    if p < 0.05 and difference.low > 0:
        return "better"
    if p < 0.05 and difference.high < 0:
        return "worse"
    return "not distinguishable"


def _standings(
    suite: Suite,
    tables: Sequence[Table],
    found: Sequence[Figures],
    parts: Sequence[Mapping[Metric, float]],
    weights: Mapping[Metric, float],
    rng: np.random.Generator,
) -> tuple[list[Standing], Mapping[str, Floats]]:
    """And every target's score in each resample."""
    if not tables or not weights:
        return [], {}

    def scores(index: np.ndarray[Any, Any]) -> Floats:
        return np.array([_weighed(weights, components(suite, table, index)) for table in tables])

    ranked = stats.ranking(tables[0].strata, scores, len(tables), rng)
    standings = [
        Standing(
            table.target,
            one.score,
            one.best,
            {metric: part[metric] for metric in weights},
            _dominated(suite, index, found, weights),
            _on_frontier(index, found),
        )
        for index, (table, one, part) in enumerate(zip(tables, ranked, parts, strict=True))
    ]
    return standings, {table.target: one.drawn for table, one in zip(tables, ranked, strict=True)}


def _weighed(weights: Mapping[Metric, float], parts: Mapping[Metric, float]) -> float:
    return score(weights, {metric: parts[metric] for metric in weights})


def _sides(metric: Metric, figures: Figures) -> tuple[float, float, float] | None:
    """A metric as (value, low, high) with more being better; None where it is not known."""
    one = {
        "accuracy": figures.accuracy,
        "safety": figures.safety,
        "latency": figures.latency,
        "cost": figures.cost_per_success,
    }[metric]
    if one.value is None or one.low is None or one.high is None:
        return None
    if metric in ("latency", "cost"):
        return -one.value, -one.high, -one.low
    return one.value, one.low, one.high


def _dominated(suite: Suite, index: int, found: Sequence[Figures], weights: Mapping[Metric, float]) -> str | None:
    mine = {metric: _sides(metric, found[index]) for metric in weights}
    for other, figures in enumerate(found):
        if other == index:
            continue
        theirs = {metric: _sides(metric, figures) for metric in weights}
        surely = False
        for metric in weights:
            a, b = mine[metric], theirs[metric]
            if a is None or b is None or a[1] > b[2] or a[0] - b[0] > _slack(suite, metric, a[0]):
                break
            surely = surely or b[1] > a[2]
        else:
            if surely:
                return figures.target
    return None


def _slack(suite: Suite, metric: Metric, value: float) -> float:
    margin = suite.gates[metric].margin if metric in suite.gates else 0.0
    return margin * abs(value) if metric in ("latency", "cost") else margin


def _on_frontier(index: int, found: Sequence[Figures]) -> bool:
    mine = found[index]
    if mine.accuracy.value is None or mine.cost_per_success.value is None:
        return False
    for other, theirs in enumerate(found):
        if other == index or theirs.accuracy.value is None or theirs.cost_per_success.value is None:
            continue
        better = theirs.accuracy.value >= mine.accuracy.value
        cheaper = theirs.cost_per_success.value <= mine.cost_per_success.value
        if (
            better
            and cheaper
            and (theirs.accuracy.value, -theirs.cost_per_success.value)
            != (
                mine.accuracy.value,
                -mine.cost_per_success.value,
            )
        ):
            return False
    return True
