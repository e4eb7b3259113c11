"""What waits is bounded in number, for each experiment, and in bytes, for all together."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from proxy.clock import RealClock
from proxy.shadow import isolation
from proxy.shadow.isolation import AT_ONCE, WAITING, Pressure, Queue


def job(name: str, size: int = 1) -> Any:
    return SimpleNamespace(experiment=SimpleNamespace(terms=SimpleNamespace(name=name)), size=size)


def test_bounds_of_what_waits() -> None:
    async def test() -> None:
        ended = asyncio.Event()
        done: list[Any] = []

        async def carry_out(one: Any) -> None:
            await ended.wait()
            done.append(one)

        queue = Queue(carry_out)
        taken = [queue.put(job("a")) for _ in range(AT_ONCE + WAITING + 5)]
        assert taken == [True] * (AT_ONCE + WAITING) + [False] * 5
        assert all(queue.put(job("b")) for _ in range(AT_ONCE)), "another experiment has its own line"
        assert not queue.put(job("b", isolation.WAITING_BYTES)), "but bytes are counted together"
        assert queue.put(job("b", isolation.WAITING_BYTES - WAITING))
        assert not queue.put(job("b", 1))
        assert len(queue) == 2 * AT_ONCE + WAITING + 1
        ended.set()
        async with asyncio.timeout(10):
            while len(queue):  # noqa: ASYNC110  (what is waited for ends by itself)
                await asyncio.sleep(0)
        assert len(done) == 2 * AT_ONCE + WAITING + 1
        ended.clear()
        assert all(queue.put(job("a")) for _ in range(AT_ONCE))
        assert queue.put(job("a", isolation.WAITING_BYTES)), "what was freed is free again"
        ended.set()
        await queue.finished(10.0)

    asyncio.run(test())


def test_what_waited_is_given_back_at_the_end() -> None:
    async def test() -> None:
        async def carry_out(one: Any) -> None:
            await asyncio.sleep(0)

        queue = Queue(carry_out)
        for _ in range(AT_ONCE + 3):
            queue.put(job("a"))
        assert len(queue.emptied()) == 3
        await queue.finished(5.0)
        assert len(queue) == 0

    asyncio.run(test())


def test_each_pressure_alone_is_enough() -> None:
    section: Any = SimpleNamespace(busy_above=10, late_above=0.05, cpu_above=0.8)
    under_way = [10]
    pressure = Pressure(RealClock(), lambda: under_way[0])
    assert not pressure.too_high(section)
    under_way[0] = 11
    assert pressure.too_high(section)
    under_way[0] = 0
    pressure._late = 0.06
    assert pressure.too_high(section)
    pressure._late, pressure._cpu = 0.0, 0.9
    assert pressure.too_high(section)
