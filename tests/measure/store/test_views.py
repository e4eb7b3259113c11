"""The views against the record and against `timing`, and against what is written about them."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.verdict import Kind
from proxy.measure import timing
from proxy.measure.store import rows, schema, writer
from proxy.measure.store.writer import StoreSink
from proxy.record import Attempt, Exchange
from proxy.wire.request import fingerprint
from proxy.wire.usage import NO_PARTS
from tests.measure.records import any_exchange, attempt, exchange, streamed
from tests.measure.store.conftest import LIMIT

DOCUMENTED = Path(__file__).parents[3] / "docs" / "store.md"

_number = count(1)


@pytest.fixture(scope="module")
def sink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreSink]:
    opened = StoreSink.open(tmp_path_factory.mktemp("store") / "store.db")
    yield opened
    opened.close(LIMIT)


def _select(path: Path, query: str, id: str) -> list[dict[str, Any]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(query, (id,))]


def _ms(ns: int | None) -> float | None:
    return None if ns is None else ns / 1e6


def _tokens(one: Attempt | None) -> dict[str, Any]:
    usage = one.usage if one is not None else None
    given = usage[:5] if usage else (None,) * 5
    parts = usage.parts if usage else None
    names = (
        "uncached_input_tokens",
        "cache_read_tokens",
        "cache_write_tokens",
        "output_text_tokens",
        "reasoning_tokens",
    )
    return {
        **dict(zip(names, given, strict=True)),
        "input_tokens": usage.input if usage else None,
        "cached_tokens": usage.cache_read if usage else None,
        "output_tokens": usage.output if usage else None,
        "usage_source": one.usage_source if one is not None else None,
        **{f"{name}_tokens": getattr(parts or NO_PARTS, name) if usage else None for name in schema.PARTS},
        "searches": (parts.searches or None) if parts else None,
        "service_tier": parts.tier if parts else None,
        "reported_cost_usd": parts.cost_usd if parts else None,
        "price_version": one.price_version if one is not None else None,
    }


def _gaps(times: timing.AttemptTimes) -> dict[str, Any]:
    return {
        "tpot_ms": _ms(times.tpot_ns),
        "max_gap_ms": _ms(times.max_gap_ns),
        "stall_count": times.stall_count,
        "stall_ms": _ms(times.stall_ns),
    }


def _kind(kind: Kind) -> str | None:
    return None if kind is Kind.OK else kind.value


def exchange_expected(made: Exchange) -> dict[str, Any]:
    times, winner, decision = timing.exchange_times(made), made.winner, made.decision
    nothing = timing.AttemptTimes(*[None] * 7)
    shown = winner or (made.attempts[-1] if made.attempts else None)
    costs = [one.cost_usd for one in made.attempts if one.cost_usd is not None]
    return {
        "id": made.id,
        "seq": made.seq,
        "origin": made.origin.value,
        "parent_id": made.parent_id,
        "key": made.key,
        "route": made.route,
        "target": shown.target if shown else None,
        "provider": shown.provider if shown else None,
        "model": made.model,
        "response_model": winner.response_model if winner else None,
        "outcome": made.outcome.value,
        "error_kind": _kind(made.kind),
        "status": made.status or None,
        "stream": made.stream,
        "finish_reason": winner.finish_reason if winner else None,
        "ttft_ms": _ms(times.ttft_ns),
        "e2e_ms": _ms(times.e2e_ns),
        "overhead_ms": _ms(times.overhead_ns),
        "answer_ttft_ms": _ms(times.answer_ns),
        "before_ms": _ms(times.before_ns),
        "relay_ms": _ms(times.relay_ns),
        "trace_id": made.trace.trace_id if made.trace else None,
        "tags": " ".join(made.tags) or None,
        **_gaps(timing.attempt_times(winner, stream=made.stream) if winner else nothing),
        **_tokens(winner),
        "cost_usd": pytest.approx(sum(costs)) if costs else None,
        "attempts": len(made.attempts),
        "winner_no": winner.no if winner else None,
        "policy": decision.policy if decision else None,
        "propensity": decision.propensity if decision else None,
        "request_bytes": made.request_bytes,
        "answer_bytes": made.answer_bytes,
    }


def attempt_expected(made: Exchange, one: Attempt) -> dict[str, Any]:
    times = timing.attempt_times(one, stream=made.stream)
    return {
        "id": f"{made.id}/{one.no}",
        "exchange_id": made.id,
        "attempt_no": one.no,
        "winner": one is made.winner,
        "seq": made.seq,
        "origin": made.origin.value,
        "key": made.key,
        "route": made.route,
        "target": one.target,
        "provider": one.provider,
        "model": one.model,
        "response_model": one.response_model,
        "upstream_id": one.upstream_id,
        "outcome": one.outcome.value,
        "error_kind": _kind(one.kind),
        "status": one.status,
        "retry_after_s": one.retry_after,
        "detail": one.detail,
        "dropped": " ".join(one.dropped) or None,
        "params_hash": fingerprint(one.sent),
        "replayed": one.replayed,
        "stream": made.stream,
        "finish_reason": one.finish_reason,
        "begun_ms": _ms(one.marks.received - made.marks.received),
        "wait_ms": _ms(one.wait_ns),
        "ttft_ms": _ms(times.ttft_ns),
        "e2e_ms": _ms(times.e2e_ns),
        "answer_ttft_ms": _ms(times.answer_ns),
        "trace_id": made.trace.trace_id if made.trace else None,
        **_gaps(times),
        "chunks": one.gaps.chunks if one.gaps else None,
        **_tokens(one),
        "cost_usd": one.cost_usd,
        "cost_source": one.cost_source,
        "request_bytes": one.request_bytes,
        "answer_bytes": one.answer_bytes,
    }


@settings(max_examples=60, deadline=None)
@given(made=any_exchange())
def test_the_views_say_what_the_record_and_timing_say(sink: StoreSink, made: Exchange) -> None:
    made.id = f"req_{next(_number)}"
    sink.accept(made)
    assert sink.flush(LIMIT)
    (shown,) = _select(sink.path, "SELECT * FROM v_exchanges WHERE id = ?", made.id)
    expected = exchange_expected(made)
    assert {name: shown[name] for name in expected} == expected
    changes = [
        a.target != b.target and Kind.SUPERSEDED not in (a.kind, b.kind)
        for a, b in zip(made.attempts, made.attempts[1:], strict=False)
    ]
    assert shown["failovers"] == sum(changes)
    assert abs(datetime.fromisoformat(shown["at"]).timestamp() - made.at) < 0.0011
    if made.decision is None:
        assert shown["decision"] is None
    else:
        decision = json.loads(shown["decision"])
        assert decision["candidates"] == list(made.decision.candidates)
        reasons = [(passed["target"], passed["reason"]) for passed in decision["passed_over"]]
        assert reasons == list(made.decision.passed_over)
        assert decision.get("scores", []) == list(made.decision.scores)
        assert decision.get("propensities", []) == list(made.decision.propensities)
        assert decision.get("why", "") == made.decision.why
        assert decision.get("unit", "") == made.decision.unit
    tried = _select(sink.path, "SELECT * FROM v_attempts WHERE exchange_id = ? ORDER BY attempt_no", made.id)
    assert len(tried) == len(made.attempts)
    for one, row in zip(made.attempts, tried, strict=True):
        expected = attempt_expected(made, one)
        assert {name: row[name] for name in expected} == expected
        assert (row["record_no"], row["at"]) == (shown["record_no"], shown["at"])


@settings(max_examples=20, deadline=None)
@given(made=any_exchange())
def test_raw_moments_and_gaps_are_kept(sink: StoreSink, made: Exchange) -> None:
    made.id = f"req_{next(_number)}"
    sink.accept(made)
    assert sink.flush(LIMIT)
    (kept,) = _select(sink.path, "SELECT * FROM exchanges WHERE id = ?", made.id)
    assert {mark: kept[f"{mark}_ns"] for mark in schema.MARKS} == {m: getattr(made.marks, m) for m in schema.MARKS}
    query = "SELECT * FROM attempts WHERE exchange_n = (SELECT n FROM exchanges WHERE id = ?)"
    for row in _select(sink.path, query, made.id):
        one = made.attempts[row["attempt_no"] - 1]
        assert {mark: row[f"{mark}_ns"] for mark in schema.MARKS} == {m: getattr(one.marks, m) for m in schema.MARKS}
        if one.gaps is None:
            assert row["gaps"] is None
        else:
            gaps = json.loads(row["gaps"])
            assert dict(gaps["counts"]) == one.gaps.counts
            assert gaps["long_ns"] == one.gaps.long


def test_marks_are_all_the_moments_there_are() -> None:
    assert {*schema.MARKS, "first_answer"} == set(attempt().marks.__slots__)


@pytest.mark.parametrize(
    ("costs", "expected"),
    [
        ([(None, None)], (None, None)),
        ([(0.5, "table"), (None, None), (0.25, "table")], (0.75, "table")),
        ([(0.5, "table"), (0.25, "provider")], (0.75, "mixed")),
        ([(0.0, "table")], (0.0, "table")),
        ([], (None, None)),
    ],
)
def test_an_exchange_costs_what_all_its_attempts_cost(
    costs: list[tuple[float | None, str | None]], expected: tuple[float | None, str | None]
) -> None:
    attempts = [attempt(no=no) for no in range(1, 1 + len(costs))]
    for one, (cost, source) in zip(attempts, costs, strict=True):
        one.cost_usd, one.cost_source = cost, source
    assert rows.cost_of(attempts) == expected


@given(st.floats(0, 4e9))
def test_times_are_iso_8601_in_utc_with_milliseconds(at: float) -> None:
    text = rows.Timestamps().text(at)
    cut = datetime.fromtimestamp(int(at * 1000) // 1000, UTC)
    assert text == f"{cut:%Y-%m-%dT%H:%M:%S}.{int(at * 1000) % 1000:03d}Z"


def test_times_sort_as_text() -> None:
    times = rows.Timestamps()
    moments = [1_790_000_000.0, 1_790_000_000.5, 1_790_000_001.0, 1_790_000_000.75]
    assert sorted(map(times.text, moments)) == [times.text(at) for at in sorted(moments)]


# -- what is written


@pytest.mark.parametrize("view", ["v_exchanges", "v_attempts", "v_rollups", "v_attempt_rollups"])
def test_the_documentation_lists_exactly_the_columns(tmp_path: Path, view: str) -> None:
    section = re.search(rf"^## `{view}`\n(.*?)(?=^## |\Z)", DOCUMENTED.read_text("utf-8"), re.M | re.S)
    assert section is not None
    documented = re.findall(r"^\| `(\w+)` \|", section[1], re.M)
    with closing(writer.connect(tmp_path / "store.db")) as connection:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info ({view})")]
    assert documented == columns


def test_the_documented_questions_have_answers(sink: StoreSink) -> None:
    sink.accept(exchange(attempt(kind=Kind.TIMEOUT), streamed(attempt(no=2)), stream=True))
    assert sink.flush(LIMIT)
    text = DOCUMENTED.read_text("utf-8")
    (questions,) = re.findall(r"```sql\n(.*?)```", text, re.S)
    (first,) = re.findall(r'sqlite3 weighbridge.db "(.*?)"', text)
    with closing(sqlite3.connect(sink.path)) as connection:
        connection.execute("UPDATE exchanges SET at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')")
        connection.commit()
        for question in [first, *questions.split(";\n")]:
            if question.strip():
                assert connection.execute(question).fetchall(), question
