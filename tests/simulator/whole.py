"""Policies that go by the conversation or by rewards, within the whole: real router, engine, health and learners.

`routing.py` asks the same policies alone, a hundred thousand times; here it is shown that nothing on the way to the
targets spoils what they decide.
"""

from __future__ import annotations

from collections import Counter
from math import sqrt
from typing import NamedTuple

from policies.bandit import Bandit
from policies.base import Policy
from policies.canary import Canary
from policies.sticky import Sticky
from policies.weighted import Weighted
from proxy import config
from proxy.bench.simulate import Fault, Figures, Result, Traffic, simulate
from proxy.bench.simulate.run import text_of
from proxy.record import Exchange
from tests.simulator.cluster import PATIENT, run
from tests.simulator.table import Lines, scenario

ALONE = "retries: {per_request: 1}\nbreaker: false"
"""Every request shows what its first choice does."""


class Firsts:
    """Who was asked first, of which conversation, and when (seconds)."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, str, str]] = []

    def accept(self, exchange: Exchange) -> None:
        if exchange.decision is not None and exchange.attempts:
            self.seen.append((exchange.at, exchange.decision.unit, exchange.attempts[0].target))


# ---- weighted -------------------------------------------------------------------------------------------------------


def dealt(count: int, seed: int = 1) -> tuple[dict[str, int], int, Result]:
    """Conversations dealt 10 to 30 to 60, each of some five requests; how many distinct ones each target had."""
    firsts = Firsts()
    world = {name: Figures(slots=500) for name in "abc"}
    text = text_of(world, "policy: weighted")
    for name, weight in (("b", 3), ("c", 6)):
        text = text.replace(f"name: {name}", f"name: {name}, weight: {weight}")
    loaded = config.parse(text, source="simulated", format="yaml", env={})
    traffic = Traffic(((count / 20.0, 20.0),), units=count // 5)
    result = simulate(loaded, world, traffic, seed, watch=firsts)
    owners: dict[str, set[str]] = {}
    for _, unit, target in firsts.seen:
        owners.setdefault(unit, set()).add(target)
    assert all(len(one) == 1 for one in owners.values()), "a conversation stays where it is"
    return Counter(next(iter(one)) for one in owners.values()), len(owners), result


def off(share: float, count: int, n: int) -> float:
    """How many sigma a count is from its share."""
    return abs(count - n * share) / sqrt(n * share * (1.0 - share))


# ---- bandit ---------------------------------------------------------------------------------------------------------


def tried(policy: Policy, half: float, seed: int = 1) -> Result:
    """Of a's answers 80 % come, of b's 85 %; after `half` seconds (at 20 a second) it is the other way round."""
    world = {
        "a": Figures(slots=500, faults=(Fault("fail", 0, half, rate=0.20), Fault("fail", half, 2 * half, rate=0.15))),
        "b": Figures(slots=500, faults=(Fault("fail", 0, half, rate=0.15), Fault("fail", half, 2 * half, rate=0.20))),
    }
    return run(world, Traffic(((2 * half, 20.0),), output=20), ALONE, seed, policy=policy)


def regained(result: Result, half: float) -> float:
    """Requests after the change until most of a hundred go to a."""
    late = result.between(half, 2 * half).rows
    ordered = [row.tries[0].target for row in sorted(late, key=lambda row: row.at)]
    for after in range(0, len(ordered) - 100, 20):
        if ordered[after : after + 100].count("a") > 50:
            return after + 100
    return len(ordered)


# ---- sticky ---------------------------------------------------------------------------------------------------------


class Kept(NamedTuple):
    hits: float
    """Share of the later requests of a conversation that met the target of the one before."""
    crowded: float
    """Largest share of a target, against the mean."""
    moved: float
    """Share of the conversations whose target was another one after the last of the five had gone."""
    gone: float
    """Share of the conversations that the last one had."""
    result: Result


def together(policy: Policy, half: float, seed: int = 1) -> Kept:
    """Five targets of which one refuses connections in the second half; 400 conversations, 5 requests a second."""
    firsts = Firsts()
    world = {name: Figures(slots=500) for name in "abcd"}
    world["e"] = Figures(slots=500, faults=(Fault("refuse", half, 2 * half),))
    result = run(world, Traffic(((2 * half, 5.0),), units=400), PATIENT, seed, policy=policy, watch=firsts)
    begin = min(at for at, _, _ in firsts.seen)
    last: dict[str, str] = {}
    later = hits = 0
    before: dict[str, str] = {}
    after: dict[str, str] = {}
    loads = Counter[str]()
    for at, unit, target in sorted(firsts.seen):
        if at < begin + half:
            later += unit in last
            hits += last.get(unit) == target
            last[unit] = before[unit] = target
            loads[target] += 1
        elif at > begin + half + 10.0:
            after.setdefault(unit, target)
    both = before.keys() & after.keys()
    moved = sum(before[unit] != after[unit] for unit in both) / len(both)
    gone = sum(before[unit] == "e" for unit in both) / len(both)
    return Kept(hits / later, max(loads.values()) * 5 / sum(loads.values()), moved, gone, result)


# ---- canary ---------------------------------------------------------------------------------------------------------

TRIAL = Canary("b", steps=(0.25, 0.5, 1.0), hold=30.0)


def rolled(errors: float, seconds: float = 200.0, seed: int = 1) -> Result:
    """The candidate b fails so often; a never does."""
    world = {
        "a": Figures(slots=500),
        "b": Figures(slots=500, faults=(Fault("fail", 0.0, seconds, rate=errors),)),
    }
    traffic = Traffic(((seconds, 20.0),), output=20, units=100_000)
    return run(world, traffic, seed=seed, policy=TRIAL)


@scenario("Within the whole: weighted, bandit, sticky and canary behind the real router, engine and learners")
def _whole() -> Lines:
    counts, n, _ = dealt(20_000)
    for name, share in (("a", 0.1), ("b", 0.3), ("c", 0.6)):
        what = f"{counts[name] / n:.1%} of {n} conversations, {off(share, counts[name], n):.1f} sigma off"
        yield f"weighted, {name} ({share:.0%})", {"seen": what}
    for seed in range(1, 4):
        result = tried(Bandit(), 200.0, seed)
        found, again = result.between(50.0, 200.0).share("b"), result.between(250.0, 400.0).share("a")
        what = f"the better one's share {found:.1%}, after the change {again:.1%}; {regained(result, 200.0)} requests"
        yield f"bandit, seed {seed}", {"seen": what}
    for policy in (Sticky("unit"), Weighted()):
        kept = together(policy, 500.0)
        what = f"{kept.hits:.1%} met the same target; most loaded {kept.crowded:.2f}"
        went = f"{kept.moved:.1%} moved, {kept.gone:.1%} had to; success {kept.result.success:.2%}"
        yield f"{type(policy).__name__}, one of five goes", {"seen": f"{what}; {went}"}
    for errors in (0.0, 0.1, 0.3):
        result = rolled(errors)
        late = result.between(150.0, 200.0)
        what = f"its share at the end {late.share('b'):.1%}; success {result.success:.2%}"
        yield f"canary with {errors:.0%} more failures", {"seen": what}
