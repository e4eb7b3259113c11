"""The store for commands: what is in it, export, and upkeep at once. Works beside a proxy that writes to the file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from proxy.measure.store import faults, rollups, schema, upkeep
from proxy.measure.store.upkeep import Retention
from proxy.measure.store.writer import connect

VIEWS = (
    "v_exchanges", "v_attempts", "v_rollups", "v_attempt_rollups", "v_conformance", "v_shadow_pairs", "v_shadow_scores",
    "v_rollouts", "v_bench_results",
)  # fmt: skip


class NoStore(Exception):
    """The file cannot be read; the text says why and how to mend it."""


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection that cannot change anything, rows by name. Raises `NoStore`."""
    try:
        os.stat(path)
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=5.0)
    except (sqlite3.Error, OSError) as error:
        raise NoStore(faults.reason(path, error, "read from")) from error
    try:
        connection.execute("PRAGMA query_only = 1")
        connection.row_factory = sqlite3.Row
        if schema.version(connection) != len(schema.MIGRATIONS):
            raise NoStore(_other_version(path, schema.version(connection)))
        yield connection
    except sqlite3.Error as error:
        raise NoStore(faults.reason(path, error, "read from")) from error
    finally:
        connection.close()


def _other_version(path: Path, found: int) -> str:
    newest = len(schema.MIGRATIONS)
    if found > newest:
        return f"{path} was written by a newer weighbridge (store version {found}, this one knows {newest}): install it"
    return f"{path} is of store version {found}: `weighbridge store vacuum` or `serve` brings it to version {newest}"


def stats(path: Path) -> dict[str, Any]:
    with reading(path) as connection:

        def one(query: str) -> Any:
            return connection.execute(query).fetchone()[0]

        newest = one("SELECT coalesce(max(n), 0) FROM exchanges")
        return {
            "file": str(path),
            "bytes": path.stat().st_size,
            "free_bytes": one("PRAGMA freelist_count") * one("PRAGMA page_size"),
            "version": schema.version(connection),
            "exchanges": one("SELECT count(*) FROM exchanges"),
            "attempts": one("SELECT count(*) FROM attempts"),
            "oldest": one("SELECT min(at) FROM exchanges"),
            "newest": one("SELECT max(at) FROM exchanges"),
            "minutes": one("SELECT count(*) FROM rollups WHERE span = 'minute'"),
            "days": one("SELECT count(*) FROM rollups WHERE span = 'day'"),
            "since_day": one("SELECT min(at) FROM rollups WHERE span = 'day'"),
            "bodies": one("SELECT count(*) FROM bodies"),
            "to_roll_up": newest - rollups.watermark(connection),
        }


def vacuum(path: Path, now: float, retention: Retention) -> Iterator[int]:
    """Does all that is due, then gives every free page back; yields the bytes of the file after each step."""
    if not path.exists():
        raise NoStore(faults.reason(path, FileNotFoundError(), "read from"))
    try:
        connection = connect(path)
    except (sqlite3.Error, OSError, schema.SchemaError) as error:
        raise NoStore(faults.reason(path, error)) from error
    try:
        while upkeep.step(connection, now, retention):
            yield path.stat().st_size
        connection.execute("PRAGMA incremental_vacuum").fetchall()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        yield path.stat().st_size
    except sqlite3.Error as error:
        raise NoStore(faults.reason(path, error)) from error
    finally:
        connection.close()


def rows(connection: sqlite3.Connection, view: str, since: str, until: str) -> Iterator[Sequence[Any]]:
    """The names of the columns, then row by row in the order of time."""
    if view not in VIEWS:
        raise ValueError(f"no such view: {view}")
    cursor = connection.execute(
        f"SELECT * FROM {view} WHERE at >= ? AND at < ? ORDER BY at",  # noqa: S608  (one of VIEWS)
        (since, until),
    )
    yield [column[0] for column in cursor.description]
    for row in cursor:
        yield tuple(row)
