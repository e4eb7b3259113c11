"""Writes sealed exchanges to SQLite from one thread of its own, in batches.

The event loop only appends to a queue. The thread commits at `BATCH` exchanges (about 500 rows) or 200 ms after the
first one that waits, whichever comes first. What is lost is counted: the queue is bounded and the newest record is
dropped when it is full, so a disk that fails costs records, never requests. A killed process loses at most what was
not yet committed; a power cut may also take the last commits (`synchronous=NORMAL`), never the file.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

from tenacity import RetryCallState, Retrying, retry_if_exception, sleep_using_event, stop_when_event_set
from tenacity import wait_exponential as exponential

from proxy.measure.store import faults, rows, schema, upkeep
from proxy.measure.store.upkeep import Retention
from proxy.record import Exchange

log = logging.getLogger(__name__)

CAPACITY = 10_000
BATCH = 250
FLUSH_SECONDS = 0.2
REOPEN_SECONDS = 30.0
RETRY_FIRST_SECONDS, RETRY_LONGEST_SECONDS = 0.1, 30.0
BUSY_SECONDS = 5.0
UPKEEP_SECONDS = 60.0
KEEP = Retention()

_STEP = 50
"""Exchanges made into rows at a time. Making them holds the interpreter's lock (the event loop waits), inserting does
not."""
_NEVER = 1 << 60


class Committed(NamedTuple):
    seq: int
    """Every accepted exchange up to this one is in the store."""
    exchanges: int
    """How many were committed since the start."""


def store_path(url: str | Path) -> Path:
    """The file of `sqlite:///FILE` (four slashes for an absolute path) or of a plain path. ValueError otherwise."""
    text = str(url)
    if "://" in text:
        scheme, _, rest = text.partition("://")
        if scheme != "sqlite" or not rest.startswith("/"):
            raise ValueError(
                f"storage {text!r} is not understood: write sqlite:///FILE, for example sqlite:///weighbridge.db"
            )
        text = rest[1:]
    if not text or text == ":memory:":
        raise ValueError("storage needs a file: write sqlite:///FILE, for example sqlite:///weighbridge.db")
    return Path(text)


def connect(path: Path) -> sqlite3.Connection:
    """The file, open for writing and of the newest version. Raises `sqlite3.Error`, `OSError`, `SchemaError`."""
    connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    try:
        # Before the first table, so that the space of deleted records can be given back without rewriting the file.
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        schema.migrate(connection)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        connection.close()
        raise
    return connection


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[int]:
    """Holds the file's write lock; gives the number of the newest exchange."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        (newest,) = connection.execute("SELECT coalesce(max(n), 0) FROM exchanges").fetchone()
        yield newest
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


