"""The circuit breaker's life, on a clock of numbers."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.breaker import IN_A_ROW, LONGEST, RAMP, RAMP_FROM, SHORTEST, Breaker, State

RNG = Random(1)


def opened(now: float = 100.0) -> Breaker:
    breaker = Breaker()
    for _ in range(IN_A_ROW):
        breaker.failure(now, RNG)
    assert breaker.state is State.OPEN
    return breaker


def test_five_failures_in_a_row_open_it_and_a_success_between_does_not() -> None:
    breaker = Breaker()
    for _ in range(20):
        breaker.success(0.0)
    for _ in range(IN_A_ROW - 1):
        breaker.failure(0.0, RNG)
    breaker.success(0.0)
    breaker.failure(0.0, RNG)
    assert (breaker.state, breaker.failures) == (State.CLOSED, 1)
    assert not breaker.blocks(0.0)


def test_a_low_share_of_successes_opens_it_though_never_five_in_a_row() -> None:
    breaker = Breaker()
    for number in range(9):
        (breaker.failure(1.0, RNG) if number % 3 == 2 else breaker.success(1.0))
    assert breaker.state is State.CLOSED  # fewer than ten outcomes say nothing
    breaker.success(1.0)
    breaker.failure(1.0, RNG)
    assert breaker.state is State.OPEN


def test_old_failures_are_forgotten() -> None:
    breaker = Breaker()
    for _ in range(4):
        breaker.failure(0.0, RNG)
    breaker.success(0.0)
    for _ in range(10):
        breaker.success(300.0)
    breaker.failure(300.0, RNG)
    breaker.failure(300.0, RNG)
    assert breaker.state is State.CLOSED
    assert breaker.share(300.0) == pytest.approx(10 / 12, abs=0.01)


def test_one_probe_at_a_time_and_its_success_closes() -> None:
    breaker = opened()
    wait = breaker.reopens(100.0)
    assert SHORTEST / 2 <= wait <= SHORTEST
    assert breaker.blocks(100.0)
    assert not breaker.begin(100.0)
    later = 100.0 + wait
    assert not breaker.blocks(later)
    assert breaker.begin(later)
    assert (breaker.state, breaker.blocks(later), breaker.begin(later)) == (State.HALF_OPEN, True, False)
    breaker.success(later, probe=True)
    assert (breaker.state, breaker.blocks(later)) == (State.CLOSED, False)


def test_each_failed_probe_doubles_the_wait_up_to_the_longest() -> None:
    breaker, now = opened(), 100.0
    for k in range(1, 8):
        now += breaker.reopens(now)
        assert breaker.begin(now)
        breaker.failure(now, RNG, probe=True)
        most = min(LONGEST, SHORTEST * 2**k)
        assert most / 2 <= breaker.reopens(now) <= most
    assert breaker.opened == 1
    breaker.success(now)
    assert breaker.state is State.OPEN  # it had been sent before, or had nowhere else to go
    now += LONGEST
    assert breaker.begin(now)
    breaker.success(now, probe=True)
    assert breaker.state is State.CLOSED


def test_three_good_answers_in_a_row_close_it_for_want_of_another_target() -> None:
    breaker = opened(100.0)
    for _ in range(5):
        breaker.success(100.5, sent=99.0)  # under way when it opened: they show nothing
    for _ in range(2):
        breaker.success(101.0, sent=100.6)
    breaker.failure(101.2, RNG)
    for _ in range(2):
        breaker.success(101.5, sent=101.3)
    assert breaker.state is State.OPEN
    breaker.success(101.6, sent=101.5)
    assert breaker.state is State.CLOSED


def test_where_answers_were_cut_a_probe_must_end_well() -> None:
    breaker = Breaker()
    for _ in range(20):
        breaker.success(0.0)
    for _ in range(5):
        breaker.failure(0.0, RNG, answered=True)
        breaker.success(0.0)
    breaker.failure(0.0, RNG, answered=True)
    breaker.failure(0.0, RNG, answered=True)
    assert (breaker.state, breaker.failures < IN_A_ROW) == (State.OPEN, True)  # the share of whole answers counts
    assert breaker.begin(10.0)
    breaker.success(11.0, probe=True)
    assert breaker.state is State.HALF_OPEN
    breaker.failure(15.0, RNG, probe=True, answered=True)
    assert breaker.state is State.OPEN
    assert breaker.begin(60.0)
    breaker.success(61.0, probe=True)
    breaker.whole(65.0, probe=True)
    assert breaker.state is State.CLOSED


def test_a_probe_whose_client_left_is_made_again() -> None:
    breaker = opened()
    assert breaker.begin(110.0)
    breaker.neither(probe=True)
    assert not breaker.blocks(110.0)
    assert breaker.begin(110.0)


def test_traffic_comes_back_slowly() -> None:
    breaker = opened()
    assert breaker.begin(200.0)
    breaker.success(200.0, probe=True)
    assert breaker.ramp(200.0) == pytest.approx(RAMP_FROM)
    assert breaker.ramp(200.0 + RAMP / 2) == pytest.approx((1 + RAMP_FROM) / 2)
    assert breaker.ramp(200.0 + RAMP) == 1.0
    assert Breaker().ramp(0.0) == 1.0


def test_a_target_without_substitute_is_throttled_by_what_it_accepts() -> None:
    def let_through(good: int, bad: int) -> float:
        breaker, rng = Breaker(), Random(5)
        for _ in range(good):
            breaker.success(0.0)
        for _ in range(bad):
            breaker.failure(0.0, rng)
        return sum(not breaker.throttles(0.0, rng) for _ in range(1000)) / 1000

    assert let_through(100, 0) == 1.0
    assert let_through(50, 50) > 0.9  # half accepted: nothing to hold back yet
    assert 0.12 < let_through(100, 900) < 0.2  # refusals count as requests, so this goes on falling
    assert let_through(0, 100) < 0.05
    assert let_through(0, 10) > 0.0  # few outcomes: sporadic requests are never held back


@given(st.lists(st.tuples(st.floats(0.0, 20.0), st.sampled_from(["ok", "bad", "left"])), max_size=60))
def test_it_never_stays_shut(steps: list[tuple[float, str]]) -> None:
    breaker, rng, now = Breaker(), Random(3), 0.0
    for pause, outcome in steps:
        now += pause
        probe = breaker.begin(now)
        if outcome == "ok":
            breaker.success(now, probe)
        elif outcome == "bad":
            breaker.failure(now, rng, probe)
        else:
            breaker.neither(probe)
        assert not breaker.probing
        assert breaker.reopens(now) <= LONGEST
        assert not breaker.blocks(now + LONGEST)
        assert 0.0 <= breaker.share(now) <= 1.0
        assert RAMP_FROM <= breaker.ramp(now) <= 1.0
