"""The writer when all is well, when it is full, and when the store fails. Real files, real faults."""

from __future__ import annotations

import logging
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from proxy.measure.store import writer
from proxy.measure.store.writer import Committed, StoreSink, store_path
from proxy.record import Exchange
from tests.measure.records import TARGETS, attempt, exchange
from tests.measure.store.conftest import LIMIT, ask, ids, numbered, put, until

Opened = Callable[..., StoreSink]


def names(exchanges: list[Exchange]) -> list[str]:
    return [made.id for made in exchanges]


# -- all is well


def test_what_was_accepted_is_in_the_file_in_order(opened: Opened) -> None:
    sink = opened()
    assert (sink.degraded, sink.committed, sink.pending) == (None, Committed(0, 0), 0)
    made = numbered(1_234)
    put(sink, made)
    assert sink.flush(LIMIT)
    assert ids(sink.path) == names(made)
    assert (sink.committed, sink.written, sink.pending) == (Committed(1_234, 1_234), 1_234, 0)
    assert not any(sink.losses().values())


def test_a_record_is_committed_without_being_asked_for(opened: Opened) -> None:
    sink = opened()
    put(sink, numbered(1))
    until(lambda: sink.pending == 0)
    put(sink, numbered(600, first=2))
    until(lambda: sink.pending == 0)
    assert sink.committed == Committed(601, 601)


def test_closing_writes_what_waits(tmp_path: Path) -> None:
    sink = StoreSink.open(tmp_path / "store.db")
    put(sink, numbered(700))
    assert sink.close(LIMIT)
    assert len(ids(sink.path)) == 700
    assert not sink.path.with_name("store.db-wal").exists()
    put(sink, numbered(2))
    assert sink.losses()["closed"] == 2
    assert sink.close(LIMIT)


def test_attempts_go_with_their_exchange(opened: Opened) -> None:
    sink = opened()
    many = exchange(*[attempt(TARGETS[no % 3], no=no) for no in range(1, 120)], id="many")
    put(sink, [exchange(id="none"), many, exchange(attempt(), id="one")])
    sink.flush(LIMIT)
    assert ask(sink.path, "SELECT exchange_id, count(*) FROM v_attempts GROUP BY 1 ORDER BY record_no") == [
        ("many", 119),
        ("one", 1),
    ]
    assert ask(sink.path, "SELECT id, attempts, failovers FROM v_exchanges ORDER BY record_no") == [
        ("none", 0, 0),
        ("many", 119, 118),
        ("one", 1, 0),
    ]


def test_a_store_is_continued(tmp_path: Path) -> None:
    for first in (1, 11):
        sink = StoreSink.open(f"sqlite:///{tmp_path}/store.db")
        put(sink, numbered(10, first))
        sink.close(LIMIT)
    assert ids(tmp_path / "store.db") == names(numbered(20))


def test_several_processes_write_to_one_file(opened: Opened, tmp_path: Path) -> None:
    sink = opened()
    code = """if True:
        import sys
        from proxy.measure.store.writer import StoreSink
        from tests.measure.store.conftest import numbered
        sink = StoreSink.open(sys.argv[1])
        for made in numbered(1_000):
            made.id = sys.argv[2] + made.id
            sink.accept(made)
            if made.seq % 100 == 0:
                assert sink.flush(60)
        assert sink.close(60) and sink.written == 1_000
    """
    started = [subprocess.Popen([sys.executable, "-c", code, str(sink.path), name]) for name in ("a", "b")]
    for first in range(1, 1_001, 100):
        put(sink, numbered(100, first))
        assert sink.flush(LIMIT)
    assert [process.wait(LIMIT) for process in started] == [0, 0]
    assert ask(sink.path, "SELECT count(*), count(DISTINCT id), max(record_no) FROM v_exchanges") == [
        (3_000, 3_000, 3_000)
    ]
    assert ask(sink.path, "SELECT count(*) FROM v_attempts") == [(3_000,)]
    assert ask(sink.path, "PRAGMA integrity_check") == [("ok",)]


