"""What `weighbridge check --live` found out about each target, kept to be compared with what it finds next time."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing
from typing import NamedTuple

from proxy.measure.store.rows import Timestamps
from proxy.measure.store.writer import connect, store_path


class Found(NamedTuple):
    target: str
    cell: str
    result: str
    reason: str


def save(storage: str, at: float, found: Iterable[Found]) -> None:
    """`at`: seconds since the epoch. Raises `sqlite3.Error`, `OSError`, `SchemaError`."""
    when = Timestamps().text(at)
    insert = "INSERT OR REPLACE INTO conformance VALUES (?, ?, ?, ?, ?)"
    with closing(connect(store_path(storage))) as connection:
        connection.executemany(insert, [(when, *one) for one in found])


def last(storage: str) -> dict[tuple[str, str], str]:
    """(target, cell) -> the newest result. Raises as `save` does."""
    query = "SELECT target, cell, result FROM conformance ORDER BY at"
    with closing(connect(store_path(storage))) as connection:
        return {(target, cell): result for target, cell, result in connection.execute(query)}
