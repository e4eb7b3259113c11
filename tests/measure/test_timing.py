"""Definitions of the durations: by example, and against sums written the long way round."""

from __future__ import annotations

import statistics
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.verdict import Kind
from proxy.measure import timing
from proxy.record import Exchange, Gaps
from proxy.wire.chunk import Usage
from tests.measure.records import MS, SECOND, any_exchange, any_gaps, attempt, exchange, streamed, used


def _gaps(*gaps_ms: float) -> Gaps:
    gaps = Gaps()
    for gap in gaps_ms:
        gaps.add(round(gap * MS))
    return gaps


def test_a_stream() -> None:
    one = used(streamed(attempt(begun_ms=0.1, end_ms=110), first_ms=40, gaps_ms=(10, 20, 30)), Usage(70, 0, 0, 10, 3))
    whole = exchange(one, stream=True, end_ms=111)
    assert timing.attempt_times(one, stream=True) == timing.AttemptTimes(
        ttft_ns=round(39.8 * MS),  # sent at 0.2 ms
        tpot_ns=5 * MS,  # 60 ms for 13 tokens but the first
        e2e_ns=round(109.9 * MS),
        max_gap_ns=30 * MS,
        stall_count=0,
        stall_ns=0,
    )
    assert timing.exchange_times(whole) == timing.ExchangeTimes(
        ttft_ns=40 * MS, e2e_ns=111 * MS, overhead_ns=round(1.2 * MS)
    )


def test_the_answer_behind_reasoning_and_the_parts_of_the_overhead() -> None:
    one = streamed(attempt(begun_ms=0.1, end_ms=110), first_ms=40, gaps_ms=(10, 20))
    one.marks.first_answer = one.marks.last_content
    whole = exchange(one, stream=True, end_ms=111)
    whole.marks.sent = one.marks.sent
    whole.relays, whole.relay_ns = 4, 6_000
    assert timing.attempt_times(one, stream=True).answer_ns == round(69.8 * MS)
    times = timing.exchange_times(whole)
    assert (times.ttft_ns, times.answer_ns) == (40 * MS, 70 * MS)
    assert (times.before_ns, times.relay_ns) == (round(0.2 * MS), 1_500)
    whole.stream = False
    assert timing.exchange_times(whole).answer_ns is None


def test_an_answer_that_was_not_streamed_has_no_first_token() -> None:
    one = used(streamed(attempt()))
    assert timing.attempt_times(one, stream=False) == (None, None, round(99.9 * MS), None, None, None, None)
    assert timing.exchange_times(exchange(one)).ttft_ns is None


def test_what_never_came_is_unknown_and_not_nought() -> None:
    one = attempt()
    one.marks.sent = one.marks.end = 0
    assert timing.attempt_times(one, stream=True) == (None,) * 7
    unsealed = exchange(one, stream=True)
    unsealed.marks.end = 0
    assert timing.exchange_times(unsealed)[:4] == (None,) * 4


def test_the_first_token_of_an_exchange_is_its_winners() -> None:
    lost = streamed(attempt(kind=Kind.MALFORMED, end_ms=30), first_ms=20)
    won = streamed(attempt("local/llama", no=2, begun_ms=31, end_ms=95), first_ms=60)
    assert timing.exchange_ttft(exchange(lost, won, stream=True)) == 60 * MS
    assert timing.exchange_ttft(exchange(lost, stream=True)) is None


@pytest.mark.parametrize(
    ("usage", "expected"),
    [(None, None), (Usage(9, 0, 0, 1, 0), None), (Usage(9, 0, 0, 0, 2), 60 * MS), (Usage(9, 0, 0, 2, 2), 20 * MS)],
)
def test_time_per_output_token_needs_two_tokens(usage: Usage | None, expected: int | None) -> None:
    one = streamed(attempt(), gaps_ms=(60,))
    one.usage = usage
    assert timing.tpot(one) == expected


def test_one_content_event_of_many_tokens_took_no_time_between_them() -> None:
    assert timing.tpot(used(streamed(attempt(), gaps_ms=()))) == 0


