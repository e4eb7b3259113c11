"""Rate limits foreseen, on the real engine."""

from __future__ import annotations

from policies.verdict import Kind
from proxy.bench.simulate import Figures, Traffic
from tests.simulator.cluster import run, two_keys
from tests.simulator.naive import TwoChoices


def test_foreseen_limits_make_ten_times_fewer_429s_and_no_less_success() -> None:
    blind = two_keys(tells=False, policy=TwoChoices())
    foreseen = two_keys(tells=True, policy=TwoChoices())
    assert blind.per_1000(Kind.RATE_LIMIT) > 100.0
    assert foreseen.per_1000(Kind.RATE_LIMIT) * 10 <= blind.per_1000(Kind.RATE_LIMIT)
    assert foreseen.success >= blind.success


def test_who_waits_for_room_is_served_in_order_and_the_rest_is_told_how_long() -> None:
    world = {"a": Figures(slots=200, rpm=60.0)}
    result = run(world, Traffic(((60.0, 3.0), (30.0, 0.2)), spread=0.1))
    assert result.per_1000(Kind.RATE_LIMIT) <= 1000.0 / result.n  # not even one, but for the very first
    served = [row for row in result.rows if row.ok and row.at < 60.0]
    begun = [row.tries[0].begun for row in sorted(served, key=lambda row: row.at)]
    assert begun == sorted(begun)
    assert max(row.tries[0].begun - row.at for row in served) <= 20.5
    refused = [row for row in result.rows if not row.ok]
    assert {(row.status, len(row.tries)) for row in refused} == {(429, 0)}
    assert 45 < len(refused) < 120


def test_the_second_target_is_taken_before_the_first_refuses() -> None:
    world = {"a": Figures(rpm=60.0), "b": Figures()}
    result = run(world, Traffic(((60.0, 4.0),)))
    assert result.success == 1.0
    assert result.per_1000(Kind.RATE_LIMIT) == 0.0
    assert result.ttft(0.99) < 2.0
    assert 0.3 < result.share("a") < 0.6
