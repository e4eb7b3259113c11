"""From figures to a decision: for each use, which target, on what evidence, and what would change it.

Nothing is ranked that the data do not tell apart: targets whose scores overlap are named together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from proxy.bench import stats
from proxy.bench.figures import Figures, Table, components, score
from proxy.bench.stats import Estimate, Floats
from proxy.bench.suite import METRICS, Metric, Suite

USES = ("real_time", "offline", "fallback")

_BEST_ENOUGH = 0.95
"""P(best) from which a target is called the best; below it, those that may be best are named together."""
_LOSING = 0.05


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


class Standing(NamedTuple):
    target: str
    score: Estimate
    best: float
    """Probability that it has the highest score, over resampled prompts."""
    parts: dict[Metric, float]
    """Each metric on its scale from 0 to 1."""
    dominated_by: str | None
    """A target that is surely better in one metric and, as far as is seen, within the gates' margins in the others."""
    frontier: bool
    """No other target is both cheaper and more accurate."""


class Choice(NamedTuple):
    use: str
    target: str | None
    among: list[str]
    """Targets that the data do not tell from the chosen one for this use."""
    because: list[str]
    passed_over: dict[str, str]
    """Why the others were not chosen."""
    changes: list[str]
    """What would change the decision."""


class Decision(NamedTuple):
    standings: list[Standing]
    pairs: list[Pair]
    choices: list[Choice]
    left_out: list[Metric]
    """Metrics that not every target has, and that therefore count for none."""
    weights: dict[Metric, float]


def decide(
    suite: Suite, tables: Sequence[Table], found: Sequence[Figures], providers: Mapping[str, str], seed: int = 0
) -> Decision:
    """`providers`: the provider behind each target, so that a fallback does not share the primary's fate."""
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
        choices.append(_choice(suite, use, tables, found, standings, drawn, providers, primary, rng))
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


# -- one use


def _choice(
    suite: Suite,
    use: str,
    tables: Sequence[Table],
    found: Sequence[Figures],
    standings: Sequence[Standing],
    drawn: Mapping[str, Floats],
    providers: Mapping[str, str],
    primary: str | None,
    rng: np.random.Generator,
) -> Choice:
    """`primary`: what was chosen for real time, for the choice of its fallback."""
    passed: dict[str, str] = {}
    able = [one for one in found if not _unfit(suite, use, one, tables, found, passed, rng)]
    if not able:
        return Choice(use, None, [], [], passed, ["no target meets what this use asks for"])
    by_name = {standing.target: standing for standing in standings}
    if use == "offline":
        return _offline(able, by_name, passed)
    if use == "fallback":
        if primary is None:
            return Choice(
                use, None, [], [], passed, ["nothing is fit for real time, so there is nothing to fall back from"]
            )
        apart = [one for one in able if one.target != primary and providers.get(one.target) != providers.get(primary)]
        for one in able:
            if one.target == primary:
                passed[one.target] = "is the first choice for real time"
            elif one not in apart:
                passed[one.target] = f"shares the provider of {primary}, and so its outages"
        able = apart
        if not able:
            return Choice(use, None, [], [], passed, ["add a target of another provider"])
    chosen = _leader(able, by_name)
    best = _chances(able, drawn)
    among = [
        one.target
        for one in able
        if one is not chosen and best.get(one.target, 0.0) > _LOSING and best[chosen.target] < _BEST_ENOUGH
    ]
    for one in able:
        if one is not chosen and one.target not in among:
            passed[one.target] = "has a lower score"
    standing = by_name.get(chosen.target)
    because = []
    if standing is not None:
        alone = (
            "the only one that is fit"
            if len(able) == 1
            else f"best of those fit in {best[chosen.target]:.0%} of resamples"
        )
        because.append(f"score {_show(standing.score)}, {alone}")
    return Choice(use, chosen.target, among, because + _why(chosen), passed, _changes(suite, chosen, able, by_name))


def _unfit(
    suite: Suite,
    use: str,
    one: Figures,
    tables: Sequence[Table],
    found: Sequence[Figures],
    passed: dict[str, str],
    rng: np.random.Generator,
) -> bool:
    best = max(found, key=lambda other: other.accuracy.value if other.accuracy.value is not None else -1.0)
    margin = suite.gates["accuracy"].margin if "accuracy" in suite.gates else 0.03
    if use == "fallback":
        margin *= 2
    if one is not best and one.accuracy.value is not None:
        mine = next(table for table in tables if table.target == one.target)
        theirs = next(table for table in tables if table.target == best.target)
        chosen = np.array([aim == "accuracy" for aim in mine.aims], dtype=bool)
        gap = stats.difference(mine.score[chosen], theirs.score[chosen], rng)
        if gap.high is not None and gap.high < -margin:
            passed[one.target] = (
                f"is less accurate than {best.target} by {_points(gap)}, more than {margin:.1%} allowed"
            )
            return True
    if use == "real_time":
        for limit, name, values in ((suite.slo.ttft, "first content", one.ttft), (suite.slo.e2e, "answer", one.e2e)):
            p95 = values["p95"]
            if limit is not None and p95.value is not None and (p95.low or p95.value) > limit * 1000:
                passed[one.target] = f"its p95 to the {name} is {p95.value:,.0f} ms, over the limit of {limit:g} s"
                return True
    return False


