"""Policies that go by the conversation or by rewards keep their promises behind the real router and engine."""

from __future__ import annotations

from policies.bandit import Bandit
from policies.sticky import Sticky
from tests.simulator.naive import RoundRobin, Scattered
from tests.simulator.whole import dealt, off, regained, rolled, together, tried


def test_weighted_shares_are_within_three_sigma() -> None:
    counts, n, result = dealt(5000)
    assert result.success == 1.0
    assert n > 900
    assert all(off(share, counts[name], n) <= 3.0 for name, share in (("a", 0.1), ("b", 0.3), ("c", 0.6)))
    assert off(0.1, counts["c"], n) > 5.0, "the check can fail"


def test_the_bandit_finds_the_better_one_among_failing_targets() -> None:
    half = 100.0
    found = [tried(Bandit(), half, seed) for seed in (1, 2, 3)]
    assert sum(one.between(half / 2, half).share("b") for one in found) / 3 >= 0.8
    assert sum(one.between(1.5 * half, 2 * half).share("a") for one in found) / 3 >= 0.8
    assert sorted(regained(one, half) for one in found)[1] <= 1000
    assert abs(tried(RoundRobin(), half / 4).share("b") - 0.5) < 0.05, "chance alone would not"


def test_conversations_stay_and_only_those_of_a_target_that_goes_move() -> None:
    sticky, spread = together(Sticky("unit"), 150.0), together(Scattered(), 50.0)
    assert sticky.result.success == 1.0
    assert sticky.hits >= 2 * spread.hits
    assert sticky.crowded <= 1.3
    assert sticky.moved <= sticky.gone + 0.02
    assert spread.moved > 0.5


def test_a_canary_is_promoted_or_rolled_back_while_clients_see_nothing() -> None:
    same, worse = rolled(0.0), rolled(0.1)
    assert (same.success, worse.success) == (1.0, 1.0)
    assert same.between(180.0, 200.0).share("b") == 1.0
    assert worse.between(150.0, 200.0).share("b") == 0.0
    assert worse.share("b") < 0.35
