"""Exchanges and attempts as rows, in the order of the columns of `schema`. Runs in the writer thread."""

from __future__ import annotations

import time
from functools import lru_cache
from itertools import pairwise

import orjson

from policies.verdict import Kind, Outcome
from proxy.measure import timing
from proxy.measure.store.schema import MARKS
from proxy.record import Attempt, Decision, Exchange, Gaps, Origin
from proxy.wire.request import fingerprint
from proxy.wire.usage import CLASSES, Parts

Row = tuple[int | float | str, ...]

# The driver binds exact int, float and str at once, but asks adapters about anything else, None included (0.7
# microseconds each, of 76 columns). So nothing else is bound: enumerations as plain text, "none" as a value that cannot
# occur, which the statement turns into NULL.
_NO_INT = -1
_NO_TEXT = ""
_INT, _TEXT, _GIVEN, _POSITIVE = "nullif(?, -1)", "nullif(?, '')", "?", "nullif(?, 0)"

_EXCHANGE = (
    *(_GIVEN,) * 5,  # n, id, seq, at, origin
    *(_TEXT,) * 3,  # parent_id, key, route
    *(_GIVEN,) * 3,  # model, stream, outcome
    *(_TEXT, _POSITIVE),  # error_kind, status
    *(_TEXT, _INT, _TEXT),  # policy, propensity, decision
    *(_GIVEN,) * 2,  # attempts, failovers
    *(_POSITIVE,) * 2,  # winner_no, last_no
    *(_INT, _TEXT),  # cost_usd, cost_source
    *(_GIVEN,) * 2,  # bytes
    *(_INT,) * 3,  # ttft, e2e, overhead
    *(_GIVEN,) * len(MARKS),
    *(_POSITIVE, _INT, _INT, _INT),  # first_answer, answer, before, relay
    *(_TEXT, _TEXT, _TEXT),  # trace_id, tags, operation
)
_ATTEMPT = (
    *(_GIVEN,) * 5,  # exchange_n, attempt_no, target, provider, model
    *(_TEXT,) * 2,  # response_model, upstream_id
    *(_GIVEN, _TEXT, _POSITIVE, _INT),  # outcome, error_kind, status, retry_after
    *(_GIVEN, _TEXT),  # detail, dropped
    *(_GIVEN,) * 2,  # replayed, wait_ns
    _TEXT,  # finish_reason
    *(_INT,) * len(CLASSES),
    *(_TEXT, _INT, _TEXT),  # usage_source, cost_usd, cost_source
    *(_GIVEN,) * 2,  # bytes
    *(_INT,) * 6,  # ttft, tpot, e2e, max_gap, stalls
    *(_INT, _TEXT),  # chunks, gaps
    *(_GIVEN,) * len(MARKS),
    *(_TEXT, _TEXT),  # parts, price_version
    *(_POSITIVE, _INT),  # first_answer, answer
    _TEXT,  # span_id
    _TEXT,  # params_hash
)
INSERT_EXCHANGE = f"INSERT INTO exchanges VALUES ({', '.join(_EXCHANGE)})"  # noqa: S608
INSERT_ATTEMPT = f"INSERT INTO attempts VALUES ({', '.join(_ATTEMPT)})"  # noqa: S608

_NO_USAGE = (_NO_INT,) * len(CLASSES)
_KINDS = {kind: kind.value if kind is not Kind.OK else _NO_TEXT for kind in Kind}
_OUTCOMES = {outcome: outcome.value for outcome in Outcome}
_ORIGINS = {origin: origin.value for origin in Origin}


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
    attempts, winner, decision, marks = exchange.attempts, exchange.winner, exchange.decision, exchange.marks
    ttft, e2e, overhead, answer, before, relay = timing.exchange_times(exchange)
    trace = exchange.trace
    cost, cost_source = cost_of(attempts)
    return (
        n,
        exchange.id,
        exchange.seq,
        at,
        _ORIGINS[exchange.origin],
        exchange.parent_id or _NO_TEXT,
        exchange.key or _NO_TEXT,
        exchange.route or _NO_TEXT,
        exchange.model,
        1 if exchange.stream else 0,
        _OUTCOMES[exchange.outcome],
        _KINDS[exchange.kind],
        exchange.status,
        decision.policy if decision else _NO_TEXT,
        decision.propensity if decision else _NO_INT,
        _explained(decision) if decision else _NO_TEXT,
        len(attempts),
        failovers(attempts),
        winner.no if winner else 0,
        attempts[-1].no if attempts else 0,
        _NO_INT if cost is None else cost,
        cost_source or _NO_TEXT,
        exchange.request_bytes,
        exchange.answer_bytes,
        _NO_INT if ttft is None else ttft,
        _NO_INT if e2e is None else e2e,
        _NO_INT if overhead is None else overhead,
        marks.scheduled,
        marks.received,
        marks.sent,
        marks.headers,
        marks.first_byte,
        marks.first_content,
        marks.last_content,
        marks.end,
        marks.first_answer,
        _NO_INT if answer is None else answer,
        _NO_INT if before is None else before,
        _NO_INT if relay is None else relay,
        trace.trace_id if trace is not None else _NO_TEXT,
        " ".join(exchange.tags),
        exchange.operation,
    )


