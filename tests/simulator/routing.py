"""Scenarios of the routing policies: on the real engine where queues matter, else on the policies alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import inf
from random import Random
from typing import NamedTuple

from policies.bandit import Bandit
from policies.base import Ask, Candidate, Policy
from policies.canary import Canary
from policies.cheapest import Cheapest
from policies.fastest import Fastest
from policies.least_loaded import LeastLoaded
from policies.ordered import Ordered
from policies.rollout import Rollout, Status, Terms
from policies.round_robin import RoundRobin
from policies.sticky import Sticky
from policies.weighted import Weighted
from proxy import config
from proxy.bench.simulate import Fault, Figures, Result, Traffic, simulate
from proxy.bench.simulate.run import text_of
from proxy.learned import Learner, learner_for
from tests.simulator.cluster import PATIENT, capacity, run, slow_one
from tests.simulator.table import Lines, scenario, usual

# ---- speed ----------------------------------------------------------------------------------------------------------


def uneven(policy: Policy, seconds: float) -> Result:
    """One of three is three times slower all the time; 60 % of what all can serve."""
    world = {"a": Figures(ttft=1.2, itl=0.03), "b": Figures(), "c": Figures()}
    return run(world, Traffic(((seconds, 0.6 * capacity(7) / 3),)), PATIENT, policy=policy)


def crossing(policy: Policy, half: float, rate: float = 6.0, seed: int = 1) -> Result:
    """Two targets of which one is twice as slow; they change places after `half` seconds."""
    world = {
        "a": Figures(slots=500, ttft=0.3, faults=(Fault("slow", half, 2 * half, factor=2.0),)),
        "b": Figures(slots=500, ttft=0.3, faults=(Fault("slow", 0.0, half, factor=2.0),)),
    }
    return run(world, Traffic(((2 * half, rate),), output=20), policy=policy, seed=seed)


def oracle(half: float, rate: float = 6.0, seed: int = 1) -> Result:
    """The same traffic, always at the one that is fast."""
    world = {"a": Figures(slots=500, ttft=0.3)}
    return run(world, Traffic(((2 * half, rate),), output=20), policy=Ordered(), seed=seed)


def mean_ttft(result: Result) -> float:
    return sum(row.ttft for row in result.rows) / result.n


def switched(result: Result, half: float) -> float:
    """Seconds after the change until nine of ten go to the target that is now the faster one."""
    for after in range(0, int(half) - 10, 5):
        if result.between(half + after, half + after + 10).share("b") >= 0.9:
            return after + 10.0
    return inf


# ---- price ----------------------------------------------------------------------------------------------------------

PRICES = {"cheap": 0.5, "middle": 2.0, "dear": 12.0}
"""USD per million tokens of output; of input a quarter."""


def priced(policy: Policy, seconds: float, seed: int = 1) -> Result:
    """Later than a second: 30 % of the cheap one's answers, 3 % of the middle one's, 0.1 % of the dear one's."""
    world = {
        "cheap": Figures(slots=500, ttft=0.81),
        "middle": Figures(slots=500, ttft=0.47),
        "dear": Figures(slots=500, ttft=0.3),
    }
    prices = "".join(f"  {name}/sim: {{input: {price / 4}, output: {price}}}\n" for name, price in PRICES.items())
    loaded = config.parse(f"{text_of(world)}prices:\n{prices}", source="simulated", format="yaml", env={})
    return simulate(loaded, world, Traffic(((seconds, 6.0),), output=20), seed, policy=policy)


def late(result: Result, slo: float = 1.0) -> float:
    return sum(row.ttft > slo for row in result.rows) / result.n


def relative_price(result: Result) -> float:
    """What all first choices cost per token, against the middle target's price."""
    return sum(PRICES[row.tries[0].target] for row in result.rows) / result.n / PRICES["middle"]


# ---- rewards --------------------------------------------------------------------------------------------------------


def rewarded(policy: Bandit, means: Mapping[str, tuple[float, float]], rounds: int, seed: int) -> list[str]:
    """Which target was chosen in each round; `means` are the chances of a reward before and after half of them."""
    rng, learner = Random(seed), _learner(policy)
    chosen = []
    given = [Candidate(name) for name in means]
    for at in range(rounds):
        shown = [
            one._replace(posterior=tuple(1.0 + part for part in learner.rewards.get(one.name, (0.0, 0.0))))  # type: ignore[arg-type]
            for one in given
        ]
        name = given[policy.plan(Ask("m"), shown, rng)[0].candidate].name
        learner.reward(name, float(rng.random() < means[name][at >= rounds / 2]))
        chosen.append(name)
    return chosen


def regained(chosen: list[str], name: str, change: int) -> int:
    """Rounds after the change until `name` has most of a hundred."""
    for after in range(0, len(chosen) - change - 100, 20):
        if chosen[change + after : change + after + 100].count(name) > 50:
            return after + 100
    return len(chosen)


