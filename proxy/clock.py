"""Time, so that tests can hold it. Durations come from `now`, dates from `wall`; the two are never mixed.

`Deadline` is the one timer of an exchange. It interrupts the task that serves the exchange, wherever it waits, and
remembers why. The timer underneath first fires after `EARLY`, so that a quick exchange arms it once; moving the limit
costs two assignments, unless it comes before the time for which the timer is armed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Protocol


class Clock(Protocol):
    def now(self) -> int:
        """Monotonic nanoseconds."""
        ...

    def wall(self) -> float:
        """Seconds since the epoch, UTC."""
        ...


class RealClock:
    __slots__ = ("now", "wall")

    def __init__(self) -> None:
        self.now: Callable[[], int] = time.perf_counter_ns
        self.wall: Callable[[], float] = time.time


class LoopClock:
    """Reads the event loop's own time: under a loop with virtual time, so is this clock."""

    __slots__ = ("_epoch", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop, epoch: float = 1_700_000_000.0) -> None:
        self._loop = loop
        self._epoch = epoch

    def now(self) -> int:
        return round(self._loop.time() * 1e9)

    def wall(self) -> float:
        return self._epoch + self._loop.time()


SECOND = 1_000_000_000
EARLY = 0.02
EARLY_NS = 20_000_000
"""An exchange that is over within this time is quick."""


class Deadline:
    """Interrupts one task at a moment that may be moved, and tells why.

    Works as `asyncio.timeout` does: the task is cancelled, and whoever catches the `CancelledError` asks `taken()`
    whether it was meant for this deadline. `stop` does the same at once and for good: the client left, or the proxy
    is shutting down; no later wait of this exchange is worth beginning then. `early` is called once, `EARLY` after the
    start, for what only an exchange that takes longer needs.
    """

    __slots__ = (
        "_armed_ns",
        "_at_ns",
        "_clock",
        "_closed",
        "_early",
        "_handle",
        "_loop",
        "_name",
        "_pending",
        "_task",
        "_total_ns",
        "stopped",
    )

    def __init__(
        self,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        task: asyncio.Task[Any],
        now_ns: int,
        total_ns: int,
        early: Callable[[], None] | None = None,
    ) -> None:
        self._clock = clock
        self._loop = loop
        self._task = task
        self._total_ns = total_ns
        self._at_ns = total_ns
        self._armed_ns = now_ns + EARLY_NS
        self._name = "total"
        self._early = early
        self._handle: asyncio.TimerHandle | None = loop.call_later(EARLY, self._fire)
        self._pending: str | None = None
        self._closed = False
        self.stopped: str | None = None
        """Why the exchange is over, if it was stopped from outside."""

    def total(self, at_ns: int) -> None:
        """Move the end of the whole exchange: known only when the route is."""
        self._total_ns = at_ns

    def limit(self, name: str, at_ns: int) -> None:
        """From now on `name` ends at `at_ns` (or the total does, whichever comes first)."""
        if at_ns >= self._total_ns:
            at_ns, name = self._total_ns, "total"
        self._name = name
        self._at_ns = at_ns
        if self._handle is None or at_ns < self._armed_ns:
            self._arm(at_ns)

    def remaining(self, now_ns: int) -> int:
        """Nanoseconds until the whole exchange must be over; negative when it should be."""
        return self._total_ns - now_ns

    def stop(self, reason: str) -> None:
        if self.stopped is None and not self._closed:
            self.stopped = reason
            if self._pending is None:
                self._pending = reason
                self._task.cancel()

    def taken(self) -> str | None:
        """The reason, if this deadline caused the `CancelledError` just caught; clears the task's cancellation."""
        reason = self._pending
        if reason is not None:
            self._pending = None
            self._task.uncancel()
        return self.stopped or reason

    def close(self) -> None:
        """No interruption comes after this."""
        self._closed = True
        self._early = None  # it may lead back to here: leave no cycle
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self, at_ns: int) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._armed_ns = at_ns
        self._handle = self._loop.call_later(max(0.0, (at_ns - self._clock.now()) / SECOND), self._fire)

    def _fire(self) -> None:
        self._handle = None
        if self._early is not None:
            self._early()
            self._early = None
        if self._pending is not None:
            return
        if self._clock.now() + 1_000_000 < self._at_ns:
            self._arm(self._at_ns)
        else:
            self._pending = self._name
            self._task.cancel()
