"""Was it the target that was slow, or the load generator? What the generator's own event loop had left, phase by phase.

Two signs, since each has a blind spot: how late the loop wakes up (also when other programs take the processor away),
and the share of the time that its thread computes (also when the wake-ups still come in time).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

Json = dict[str, Any]

LATE_MS = 50.0
"""Lateness of one wake-up, or of one request, in a hundred from which the generator is what was measured."""
BUSY = 0.95
"""Share of a phase that the generator's thread computed, from which it had nothing left."""

_PERIOD = 0.02
_FEW = 3
"""A single pause, of the system or of the garbage collector, makes no run invalid."""


class Watch:
    """Use it as an async context manager around a phase; `told` is known after it."""

    def __init__(self) -> None:
        self._late: list[float] = []
        self._task: asyncio.Task[None] | None = None
        self._began = self._used = 0.0

    async def __aenter__(self) -> Self:
        self._began, self._used = time.monotonic(), time.thread_time()
        self._task = asyncio.create_task(self._sample())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None  # noqa: S101
        self._task.cancel()
        self._used = time.thread_time() - self._used
        self._began = time.monotonic() - self._began

    async def _sample(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _PERIOD
            await asyncio.sleep(_PERIOD)
            self._late.append(loop.time() - due)

    def told(self) -> Json:
        """`late_ms`: one wake-up in a hundred, and no fewer than three, came so late; `busy`: the share computed."""
        least_late_first = sorted(self._late)
        worst = least_late_first[-max(_FEW, math.ceil(0.01 * len(self._late))) :]
        return {
            "late_ms": round(1000 * max(0.0, worst[0]), 3) if len(worst) >= _FEW else 0.0,
            "busy": round(self._used / self._began, 4) if self._began > 0 else 0.0,
        }


def late(told: Mapping[str, Any], limit_ms: float = LATE_MS) -> str | None:
    """Why latencies with these readings are partly the generator's own; None where they are not."""
    if told["late_ms"] > limit_ms:
        by = f"{told['late_ms']:.0f} ms"
        return f"the load generator was late: one of its wake-ups in a hundred came {by} late or more"
    return None


def saturated(told: Mapping[str, Any]) -> str | None:
    """Why a phase of a load says more of the generator than of the target; None where it does not."""
    if told["busy"] > BUSY:
        return f"the load generator computed {told['busy']:.0%} of the time: it was the limit, not the target"
    return late(told)