def _learner(policy: Policy) -> Learner:
    found = learner_for("chat", policy)
    assert found is not None
    return found


# ---- affinity -------------------------------------------------------------------------------------------------------


class Stuck(NamedTuple):
    hits: float
    """Share of the turns after the first that met the target that had the conversation's prompt last."""
    crowded: float
    """Largest mean load of a target against the mean of all."""


def conversations(policy: Policy, count: int, seed: int = 1) -> Stuck:
    """Five targets, a hundred requests under way, `count` turns of conversations that have ten turns on average."""
    rng = Random(seed)
    given = [Candidate(name) for name in "abcde"]
    loads, totals = [0] * 5, [0] * 5
    ends: list[tuple[float, int]] = []
    cached: dict[str, int] = {}
    alive = [f"c{number}" for number in range(200)]
    hits = later = made = 0
    for at in range(count):
        for end in [one for one in ends if one[0] <= at]:
            ends.remove(end)
            loads[end[1]] -= 1
        place = rng.randrange(len(alive))
        unit = alive[place]
        if rng.random() < 0.1:
            made += 1
            alive[place] = f"n{made}"
        ask = Ask("m", unit=unit, affinity=unit, turn=at)
        shown = [one._replace(in_flight=load) for one, load in zip(given, loads, strict=True)]
        target = policy.plan(ask, shown, rng)[0].candidate
        if unit in cached:
            later += 1
            hits += cached[unit] == target
        cached[unit] = target
        loads[target] += 1
        ends.append((at + rng.expovariate(1 / 100), target))
        totals = [total + load for total, load in zip(totals, loads, strict=True)]
    return Stuck(hits / later, max(totals) * 5 / sum(totals))


def moved(policy: Policy, count: int) -> float:
    """Share of the conversations that change their target when one of five goes."""
    given = [Candidate(name) for name in "abcde"]
    asks = [Ask("m", unit=f"u{at}", affinity=f"u{at}") for at in range(count)]
    rng = Random(1)
    before = [given[policy.plan(ask, given, rng)[0].candidate].name for ask in asks]
    after = [given[policy.plan(ask, given[:4], rng)[0].candidate].name for ask in asks]
    return sum(old != new for old, new in zip(before, after, strict=True)) / count


# ---- canary ---------------------------------------------------------------------------------------------------------

TERMS = Terms(Canary("b").steps, {"quality": 0.05, "success": 0.03, "fast": 0.05}, patience=7 * 86400.0)


class Rolled(NamedTuple):
    status: Status
    pairs: int
    hours: list[float]
    """When each step was left, in hours since the begin."""


def rollout(seed: int, quality: float = 0.0, errors: float = 0.0, per_day: float = 50_000.0) -> Rolled:
    """80 % of the answers are good, 1 % fail, 3 % are slow; the candidate's differ by `quality` and `errors`."""
    rng, one, now = Random(seed), Rollout(TERMS, 0.0), 0.0
    hours, number = [], 0
    while one.status is Status.RUNNING:
        # Units of the plentiful side that nobody waits for change nothing: only as many as the scarce side has.
        share = min(one.share, 1.0 - one.share)
        now += rng.expovariate(per_day * share / 86400.0)
        number += 1
        for canary in (False, True):
            ok = rng.random() >= 0.01 + (errors if canary else 0.0)
            good = ok and rng.random() < 0.8 + (quality if canary else 0.0)
            fast = ok and rng.random() >= 0.03
            scores = {"quality": float(good), "success": float(ok), "fast": float(fast)}
            event = one.unit(f"{number} {canary}", canary, scores, now)
            if event is not None:
                hours.append(now / 3600.0)
    return Rolled(one.status, one.units, hours)


def hours_of_steps(all_: Sequence[Rolled]) -> str:
    """How long each step took, in the median of those that came to it; `(n)` where not all did."""
    shown = []
    for step in range(len(TERMS.steps) - 1):
        took = sorted(one.hours[step] - (one.hours[step - 1] if step else 0.0) for one in all_ if len(one.hours) > step)
        if took:
            part = f" ({len(took)})" if len(took) < len(all_) else ""
            shown.append(f"{took[len(took) // 2]:.1f}{part}")
    return ", ".join(shown)


# ---- the long tables ------------------------------------------------------------------------------------------------