class StoreSink:
    """A sink. `accept` belongs to the event loop's thread; everything else may be called from any thread."""

    def __init__(self, path: Path, capacity: int = CAPACITY, retention: Retention = KEEP) -> None:
        """Use `open`."""
        self.path = path
        self.retention = retention
        self._upkeep_at = time.monotonic() + UPKEEP_SECONDS
        """When the next step of the upkeep is due (monotonic seconds)."""
        self._capacity = capacity
        self._queue: deque[Exchange] = deque()
        self._room = 0
        """`capacity` while records are taken, else 0."""
        self._wake_at = _NEVER
        """Length of the queue at which `accept` wakes the thread."""
        self._wake = threading.Event()
        self._ready = threading.Event()
        self._closing = threading.Event()
        self._done = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="weighbridge-store", daemon=True)
        self._connection: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._at = rows.Timestamps()
        self._degraded: str | None = None
        self._foreign = False
        self._committed = Committed(0, 0)
        # The event loop's thread writes these, ...
        self._accepted = 0
        self._refused = {"queue_full": 0, "store_unavailable": 0, "closed": 0}
        # ... and the writer's thread these: no number has two writers.
        self._lost = {"store_unavailable": 0, "write_error": 0, "bad_record": 0}
        self._settled = 0
        self._flush_to = 0
        self._retrying = Retrying(
            retry=retry_if_exception(faults.is_disk_fault),
            wait=exponential(multiplier=RETRY_FIRST_SECONDS, max=RETRY_LONGEST_SECONDS),
            stop=stop_when_event_set(self._closing),
            sleep=sleep_using_event(self._closing),
            before_sleep=self._note_retry,
            reraise=True,
        )

    @classmethod
    def open(cls, url: str | Path, *, capacity: int = CAPACITY, retention: Retention = KEEP) -> Self:
        """Start the writer on `sqlite:///FILE` or a plain path; returns after the first try to open the file.

        Where that fails the sink works all the same: `degraded` says why (so does the log, once), every record is
        dropped and counted, and the file is tried again every 30 s, unless it is another version's or program's.
        ValueError: the URL is not understood.
        """
        sink = cls(store_path(url), capacity, retention)
        sink._thread.start()
        sink._ready.wait()
        return sink

    # -- the event loop's side

    def accept(self, exchange: Exchange) -> None:
        queue = self._queue
        waiting = len(queue)
        if waiting >= self._room:
            self._refuse()
            return
        queue.append(exchange)
        self._accepted += 1
        if waiting + 1 >= self._wake_at:
            self._wake_at = _NEVER
            self._wake.set()

    def _refuse(self) -> None:
        if self._closing.is_set():
            reason = "closed"
        elif self._room:
            reason = "queue_full"
        else:
            reason = "store_unavailable"
        self._refused[reason] += 1

    # -- what can be asked

    @property
    def committed(self) -> Committed:
        return self._committed

    @property
    def written(self) -> int:
        """Exchanges committed since the start."""
        return self._committed.exchanges

    @property
    def pending(self) -> int:
        """Exchanges accepted and not yet committed."""
        return self._accepted - self._settled

    @property
    def degraded(self) -> str | None:
        """Why records cannot be stored at present, and how to mend it; None while all is well."""
        return self._degraded

    @property
    def ours(self) -> bool:
        """False for another version's or program's file: no part of this process has any business there."""
        return not self._foreign

    def losses(self) -> dict[str, int]:
        """Exchanges lost since the start, by reason."""
        lost = self._refused | self._lost
        lost["store_unavailable"] = self._refused["store_unavailable"] + self._lost["store_unavailable"]
        if self._closing.is_set() and not self._thread.is_alive():
            lost["closed"] += len(self._queue)
        return lost

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait until what was accepted before this call is committed (or counted as lost); False after `timeout` s."""
        target = self._accepted
        with self._done:
            self._flush_to = max(self._flush_to, target)
            self._wake.set()
            return self._done.wait_for(lambda: self._settled >= target, timeout)

    def close(self, timeout: float = 10.0) -> bool:
        """Write what waits and close the file; False if that took longer than `timeout` seconds.

        A store that fails is tried once more, then what waits is counted as lost (`write_error`).
        """
        self._closing.set()
        self._room = 0
        self._wake.set()
        self._thread.join(timeout)
        if self._thread.is_alive():
            log.error("the store did not close in %.0f s; %d records may be lost", timeout, self.pending)
            return False
        return True

    # -- the writer's thread

    def _run(self) -> None:
        try:
            self._work()
        except Exception as error:
            # Nothing that waiting would mend: another version's or program's file, or a fault of ours.
            self._room = 0
            self._foreign = isinstance(error, schema.SchemaError)
            if not self._foreign:
                log.exception("the store's writer failed")
            self._note(error)
            self._queue.clear()
            self._lose(self.pending, "store_unavailable")
            self._ready.set()
            self._closing.wait()
        finally:
            self._ready.set()
            self._disconnect()

    def _work(self) -> None:
        while not self._opened():
            self._ready.set()
            if self._closing.wait(REOPEN_SECONDS):
                return
        self._room = self._capacity
        self._ready.set()
        while True:
            self._sleep_until(1, max(0.0, self._upkeep_at - time.monotonic()))
            self._sleep_until(BATCH, FLUSH_SECONDS)
            batch = self._take(BATCH)
            if batch:
                self._settle(batch)
            elif self._closing.is_set():
                return
            if time.monotonic() >= self._upkeep_at and not self._closing.is_set():
                self._keep_up()

    def _keep_up(self) -> None:
        """One step of the upkeep: the next follows soon if there is more to do. It is never worth a record."""
        more = False
        if self._connection is not None and self._degraded is None:
            try:
                more = upkeep.step(self._connection, time.time(), self.retention)
            except (sqlite3.Error, OSError) as error:
                log.warning("the store's upkeep failed and is tried again: %s", faults.reason(self.path, error))
        self._upkeep_at = time.monotonic() + (0.0 if more else UPKEEP_SECONDS)

    def _opened(self) -> bool:
        try:
            self._connect()
        except (sqlite3.Error, OSError) as error:
            self._note(error)
            return False
        self._note(None)
        return True

    def _sleep_until(self, waiting: int, seconds: float | None) -> None:
        # In this order: whoever appends, flushes or closes after the check finds the event cleared and sets it.
        self._wake.clear()
        self._wake_at = waiting
        if len(self._queue) < waiting and self._flush_to <= self._settled and not self._closing.is_set():
            self._wake.wait(seconds)
        self._wake_at = _NEVER

    def _take(self, most: int) -> list[Exchange]:
        queue = self._queue
        return [queue.popleft() for _ in range(min(len(queue), most))]

    def _settle(self, batch: list[Exchange]) -> None:
        """Commit the batch, however long it takes; while closing, one try, and then everything that waits is lost."""
        try:
            written = self._retrying(self._write, batch)
        except schema.SchemaError:
            raise
        except Exception as error:
            self._note(error)
            if not faults.is_disk_fault(error):
                log.exception("the store's writer failed")
            if self._closing.is_set():
                batch += self._take(len(self._queue))
                log.error("%d records are lost", len(batch))
            self._lose(len(batch), "write_error")
        else:
            self._note(None)
            self._lost["bad_record"] += len(batch) - written
            self._committed = Committed(batch[-1].seq, self._committed.exchanges + written)
            self._settle_count(len(batch))

    def _lose(self, count: int, why: str) -> None:
        self._lost[why] += count
        self._settle_count(count)

    def _settle_count(self, count: int) -> None:
        with self._done:
            self._settled += count
            self._done.notify_all()

    def _note_retry(self, state: RetryCallState) -> None:
        if state.outcome is not None:
            self._note(state.outcome.exception())

    def _note(self, error: BaseException | None) -> None:
        """Remember and log, once, that the store fails and why, or that it works again."""
        before, self._degraded = self._degraded, None if error is None else faults.reason(self.path, error)
        if self._degraded is not None and self._degraded != before:
            log.error("%s", self._degraded)
        elif self._degraded is None and before is not None:
            log.warning("records are stored in %s again", self.path)

    def _write(self, batch: Sequence[Exchange]) -> int:
        """Commit the batch; the number of exchanges written. Raises disk faults (see `faults`) and `SchemaError`."""
        try:
            self._still_there()
            connection = self._connection or self._connect()
            try:
                written = self._insert(connection, batch)
            except Exception as error:
                if faults.is_disk_fault(error):
                    raise
                written = self._insert_singly(connection, batch)
            self._still_there()
        except BaseException:
            self._disconnect()
            raise
        return written

    def _insert(self, connection: sqlite3.Connection, batch: Sequence[Exchange]) -> int:
        with _transaction(connection) as newest:
            for start in range(0, len(batch), _STEP):
                self._insert_rows(connection, newest + 1 + start, batch[start : start + _STEP])
        return len(batch)

    def _insert_singly(self, connection: sqlite3.Connection, batch: Sequence[Exchange]) -> int:
        """After a row that cannot be stored: all the others are."""
        written = 0
        with _transaction(connection) as newest:
            for exchange in batch:
                connection.execute("SAVEPOINT one")
                try:
                    self._insert_rows(connection, newest + 1 + written, (exchange,))
                    written += 1
                except Exception as error:
                    if faults.is_disk_fault(error):
                        raise
                    log.exception("exchange %r cannot be stored as it is", exchange.id)
                    connection.execute("ROLLBACK TO one")
                connection.execute("RELEASE one")
        return written

    def _insert_rows(self, connection: sqlite3.Connection, first: int, exchanges: Sequence[Exchange]) -> None:
        text = self._at.text
        numbered = [*enumerate(exchanges, first)]
        connection.executemany(rows.INSERT_EXCHANGE, [rows.exchange_row(n, ex, text(ex.at)) for n, ex in numbered])
        attempts = [rows.attempt_row(n, attempt, ex.stream) for n, ex in numbered for attempt in ex.attempts]
        connection.executemany(rows.INSERT_ATTEMPT, attempts)

    def _connect(self) -> sqlite3.Connection:
        self._connection = connection = connect(self.path)
        found = os.stat(self.path)
        self._file = found.st_dev, found.st_ino
        return connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _still_there(self) -> None:
        """A deleted file can be written to without an error; what is written then is gone."""
        if self._connection is None:
            return
        try:
            found = os.stat(self.path)
            if (found.st_dev, found.st_ino) == self._file:
                return
        except FileNotFoundError:
            pass
        # SQLite would not take the log along into a file that was renamed.
        self._connection.execute("PRAGMA wal_checkpoint").fetchall()
        raise faults.Moved
