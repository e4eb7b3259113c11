"""Hedging on the real engine: the tail goes, at the cost of a few calls in a hundred; the loser is closed at once."""

from __future__ import annotations

from policies.hedge import CAP, SAMPLES, SOONEST, Hedges, Terms
from policies.recent import Recent
from policies.verdict import Kind
from proxy.bench.simulate import Fault, Figures, Result, Traffic
from tests.simulator.cluster import PATIENT, run

HEDGED = "hedge: {after: p95, budget: 5%}"


def tail(route: str, seconds: float = 120.0, seed: int = 1) -> Result:
    """2 % of the answers begin ten times as late."""
    world = {name: Figures(slots=200, tail=0.02) for name in "ab"}
    return run(world, Traffic(((seconds, 12.0),), input=100.0, spread=0.3), f"{PATIENT}\n{route}", seed=seed)


def test_the_tail_is_cut_for_five_calls_in_a_hundred() -> None:
    plain, hedged = tail(""), tail(HEDGED)
    assert hedged.success == 1.0
    assert hedged.ttft(0.99) < 0.6 * plain.ttft(0.99)
    assert 1.01 < hedged.tries <= 1.055
    assert abs(hedged.ttft(0.5) - plain.ttft(0.5)) < 0.05


def test_exactly_one_attempt_wins_and_the_other_is_closed_at_once() -> None:
    hedged = tail(HEDGED)
    raced = [row for row in hedged.rows if len(row.tries) == 2]
    assert len(raced) > 20
    for row in raced:
        assert sorted(one.kind is Kind.OK for one in row.tries) == [False, True]
        (lost,) = [one for one in row.tries if one.kind is not Kind.OK]
        assert lost.kind is Kind.SUPERSEDED
        assert lost.end - row.first < 0.001
        assert lost.first == 0.0
    assert any(row.tries[0].kind is Kind.OK for row in raced)
    assert any(row.tries[1].kind is Kind.OK for row in raced)
    assert all(target.idle for target in hedged.targets.values())


def test_a_first_that_fails_while_the_second_runs_is_not_asked_again() -> None:
    world = {"a": Figures(slots=200, faults=(Fault("fail", 30.0, 33.0, after=1.5),)), "b": Figures(slots=200)}
    result = run(world, Traffic(((40.0, 10.0),), spread=0.3), HEDGED)
    assert result.success == 1.0
    during = result.between(30.0, 33.0).rows
    assert {len(row.tries) for row in during} <= {1, 2}
    assert any(row.tries[0].kind is Kind.SUPERSEDED for row in during)


def test_clients_that_leave_leave_nothing_behind() -> None:
    world = {name: Figures(slots=200, tail=0.2) for name in "ab"}
    result = run(world, Traffic(((60.0, 10.0),), patience=1.0), HEDGED)
    assert {row.kind for row in result.rows} >= {Kind.OK, Kind.DOWNSTREAM_CLOSED}
    assert all(target.idle for target in result.targets.values())


def test_when_a_hedge_may_begin() -> None:
    recent, hedges = Recent(), Hedges(Terms(0.95, 0.05))
    for _ in range(SAMPLES - 1):
        recent.add(0.4, 1.0)
    assert hedges.delay(recent, 100) is None
    recent.add(0.4, 1.0)
    delay = hedges.delay(recent, 100)
    assert delay is not None
    assert 0.35 < delay < 0.45
    assert hedges.delay(recent, 1_000_000) is None
    quick = Recent()
    for _ in range(SAMPLES):
        quick.add(0.01, 1.0)
    assert hedges.delay(quick, 100) == SOONEST
    assert not hedges.spend()
    for _ in range(1000):
        hedges.delay(recent, 100)
    assert sum(hedges.spend() for _ in range(100)) == CAP