@scenario("weighted: 100,000 conversations, weights 1, 3 and 6; then the first has 2")
def _weighted() -> Lines:
    def dealt(first: float) -> list[str]:
        given = [Candidate("a", first), Candidate("b", 3.0), Candidate("c", 6.0)]
        asks = (Ask("m", unit=f"u{at}") for at in range(100_000))
        return [given[Weighted().plan(ask, given, Random(0))[0].candidate].name for ask in asks]

    before, after = dealt(1.0), dealt(2.0)
    moves = Counter((old, new) for old, new in zip(before, after, strict=True) if old != new)
    for name, weight in (("a", 1), ("b", 3), ("c", 6)):
        yield (
            name,
            {
                "share": f"{before.count(name) / 1000:.2f} %",
                "due": f"{weight * 10} %",
                "moved to a": f"{moves[name, 'a'] / 1000:.2f} %",
                "moved elsewhere": f"{sum(n for (old, new), n in moves.items() if old == name and new != 'a')}",
            },
        )


@scenario("One of three targets four times slower for a third of the run, 60 % load; the policies")
def _slow_one() -> Lines:
    for policy in (RoundRobin(), LeastLoaded(), Fastest()):
        yield type(policy).__name__, usual(slow_one(policy, 360.0))


@scenario("One of three targets three times slower all the time, 60 % load")
def _uneven() -> Lines:
    for policy in (RoundRobin(), LeastLoaded(), Fastest()):
        result = uneven(policy, 360.0)
        yield type(policy).__name__, {**usual(result), "share of the slow one": f"{result.share('a'):.1%}"}


@scenario("fastest with quantile 90 %: two targets change places after 300 s")
def _crossing() -> Lines:
    for seed in range(1, 6):
        result, best = crossing(Fastest(quantile=0.9), 300.0, seed=seed), oracle(300.0, seed=seed)
        yield (
            f"seed {seed}",
            {
                "n": str(result.n),
                "switched after s": f"{switched(result, 300.0):.0f}",
                "explored": f"{1 - result.between(60.0, 300.0).share('a'):.1%}",
                "mean TTFT over the oracle's": f"{mean_ttft(result) / mean_ttft(best) - 1:.1%}",
            },
        )


@scenario("cheapest with slo 1 s and miss 5 %: 30 %, 3 % and 0.1 % of the answers are late; 0.5, 2 and 12 USD")
def _priced() -> Lines:
    for seed in range(1, 6):
        result = priced(Cheapest(slo=1.0), 600.0, seed)
        yield (
            f"seed {seed}",
            {
                "n": str(result.n),
                "late": f"{late(result):.1%}",
                "price, of the best that keeps it": f"{relative_price(result):.2f}",
                **{name: f"{result.share(name):.1%}" for name in PRICES},
            },
        )


@scenario("bandit: rewards in 80 % and 85 % of the cases, the other way round after 4,000")
def _bandit() -> Lines:
    for seed in range(1, 6):
        chosen = rewarded(Bandit(), {"a": (0.80, 0.85), "b": (0.85, 0.80)}, 8000, seed)
        yield (
            f"seed {seed}",
            {
                "best one's share, 2,000 to 4,000": f"{chosen[2000:4000].count('b') / 2000:.1%}",
                "rounds until the new best one has most": str(regained(chosen, "a", 4000)),
                "its share, 1,000 to 2,000 after": f"{chosen[5000:6000].count('a') / 1000:.1%}",
                "2,000 to 4,000 after": f"{chosen[6000:].count('a') / 2000:.1%}",
            },
        )


@scenario("sticky: five targets, conversations of ten turns, a hundred requests under way")
def _sticky() -> Lines:
    for policy in (Sticky(), Weighted(), LeastLoaded()):
        found = conversations(policy, 20_000)
        yield (
            type(policy).__name__,
            {
                "turns at the target of the turn before": f"{found.hits:.1%}",
                "most loaded, of the mean": f"{found.crowded:.2f}",
                "moved when one goes": f"{moved(policy, 5000):.1%}",
            },
        )


@scenario("canary: 200 seeds each, 50,000 conversations a day; margins: quality 5, errors 3, slow answers 5 points")
def _canary() -> Lines:
    for what, quality, errors in (
        ("the same", 0.0, 0.0),
        ("quality 6 points lower", -0.06, 0.0),
        ("quality 10 points lower", -0.10, 0.0),
        ("errors 4 points more", 0.0, 0.04),
        ("errors 10 points more", 0.0, 0.10),
        ("quality 3 points higher", 0.03, 0.0),
    ):
        all_ = [rollout(seed, quality, errors) for seed in range(200)]
        ends = Counter(one.status for one in all_)
        whole = [one.hours[-1] for one in all_]
        yield (
            what,
            {
                "promoted": f"{ends[Status.PROMOTED] / 2:.1f} %",
                "rolled back for harm": f"{ends[Status.HARM] / 2:.1f} %",
                "timed out": f"{ends[Status.TIMED_OUT] / 2:.1f} %",
                "pairs, median": str(sorted(one.pairs for one in all_)[100]),
                "hours at 1, 5, 25, 50 %, medians": hours_of_steps(all_),
                "hours in all, median": f"{sorted(whole)[100]:.1f}",
            },
        )
