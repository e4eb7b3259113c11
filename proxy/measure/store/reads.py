"""Reads for the HTTP API, off the event loop. Other programs read the views (`docs/store.md`)."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiosqlite
import orjson

from proxy.explain import explained, of_stored
from proxy.measure.store import faults
from proxy.measure.store.schema import MARKS
from proxy.measure.store.upkeep import iso
from proxy.measure.store.writer import StoreSink

FILTERS: Mapping[str, str] = {
    **{
        name: f"{name} = ?"
        for name in ("origin", "operation", "route", "target", "provider", "model", "key", "outcome")
    },
    **{name: f"{name} = ?" for name in ("error_kind", "parent_id")},
    "min_attempts": "attempts >= CAST(? AS INTEGER)",
    "failed": "(outcome NOT IN ('ok', 'client_error', 'client_closed')) = CAST(? AS INTEGER)",
    "since": "at >= ?",
    "until": "at < ?",
}
"""What `exchanges` can be narrowed by. `since` and `until` are ISO 8601 UTC texts as in the column `at`.

`failed` is 1 or 0.
"""

PAGE = 100
_FLUSH_SECONDS = 1.0

Json = dict[str, Any]


class StoreUnavailable(Exception):
    """The file cannot be read; the text says why and how to mend it."""


class Reads:
    """One read at a time, each on a connection of its own.

    Opening costs a millisecond; a connection that is kept would outlive a file that was replaced, and its thread would
    keep the process from ending when somebody forgets to close it.
    """

    def __init__(self, store: StoreSink) -> None:
        self._store = store
        self._lock = asyncio.Lock()

    async def aclose(self) -> None:
        """Wait for a read under way: afterwards the file is open here no more."""
        async with self._lock:
            pass

    async def exchange(self, id: str) -> Json | None:
        """Everything about the newest exchange of that id, attempts and decision included; None if there is none.

        `marks_ms` are milliseconds from the exchange's arrival, None where the moment never came. A record that was
        just published is found: the writer is asked to commit first. Raises `StoreUnavailable`.
        """
        async with self._connection() as connection:
            found = await _whole(connection, id)
            if found is None and await self._flushed():
                found = await _whole(connection, id)
            return found

    async def exchanges(
        self, limit: int = PAGE, before: str | None = None, filters: Mapping[str, str] | None = None
    ) -> list[Json]:
        """Rows of `v_exchanges`, newest first. `before`: only those older than the exchange of that id.

        Raises ValueError for a filter that is not in `FILTERS`, and `StoreUnavailable`.
        """
        filters = filters or {}
        unknown = [name for name in filters if name not in FILTERS]
        if unknown:
            raise ValueError(f"cannot filter by {', '.join(unknown)}; known filters: {', '.join(FILTERS)}")
        conditions = [FILTERS[name] for name in filters]
        values = [*filters.values()]
        if before is not None:
            conditions.append("record_no < (SELECT max(n) FROM exchanges WHERE id = ?)")
            values.append(before)
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        query = f"SELECT * FROM v_exchanges {where} ORDER BY record_no DESC LIMIT ?"  # noqa: S608
        await self._flushed()
        async with self._connection() as connection:
            return [_exchange(row) for row in await connection.execute_fetchall(query, (*values, limit))]

    async def arrivals(self, route: str, since: str) -> list[float]:
        """When the live requests of a route arrived, in seconds since 1970; `since`: ISO 8601. For replays of a load.

        Raises `StoreUnavailable`.
        """
        query = (
            "SELECT (julianday(at) - 2440587.5) * 86400.0 FROM v_exchanges"
            " WHERE origin = 'live' AND route = ? AND at >= ? ORDER BY at"
        )
        async with self._connection() as connection:
            return [float(row[0]) for row in await connection.execute_fetchall(query, (route, since))]

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[aiosqlite.Connection]:
        path = self._store.path
        # Not `mode=ro`: a reader of a file in WAL mode must be able to create the shared memory beside it.
        uri = f"{path.absolute().as_uri()}?mode=rw"
        async with self._lock:
            try:
                # Asked first, since aiosqlite leaves a thread behind where connecting fails.
                await asyncio.to_thread(os.stat, path)
                async with aiosqlite.connect(uri, uri=True) as connection:
                    await connection.execute("PRAGMA query_only = 1")
                    connection.row_factory = aiosqlite.Row
                    yield connection
            except (sqlite3.Error, OSError) as error:
                raise StoreUnavailable(self._store.degraded or faults.reason(path, error, "read from")) from error

    async def _flushed(self) -> bool:
        """Whether there was anything to commit, and it was committed."""
        if not self._store.pending or self._store.degraded is not None:
            return False
        return await asyncio.to_thread(self._store.flush, _FLUSH_SECONDS)


async def _whole(connection: aiosqlite.Connection, id: str) -> Json | None:
    query = "SELECT * FROM v_exchanges WHERE id = ? ORDER BY record_no DESC LIMIT 1"
    rows = [*await connection.execute_fetchall(query, (id,))]
    if not rows:
        return None
    exchange = _exchange(rows[0])
    n = exchange["record_no"]
    (marks,) = await connection.execute_fetchall("SELECT * FROM exchanges WHERE n = ?", (n,))
    views = await connection.execute_fetchall("SELECT * FROM v_attempts WHERE record_no = ? ORDER BY attempt_no", (n,))
    tables = await connection.execute_fetchall("SELECT * FROM attempts WHERE exchange_n = ?", (n,))
    raw = {row["attempt_no"]: row for row in tables}
    exchange["marks_ms"] = _marks(marks, marks["received_ns"])
    exchange["attempts"] = [_attempt(view, raw[view["attempt_no"]], marks["received_ns"]) for view in views]
    exchange["bodies"] = await _bodies(connection, id)
    if exchange["decision"] is not None:
        decision = of_stored(exchange["policy"], exchange["propensity"], exchange["decision"])
        exchange["explained"] = explained(decision, exchange["attempts"])
    return exchange


async def _bodies(connection: aiosqlite.Connection, id: str) -> Json | None:
    """What was kept of the prompt and the answer (`capture`) and has not expired."""
    query = "SELECT request, answer, expires FROM bodies WHERE id = ? AND expires > ? ORDER BY n DESC LIMIT 1"
    rows = [*await connection.execute_fetchall(query, (id, iso(time.time())))]
    return dict(rows[0]) if rows else None


def _exchange(row: sqlite3.Row) -> Json:
    exchange = _booleans(dict(row), "stream")
    decision = exchange["decision"]
    exchange["decision"] = orjson.loads(decision) if decision else None
    return exchange


def _attempt(view: sqlite3.Row, raw: sqlite3.Row, received_ns: int) -> Json:
    attempt = _booleans(dict(view), "stream", "replayed", "winner")
    attempt["gaps"] = orjson.loads(raw["gaps"]) if raw["gaps"] else None
    attempt["marks_ms"] = _marks(raw, received_ns)
    return attempt


def _booleans(row: Json, *names: str) -> Json:
    for name in names:
        row[name] = bool(row[name])
    return row


def _marks(row: sqlite3.Row, received_ns: int) -> dict[str, float | None]:
    moments = {mark: row[f"{mark}_ns"] for mark in (*MARKS, "first_answer")}
    return {mark: (ns - received_ns) / 1e6 if ns else None for mark, ns in moments.items()}
