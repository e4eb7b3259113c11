"""A store that grows old: its sums stay, its size does not grow, its rollups have the quantiles of the records."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from random import Random
from typing import Any

import pytest

from policies.verdict import Kind
from proxy.measure import sketch
from proxy.measure.store import rollups, rows, upkeep, writer
from proxy.measure.store.upkeep import DAY, Retention
from proxy.record import Exchange
from proxy.wire.usage import Usage
from tests.measure.records import TARGETS, attempt, exchange, streamed, used

START = 1_790_000_000.0 // DAY * DAY
KEPT = Retention(raw=14 * DAY, minutes=90 * DAY)


def made(number: int, at: float, rng: Random) -> Exchange:
    first = rng.lognormvariate(6, 0.6)
    one = used(
        streamed(attempt(rng.choice(TARGETS), end_ms=first + 100), first_ms=first), Usage(number % 90, 5, 0, 7, 1)
    )
    one.cost_usd = 0.001 * (number % 7)
    tries = [attempt(kind=Kind.SERVER_ERROR), one] if number % 10 == 0 else [one]
    whole = exchange(*tries, stream=True, end_ms=first + 101)
    whole.id, whole.at, whole.key = f"req_{number}", at, "app"
    one.no = len(tries)
    return whole


def insert(connection: sqlite3.Connection, exchanges: list[Exchange]) -> None:
    text = rows.Timestamps().text
    with writer._transaction(connection) as newest:
        for n, one in enumerate(exchanges, newest + 1):
            connection.execute(rows.INSERT_EXCHANGE, rows.exchange_row(n, one, text(one.at)))
            connection.executemany(rows.INSERT_ATTEMPT, [rows.attempt_row(n, a, one.stream) for a in one.attempts])


def keep_up(connection: sqlite3.Connection, now: float, retention: Retention = KEPT) -> None:
    while upkeep.step(connection, now, retention):
        pass


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(writer.connect(tmp_path / "store.db")) as opened:
        yield opened


def ask(connection: sqlite3.Connection, query: str, *values: Any) -> Any:
    return connection.execute(query, values).fetchall()


SUMS = """SELECT sum(requests), sum(failovers), sum(uncached_input_tokens), sum(output_text_tokens), sum(cost_usd),
  sum(streams) FROM v_rollups WHERE span = 'day'"""


def test_a_hundred_days(connection: sqlite3.Connection, tmp_path: Path) -> None:
    rng, number, sizes = Random(5), 0, {}
    all_of_them: list[Exchange] = []
    for day in range(100):
        today = [made(number + place, START + day * DAY + place * 1000, rng) for place in range(60)]
        number += len(today)
        all_of_them += today
        insert(connection, today)
        keep_up(connection, START + (day + 1) * DAY)
        sizes[day] = ask(connection, "PRAGMA page_count")[0][0]
    winners = [one.winner for one in all_of_them if one.winner]
    usages = [one.usage for one in winners if one.usage]
    truth = (
        len(all_of_them),
        sum(rows.failovers(one.attempts) > 0 for one in all_of_them),
        sum(usage.uncached_input for usage in usages),
        sum(usage.output_text for usage in usages),
        pytest.approx(sum(one.cost_usd or 0 for one in winners)),
        len(all_of_them),
    )
    assert ask(connection, SUMS) == [truth]
    days = ask(connection, "SELECT at, sum(requests) FROM v_rollups WHERE span = 'day' GROUP BY at")
    assert [count for _, count in days] == [60] * 100
    tries = ask(connection, "SELECT sum(attempts), sum(failed) FROM v_attempt_rollups WHERE span = 'day'")
    failed = sum(len(one.attempts) - 1 for one in all_of_them)
    assert tries == [(len(all_of_them) + failed, failed)]
    end = START + 100 * DAY
    ((oldest, count),) = ask(connection, "SELECT min(at), count(*) FROM exchanges")
    assert oldest >= upkeep.iso(end - 14 * DAY)
    assert count == 14 * 60
    assert ask(connection, "SELECT count(*) FROM attempts WHERE exchange_n NOT IN (SELECT n FROM exchanges)") == [(0,)]
    assert (
        ask(connection, "SELECT min(at) FROM v_rollups WHERE span = 'minute'")[0][0] >= upkeep.iso(end - 90 * DAY)[:16]
    )
    # Minutes are kept for 90 days; from then on nothing but one row a day and target is added.
    assert sizes[99] <= sizes[91] * 1.03
    assert ask(connection, "PRAGMA freelist_count")[0][0] <= upkeep.PAGES
    assert ask(connection, "PRAGMA integrity_check") == [("ok",)]


def test_quantiles_of_rollups_are_those_of_the_records(connection: sqlite3.Connection) -> None:
    rng = Random(6)
    everything = [made(number, START + number * 7, rng) for number in range(4000)]
    insert(connection, everything)
    keep_up(connection, START)
    counts: sketch.Counts = {}
    for row in rollups.read(connection, "minute", "2000", "2100"):
        for index, count in row["ttft"].items():
            counts[index] = counts.get(index, 0) + count
    exact = sorted(ns for (ns,) in ask(connection, "SELECT ttft_ns FROM exchanges"))
    assert sketch.total(counts) == len(exact) == 4000
    for q, told in zip((0.5, 0.9, 0.95, 0.99), sketch.quantiles(counts, (0.5, 0.9, 0.95, 0.99)), strict=True):
        assert told.value == pytest.approx(exact[math.ceil(q * 4000) - 1], rel=0.01)


def test_what_comes_late_is_added_to_its_minute(connection: sqlite3.Connection) -> None:
    rng = Random(7)
    insert(connection, [made(1, START + 30, rng), made(2, START + 90, rng)])
    keep_up(connection, START)
    insert(connection, [made(3, START + 31, rng)])
    keep_up(connection, START)
    keep_up(connection, START)
    told = ask(connection, "SELECT at, sum(requests) FROM v_rollups WHERE span = 'minute' GROUP BY at")
    assert [count for _, count in told] == [2, 1]
    assert ask(connection, "SELECT sum(requests) FROM v_rollups WHERE span = 'day'") == [(3,)]


def test_numbers_go_on_when_every_record_has_gone(connection: sqlite3.Connection) -> None:
    rng = Random(8)
    insert(connection, [made(number, START, rng) for number in range(5)])
    keep_up(connection, START + 100 * DAY)
    assert ask(connection, "SELECT n FROM exchanges") == [(5,)]
    insert(connection, [made(9, START + 101 * DAY, rng)])
    keep_up(connection, START + 101 * DAY)
    assert ask(connection, "SELECT n FROM exchanges") == [(6,)]
    assert ask(connection, "SELECT sum(requests) FROM v_rollups WHERE span = 'day'") == [(6,)]


def test_nothing_goes_that_was_not_rolled_up(connection: sqlite3.Connection) -> None:
    insert(connection, [made(number, START, Random(9)) for number in range(3)])
    connection.execute("BEGIN")
    assert not upkeep._forget_records(connection, upkeep.iso(START + 100 * DAY))
    connection.execute("COMMIT")


def test_the_writer_keeps_up_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: SimpleQueue[bool] = SimpleQueue()

    def step(*args: Any) -> bool:
        more = real(*args)
        steps.put(more)
        return more

    real = upkeep.step
    monkeypatch.setattr(upkeep, "step", step)
    monkeypatch.setattr(writer, "UPKEEP_SECONDS", 0.0)
    sink = writer.StoreSink.open(tmp_path / "own.db", retention=Retention(raw=0.0))
    for number in range(20):
        sink.accept(made(number, START, Random(number)))
    assert sink.flush(30)
    while not steps.get(timeout=30):
        pass
    while steps.get(timeout=30):
        pass
    assert sink.close()
    with closing(sqlite3.connect(sink.path)) as reader:
        assert reader.execute("SELECT sum(requests) FROM v_rollups WHERE span = 'day'").fetchone() == (20,)
        assert reader.execute("SELECT count(*) FROM exchanges").fetchone() == (1,)