def test_overhead_leaves_out_upstreams_and_pauses() -> None:
    failed = attempt(kind=Kind.SERVER_ERROR, begun_ms=1, end_ms=20)  # sent at 1.1: 18.9 theirs
    again = attempt(no=2, begun_ms=50, end_ms=90)  # sent at 50.1: 39.9 theirs
    again.wait_ns = 29 * MS
    assert timing.overhead(exchange(failed, again, end_ms=92)) == round((92 - 18.9 - 39.9 - 29) * MS)


def test_an_attempt_that_was_never_sent_was_with_its_upstream_from_its_begin() -> None:
    refused = attempt(kind=Kind.CONNECT, begun_ms=1, end_ms=3)
    refused.marks.sent = 0
    assert timing.overhead(exchange(refused, end_ms=4)) == 2 * MS


def test_overhead_is_never_negative() -> None:
    assert timing.overhead(exchange(attempt(end_ms=500), end_ms=400)) == 0


@given(any_exchange())
def test_overhead_is_what_is_left_of_the_whole(whole: Exchange) -> None:
    theirs = sum(one.marks.end - (one.marks.sent or one.marks.received) + one.wait_ns for one in whole.attempts)
    assert timing.overhead(whole) == max(0, whole.marks.end - whole.marks.received - theirs)


# -- gaps


@given(st.integers(0, 1 << 60))
def test_a_gap_lies_within_the_bounds_of_its_class(gap: int) -> None:
    gaps = Gaps()
    gaps.add(gap)
    (index,) = gaps.counts
    low, high = timing.gap_bound(index)
    assert low <= gap < high
    assert low == 0 or high / low <= 1.25


def test_the_classes_leave_no_room_between_them() -> None:
    bounds = [
        timing.gap_bound(0),
        *(timing.gap_bound(octave * 4 + part) for octave in range(4, 60) for part in range(4)),
    ]
    assert all(this[1] == following[0] for this, following in pairwise(bounds))


@given(st.lists(st.integers(8, 100 * SECOND), min_size=1, max_size=50))
def test_the_median_is_within_an_eighth(sizes: list[int]) -> None:
    gaps = Gaps()
    for size in sizes:
        gaps.add(size)
    assert timing.median_gap(gaps) == pytest.approx(statistics.median(sizes), rel=0.125)


def test_no_gap_has_no_median() -> None:
    assert timing.median_gap(Gaps()) == 0


@pytest.mark.parametrize(
    ("gaps_ms", "stalled_ms"),
    [
        ((), ()),
        ((10, 10, 10, 499), ()),
        ((10, 10, 10, 501), (501,)),
        ((10, 10, 10, 10, 700, 3000), (700, 3000)),
        ((100, 100, 100, 900, 1500), (1500,)),  # ten medians are a second
        ((2000,), ()),  # the only gap is the median
        ((400, 400, 400, 3000), ()),
    ],
)
def test_stalls(gaps_ms: tuple[float, ...], stalled_ms: tuple[float, ...]) -> None:
    assert timing.stalls(_gaps(*gaps_ms)) == (len(stalled_ms), sum(stalled_ms) * MS)


@given(any_gaps())
def test_stalls_are_the_long_gaps_over_ten_medians(gaps: Gaps) -> None:
    threshold = max(500 * MS, 10 * timing.median_gap(gaps))
    long = [gap for gap in gaps.long if gap > threshold]
    assert timing.stalls(gaps) == (len(long), sum(long))


def test_more_long_gaps_than_are_kept_exactly_are_judged_by_their_classes() -> None:
    sizes = [10.0] * 200 + [600.0] * 50 + [2000.0] * 40
    gaps = _gaps(*sizes)
    assert len(gaps.long) == timing.LONG_KEPT
    count, total = timing.stalls(gaps)
    assert count == 90
    assert total == pytest.approx((600 * 50 + 2000 * 40) * MS, rel=0.125)
