from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from proxy.measure.store import keys, rollups, rows, schema, writer
from proxy.measure.store.schema import SchemaError
from tests.measure.records import attempt, exchange
from tests.measure.store.conftest import ask

V1 = Path(__file__).with_name("version-1.sql")


def _connection(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


def _version_1(path: Path) -> None:
    """A file as version 1 made it, with a record in it."""
    with closing(_connection(path)) as connection:
        connection.executescript(V1.read_text("utf-8"))


def test_a_new_file_has_the_newest_version(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    with closing(writer.connect(path)) as connection:
        assert schema.version(connection) == len(schema.MIGRATIONS)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (1,)
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)
        assert connection.execute("PRAGMA busy_timeout").fetchone() == (5000,)


def test_version_1_is_what_it_was(tmp_path: Path) -> None:
    """The first migration must never change: files that it made are out there. Nor may the views without a version
    of their own, since they are made anew when a file is brought to another version."""
    old, new = tmp_path / "old.db", tmp_path / "new.db"
    _version_1(old)
    with closing(_connection(new)) as connection:
        schema.migrate(connection, schema.MIGRATIONS[:1])
    made = "SELECT type, name, sql FROM sqlite_master WHERE ? OR type <> 'view' ORDER BY name"
    views_too = len(schema.MIGRATIONS) == 1
    assert ask(new, made, views_too) == ask(old, made, views_too)


def test_a_file_of_version_1_is_brought_to_the_newest(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    _version_1(path)
    with closing(writer.connect(path)) as connection:
        assert schema.version(connection) == len(schema.MIGRATIONS)
    assert ask(path, "SELECT id, target, e2e_ms, winner_no FROM v_exchanges") == [("req_old", "openai/gpt", 101.0, 1)]
    assert ask(path, "SELECT exchange_id, attempt_no, finish_reason FROM v_attempts") == [("req_old", 1, "stop")]


def test_each_further_version_follows_from_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    _version_1(path)
    later = (*schema.MIGRATIONS, ("ALTER TABLE exchanges ADD COLUMN unit TEXT", "UPDATE exchanges SET unit = 'u'"))
    with closing(_connection(path)) as connection:
        schema.migrate(connection, later)
        assert schema.version(connection) == len(later)
        schema.migrate(connection, later)
    assert ask(path, "SELECT id, unit FROM exchanges") == [("req_old", "u")]


def _insert(connection: sqlite3.Connection, table: str, row: tuple[object, ...]) -> None:
    connection.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(row))})", row)  # noqa: S608


def test_sums_of_version_9_stay_and_take_operations_beside_them(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with closing(_connection(path)) as connection:
        schema.migrate(connection, schema.MIGRATIONS[:1])
        for statements in schema.MIGRATIONS[1:9]:
            for statement in statements:
                connection.execute(statement)
        connection.execute("DROP VIEW v_bench_results")  # came later
        connection.execute("PRAGMA user_version = 9")
        place = ("day", "2026-11-01", "live", "chat", "app", "openai/gpt")
        sums = (7, 1, 2, 0, 0, 99, 10, 20, 30, 40, 50, 0.25, 3)
        blob = rollups.packed({640: 7})
        _insert(connection, "rollups", (*place, *sums, '{"ok": 7}', blob, blob))
        _insert(connection, "attempt_rollups", (*place, 8, 1, 10, 20, 30, 40, 50, 0.25, 3, "{}"))
        connection.execute("INSERT INTO keys VALUES ('app', x'00', 'wb-', 0, NULL, '[]', '2026', NULL)")
    with closing(writer.connect(path)) as connection:
        assert schema.version(connection) == len(schema.MIGRATIONS)
        (old,) = rollups.read(connection, "day", "2026", "2027")
        assert (old["requests"], old["cost_usd"], old["unpriced"], old["assumed_usd"]) == (7, 0.25, 3, 0.0)
        assert (old["operation"], old["outcomes"], old["ttft"]) == (None, {"ok": 7}, {640: 7})
        text = rows.Timestamps().text(1_793_500_000.0)  # the same day
        for n, operation in enumerate(("chat", "embeddings", "chat"), 1):
            one = exchange(attempt(), operation=operation)
            connection.execute(rows.INSERT_EXCHANGE, rows.exchange_row(n, one, text))
        assert rollups.roll_up(connection, 10) == 3
    found = "SELECT operation, sum(requests) FROM v_rollups WHERE span = 'day' GROUP BY 1 ORDER BY 1"
    assert ask(path, found) == [(None, 7), ("chat", 2), ("embeddings", 1)]
    assert ask(path, "SELECT attempts, failed, operation, assumed_usd FROM v_attempt_rollups WHERE span = 'day'") == [
        (8, 1, None, 0.0)
    ]
    assert [key.name for key in keys.stored(path)] == ["app"]


def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    _version_1(path)
    broken = (*schema.MIGRATIONS, ("ALTER TABLE exchanges ADD COLUMN unit TEXT", "SELECT nothing FROM nowhere"))
    with closing(_connection(path)) as connection:
        with pytest.raises(sqlite3.OperationalError):
            schema.migrate(connection, broken)
        assert schema.version(connection) == 1
        assert "unit" not in [row[1] for row in connection.execute("PRAGMA table_info (exchanges)")]


def test_a_newer_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    _version_1(path)
    ask(path, "PRAGMA user_version = 99")
    with pytest.raises(SchemaError, match=r"newer weighbridge \(store version 99"):
        writer.connect(path)
    assert ask(path, "PRAGMA user_version") == [(99,)]


def test_another_programs_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    ask(path, "CREATE TABLE songs (title TEXT)")
    with pytest.raises(SchemaError, match="another program"):
        writer.connect(path)
    assert ask(path, "SELECT name FROM sqlite_master") == [("songs",)]


def test_a_row_has_a_value_for_each_column(tmp_path: Path) -> None:
    with closing(writer.connect(tmp_path / "store.db")) as connection:
        for table, columns in (("exchanges", rows._EXCHANGE), ("attempts", rows._ATTEMPT)):
            assert len(connection.execute(f"PRAGMA table_info ({table})").fetchall()) == len(columns)


def test_a_look_up_by_id_or_time_reads_an_index_and_joins_by_key(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    writer.connect(path).close()

    def plan(query: str) -> str:
        return " ".join(row[3] for row in ask(path, f"EXPLAIN QUERY PLAN {query}"))

    assert "exchanges_id" in plan("SELECT * FROM v_exchanges WHERE id = 'x'")
    assert "exchanges_at" in plan("SELECT avg(e2e_ms) FROM v_exchanges WHERE at >= '2026'")
    assert "SCAN" not in plan("SELECT * FROM v_attempts WHERE exchange_id = 'x'")
    assert "attempts" not in plan("SELECT e2e_ms, outcome FROM v_exchanges")
    assert "PRIMARY KEY (exchange_n=? AND attempt_no=?)" in plan("SELECT tpot_ms FROM v_exchanges")


def test_processes_that_make_the_file_at_once_all_get_it(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    code = "import sys; from pathlib import Path; from proxy.measure.store.writer import connect\n"
    code += "connect(Path(sys.argv[1])).close()"
    started = [subprocess.Popen([sys.executable, "-c", code, str(path)]) for _ in range(4)]
    assert [process.wait(60) for process in started] == [0] * 4
    assert ask(path, "PRAGMA integrity_check") == [("ok",)]
