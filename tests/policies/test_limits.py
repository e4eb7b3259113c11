"""What is left of limits, on a clock of numbers."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policies.limits import MARGIN, OUTPUT, Limits, Need, Told, What

MINUTE = {(What.REQUESTS, 60.0): Told(60.0, 60.0, 0.0), (What.TOKENS, 60.0): Told(6000.0, 3000.0, 30.0)}


def known(told: dict[tuple[What, float], Told] | None = None) -> Limits:
    limits = Limits()
    limits.learn(told or MINUTE, 0.0, 0.0)
    return limits


def test_the_tightest_dimension_decides() -> None:
    limits = known()
    assert limits.wait(Need(1000, 500), 0.0) == 0.0
    assert limits.share(0.0) == pytest.approx(0.5)
    # 4000 x 1.1 wanted, 3000 there, 100 a second come back.
    assert limits.wait(Need(3000, 1000), 0.0) == pytest.approx((4000 * MARGIN - 3000) / 100)
    assert limits.wait(Need(3000, 1000), 14.01) == 0.0


def test_reservations_count_until_a_snapshot_holds_them() -> None:
    limits = known()
    first = limits.reserve(Need(2000, 500), 1.0)
    limits.reserve(Need(300, 100), 2.0)
    assert limits.wait(Need(500, 200), 2.0) > 0.0
    limits.learn({(What.TOKENS, 60.0): Told(6000.0, 3000.0, 30.0)}, first.sent, 2.5)
    assert limits.share(2.5) == pytest.approx((3000 - 400) / 6000)
    limits.drop(first)  # changes nothing any more
    assert limits.share(2.5) == pytest.approx((3000 - 400) / 6000)


def test_older_snapshots_change_nothing() -> None:
    limits = known()
    limits.learn({(What.TOKENS, 60.0): Told(6000.0, 6000.0, 0.0)}, 5.0, 5.0)
    limits.learn({(What.TOKENS, 60.0): Told(6000.0, 10.0, 60.0)}, 4.0, 6.0)
    assert limits.wait(Need(2000, 500), 6.0) == 0.0


def test_what_was_not_used_comes_back() -> None:
    limits = known()
    one = limits.reserve(Need(2000, 900), 1.0)
    limits.settle(one, Need(100, 50), 400, 2.0)
    assert limits.share(1.0) == pytest.approx((3100 - 150) / 6000)
    other = limits.reserve(Need(2000, 900), 2.0)
    limits.drop(other)
    limits.drop(other)
    assert limits.share(2.0) == pytest.approx((3200 - 150) / 6000)


def test_a_request_larger_than_the_limit_waits_for_all_of_it_and_not_for_ever() -> None:
    assert known().wait(Need(50_000, 0), 0.0) == pytest.approx(30.0)


def test_places_in_the_queue_are_reserved_so_that_who_comes_later_waits_longer() -> None:
    limits, waits = known(), []
    for _ in range(5):
        waits.append(limits.wait(Need(2000, 500), 0.0))
        limits.reserve(Need(2000, 500), waits[-1])
    assert waits == sorted(waits)
    assert waits[1:] == [pytest.approx(waits[1] + 25.0 * number) for number in range(4)]


def test_what_no_snapshot_ever_counts_is_forgotten_after_a_minute() -> None:
    limits = known()
    limits.reserve(Need(2000, 900), 1.0)
    assert limits.wait(Need(5000, 0), 62.0) == 0.0


def test_estimates_are_learned() -> None:
    limits = known()
    assert limits.estimate(4000, None) == Need(1000, OUTPUT)
    assert limits.estimate(4000, 50) == Need(1000, 50)
    for number in range(100):
        limits.settle(limits.reserve(Need(1, 1), number), Need(2000, 100), 4000, float(number))
    learned = limits.estimate(4000, None)
    assert learned.input == pytest.approx(2000, rel=0.02)
    assert learned.output == pytest.approx(100, rel=0.15)


def test_a_model_s_own_tokens_are_learned_where_they_were_counted_with_care() -> None:
    limits = known()
    assert limits.estimate(4000, 50, 800).input == 800, "taken as it is at first"
    for number in range(200):
        one = limits.reserve(Need(800, 50), number, 800)
        limits.settle(one, Need(1200, 50), 4000, float(number))
    assert limits.estimate(9000, 50, 100).input == pytest.approx(150, rel=0.02)
    before = limits.estimate(4000, 50, 800).input
    limits.settle(limits.reserve(Need(800, 50), 300.0, 800), Need(2400, 50), 4000, 300.0)
    assert 0 < limits.estimate(4000, 50, 800).input - before < 10, "one odd answer of 200 changes little"


@example([("reserve", 0.0), ("drop", 0.0)])  # in the very instant of a snapshot
@given(st.lists(st.tuples(st.sampled_from(["reserve", "settle", "drop", "learn"]), st.floats(0.0, 5.0)), max_size=40))
def test_what_is_left_is_never_more_than_the_limit(steps: list[tuple[str, float]]) -> None:
    limits, now, open_ = known(), 0.0, []
    for what, pause in steps:
        now += pause
        if what == "reserve":
            open_.append(limits.reserve(Need(300, 100), now))
        elif what == "learn":
            limits.learn(MINUTE, open_[-1].sent if open_ else now, now)
        elif open_:
            one = open_.pop(0)
            limits.drop(one) if what == "drop" else limits.settle(one, Need(10, 10), 40, now)
        assert 0.0 <= limits.share(now) <= 1.0
        assert limits.wait(Need(1, 1), now) >= 0.0
    assert limits.wait(Need(1, 1), now + 1000.0) == 0.0
    assert limits.share(now + 1000.0) == pytest.approx(1.0, abs=1e-6)
