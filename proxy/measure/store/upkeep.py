"""What keeps the file from growing: records become rollups, what is too old goes, its space is given back.

In small steps, each a transaction of its own, so that records never wait long for the file.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import NamedTuple

from proxy.measure.store import rollups

DAY = 86400.0
ROLL = 250
"""Exchanges rolled up in one step."""
CHUNK = 1000
"""Exchanges deleted in one step."""
PAGES = 256
"""Pages of free space given back in one step: 1 MiB."""


class Retention(NamedTuple):
    """How long things are kept, in seconds. Sums by the day are kept forever."""

    raw: float = 14 * DAY
    minutes: float = 90 * DAY


Step = Callable[[], bool]


def step(connection: sqlite3.Connection, now: float, retention: Retention) -> bool:
    """Do one thing; False when there is nothing left to do. `now`: seconds since the epoch."""
    return (
        _in_transaction(connection, lambda: rollups.roll_up(connection, ROLL) > 0)
        or _in_transaction(connection, lambda: _forget_records(connection, iso(now - retention.raw)))
        or _in_transaction(connection, lambda: _forget_results(connection, iso(now - retention.raw)))
        or _in_transaction(connection, lambda: _forget_minutes(connection, iso(now - retention.minutes)))
        or _in_transaction(connection, lambda: _forget_bodies(connection, iso(now)))
        or _give_back(connection)
    )


def iso(at: float) -> str:
    """Comparable with the column `at`."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at))


def _in_transaction(connection: sqlite3.Connection, do: Step) -> bool:
    connection.execute("BEGIN IMMEDIATE")
    try:
        done = do()
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return done


def _forget_records(connection: sqlite3.Connection, before: str) -> bool:
    """Only what has been rolled up; and never the newest, from which the next one's number follows."""
    upto = rollups.watermark(connection)
    found = connection.execute(
        "SELECT n FROM exchanges WHERE at < ? AND n <= ? AND n < (SELECT max(n) FROM exchanges) ORDER BY at LIMIT ?",
        (before, upto, CHUNK),
    ).fetchall()
    if found:
        rollups.note_gone(connection, rollups.RECORDS_GONE, before)
    connection.executemany("DELETE FROM attempts WHERE exchange_n = ?", found)
    connection.executemany("DELETE FROM exchanges WHERE n = ?", found)
    return bool(found)


def _forget_results(connection: sqlite3.Connection, before: str) -> bool:
    query = "DELETE FROM bench_results WHERE n IN (SELECT n FROM bench_results WHERE at < ? LIMIT ?)"
    return connection.execute(query, (before, CHUNK)).rowcount > 0


def _forget_minutes(connection: sqlite3.Connection, before: str) -> bool:
    gone = 0
    for table in ("rollups", "attempt_rollups"):
        gone += connection.execute(
            f"DELETE FROM {table} WHERE ({rollups.PLACE}) IN ("  # noqa: S608
            f"SELECT {rollups.PLACE} FROM {table} WHERE span = 'minute' AND at < ? LIMIT ?)",
            (before[: rollups.SPANS["minute"]], CHUNK),
        ).rowcount
    if gone:
        rollups.note_gone(connection, rollups.MINUTES_GONE, before)
    return gone > 0


def _forget_bodies(connection: sqlite3.Connection, now: str) -> bool:
    query = "DELETE FROM bodies WHERE n IN (SELECT n FROM bodies WHERE expires < ? LIMIT ?)"
    return connection.execute(query, (now, CHUNK)).rowcount > 0


def _give_back(connection: sqlite3.Connection) -> bool:
    (free,) = connection.execute("PRAGMA freelist_count").fetchone()
    if free:
        connection.execute(f"PRAGMA incremental_vacuum({PAGES})").fetchall()
    return bool(free > PAGES)
