from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from proxy.clock import SECOND, Deadline, Deadlines, LoopClock
from tests.virtual import run_virtually


class Stage:
    """A task under a deadline, in virtual time."""

    def __init__(self) -> None:
        self.clock = LoopClock(asyncio.get_running_loop())
        self.all = Deadlines(self.clock)
        self.begun = self.clock.now()

    def deadline(self, total: float = 100.0) -> Deadline:
        task = asyncio.current_task()
        assert task is not None
        now = self.clock.now()
        return Deadline(self.all, task, now + round(total * SECOND))

    def at(self, seconds: float) -> int:
        return self.begun + round(seconds * SECOND)

    @property
    def elapsed(self) -> float:
        return (self.clock.now() - self.begun) / SECOND


async def interrupted(deadline: Deadline, wait: Awaitable[object]) -> str | None:
    try:
        await wait
    except asyncio.CancelledError:
        return deadline.taken()
    return "not interrupted"


def test_a_limit_interrupts_when_it_is_reached_and_says_which() -> None:
    async def main() -> None:
        stage = Stage()
        deadline = stage.deadline()
        deadline.limit("first", stage.at(5))
        assert await interrupted(deadline, asyncio.sleep(50)) == "first"
        assert stage.elapsed == pytest.approx(5, abs=0.02)
        deadline.limit("stall", stage.at(8))
        assert await interrupted(deadline, asyncio.sleep(50)) == "stall"
        deadline.limit("stall", stage.at(1000))
        assert await interrupted(deadline, asyncio.sleep(500)) == "total"
        assert stage.elapsed == pytest.approx(100, abs=0.02)
        deadline.close()

    run_virtually(main())


def test_a_limit_may_be_moved_later_and_earlier() -> None:
    async def main() -> None:
        stage = Stage()
        deadline = stage.deadline()
        deadline.limit("a", stage.at(5))
        await asyncio.sleep(4)
        deadline.limit("a", stage.at(20))
        await asyncio.sleep(10)
        deadline.limit("b", stage.at(15))
        assert await interrupted(deadline, asyncio.sleep(50)) == "b"
        assert stage.elapsed == pytest.approx(15, abs=0.02)
        deadline.close()

    run_virtually(main())


def test_nothing_comes_after_the_end() -> None:
    async def main() -> None:
        stage = Stage()
        deadline = stage.deadline(total=1.0)
        deadline.close()
        deadline.stop("gone")
        await asyncio.sleep(5)
        assert deadline.stopped is None
        assert not stage.all.running

    run_virtually(main())


def test_a_stop_is_for_good_even_if_a_limit_was_reached_first() -> None:
    async def main() -> None:
        stage = Stage()
        deadline = stage.deadline()
        deadline.limit("first", stage.at(1))
        asyncio.get_running_loop().call_later(1.0, deadline.stop, "gone")
        assert await interrupted(deadline, asyncio.sleep(50)) in ("first", "gone")
        await asyncio.sleep(0.1)
        assert deadline.stopped == "gone"
        deadline.close()

    run_virtually(main())


def test_a_cancellation_from_elsewhere_is_not_taken_for_ours() -> None:
    async def main() -> None:
        stage = Stage()
        deadline = stage.deadline()
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_later(1.0, task.cancel)
        assert await interrupted(deadline, asyncio.sleep(50)) is None
        task.uncancel()
        deadline.close()

    run_virtually(main())


def test_many_deadlines_share_one_timer() -> None:
    async def main() -> None:
        stage = Stage()

        async def one(seconds: float) -> tuple[str | None, float]:
            deadline = stage.deadline()
            deadline.limit("x", stage.at(seconds))
            try:
                return await interrupted(deadline, asyncio.sleep(1000)), stage.elapsed
            finally:
                deadline.close()

        times = [0.5, 7.0, 3.0, 0.01, 60.0, 3.001]
        results = await asyncio.gather(*(one(seconds) for seconds in times))
        assert [reason for reason, _ in results] == ["x"] * len(times)
        assert [elapsed for _, elapsed in results] == [pytest.approx(seconds, abs=0.02) for seconds in times]
        assert not stage.all.running

    run_virtually(main())
