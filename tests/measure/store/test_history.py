"""Reports of longer windows than records are kept: the same figures as from a store that forgot nothing."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Any

import pytest

from policies.verdict import Kind, Outcome
from proxy.cli import main
from proxy.measure.report import Levels, Report, changes, report
from proxy.measure.stats import Estimate
from proxy.measure.store import history, rollups, upkeep, writer
from proxy.measure.store.upkeep import DAY, Retention
from proxy.record import Exchange, Origin
from proxy.wire.usage import Usage
from tests.measure.records import TARGETS, attempt, exchange, streamed, used
from tests.measure.store.test_upkeep import insert, keep_up

START = 1_790_000_000.0 // DAY * DAY
DAYS, EACH = 100, 40
NOW = START + DAYS * DAY
BRIEF = Retention(raw=3 * DAY, minutes=20 * DAY)
FOREVER = Retention(raw=1e9, minutes=1e9)


def one(number: int, at: float, rng: Random) -> Exchange:
    """Everything that a report tells apart."""
    first = rng.lognormvariate(6, 0.6)
    target, stream = rng.choice(TARGETS), rng.random() < 0.8
    kind = rng.choices((Kind.OK, Kind.SERVER_ERROR, Kind.DOWNSTREAM_CLOSED, Kind.BAD_REQUEST), (90, 4, 4, 2))[0]
    last = attempt(target, kind, end_ms=first + 100)
    if kind in (Kind.OK, Kind.DOWNSTREAM_CLOSED):
        last = (
            streamed(last, first_ms=first, gaps_ms=(10.0, 1500.0) if number % 13 == 0 else (10.0,)) if stream else last
        )
        last = used(last, Usage(number % 90, 5, 0, 7, 1))
        last.cost_usd = None if number % 11 == 0 else 0.001 * (number % 7)
    tries = [attempt(TARGETS[0], kind=Kind.SERVER_ERROR), last] if number % 10 == 0 else [last]
    for place, each in enumerate(tries, 1):
        each.no = place
    if number % 50 == 0:
        tries = []
    outcome = Outcome.NO_TARGET if not tries else None
    made = exchange(*tries, stream=stream, outcome=outcome, end_ms=first + 101, answered=kind is not Kind.SERVER_ERROR)
    if not tries:
        made.winner = None
    made.id, made.at, made.key = f"req_{number}", at, f"key-{number % 3}"
    made.operation = ("chat", "messages", "embeddings")[number % 3]
    made.origin = Origin.SHADOW if number % 17 == 0 else Origin.LIVE
    return made


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, sqlite3.Connection, sqlite3.Connection]]:
    """One that forgets, and one that forgets nothing."""
    folder, rng, number = tmp_path_factory.mktemp("history"), Random(8), 0
    with closing(writer.connect(folder / "brief.db")) as brief, closing(writer.connect(folder / "whole.db")) as whole:
        for day in range(DAYS):
            today = []
            for place in range(EACH):
                number += 1
                # Some come late: they are of a time whose records are gone, and of one whose sums are made.
                late = rng.choice((0.0, 0.0, 0.0, 0.0, 5 * DAY, 40 * DAY)) if day > 50 else 0.0
                today.append(one(number, START + day * DAY + place * 2000.0 - late, rng))
            for connection in (brief, whole):
                insert(connection, today)
            keep_up(brief, START + (day + 1) * DAY, BRIEF)
        late_ones = [one(number + place, NOW - place * DAY - 5000, rng) for place in range(1, 60)]
        insert(brief, late_ones)  # not added up yet
        insert(whole, late_ones)
        keep_up(whole, NOW, FOREVER)
        for connection in (brief, whole):
            connection.row_factory = sqlite3.Row
        yield folder / "brief.db", brief, whole


def told(connection: sqlite3.Connection, since: float, until: float, by: str = "target", **only: str) -> Report:
    found = history.window(connection, since, until)
    rows = history.records(connection, found, {"origin": "live", **only})
    sums = history.sums(connection, found, {"origin": "live", **only})
    return report(rows, by, upkeep.iso(found.since), upkeep.iso(found.until), 1.0, Levels(), sums, found.sources)


def close(mine: Estimate, truth: Estimate, of: object, rel: float = 1e-6) -> None:
    assert [one is None for one in mine[:3]] == [one is None for one in truth[:3]], of
    for one, other in zip(mine[:4], truth[:4], strict=True):
        assert one is other is None or one == pytest.approx(other, rel=rel), of


def same(figures: dict[str, Any], truth: dict[str, Any]) -> None:
    for name, value in truth.items():
        if name.endswith("_ms"):
            for q, exact in value.items():
                near = figures[name][q]
                assert near.n == exact.n, name
                # Between two samples the exact rule draws a line; a histogram takes the nearest.
                close(near, exact, (name, q), 0.01 if exact.n > 1000 else 0.05)
        elif isinstance(value, tuple):
            close(figures[name], value, name)
        else:
            assert figures[name] == (pytest.approx(value) if not isinstance(value, dict) else value), name


@pytest.mark.parametrize("days", [1, 2, 15, 70, 100])
@pytest.mark.parametrize("by", ["target", "route", "key", "operation"])
def test_the_joined_figures_are_those_of_the_records(stores: Any, days: int, by: str) -> None:
    _, brief, whole = stores
    since = NOW - days * DAY
    mine, truth = told(brief, since, NOW, by), told(whole, since, NOW, by)
    assert [source.kind for source in truth.sources] == ["records"]
    assert mine.total["requests"] > 0
    assert mine.groups.keys() == truth.groups.keys()
    same(mine.total, truth.total)
    for name, figures in truth.groups.items():
        same(mine.groups[name], {key: value for key, value in figures.items() if not key.endswith("_ms")})


def test_a_window_says_where_it_was_read_from(stores: Any) -> None:
    _, brief, _ = stores
    assert [one.kind for one in told(brief, NOW - DAY, NOW).sources] == ["records"]
    found = told(brief, NOW - 60 * DAY, NOW).sources
    assert [one.kind for one in found] == ["day", "minute", "records"]
    assert [one.since for one in found[1:]] == [one.until for one in found[:-1]]
    assert found[1].until == upkeep.iso(NOW - 3 * DAY) + "Z"
    assert found[0].until == upkeep.iso(NOW - 20 * DAY) + "Z"


@pytest.mark.parametrize(("since", "until"), [(70.3, 40.6), (30.5, 29.5), (15.2, 8.7), (3.5, 2.5), (50.0, 49.9)])
def test_windows_that_end_long_ago_take_whole_days_and_minutes(stores: Any, since: float, until: float) -> None:
    _, brief, whole = stores
    found = history.window(brief, NOW - since * DAY, NOW - until * DAY)
    assert found.since <= NOW - since * DAY
    assert found.until >= NOW - until * DAY
    mine, truth = told(brief, NOW - since * DAY, NOW - until * DAY), told(whole, found.since, found.until)
    same(mine.total, {name: value for name, value in truth.total.items() if not name.endswith("_ms")})


def test_routes_and_operations_narrow_both_parts(stores: Any) -> None:
    _, brief, whole = stores
    for only in ({"operation": "embeddings"}, {"route": "chat"}, {"operation": "nothing"}):
        mine, truth = (told(connection, START, NOW, **only) for connection in (brief, whole))
        assert mine.total["requests"] == truth.total["requests"]


def test_two_long_windows_are_compared(stores: Any) -> None:
    _, brief, whole = stores
    one, other = ((NOW - 60 * DAY, NOW - 30 * DAY), (NOW - 30 * DAY, NOW))
    assert (
        changes(told(brief, *other), told(brief, *one)).keys() == changes(told(whole, *other), told(whole, *one)).keys()
    )


def test_a_store_without_the_mark_begins_where_its_records_do(stores: Any, tmp_path: Path) -> None:
    path, *_ = stores
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        source.backup(copy)
        copy.execute("DELETE FROM marks WHERE name = ?", (rollups.RECORDS_GONE,))
        copy.row_factory = sqlite3.Row
        copy.execute("DELETE FROM exchanges WHERE n > ?", (rollups.watermark(copy),))
        oldest = copy.execute("SELECT min(at) FROM exchanges").fetchone()[0]
        found = history.window(copy, START, NOW)
        assert upkeep.iso(found.minutes_until) >= oldest[:19]
        assert found.minutes_until - history.MINUTE <= NOW - 3 * DAY + 2000


def test_the_command_tells_where_from_and_refuses_what_sums_do_not_hold(
    stores: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _, _ = stores
    window = ["--since", upkeep.iso(START), "--until", upkeep.iso(NOW)]
    assert main(["report", "--storage", str(path), *window, "--by", "operation"]) == 0
    out = capsys.readouterr().out
    assert "sums by the day from" in out
    assert "single records from" in out
    assert "within 1 %" in out
    assert "embeddings" in out
    assert main(["report", "--storage", str(path), *window, "--format", "json"]) == 0
    assert [one["kind"] for one in json.loads(capsys.readouterr().out)["sources"]] == ["day", "minute", "records"]
    assert main(["report", "--storage", str(path), *window, "--format", "html"]) == 0
    assert "Sums by the day" in capsys.readouterr().out.replace("Read from sums", "Read from Sums")
    for wrong in (["--by", "tag"], ["--slo-ttft", "1s"]):
        assert main(["report", "--storage", str(path), *window, *wrong]) == 2
        assert "single records only, which are kept since" in capsys.readouterr().err


def test_an_invoice_of_months_is_compared_with_all_that_was_spent(
    stores: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, _, whole = stores
    since, until = START + 40 * DAY, START + 99 * DAY
    query = (
        "SELECT substr(at, 1, 10), sum(cost_usd) FROM v_attempts WHERE provider = 'openai' AND at >= ? AND at < ?"
        " GROUP BY 1"
    )
    spent = dict(whole.execute(query, (upkeep.iso(since), upkeep.iso(until))).fetchall())
    (tmp_path / "invoice.csv").write_text(
        "\n".join(["date,cost", *(f"{day},{usd:.9f}" for day, usd in spent.items()), f"{upkeep.iso(until)[:10]},99"]),
        "utf-8",
    )
    asked = ["report", "reconcile", str(tmp_path / "invoice.csv"), "--provider", "openai", "--storage", str(path)]
    asked += ["--since", upkeep.iso(since), "--until", upkeep.iso(until)]
    assert main(asked) == 0
    out = capsys.readouterr().out
    assert "the store has 100.00% of what invoice.csv bills" in out
    assert f"days before {upkeep.iso(NOW - 3 * DAY)[:10]} are from sums by the day" in out
    assert main([*asked, "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {row["day"]: pytest.approx(row["store_usd"]) for row in found["rows"]} == spent
    assert found["from_daily_sums_before"] == upkeep.iso(NOW - 3 * DAY)[:10]


def test_sums_of_before_the_columns_do_not_tell_what_they_cannot(stores: Any, tmp_path: Path) -> None:
    path, _, whole = stores
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        source.backup(copy)
        for name in rollups._LATER:
            copy.execute(f"UPDATE rollups SET {name} = NULL")  # noqa: S608
        copy.row_factory = sqlite3.Row
        old, truth = told(copy, START, NOW).total, told(whole, START, NOW).total
    assert old["cost_per_request_usd"].value is None
    assert "before store version 12" in old["cost_per_request_usd"].note
    assert old["attempts"] is None
    for name in ("requests", "outcomes", "errors", "failovers", "tokens", "left_by_client"):
        assert old[name] == truth[name]
