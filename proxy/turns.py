"""A bound on how much is under way at one target, and who waits for a turn: important ones first, then in order."""

from __future__ import annotations

import asyncio
import heapq

from policies.gradient import Gradient

UNBOUND = 1 << 30


class Turns:
    """`limit` at once, `queue` more may wait. `adapts`: the limit follows what the target bears."""

    __slots__ = ("_handed", "_number", "_waiting", "adapts", "limit", "queue")

    def __init__(self, limit: int, queue: int, adapts: Gradient | None = None) -> None:
        self.limit = limit
        self.queue = queue
        self.adapts = adapts
        self._handed = 0
        """Turns given to those who waited and have not begun yet."""
        self._number = 0
        self._waiting: list[tuple[int, int, asyncio.Future[bool]]] = []

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def full(self, in_flight: int) -> bool:
        return in_flight + self._handed >= self.limit

    async def wait(self, rank: int, seconds: float) -> bool:
        """Whether a turn came within that time; then `taken` must follow at once. A lower rank goes first.

        The queue's length is the caller's to look at: `waiting` against `queue`.
        """
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[bool] = loop.create_future()
        self._number += 1
        heapq.heappush(self._waiting, (rank, self._number, turn))
        timer = loop.call_later(seconds, _late, turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.result():
                self._handed -= 1  # it came, but nobody is there to take it
            raise
        finally:
            timer.cancel()
            self._waiting = [one for one in self._waiting if one[2] is not turn]
            heapq.heapify(self._waiting)

    def taken(self) -> None:
        """The one who got a turn begins now, and counts as under way from here on."""
        self._handed -= 1

    def freed(self, in_flight: int) -> None:
        """Something has ended: the next ones may come."""
        while self._waiting and not self.full(in_flight):
            _, _, turn = heapq.heappop(self._waiting)
            if not turn.done():
                self._handed += 1
                turn.set_result(True)

    def observe(self, seconds: float, in_flight: int) -> None:
        """An answer's first content took so long."""
        if self.adapts is not None:
            self.limit = self.adapts.observe(seconds, in_flight)


def _late(turn: asyncio.Future[bool]) -> None:
    if not turn.done():
        turn.set_result(False)
