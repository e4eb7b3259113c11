"""Which target for which use: real time, offline, fallback; on what evidence, and what would change it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from proxy.bench import stats
from proxy.bench.figures import Figures, Table
from proxy.bench.stats import Estimate, Floats
from proxy.bench.suite import Metric, Suite

USES = ("real_time", "offline", "fallback")

_BEST_ENOUGH = 0.95
"""P(best) from which a target is called the best; below it, those that may be best are named together."""
_LOSING = 0.05
_OTHER_MODEL = 0.05
"""p below which what answers in batches is taken for another model."""


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


class InBatches(NamedTuple):
    """What another run, which asked the same through batch APIs, says of a target."""

    run: str
    ratio: Estimate
    """Cost of a success over its real-time cost."""
    delay: Estimate
    """Median seconds of a batch; n is the number of batches."""
    p: float
    """Of its being the same model, by successes on the same prompts."""


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


def choose(
    suite: Suite,
    use: str,
    tables: Sequence[Table],
    found: Sequence[Figures],
    standings: Sequence[Standing],
    drawn: Mapping[str, Floats],
    providers: Mapping[str, str],
    primary: str | None,
    batches: Mapping[str, InBatches],
    rng: np.random.Generator,
) -> Choice:
    """`primary`: what was chosen for real time, for the choice of its fallback."""
    passed: dict[str, str] = {}
    able = [one for one in found if not _unfit(suite, use, one, tables, found, passed, rng)]
    if not able:
        return Choice(use, None, [], [], passed, ["no target meets what this use asks for"])
    by_name = {standing.target: standing for standing in standings}
    if use == "offline":
        return _offline(able, batches, passed)
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
    standing = by_name.get(chosen.target)
    telling = standing is not None and standing.score.known
    among = [
        one.target
        for one in able
        if one is not chosen
        and one.target in best
        and (not telling or (best[one.target] > _LOSING and best[chosen.target] < _BEST_ENOUGH))
    ]
    for one in able:
        if one is not chosen and one.target not in among:
            passed[one.target] = "has a lower score"
    because = []
    if standing is not None:
        rank = f"best of those fit in {best[chosen.target]:.0%} of resamples" if telling else "too few prompts to rank"
        because.append(f"score {_show(standing.score)}, {rank if len(able) > 1 else 'the only one that is fit'}")
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


def _offline(able: Sequence[Figures], batches: Mapping[str, InBatches], passed: dict[str, str]) -> Choice:
    """The cheapest success among targets that are accurate enough; latency does not count."""
    costs = {one.target: _batched(one, batches.get(one.target)) for one in able}
    priced = [one for one in able if costs[one.target].value is not None]
    if not priced:
        return Choice("offline", None, [], [], passed, ["set `prices`: the offline choice is about cost"])
    chosen = min(priced, key=lambda one: (costs[one.target].value or 0.0, -(one.accuracy.value or 0.0)))
    cost, known = costs[chosen.target], batches.get(chosen.target)
    among = []
    for one in priced:
        low, high = costs[one.target].low, cost.high
        if one is chosen:
            continue
        if low is not None and high is not None and low <= high:
            among.append(one.target)
        else:
            passed[one.target] = "costs more per success"
    because = [f"{_dollars(cost)} per success, the least among targets that are accurate enough"]
    if known is not None and cost is not chosen.cost_per_success:
        delay = "unknown" if known.delay.value is None else f"{known.delay.value:,.0f} s"
        because.append(
            f"in batches, at {known.ratio.value:.2f} of its real-time price and a median delay of {delay} "
            f"(n = {known.delay.n} batches, run {known.run})"
        )
    changes = [
        f"{name} seemed another model in batches (p = {one.p:.3f}): its batch price is left out"
        for name, one in batches.items()
        if one.p < _OTHER_MODEL
    ]
    return Choice("offline", chosen.target, among, because + _why(chosen), passed, changes)


def _batched(one: Figures, known: InBatches | None) -> Estimate:
    """What a success costs where it may wait: in batches, where they are known to be cheaper and the same model."""
    cost = one.cost_per_success
    if known is None or known.p < _OTHER_MODEL or None in (cost.value, known.ratio.value):
        return cost
    assert cost.value is not None  # noqa: S101
    assert known.ratio.value is not None  # noqa: S101
    if known.ratio.value >= 1.0:
        return cost
    if None in (cost.low, cost.high, known.ratio.low, known.ratio.high):
        return Estimate(cost.value * known.ratio.value, None, None, min(cost.n, known.ratio.n), known.ratio.note)
    low, high = (a * b for a, b in ((cost.low, known.ratio.low), (cost.high, known.ratio.high)))  # type: ignore[operator]
    return Estimate(cost.value * known.ratio.value, low, high, min(cost.n, known.ratio.n))


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