def _offline(able: Sequence[Figures], by_name: Mapping[str, Standing], passed: dict[str, str]) -> Choice:
    """The cheapest success among targets that are accurate enough; latency does not count."""
    priced = [one for one in able if one.cost_per_success.value is not None]
    if not priced:
        return Choice("offline", None, [], [], passed, ["set `prices`: the offline choice is about cost"])
    chosen = min(priced, key=lambda one: (one.cost_per_success.value or 0.0, -(one.accuracy.value or 0.0)))
    among = []
    for one in priced:
        low, high = one.cost_per_success.low, chosen.cost_per_success.high
        if one is chosen:
            continue
        if low is not None and high is not None and low <= high:
            among.append(one.target)
        else:
            passed[one.target] = "costs more per success"
    because = [f"{_dollars(chosen.cost_per_success)} per success, the least among targets that are accurate enough"]
    return Choice("offline", chosen.target, among, because + _why(chosen), passed, [])


def _leader(able: Sequence[Figures], by_name: Mapping[str, Standing]) -> Figures:
    return max(
        able,
        key=lambda one: (
            (by_name[one.target].score.value or 0.0) if one.target in by_name else -1.0,
            -(one.cost_per_success.value or 0.0),
        ),
    )


def _chances(able: Sequence[Figures], drawn: Mapping[str, Floats]) -> dict[str, float]:
    """How often each of the targets that are fit for a use came out first among them."""
    names = [one.target for one in able if one.target in drawn]
    if not names:
        return {}
    return dict(zip(names, stats.wins(np.column_stack([drawn[name] for name in names])), strict=True))


def _why(one: Figures) -> list[str]:
    said = []
    if one.accuracy.value is not None:
        said.append(f"accuracy {_show(one.accuracy)}, n = {one.accuracy.n}")
    if one.latency.value is not None:
        said.append(f"latency {one.latency.value:,.0f} ms{_between(one.latency, 0)}, n = {one.latency.n}")
    if one.errors.value:
        said.append(f"{one.errors.value:.1%} of requests failed")
    return said


def _changes(suite: Suite, chosen: Figures, able: Sequence[Figures], by_name: Mapping[str, Standing]) -> list[str]:
    """At which weight of a single metric another target would lead (the others keep their proportions)."""
    said: list[str] = []
    mine = by_name.get(chosen.target)
    if mine is None:
        return said
    for metric in mine.parts:
        for other in able:
            theirs = by_name.get(other.target)
            if other is chosen or theirs is None:
                continue
            turn = turning_weight(suite, metric, mine.parts, theirs.parts)
            if turn is not None:
                now = suite.weight(metric)
                said.append(
                    f"{other.target} would lead if {metric} weighed {'more' if turn > now else 'less'} than "
                    f"{turn:.0%} (now {now:.0%})"
                )
    return said


def turning_weight(
    suite: Suite, metric: Metric, mine: Mapping[Metric, float], theirs: Mapping[Metric, float]
) -> float | None:
    """The weight of `metric` between 0 and 1 at which the two scores are equal; None where no weight makes them so."""
    rest = [one for one in mine if one != metric]
    total = math.fsum(suite.weight(one) for one in rest)
    if not total:
        return None
    lead = math.fsum(suite.weight(one) / total * (mine[one] - theirs[one]) for one in rest)
    here = mine[metric] - theirs[metric]
    if lead == here or lead * here > 0:
        return None
    turn = lead / (lead - here)
    return turn if 0 < turn < 1 else None


def _between(one: Estimate, digits: int) -> str:
    if one.low is None or one.high is None:
        return f" ({one.note})" if one.note else ""
    return f" [{one.low:,.{digits}f}, {one.high:,.{digits}f}]"


def _show(one: Estimate) -> str:
    return "unknown" if one.value is None else f"{one.value:.3f}{_between(one, 3)}"


def _points(one: Estimate) -> str:
    return f"{-(one.value or 0.0):.1%}"


def _dollars(one: Estimate) -> str:
    return "unknown" if one.value is None else f"${one.value:.6f}{_between(one, 6)}"
