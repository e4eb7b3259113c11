from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from proxy.measure.store.writer import StoreSink
from proxy.record import Exchange
from tests.measure.records import attempt, exchange

LIMIT = 60.0
"""Seconds after which a test that waits is hung; nothing is concluded from how long it took."""


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[..., StoreSink]]:
    """Opens stores, and closes them all at the end."""
    sinks: list[StoreSink] = []

    def open_store(path: str | Path = tmp_path / "store.db", **options: Any) -> StoreSink:
        sinks.append(StoreSink.open(path, **options))
        return sinks[-1]

    yield open_store
    for sink in sinks:
        assert sink.close(LIMIT)


def numbered(count: int, first: int = 1) -> list[Exchange]:
    made = []
    for seq in range(first, first + count):
        made.append(exchange(attempt(), id=f"req_{seq}"))
        made[-1].seq = seq
    return made


def put(sink: StoreSink, exchanges: list[Exchange]) -> None:
    for made in exchanges:
        sink.accept(made)


def ask(path: Path, query: str, *values: object) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query, values).fetchall()


def ids(path: Path) -> list[str]:
    return [row[0] for row in ask(path, "SELECT id FROM v_exchanges ORDER BY record_no")]


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)
