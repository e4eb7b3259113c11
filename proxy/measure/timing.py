"""Moments into durations, in one place: metrics, store, views and reports all read what is computed here.

Pure arithmetic on the marks of a sealed exchange. Durations are integer nanoseconds; None means that the thing did not
happen or cannot be known, never 0. Definitions:

- TTFT: last byte of the request received (attempt: request sent) -> first content event; streams only.
- answer: the same to the first content event that is no reasoning.
- TPOT: (last - first content) / (output tokens - 1); streams with reported usage of at least 2 output tokens.
- stall: a gap between content events > max(500 ms, 10 x that stream's median gap).
- overhead: E2E minus the time in which an attempt was with its upstream, minus deliberate pauses; never below 0.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import NamedTuple

from proxy.record import Attempt, Exchange, Gaps

STALL_FLOOR_NS = 500_000_000
STALL_MEDIANS = 10
LONG_KEPT = 64
"""`Gaps.long` keeps this many gaps exactly; a stream with more is judged by its histogram."""


class AttemptTimes(NamedTuple):
    ttft_ns: int | None
    tpot_ns: int | None
    e2e_ns: int | None
    """From when the attempt was begun to the end of the upstream's part."""
    max_gap_ns: int | None
    stall_count: int | None
    stall_ns: int | None
    """Length of all stalls together."""
    answer_ns: int | None = None
    """To the first content that is no reasoning."""


class ExchangeTimes(NamedTuple):
    """TPOT, gaps and stalls of an exchange are those of its winner: see `attempt_times`."""

    ttft_ns: int | None
    e2e_ns: int | None
    overhead_ns: int | None
    answer_ns: int | None = None
    """To the first content that is no reasoning."""
    before_ns: int | None = None
    """From the last byte of the request to the first request sent upstream: the part of the overhead before it."""
    relay_ns: int | None = None
    """From reading content to handing it on, of one piece of a stream on average; not a part of `overhead_ns`."""


def span(start_ns: int, end_ns: int) -> int | None:
    """Nanoseconds from start to end; None if either moment never came."""
    return end_ns - start_ns if start_ns and end_ns else None


def exchange_times(exchange: Exchange) -> ExchangeTimes:
    marks = exchange.marks
    relays = exchange.relays
    return ExchangeTimes(
        exchange_ttft(exchange),
        span(marks.received, marks.end),
        overhead(exchange),
        exchange_answer(exchange),
        span(marks.received, marks.sent),
        round(exchange.relay_ns / relays) if relays else None,
    )


def attempt_times(attempt: Attempt, *, stream: bool) -> AttemptTimes:
    """`stream` is the exchange's: a client that asked for no stream was shown no first token."""
    marks = attempt.marks
    e2e = span(marks.received, marks.end)
    if not stream:
        return AttemptTimes(None, None, e2e, None, None, None)
    gaps = attempt.gaps
    ttft, answer = span(marks.sent, marks.first_content), span(marks.sent, marks.first_answer)
    if gaps is None:
        return AttemptTimes(ttft, tpot(attempt), e2e, None, None, None, answer)
    count, total = stalls(gaps)
    return AttemptTimes(ttft, tpot(attempt), e2e, gaps.max_ns if gaps.counts else None, count, total, answer)


def exchange_ttft(exchange: Exchange) -> int | None:
    winner = exchange.winner
    if winner is None or not exchange.stream:
        return None
    return span(exchange.marks.received, winner.marks.first_content)


def exchange_answer(exchange: Exchange) -> int | None:
    winner = exchange.winner
    if winner is None or not exchange.stream:
        return None
    return span(exchange.marks.received, winner.marks.first_answer)


def tpot(attempt: Attempt) -> int | None:
    """Of a streamed attempt, rounded to the nanosecond."""
    usage, marks = attempt.usage, attempt.marks
    if usage is None or not marks.first_content or not marks.last_content:
        return None
    output = usage.output_text + usage.reasoning
    return round((marks.last_content - marks.first_content) / (output - 1)) if output >= 2 else None


def overhead(exchange: Exchange) -> int | None:
    """Time that is ours: neither an upstream's (sent -> end of its part; never sent: begun -> end) nor a pause."""
    marks = exchange.marks
    if not marks.received or not marks.end:
        return None
    ours = marks.end - marks.received
    for attempt in exchange.attempts:
        theirs = attempt.marks
        if theirs.end:
            ours -= theirs.end - (theirs.sent or theirs.received)
        ours -= attempt.wait_ns
    return ours if ours > 0 else 0


def gap_bound(index: int) -> tuple[int, int]:
    """The class `index` of `Gaps.add`: low <= gap < high, nanoseconds. Four classes an octave; 0 is below 8 ns."""
    if index == 0:
        return 0, 8
    octave, quarter = divmod(index, 4)
    return (4 + quarter) << (octave - 3), (5 + quarter) << (octave - 3)


def median_gap(gaps: Gaps) -> float:
    """Median from the classes, each gap taken as the middle of its class (within 12.5 %); 0 without gaps."""
    total = sum(gaps.counts.values())
    if not total:
        return 0.0
    return (_ranked(gaps, (total - 1) // 2) + _ranked(gaps, total // 2)) / 2


def stalls(gaps: Gaps) -> tuple[int, int]:
    """How many gaps were stalls, and their length together in nanoseconds.

    Exact up to `LONG_KEPT` gaps over 500 ms; beyond that from the histogram, with a gap's size within 12.5 %.
    """
    if not gaps.long:
        return 0, 0
    threshold = max(STALL_FLOOR_NS, STALL_MEDIANS * median_gap(gaps))
    if len(gaps.long) < LONG_KEPT:
        long = [gap for gap in gaps.long if gap > threshold]
        return len(long), sum(long)
    classes = [(_middle(index), count) for index, count in gaps.counts.items()]
    stalled = [(size, count) for size, count in classes if size > threshold]
    return sum(count for _, count in stalled), round(sum(size * count for size, count in stalled))


def _middle(index: int) -> float:
    if index == 0:
        return 0.0
    low, high = gap_bound(index)
    return (low + high) / 2


def _ranked(gaps: Gaps, rank: int) -> float:
    """The gap at `rank` (from 0) in order of size."""
    indexes = sorted(gaps.counts)
    up_to = [*accumulate(gaps.counts[index] for index in indexes)]
    return _middle(indexes[bisect_right(up_to, rank)])
