"""Health on the real engine: outages, fast failures, retries and their budgets, as issue and methods demand them."""

from __future__ import annotations

import pytest

from policies.breaker import LONGEST
from policies.retry import Budget
from policies.verdict import Kind
from proxy.bench.simulate import Fault, Figures, Result, Traffic
from tests.simulator.cluster import burst, capacity, run, three, trap
from tests.simulator.naive import LeastLoaded, RoundRobin

DOWN, UP = 20.0, 80.0
FAST = "timeouts: {ttft: 5s, stall: 10s}"


def outage(kind: str, seed: int = 1, **more: float) -> Result:
    """The first of two targets is out for 60 s."""
    world = {"a": Figures(slots=200, faults=(Fault(kind, DOWN, UP, **more),)), "b": Figures(slots=200)}  # type: ignore[arg-type]
    return run(world, Traffic(((UP + 60.0, 6.0),)), FAST, seed=seed)


@pytest.mark.parametrize("kind", ["refuse", "fail", "hang", "throttle"])
def test_an_outage_of_the_first_target_is_invisible_and_it_comes_back(kind: str) -> None:
    result = outage(kind)
    assert result.success >= 0.999
    assert result.between(0.0, DOWN).share("a") == 1.0
    tried = result.attempts("a")
    opened = sorted(one.end for one in tried if one.kind is not Kind.OK)[4]
    probes = [one for one in tried if one.kind is not Kind.OK and one.begun > opened]
    assert len(probes) <= 8  # U(1/2, 1) x 5, 10, 20, 30, 30 s; a throttled target after 1, 2, 4 ...
    back = next(one.begun for one in tried if one.kind is Kind.OK and one.begun > UP)
    assert back - UP <= LONGEST
    assert result.between(UP + LONGEST + 5.0, UP + 60.0).share("a") == 1.0


def test_while_it_is_out_nothing_is_sent_there_but_probes() -> None:
    result = outage("fail")
    during = result.between(DOWN + 5.0, UP)
    assert during.tries < 1.03
    assert during.ttft(0.99) < 2.0


def test_a_target_that_stalls_is_left_though_it_always_begins_well() -> None:
    result = outage("stall")
    cut = [row for row in result.rows if not row.ok]
    assert {row.kind for row in cut} == {Kind.STALL}
    assert max(row.at for row in cut[:-5]) < DOWN + 15.0  # those under way, and then one a probe
    assert len(cut) < 0.4 * 6.0 * (UP - DOWN)


def test_the_trap_of_fast_failures_catches_nobody() -> None:
    assert trap(LeastLoaded(), 60.0, "retries: {per_request: 1}").success > 0.98
    assert trap(LeastLoaded(), 60.0, "retries: {per_request: 2}").success == 1.0


def test_after_an_overload_goodput_is_whole_within_20_s(monkeypatch: pytest.MonkeyPatch) -> None:
    route = "timeouts: {ttft: 10s}"
    budgeted = burst(notices=True, route=route, policy=RoundRobin())
    assert budgeted.tries <= 1.2
    assert budgeted.goodput(20.0, 80.0) > 0.8 * capacity(4, 8)
    assert budgeted.between(100.0, 140.0).success > 0.99
    alone = burst(notices=True, route=f"{route}\nbreaker: false", policy=RoundRobin()).tries
    monkeypatch.setattr(Budget, "affords", lambda self, cost: True)
    without = burst(notices=True, route=f"{route}\nbreaker: false", policy=RoundRobin()).tries
    assert (alone < 1.2, without > 1.5) == (True, True)  # it is the budget that does it


def test_the_last_target_is_throttled_and_never_shut() -> None:
    world = {"a": Figures(slots=200, faults=(Fault("fail", 10.0, 50.0, after=2.0),))}
    result = run(world, Traffic(((80.0, 10.0),)), "retries: {per_request: 1}")
    during = result.between(20.0, 50.0)
    sent = [one for one in result.attempts("a") if 20.0 <= one.begun < 50.0]
    assert 5 < len(sent) < 0.6 * during.n
    refused = [row for row in during.rows if not row.tries]
    assert {(row.status, row.outcome) for row in refused} == {(503, "no_target")}
    assert result.between(50.5, 80.0).success > 0.95  # when it works again, that is seen at once


def test_a_retry_after_is_obeyed_by_everybody() -> None:
    world = {"a": Figures(faults=(Fault("throttle", 10.0, 11.0, retry_after=8.0),)), "b": Figures()}
    result = run(world, Traffic(((40.0, 5.0),)))
    assert result.success == 1.0
    told = [one for one in result.attempts("a") if one.kind is Kind.RATE_LIMIT]
    assert 1 <= len(told) <= 3  # those under way when the first was told
    assert not [one for one in result.attempts("a") if told[-1].end < one.begun < told[0].end + 8.0]


def test_alone_it_is_waited_for_if_that_is_short_and_else_the_wait_is_told() -> None:
    def lone(retry_after: float) -> Result:
        world = {"a": Figures(faults=(Fault("throttle", 10.0, 10.5, retry_after=retry_after),))}
        return run(world, Traffic(((30.0, 5.0),)))

    assert lone(2.0).success == 1.0
    refused = [row for row in lone(12.0).rows if not row.ok]
    assert {row.status for row in refused} == {429}


def test_alone_it_is_asked_ever_more_seldom_whether_it_still_wants_to_be_left_alone() -> None:
    def lone(until: float) -> Result:
        world = {"a": Figures(slots=200, faults=(Fault("throttle", 10.0, until, retry_after=200.0),))}
        return run(world, Traffic(((100.0, 10.0),)))

    early = lone(10.4)
    assert early.between(11.0, 100.0).success > 0.99  # it said minutes, and worked again at once
    late = lone(80.0)
    assert len([one for one in late.attempts("a") if one.kind is Kind.RATE_LIMIT]) < 25
    assert {row.status for row in late.rows if not row.ok} == {429}
    assert any(row.ok for row in late.rows if row.at > 80.0)


def test_what_was_left_alone_is_asked_before_a_client_is_told_that_all_have_failed() -> None:
    down = Fault("fail", 10.0, 40.0)
    for other in (Fault("throttle", 10.0, 10.4, retry_after=200.0), Fault("fail", 10.0, 12.0)):
        result = run({"a": Figures(faults=(down,)), "b": Figures(faults=(other,))}, Traffic(((60.0, 5.0),)))
        assert result.between(other.end, 60.0).success == 1.0


def test_leaving_clients_and_their_own_faults_are_no_failures() -> None:
    result = run(three(), Traffic(((20.0, 10.0),), patience=0.3))
    assert {row.kind for row in result.rows} >= {Kind.DOWNSTREAM_CLOSED}
    assert result.share("a") == 1.0


def test_an_adaptive_deadline_leaves_a_hanging_target_sooner() -> None:
    def waited(route: str) -> float:
        world = {"a": Figures(slots=200, faults=(Fault("hang", 30.0, 40.0),)), "b": Figures(slots=200)}
        result = run(world, Traffic(((50.0, 8.0),)), f"{route}")
        assert result.success == 1.0
        return max(row.first - row.at for row in result.between(30.0, 40.0).rows)

    assert waited("timeouts: {ttft: 20s}") > 20.0
    assert waited("timeouts: {ttft: 20s, adaptive: true}") < 8.0
