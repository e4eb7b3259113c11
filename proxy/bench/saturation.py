"""Was it the target that was slow, or the load generator? What the generator's own event loop had left, phase by phase.

Two signs, since each has a blind spot: how late the loop wakes up (also when other programs take the processor away),
and the share of the time that its thread computes (also when the wake-ups still come in time).
"""

from __future__ import annotations

import asyncio
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
        """`late_ms`: one wake-up in a hundred came so late or later; `busy`: share of the time that was computing."""
        late = sorted(self._late)
        worst = late[min(len(late) - 1, int(0.99 * len(late)))] if late else 0.0
        return {
            "late_ms": round(1000 * max(0.0, worst), 3),
            "busy": round(self._used / self._began, 4) if self._began > 0 else 0.0,
        }


def saturated(told: Mapping[str, Any]) -> str | None:
    """Why a phase with these readings says more of the generator than of the target; None where it does not."""
    if told["late_ms"] > LATE_MS:
        return (
            f"the load generator was late: one of its wake-ups in a hundred came {told['late_ms']:.0f} ms late or more"
        )
    if told["busy"] > BUSY:
        return f"the load generator computed {told['busy']:.0%} of the time: it was the limit, not the target"
    return None
