"""The routing policies keep their promises, in short; at length by `python -m tests.simulator table`."""

from __future__ import annotations

from collections import Counter

from policies.bandit import Bandit
from policies.cheapest import Cheapest
from policies.fastest import Fastest
from policies.least_loaded import LeastLoaded
from policies.ordered import Ordered
from policies.ranked import Ranked
from policies.rollout import Status
from policies.round_robin import RoundRobin
from policies.sticky import Sticky
from tests.simulator.cluster import slow_one, trap
from tests.simulator.naive import Greedy
from tests.simulator.routing import (
    conversations,
    crossing,
    late,
    mean_ttft,
    moved,
    oracle,
    priced,
    regained,
    relative_price,
    rewarded,
    rollout,
    switched,
    uneven,
)


def test_fastest_where_one_of_three_is_four_times_slower() -> None:
    greedy = Greedy()
    sound = slow_one(Fastest(), 60.0)
    assert sound.success == 1.0
    assert sound.ttft(0.99) <= slow_one(RoundRobin(), 60.0).ttft(0.99) / 2
    assert sound.ttft(0.99) <= slow_one(LeastLoaded(), 60.0).ttft(0.99) * 1.2
    assert sound.ttft(0.99) <= slow_one(greedy, 60.0, watch=greedy).ttft(0.99) / 5


def test_fastest_where_one_is_always_slower() -> None:
    sound = uneven(Fastest(), 60.0)
    assert sound.ttft(0.99) <= uneven(RoundRobin(), 60.0).ttft(0.99) / 2
    assert sound.share("a") < 0.2


def test_fastest_is_not_drawn_to_one_that_fails_fast() -> None:
    route = "retries: {per_request: 1}\nbreaker: false"
    drawn = trap(LeastLoaded(), 60.0, route).between(20.0, 40.0).success
    sound = trap(Fastest(), 60.0, route).between(20.0, 40.0).success
    assert sound > drawn + 0.2
    assert trap(Fastest(), 60.0, "retries: {per_request: 2}").success >= 0.999


def test_the_target_with_the_lower_quantile_is_found_again_after_a_change() -> None:
    result, best = crossing(Fastest(quantile=0.9), 150.0), oracle(150.0)
    assert switched(result, 150.0) <= 60.0
    for begin, end, other in ((60.0, 150.0, "b"), (220.0, 300.0, "a")):
        assert 0.005 <= result.between(begin, end).share(other) <= 0.06
    assert mean_ttft(result) <= 1.12 * mean_ttft(best)
    assert switched(crossing(Ordered(), 150.0), 150.0) > 60.0, "the check can fail"


def test_the_cheapest_that_keeps_the_level() -> None:
    result = priced(Cheapest(slo=1.0, miss=0.05), 250.0)
    assert late(result) <= 0.06
    assert relative_price(result) <= 1.1
    assert late(priced(Ranked("price"), 60.0)) > 0.06, "without the level it would not"


def test_the_bandit_finds_the_better_one_and_finds_it_again() -> None:
    found, again, back = [], [], []
    for seed in range(4):
        chosen = rewarded(Bandit(), {"a": (0.80, 0.85), "b": (0.85, 0.80)}, 4000, seed)
        found.append(chosen[1000:2000].count("b") / 1000)
        again.append(chosen[3000:].count("a") / 1000)
        back.append(regained(chosen, "a", 2000))
    assert sum(found) / 4 >= 0.8
    assert sum(again) / 4 >= 0.7
    assert sorted(back)[2] <= 1000


def test_sticky_keeps_conversations_together_without_crowding() -> None:
    sticky, spread = conversations(Sticky(), 4000), conversations(LeastLoaded(), 4000)
    assert sticky.hits >= 2 * spread.hits
    assert sticky.crowded <= 1.3
    assert moved(Sticky(), 4000) <= 1 / 5 + 0.02


def test_a_canary_that_is_the_same_goes_up_and_one_that_is_much_worse_comes_down() -> None:
    same = [rollout(seed) for seed in range(20)]
    ends = Counter(one.status for one in same)
    assert ends[Status.HARM] <= 2
    assert ends[Status.PROMOTED] >= 18
    assert all(one.hours == sorted(one.hours) for one in same)
    worse = Counter(rollout(seed, quality=-0.10).status for seed in range(20))
    assert worse[Status.PROMOTED] <= 2
    assert worse[Status.HARM] >= 18
    failing = Counter(rollout(seed, errors=0.10).status for seed in range(20))
    assert failing[Status.HARM] == 20
