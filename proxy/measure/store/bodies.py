"""Prompts and answers, where somebody asked for them: a table of their own that forgets by itself.

Written by a thread of its own, so that a large prompt never holds up a record. What cannot be kept is counted, never
waited for.
"""

from __future__ import annotations

import logging
import queue
import re
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from proxy.measure.store import faults
from proxy.measure.store.rows import Timestamps
from proxy.measure.store.writer import connect

log = logging.getLogger(__name__)

CAPACITY = 256
"""Exchanges that wait to be kept."""
BATCH = 32

_SECRETS = (
    (re.compile(r"data:[\w.+/-]*;base64,[A-Za-z0-9+/=]{64,}"), "[data]"),
    (re.compile(r"\b(?:sk|pk|rk|gsk|xai|key|ghp|gho|glpat|hf|AIza|AKIA|ASIA)[-_]?[A-Za-z0-9_-]{16,}"), "[key]"),
    (re.compile(r"(?i)\bbearer\s+[A-Za-z0-9._~+/-]{8,}=*"), "[key]"),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"), "[key]"),
    (re.compile(r"[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}"), "[e-mail]"),
)


class Body(NamedTuple):
    id: str
    """Of the exchange."""
    at: float
    """When it came, seconds since the epoch."""
    keep_seconds: float
    request: bytes
    answer: bytes | None
    """None: larger than what is kept, or none came."""
    redacted: bool
    patterns: Sequence[re.Pattern[str]] = ()


def redact(text: str, patterns: Sequence[re.Pattern[str]] = ()) -> str:
    """Keys, tokens, e-mail addresses, data inside URLs, and whatever the config's own patterns find."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    for pattern in patterns:
        text = pattern.sub("[redacted]", text)
    return text


class Bodies:
    """`keep` belongs to the event loop's thread; it never waits."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._queue: queue.Queue[Body | None] = queue.Queue(CAPACITY)
        self._dropped = 0
        self._failed = 0
        self._thread: threading.Thread | None = None

    def keep(self, body: Body) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="weighbridge-bodies", daemon=True)
            self._thread.start()
        try:
            self._queue.put_nowait(body)
        except queue.Full:
            self._dropped += 1

    def losses(self) -> Mapping[str, int]:
        return {"queue_full": self._dropped, "write_error": self._failed}

    def close(self, timeout: float = 10.0) -> bool:
        """Write what waits; False if that took longer than `timeout` seconds."""
        if self._thread is None:
            return True
        self._queue.put(None)
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            batch = [self._queue.get()]
            while len(batch) < BATCH and batch[-1] is not None and not self._queue.empty():
                batch.append(self._queue.get())
            bodies = [body for body in batch if body is not None]
            if bodies:
                self._write(bodies)
            if batch[-1] is None:
                return

    def _write(self, bodies: Sequence[Body]) -> None:
        try:
            rows = [_row(body) for body in bodies]
            connection = connect(self._path)
            try:
                with connection:
                    connection.execute("BEGIN IMMEDIATE")
                    connection.executemany(
                        "INSERT INTO bodies (id, at, expires, request, answer) VALUES (?, ?, ?, ?, ?)", rows
                    )
            finally:
                connection.close()
        except (sqlite3.Error, OSError) as error:
            self._failed += len(bodies)
            log.warning("%d prompts and answers are lost: %s", len(bodies), faults.reason(self._path, error))
        except Exception:
            self._failed += len(bodies)
            log.exception("%d prompts and answers are lost", len(bodies))


def _row(body: Body) -> tuple[str, str, str, str, str | None]:
    stamps = Timestamps()
    request, answer = _text(body.request), None if body.answer is None else _text(body.answer)
    if body.redacted:
        request = redact(request, body.patterns)
        answer = None if answer is None else redact(answer, body.patterns)
    return body.id, stamps.text(body.at), stamps.text(body.at + body.keep_seconds), request, answer


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")
