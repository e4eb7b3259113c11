"""Bounds on what is under way, on the real engine: an overload is turned away early, and goodput stays."""

from __future__ import annotations

from proxy.bench.simulate import Figures, Traffic
from tests.simulator.cluster import PATIENT, capacity, run


def test_an_overload_is_turned_away_early_and_goodput_stays_at_capacity() -> None:
    world = {name: Figures(slots=8) for name in "ab"}
    full = capacity(2, 8)
    traffic = Traffic(((15.0, 0.6 * full), (30.0, 1.5 * full), (30.0, 0.6 * full)))
    result = run(world, traffic, PATIENT, each=", concurrency: 8, queue: 8")
    assert result.goodput(20.0, 45.0) > 0.9 * full
    assert result.tries <= 1.0
    assert result.between(46.0, 75.0).success == 1.0
    refused = [row for row in result.rows if not row.ok]
    assert {(row.status, row.outcome, row.kind) for row in refused} == {(503, "no_target", "busy")}
    assert all(row.end - row.at == 0.0 or row.end - row.at >= 20.0 for row in refused)
    assert result.ttft(0.99) < 5.0
    unbounded = run(world, traffic, PATIENT)
    assert unbounded.ttft(0.99) > 2 * result.ttft(0.99)


def test_a_busy_target_is_passed_over_while_another_is_not() -> None:
    result = run({"a": Figures(), "b": Figures(slots=100)}, Traffic(((30.0, 10.0),)), each=", concurrency: 5")
    assert result.success == 1.0
    assert 0.1 < result.share("a") < 0.9


def test_an_adaptive_bound_keeps_the_queue_out_of_the_target() -> None:
    world = {"a": Figures(slots=30)}
    full = capacity(1, 30)
    result = run(world, Traffic(((120.0, 1.4 * full),)), PATIENT, each=", concurrency: auto, queue: 10")
    assert result.goodput(60.0, 120.0) > 0.8 * full
    late = [one.first - one.begun for one in result.attempts("a") if one.begun > 60.0 and one.first]
    assert sorted(late)[len(late) // 2] < 3.0  # without a bound it would be half a minute