# -- the queue


def test_the_newest_are_dropped_when_the_queue_is_full_and_counted_to_the_one(opened: Opened) -> None:
    sink = opened(capacity=100)
    made = numbered(1_000)
    with closing(sqlite3.connect(sink.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        put(sink, made)  # the writer waits for the lock with one batch in hand
        other.execute("ROLLBACK")
    assert sink.flush(LIMIT)
    lost = sink.losses()["queue_full"]
    assert lost >= 1_000 - 100 - writer.BATCH
    kept = ids(sink.path)
    assert len(kept) + lost == 1_000
    assert len(kept) == sink.written
    assert kept[:100] == names(made)[:100]
    assert sum(sink.losses().values()) == lost


def test_a_record_that_cannot_be_stored_costs_itself_alone(opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    sink = opened()
    made = numbered(200)
    made[3].model = "\ud800"  # no UTF-8 for half a surrogate pair
    made[77].answer_bytes = 1 << 70
    made[150].attempts.append(attempt())  # the same number twice
    put(sink, made)
    with caplog.at_level(logging.ERROR):
        assert sink.flush(LIMIT)
    assert sink.losses()["bad_record"] == 3
    assert sink.committed == Committed(200, 197)
    assert ids(sink.path) == [made.id for made in numbered(200) if made.seq not in (4, 78, 151)]
    assert ask(sink.path, "SELECT count(*) FROM v_attempts") == [(197,)]
    assert "req_4" in caplog.text
    assert sink.degraded is None


# -- a store that fails while it is used


@pytest.fixture
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "BUSY_SECONDS", 0.01)
    monkeypatch.setattr(writer, "REOPEN_SECONDS", 0.01)
    monkeypatch.setattr(writer, "RETRY_FIRST_SECONDS", 0.01)
    monkeypatch.setattr(writer, "RETRY_LONGEST_SECONDS", 0.05)


@pytest.mark.usefixtures("_soon")
def test_a_locked_file_is_written_when_it_is_free(opened: Opened, caplog: pytest.LogCaptureFixture) -> None:
    sink = opened()
    with closing(sqlite3.connect(sink.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        put(sink, numbered(5))
        until(lambda: sink.degraded is not None)
        assert "another process holds it locked" in str(sink.degraded)
        assert not sink.flush(0.05)
        put(sink, numbered(5, first=6))
        assert sink.pending == 10
        other.execute("ROLLBACK")
    assert sink.flush(LIMIT)
    assert sink.degraded is None
    assert ids(sink.path) == names(numbered(10))
    assert caplog.text.count("another process holds it locked") == 1
    assert "stored in" in caplog.text


@pytest.mark.usefixtures("_soon")
def test_a_full_disk_costs_no_record_that_has_room_in_the_queue(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = [40]
    connect = writer.connect

    def limited(path: Path) -> sqlite3.Connection:
        connection = connect(path)
        connection.execute(f"PRAGMA max_page_count = {pages[0]}")
        return connection

    monkeypatch.setattr(writer, "connect", limited)
    sink = opened(capacity=1_000)
    put(sink, numbered(800))
    until(lambda: sink.degraded is not None)
    assert "the disk is full: free some space" in str(sink.degraded)
    for made in numbered(1_000, first=801):
        sink.accept(made)
    pages[0] = 1 << 20
    assert sink.flush(LIMIT)
    assert sink.degraded is None
    lost = sink.losses()
    assert lost == {**dict.fromkeys(lost, 0), "queue_full": 1_800 - sink.written}
    assert ids(sink.path) == names(numbered(1_800))[: sink.written]


@pytest.mark.usefixtures("_soon")
def test_closing_a_store_that_fails_counts_what_is_lost(opened: Opened) -> None:
    sink = opened()
    with closing(sqlite3.connect(sink.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        put(sink, numbered(600))
        assert sink.close(LIMIT)
        assert sink.losses()["write_error"] == 600
        assert sink.pending == 0
        other.execute("ROLLBACK")
    assert ids(sink.path) == []


def test_a_store_that_fails_does_not_hold_up_the_end(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    tries = [0]

    def fail(self: StoreSink, batch: list[Exchange]) -> int:
        tries[0] += 1
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(StoreSink, "_write", fail)
    sink = opened()
    put(sink, numbered(5_000))
    until(lambda: sink.degraded is not None)
    before = tries[0]
    assert sink.close(LIMIT)
    assert tries[0] <= before + 2
    assert sink.losses()["write_error"] == 5_000


@pytest.mark.usefixtures("_soon")
def test_a_file_that_is_deleted_is_begun_anew(opened: Opened) -> None:
    sink = opened()
    put(sink, numbered(3))
    assert sink.flush(LIMIT)
    for suffix in ("", "-wal", "-shm"):
        sink.path.with_name(f"store.db{suffix}").unlink(missing_ok=True)
    put(sink, numbered(3, first=4))
    assert sink.flush(LIMIT)
    assert ids(sink.path) == ["req_4", "req_5", "req_6"]
    assert sink.degraded is None


@pytest.mark.usefixtures("_soon")
def test_a_file_that_is_moved_keeps_what_it_had(opened: Opened, tmp_path: Path) -> None:
    sink = opened()
    put(sink, numbered(3))
    assert sink.flush(LIMIT)
    sink.path.rename(tmp_path / "old.db")
    put(sink, numbered(3, first=4))
    assert sink.flush(LIMIT)
    assert ids(sink.path) == ["req_4", "req_5", "req_6"]
    assert ids(tmp_path / "old.db") == ["req_1", "req_2", "req_3"]


@pytest.mark.usefixtures("_soon")
def test_a_file_that_is_deleted_while_it_is_written_is_begun_anew(
    opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert = StoreSink._insert

    def insert_and_delete(self: StoreSink, connection: sqlite3.Connection, batch: list[Exchange]) -> int:
        written = insert(self, connection, batch)
        monkeypatch.setattr(StoreSink, "_insert", insert)
        self.path.unlink()
        return written

    monkeypatch.setattr(StoreSink, "_insert", insert_and_delete)
    sink = opened()
    put(sink, numbered(3))
    assert sink.flush(LIMIT)
    assert ids(sink.path) == ["req_1", "req_2", "req_3"]
    assert sink.committed == Committed(3, 3)


@pytest.mark.usefixtures("_soon")
def test_a_newer_program_may_take_the_file_over(opened: Opened) -> None:
    sink = opened()
    put(sink, numbered(2))
    assert sink.flush(LIMIT)
    with closing(sqlite3.connect(sink.path, isolation_level=None)) as newer:
        newer.execute("BEGIN IMMEDIATE")
        newer.execute("PRAGMA user_version = 99")
        put(sink, numbered(3, first=3))
        until(lambda: sink.degraded is not None)
        newer.execute("COMMIT")
    until(lambda: "newer weighbridge" in str(sink.degraded))
    until(lambda: sink.pending == 0)
    put(sink, numbered(4))
    assert sink.losses()["store_unavailable"] == 7
    assert sink.close(LIMIT)
    assert ids(sink.path) == ["req_1", "req_2"]


_GROWING = """if True:
    import resource, sys, time
    from proxy.measure.store import writer
    from tests.measure.store.conftest import numbered, put, until
    writer.RETRY_LONGEST_SECONDS = 0.05
    sink = writer.StoreSink.open(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    put(sink, numbered(1_000))
    until(lambda: sink.degraded is not None)
    print(sink.degraded)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert sink.flush(60) and sink.degraded is None and sink.written == 1_000 and sink.close(60)
"""


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    """The operating system refuses the write; when it no longer does, nothing is missing."""
    command = [sys.executable, "-c", _GROWING, str(tmp_path / "store.db")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    assert "records cannot be stored in" in done.stdout
    assert ids(tmp_path / "store.db") == names(numbered(1_000))


# -- a store that cannot be opened


def _folder(path: Path) -> None:
    path.mkdir()


def _text(path: Path) -> None:
    path.write_text("dear diary, " * 100)


def _newer(path: Path) -> None:
    writer.connect(path).close()
    ask(path, "PRAGMA user_version = 2000000000")


def _foreign(path: Path) -> None:
    ask(path, "CREATE TABLE songs (title TEXT)")


@pytest.mark.parametrize(
    ("place", "prepare", "says"),
    [
        ("missing/store.db", None, "does not exist: create it"),
        ("/proc/store.db", None, "cannot be opened: let this user write in /proc"),
        ("/dev/null/store.db", None, "the folder /dev/null does not exist"),
        ("store.db", _folder, "it is a folder: name a file"),
        ("store.db", _text, "it is no SQLite database: name another file"),
        ("store.db", _newer, "newer weighbridge (store version 2000000000"),
        ("store.db", _foreign, "another program's database"),
    ],
)
def test_a_store_that_cannot_be_opened_is_one_message_and_counted_losses(
    opened: Opened,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    place: str,
    prepare: Callable[[Path], Any] | None,
    says: str,
) -> None:
    path = tmp_path / place
    if prepare is not None:
        prepare(path)
    sink = opened(path)
    assert sink.degraded is not None
    assert sink.degraded.startswith(f"records cannot be stored in {path}: ")
    assert says in sink.degraded
    assert [record.getMessage() for record in caplog.records] == [sink.degraded]
    put(sink, numbered(12))
    assert sink.losses() == {**dict.fromkeys(sink.losses(), 0), "store_unavailable": 12}
    assert (sink.pending, sink.written) == (0, 0)
    assert sink.flush(LIMIT)


def test_a_fault_of_the_writer_is_told_and_counted(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StoreSink, "_settle", lambda self, batch: 1 // 0)
    sink = opened()
    put(sink, numbered(3))
    until(lambda: sink.degraded is not None)
    assert "by zero" in str(sink.degraded)
    until(lambda: sink.pending == 0)
    put(sink, numbered(2))
    assert sink.losses()["store_unavailable"] == 5


def test_a_path_that_no_file_can_have(opened: Opened) -> None:
    sink = opened("a\0b")
    assert "null" in str(sink.degraded)
    put(sink, numbered(2))
    assert sink.losses()["store_unavailable"] == 2


@pytest.mark.usefixtures("_soon")
def test_a_store_is_tried_again_until_it_opens(opened: Opened, tmp_path: Path) -> None:
    sink = opened(tmp_path / "later" / "store.db")
    put(sink, numbered(2))
    (tmp_path / "later").mkdir()
    until(lambda: sink.degraded is None)
    until(lambda: sink._room > 0)
    put(sink, numbered(2, first=3))
    assert sink.flush(LIMIT)
    assert ids(sink.path) == ["req_3", "req_4"]
    assert sink.losses()["store_unavailable"] == 2


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///weighbridge.db", "weighbridge.db"),
        ("sqlite:////var/lib/weighbridge.db", "/var/lib/weighbridge.db"),
        ("sqlite:///a/b.db", "a/b.db"),
        ("plain.db", "plain.db"),
        (Path("/plain.db"), "/plain.db"),
    ],
)
def test_the_file_of_a_url(url: str | Path, path: str) -> None:
    assert store_path(url) == Path(path)


@pytest.mark.parametrize("url", ["postgresql://host/db", "sqlite://host/db", "sqlite:///", "", ":memory:"])
def test_a_url_that_names_no_file(url: str) -> None:
    with pytest.raises(ValueError, match="sqlite:///"):
        StoreSink.open(url)
