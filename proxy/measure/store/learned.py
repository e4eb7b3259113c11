"""What routes have learned, and the audit of their rollouts. Synchronous: call it from a thread."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from proxy.measure.store.schema import SchemaError
from proxy.measure.store.writer import connect

FAULTS = (sqlite3.Error, OSError, SchemaError)
"""What the functions below may raise."""


class Step(NamedTuple):
    """The columns of `rollout_events`, but for its number."""

    at: str
    route: str
    candidate: str
    event: str
    share: float
    units: int
    detail: str


def kept(path: Path) -> dict[str, dict[str, Any]]:
    """Each route's state, as it was last written. Raises one of `FAULTS`."""
    with _open(path) as connection:
        rows = connection.execute("SELECT route, state FROM learned").fetchall()
    return {route: orjson.loads(state) for route, state in rows}


def keep(path: Path, at: str, states: Mapping[str, Mapping[str, Any]], steps: Sequence[Step]) -> None:
    """All or nothing. Raises one of `FAULTS`."""
    with _open(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.executemany(
                "INSERT INTO learned VALUES (?, ?, ?) ON CONFLICT (route) DO UPDATE SET at = excluded.at,"
                " state = excluded.state",
                [(route, at, orjson.dumps(state).decode()) for route, state in states.items()],
            )
            connection.executemany(
                "INSERT INTO rollout_events (at, route, candidate, event, share, units, detail)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                steps,
            )
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


@contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    connection = connect(path)
    try:
        yield connection
    finally:
        connection.close()
