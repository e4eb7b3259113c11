"""Time, so that tests can hold it. Durations come from `now`, dates from `wall`; the two are never mixed.

`Deadline` is the limit of one exchange: it interrupts the task that serves the exchange, wherever that waits, and
remembers why. `Deadlines` holds all that run and one timer for them together, so that a quick exchange, of which
thousands come and go in a second, arms none; moving a limit costs a few assignments.
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
_APART_NS = 5_000_000
"""Least time between two looks at the deadlines; none is later than this."""
_NEVER = 1 << 62


class Deadlines:
    """The deadlines of the exchanges under way. One timer, armed for the earliest."""

    __slots__ = ("_clock", "_handle", "_loop", "armed_ns", "running")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self.armed_ns = _NEVER
        self._handle: asyncio.TimerHandle | None = None
        self.running: dict[Deadline, None] = {}
        """A set that keeps its order, so that what ends at one moment always ends in the same order."""

    def arm(self, at_ns: int) -> None:
        """Something ends at that time, which is before `armed_ns`."""
        if self._handle is not None:
            self._handle.cancel()
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self.armed_ns = at_ns
        self._handle = self._loop.call_later(max(0.0, (at_ns - self._clock.now()) / SECOND), self._look)

    def _look(self) -> None:
        self._handle = None
        self.armed_ns = _NEVER
        now = self._clock.now()
        soon = now + _APART_NS
        for one in [one for one in self.running if one.next_ns <= soon]:
            one.reached()
        if self.running:
            earliest = min([one.next_ns for one in self.running])
            if earliest < _NEVER:
                self.arm(max(earliest, soon))


class Deadline:
    """Interrupts one task at a moment that may be moved, and tells why.

    Works as `asyncio.timeout` does: the task is cancelled, and whoever catches the `CancelledError` asks `taken()`
    whether it was meant for this deadline. `stop` does the same at once and for good: the client left, or the proxy
    is shutting down; no later wait of this exchange is worth beginning then.
    """

    __slots__ = ("_all", "_name", "_pending", "_task", "_total_ns", "next_ns", "stopped")

    def __init__(self, all_: Deadlines, task: asyncio.Task[Any], total_ns: int) -> None:
        self._all = all_
        self._task = task
        self._total_ns = total_ns
        self._name = "total"
        self._pending: str | None = None
        self.stopped: str | None = None
        """Why the exchange is over, if it was stopped from outside."""
        self.next_ns = total_ns
        """When it ends, unless it is moved before."""
        all_.running[self] = None
        if total_ns < all_.armed_ns:
            all_.arm(total_ns)

    def total(self, at_ns: int) -> None:
        """Move the end of the whole exchange: known only when the route is."""
        self._total_ns = at_ns

    def limit(self, name: str, at_ns: int) -> None:
        """From now on `name` ends at `at_ns` (or the total does, whichever comes first)."""
        if at_ns >= self._total_ns:
            at_ns, name = self._total_ns, "total"
        self._name = name
        self.next_ns = at_ns
        if at_ns < self._all.armed_ns:
            self._all.arm(at_ns)

    def remaining(self, now_ns: int) -> int:
        """Nanoseconds until the whole exchange must be over; negative when it should be."""
        return self._total_ns - now_ns

    def stop(self, reason: str) -> None:
        if self.stopped is None and self in self._all.running:
            self.stopped = reason
            if self._pending is None:
                self._pending = reason
                self._task.cancel()

    def interrupt(self, reason: str) -> None:
        """Ends what the task waits for now, but not the exchange."""
        if self._pending is None and self in self._all.running:
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
        self._all.running.pop(self, None)

    def reached(self) -> None:
        """`next_ns` has come."""
        self.next_ns = _NEVER
        if self._pending is None:
            self._pending = self._name
            self._task.cancel()
