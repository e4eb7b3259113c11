from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import pytest

from policies.verdict import Kind
from proxy.measure.store import writer
from proxy.measure.store.reads import FILTERS, Reads, StoreUnavailable
from proxy.measure.store.writer import StoreSink
from proxy.record import Decision
from tests.measure.records import TARGETS, attempt, exchange, streamed, used
from tests.measure.store.conftest import LIMIT, ask, numbered, put

Opened = Callable[..., StoreSink]


def _exchange(sink: StoreSink, id: str) -> dict[str, Any] | None:
    return asyncio.run(Reads(sink).exchange(id))


def _ids(sink: StoreSink, *arguments: Any, **options: Any) -> list[str]:
    return [row["id"] for row in asyncio.run(Reads(sink).exchanges(*arguments, **options))]


def test_one_exchange_whole(opened: Opened) -> None:
    sink = opened()
    failed = attempt(kind=Kind.SERVER_ERROR, end_ms=9)
    won = used(streamed(attempt(TARGETS[1], no=2, begun_ms=10), first_ms=40, gaps_ms=(10, 600)))
    made = exchange(failed, won, id="req_whole", stream=True)
    made.decision = Decision("ordered", 1.0, TARGETS, ((TARGETS[2], "circuit open"),))
    sink.accept(made)
    found = _exchange(sink, "req_whole")
    assert found is not None
    assert found["stream"] is True
    assert found["attempts"][0]["error_kind"] == "server_error"
    assert [one["attempt_no"] for one in found["attempts"]] == [1, 2]
    assert [one["winner"] for one in found["attempts"]] == [False, True]
    assert found["attempts"][1]["marks_ms"]["first_content"] == 40.0
    assert found["attempts"][1]["gaps"]["long_ns"] == [600_000_000]
    assert found["decision"] == {
        "candidates": list(TARGETS),
        "passed_over": [{"target": TARGETS[2], "reason": "circuit open"}],
    }
    assert found["marks_ms"]["received"] == 0
    assert found["marks_ms"]["end"] == 101.0
    assert found["marks_ms"]["scheduled"] is None
    assert found["ttft_ms"] == 40.0
    assert orjson.loads(orjson.dumps(found)) == found


def test_a_record_that_was_just_published_is_found(opened: Opened) -> None:
    sink = opened()
    for made in numbered(30):
        sink.accept(made)
        found = _exchange(sink, made.id)
        assert found is not None
        assert found["id"] == made.id
    put(sink, numbered(3, first=31))
    assert _ids(sink, 4) == ["req_33", "req_32", "req_31", "req_30"]


def test_an_id_that_is_not_there(opened: Opened) -> None:
    sink = opened()
    put(sink, numbered(1))
    assert _exchange(sink, "' OR 1=1 --") is None


def test_the_newest_of_two_with_one_id(opened: Opened) -> None:
    sink = opened()
    for status in (500, 200):
        made = exchange(id="again")
        made.status = status
        sink.accept(made)
    found = _exchange(sink, "again")
    assert found is not None
    assert found["status"] == 200


def test_pages_go_back_from_the_newest(opened: Opened) -> None:
    sink = opened()
    put(sink, numbered(25))
    pages, before = [], None
    while page := _ids(sink, 10, before):
        pages.append(page)
        before = page[-1]
    assert [len(page) for page in pages] == [10, 10, 5]
    assert [id for page in pages for id in page] == [f"req_{seq}" for seq in range(25, 0, -1)]
    assert _ids(sink, 10, "req_unknown") == []


def test_filters_narrow_together(opened: Opened) -> None:
    sink = opened()
    for number, made in enumerate(numbered(6)):
        made.key = "app" if number % 2 else "batch"
        made.at += number
        sink.accept(made)
    failed = exchange(attempt(TARGETS[1], Kind.TIMEOUT), id="failed", route="code")
    sink.accept(failed)
    assert _ids(sink, filters={"failed": "1"}) == ["failed"]
    assert _ids(sink, filters={"failed": "0"}) == [f"req_{number}" for number in range(6, 0, -1)]
    assert _ids(sink, filters={"min_attempts": "1"}) == ["failed", *_ids(sink, filters={"failed": "0"})]
    assert _ids(sink, filters={"min_attempts": "2"}) == []
    assert _ids(sink, filters={"key": "app"}) == ["req_6", "req_4", "req_2"]
    assert _ids(sink, filters={"key": "app", "since": "2026-09-21T14:13:22.000Z"}) == ["req_6", "req_4"]
    assert _ids(sink, filters={"until": "2026-09-21T14:13:22.000Z", "route": "chat"}) == ["req_2", "req_1"]
    assert _ids(sink, filters={"outcome": "timeout"}) == _ids(sink, filters={"target": TARGETS[1]}) == ["failed"]
    assert _ids(sink, filters={"error_kind": "timeout", "provider": "openai"}) == []
    assert all(isinstance(_ids(sink, filters={name: "x"}), list) for name in FILTERS)


def test_an_unknown_filter_is_refused(opened: Opened) -> None:
    with pytest.raises(ValueError, match="cannot filter by 1=1; known filters: origin"):
        _ids(opened(), filters={"1=1": "x"})


def test_reading_changes_nothing(opened: Opened) -> None:
    async def main() -> None:
        async with Reads(opened())._connection() as connection:
            await connection.execute("DELETE FROM exchanges")

    with pytest.raises(StoreUnavailable, match=r"records cannot be read from .* read-only"):
        asyncio.run(main())


def test_a_store_that_cannot_be_read_says_why(opened: Opened, tmp_path: Path) -> None:
    sink = opened(tmp_path / "missing" / "store.db")
    for read in (Reads(sink).exchange("x"), Reads(sink).exchanges()):
        with pytest.raises(StoreUnavailable, match="does not exist: create it"):
            asyncio.run(read)
    assert not (tmp_path / "missing").exists()


def test_a_file_that_was_deleted_cannot_be_read(opened: Opened) -> None:
    sink = opened()
    sink.path.unlink()
    with pytest.raises(StoreUnavailable, match="there is no such file"):
        _exchange(sink, "x")


def test_a_store_that_fails_is_still_read(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "BUSY_SECONDS", 0.01)
    sink = opened()
    put(sink, numbered(2))
    assert sink.flush(LIMIT)
    with closing(sqlite3.connect(sink.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        put(sink, numbered(1, first=3))
        assert _ids(sink) == ["req_2", "req_1"]
        other.execute("ROLLBACK")


def test_closing_waits_for_a_read_under_way(opened: Opened) -> None:
    sink = opened()
    put(sink, numbered(3))

    async def main() -> None:
        reads = Reads(sink)
        listing = asyncio.create_task(reads.exchanges())
        await asyncio.sleep(0)
        done, _ = await asyncio.wait({listing, asyncio.create_task(reads.aclose())})
        assert len(done) == 2
        assert len(listing.result()) == 3

    asyncio.run(main())
    assert ask(sink.path, "SELECT count(*) FROM v_exchanges") == [(3,)]