def attempt_row(n: int, attempt: Attempt, stream: bool) -> Row:
    gaps, marks, retry_after, cost = attempt.gaps, attempt.marks, attempt.retry_after, attempt.cost_usd
    ttft, tpot, e2e, max_gap, stall_count, stall, answer = timing.attempt_times(attempt, stream=stream)
    usage = attempt.usage
    return (
        n,
        attempt.no,
        attempt.target,
        attempt.provider,
        attempt.model,
        attempt.response_model or _NO_TEXT,
        attempt.upstream_id or _NO_TEXT,
        _OUTCOMES[attempt.outcome],
        _KINDS[attempt.kind],
        attempt.status or 0,
        _NO_INT if retry_after is None else retry_after,
        attempt.detail,
        " ".join(attempt.dropped),
        1 if attempt.replayed else 0,
        attempt.wait_ns,
        attempt.finish_reason or _NO_TEXT,
        *(usage[:5] if usage else _NO_USAGE),
        attempt.usage_source or _NO_TEXT,
        _NO_INT if cost is None else cost,
        attempt.cost_source or _NO_TEXT,
        attempt.request_bytes,
        attempt.answer_bytes,
        _NO_INT if ttft is None else ttft,
        _NO_INT if tpot is None else tpot,
        _NO_INT if e2e is None else e2e,
        _NO_INT if max_gap is None else max_gap,
        _NO_INT if stall_count is None else stall_count,
        _NO_INT if stall is None else stall,
        gaps.chunks if gaps else _NO_INT,
        _histogram(gaps) if gaps else _NO_TEXT,
        marks.scheduled,
        marks.received,
        marks.sent,
        marks.headers,
        marks.first_byte,
        marks.first_content,
        marks.last_content,
        marks.end,
        _NO_TEXT if usage is None or usage.parts is None else _parts(usage.parts),
        attempt.price_version or _NO_TEXT,
        marks.first_answer,
        _NO_INT if answer is None else answer,
        attempt.trace_headers[0][1][36:52].decode() if attempt.trace_headers else _NO_TEXT,
        fingerprint(attempt.sent) or _NO_TEXT,
    )


def failovers(attempts: list[Attempt]) -> int:
    """How often the target changed; a hedge that one side of won changed nothing."""
    if len(attempts) < 2:
        return 0
    return sum(
        before.target != after.target and Kind.SUPERSEDED not in (before.kind, after.kind)
        for before, after in pairwise(attempts)
    )


def cost_of(attempts: list[Attempt]) -> tuple[float | None, str | None]:
    """Of all attempts together, in USD; the source is `mixed` where they differ. None where no cost is known."""
    total, source = None, None
    for attempt in attempts:
        if attempt.cost_usd is not None:
            source = attempt.cost_source if total is None or source == attempt.cost_source else "mixed"
            total = (total or 0.0) + attempt.cost_usd
    return total, source


def _explained(decision: Decision) -> str:
    listed = _listed(decision.candidates, decision.passed_over, decision.propensities, decision.why)
    if not decision.scores and not decision.unit:
        return listed
    whole = orjson.loads(listed)
    if decision.scores:
        whole["scores"] = decision.scores
    if decision.unit:
        whole["unit"] = decision.unit
    return orjson.dumps(whole).decode()


@lru_cache(maxsize=1024)
def _listed(
    candidates: tuple[str, ...], passed_over: tuple[tuple[str, str], ...], propensities: tuple[float, ...], why: str
) -> str:
    """Kept, since most requests of a route are planned alike."""
    whole: dict[str, object] = {
        "candidates": candidates,
        "passed_over": [{"target": target, "reason": reason} for target, reason in passed_over],
    }
    if propensities:
        whole["propensities"] = propensities
    if why:
        whole["why"] = why
    return orjson.dumps(whole).decode()


def _parts(parts: Parts) -> str:
    """What was told beside the classes, by its name; a cost of 0 was told, too."""
    told = {name: value for name, value in parts._asdict().items() if value or type(value) is float}
    return orjson.dumps(told).decode()


def _histogram(gaps: Gaps) -> str:
    """`counts` as [class, count] pairs, `long_ns` exactly; see `proxy.record.Gaps`."""
    return orjson.dumps({"counts": sorted(gaps.counts.items()), "long_ns": gaps.long}).decode()
