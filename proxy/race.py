"""A second attempt beside a first that is late. Whichever has content first wins; the other is closed at once.

The first runs in the exchange's own task; the second in a task with a deadline of its own, which exists only from the
moment it is begun. It must be `close`d before the exchange is sealed, so that its attempt is sealed, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from proxy.attempt import SUPERSEDED, Gone, Try
from proxy.clock import Deadline
from proxy.errors import UpstreamError
from proxy.wire.chunk import Chunk


class Race:
    """`begin(deadline)` makes the second try, or None if it may not be after all; `first` is the exchange's own."""

    __slots__ = (
        "_alone",
        "_begin",
        "_first",
        "_first_ns",
        "_make",
        "_task",
        "_timer",
        "failed",
        "place",
        "second",
        "won",
    )

    def __init__(
        self,
        place: int,
        delay: float,
        first_ns: int,
        first: Deadline,
        make: Callable[[asyncio.Task[object]], Deadline],
        begin: Callable[[Deadline], Try | None],
    ) -> None:
        self.place = place
        """Of the second target in the plan."""
        self.second: Try | None = None
        self.won: list[Chunk] | None = None
        """The second's first content, once it has come first."""
        self.failed: UpstreamError | None = None
        self._first_ns = first_ns
        self._alone = False
        """The first is over: there is nobody to interrupt."""
        self._first = first
        self._make = make
        self._begin = begin
        self._task: asyncio.Task[None] | None = None
        self._timer = asyncio.get_running_loop().call_later(delay, self._start)

    def _start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101
        deadline = self._make(task)
        try:
            second = self.second = self._begin(deadline)
            if second is None:
                return
            try:
                chunks = await second.open(self._first_ns)
            except UpstreamError as error:
                self.failed = error
                return
            except Gone:
                return
            self.won = chunks
            second.follow(self._first)
            if not self._alone:
                self._first.interrupt(SUPERSEDED)
        finally:
            deadline.close()

    async def result(self) -> list[Chunk] | None:
        """After the first has failed by itself: what the second comes to, if it was begun."""
        self._timer.cancel()
        self._alone = True
        if self._task is not None:
            await asyncio.wait({self._task})
        return self.won

    async def close(self) -> None:
        """Nothing more is wanted of the second."""
        self._timer.cancel()
        task = self._task
        if task is not None and not task.done():
            if self.second is not None:
                self.second.supersede()
            else:
                task.cancel()
            await asyncio.wait({task})
