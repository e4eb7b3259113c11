"""Exchanges and attempts as rows, in the order of the columns of `schema`. Runs in the writer thread."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import orjson

from policies.verdict import Kind
from proxy.measure import timing
from proxy.measure.store.schema import MARKS
from proxy.record import Attempt, Decision, Exchange, Gaps, Marks

Row = tuple[Any, ...]

_EXCHANGE_COLUMNS = 27 + len(MARKS)
_ATTEMPT_COLUMNS = 33 + len(MARKS)
INSERT_EXCHANGE = f"INSERT INTO exchanges VALUES ({', '.join('?' * _EXCHANGE_COLUMNS)})"  # noqa: S608
INSERT_ATTEMPT = f"INSERT INTO attempts VALUES ({', '.join('?' * _ATTEMPT_COLUMNS)})"  # noqa: S608

_NO_USAGE = (None, None, None, None, None)


class Timestamps:
    """Wall time as ISO 8601 text in UTC with milliseconds; the part before the point is kept for the next record."""

    __slots__ = ("_second", "_text")

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def text(self, at: float) -> str:
        """`at` in seconds since the epoch."""
        second, millisecond = divmod(int(at * 1000), 1000)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._text}.{millisecond:03d}Z"


def exchange_row(n: int, exchange: Exchange, at: str) -> Row:
    attempts, winner, decision = exchange.attempts, exchange.winner, exchange.decision
    times = timing.exchange_times(exchange)
    cost, cost_source = _cost(attempts)
    return (
        *(n, exchange.id, exchange.seq, at, exchange.origin, exchange.parent_id, exchange.key, exchange.route),
        *(exchange.model, exchange.stream, exchange.outcome, _error_kind(exchange.kind), exchange.status or None),
        *((decision.policy, decision.propensity, _explained(decision)) if decision else (None, None, None)),
        *(len(attempts), failovers(attempts)),
        winner.no if winner else None,
        attempts[-1].no if attempts else None,
        *(cost, cost_source, exchange.request_bytes, exchange.answer_bytes),
        *times,
        *_marks(exchange.marks),
    )


def attempt_row(n: int, attempt: Attempt, stream: bool) -> Row:
    gaps = attempt.gaps
    return (
        *(n, attempt.no, attempt.target, attempt.provider, attempt.model, attempt.response_model, attempt.upstream_id),
        *(attempt.outcome, _error_kind(attempt.kind), attempt.status, attempt.retry_after, attempt.detail),
        *(attempt.replayed, attempt.wait_ns, attempt.finish_reason),
        *(attempt.usage or _NO_USAGE),
        *(attempt.usage_source, attempt.cost_usd, attempt.cost_source, attempt.request_bytes, attempt.answer_bytes),
        *timing.attempt_times(attempt, stream=stream),
        *((gaps.chunks, _histogram(gaps)) if gaps else (None, None)),
        *_marks(attempt.marks),
    )


def failovers(attempts: list[Attempt]) -> int:
    """How often the target changed."""
    return sum(before.target != after.target for before, after in pairwise(attempts))


def _error_kind(kind: Kind) -> str | None:
    return None if kind is Kind.OK else kind


def _marks(marks: Marks) -> Row:
    return (
        *(marks.scheduled, marks.received, marks.sent, marks.headers),
        *(marks.first_byte, marks.first_content, marks.last_content, marks.end),
    )


def _cost(attempts: list[Attempt]) -> tuple[float | None, str | None]:
    """Of all attempts together, in USD; the source is `mixed` where they differ. None where no cost is known."""
    priced = [attempt for attempt in attempts if attempt.cost_usd is not None]
    if not priced:
        return None, None
    sources = {attempt.cost_source for attempt in priced}
    total = sum(attempt.cost_usd for attempt in priced if attempt.cost_usd is not None)
    return total, sources.pop() if len(sources) == 1 else "mixed"


def _explained(decision: Decision) -> str:
    """Policy and propensity have columns of their own."""
    passed_over = [{"target": target, "reason": reason} for target, reason in decision.passed_over]
    return orjson.dumps({"candidates": decision.candidates, "passed_over": passed_over}).decode()


def _histogram(gaps: Gaps) -> str:
    """`counts` as [class, count] pairs, `long_ns` exactly; see `proxy.record.Gaps`."""
    return orjson.dumps({"counts": sorted(gaps.counts.items()), "long_ns": gaps.long}).decode()
