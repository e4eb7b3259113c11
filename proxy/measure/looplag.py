"""How late the event loop runs: whether the proxy itself is the bottleneck."""

from __future__ import annotations

import asyncio

_PERIOD_SECONDS = 0.5


class LoopLag:
    """Asks to be called every half second and measures how much later it is. One timer, no task."""

    __slots__ = ("_due", "_handle", "_worst")

    def __init__(self) -> None:
        self._handle: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._worst = 0.0

    def start(self) -> None:
        """From within the running loop that is to be measured."""
        self._arm(asyncio.get_running_loop())

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def take(self) -> float:
        """The worst lateness in seconds since it was last taken. May be called from any thread."""
        worst, self._worst = self._worst, 0.0
        return worst

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = loop.time() + _PERIOD_SECONDS
        self._handle = loop.call_at(self._due, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        late = loop.time() - self._due
        if late > self._worst:
            self._worst = late
        self._arm(loop)
