"""What keeps mirroring away from the live side: bounds on what waits and runs, and pauses while there is much to do."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from proxy.clock import Clock
from proxy.config.shadow import Shadow
from proxy.measure.looplag import LoopLag
from proxy.shadow.pair import Job

AT_ONCE = 8
"""Pairs of one experiment under way."""
WAITING = 100
"""Pairs of one experiment that wait."""
WAITING_BYTES = 64 * 1024 * 1024
"""Requests and answers that wait, of all experiments."""


class Queue:
    """Each experiment has a line of its own, so that a candidate that hangs holds up no other experiment."""

    def __init__(self, carry_out: Callable[[Job], Coroutine[Any, Any, None]]) -> None:
        self._carry_out = carry_out
        self._waiting: dict[str, deque[Job]] = {}
        self._under_way: dict[str, int] = {}
        self._bytes = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        """Waiting and under way."""
        return len(self._tasks) + sum([len(jobs) for jobs in self._waiting.values()])

    def put(self, job: Job) -> bool:
        """False: too much waits already, and it is not taken."""
        name = job.experiment.terms.name
        if self._under_way.get(name, 0) < AT_ONCE:
            self._start(name, job)
            return True
        jobs = self._waiting.setdefault(name, deque())
        if len(jobs) >= WAITING or self._bytes + job.size > WAITING_BYTES:
            return False
        jobs.append(job)
        self._bytes += job.size
        return True

    def emptied(self) -> list[Job]:
        """Those that waited; nothing more is begun."""
        left = [job for jobs in self._waiting.values() for job in jobs]
        self._waiting.clear()
        self._bytes = 0
        return left

    async def finished(self, seconds: float) -> None:
        """Waits for what is under way, so long at most."""
        if self._tasks:
            await asyncio.wait([*self._tasks], timeout=seconds)

    def _start(self, name: str, job: Job) -> None:
        self._under_way[name] = self._under_way.get(name, 0) + 1
        task = asyncio.create_task(self._carry_out(job), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        name = task.get_name()
        self._under_way[name] -= 1
        jobs = self._waiting.get(name)
        if jobs:
            job = jobs.popleft()
            self._bytes -= job.size
            self._start(name, job)


class Pressure:
    """How much the live side has to do. `take` is called about once a second."""

    def __init__(self, clock: Clock, in_flight: Callable[[], int]) -> None:
        self._clock = clock
        self._in_flight = in_flight
        self._lag = LoopLag()
        self._late = 0.0
        self._cpu = 0.0
        """Share of a core that the process used lately; its event loop has no more than one."""
        self._used, self._then = time.process_time(), clock.now()

    def start(self) -> None:
        """From within the running loop."""
        self._lag.start()

    def stop(self) -> None:
        self._lag.stop()

    def take(self) -> None:
        self._late = self._lag.take()
        used, now = time.process_time(), self._clock.now()
        self._cpu = (used - self._used) * 1e9 / max(1, now - self._then)
        self._used, self._then = used, now

    def too_high(self, section: Shadow) -> bool:
        return (
            self._in_flight() > section.busy_above or self._late > section.late_above or self._cpu > section.cpu_above
        )
