"""The load: clients in a closed loop, each an app with another base URL, no more."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random

from proxy.demo.apps import Seen, app
from proxy.demo.processes import LOAD

CLIENTS = 20
_THINK_SECONDS = (0.05, 0.25)
"""A client's pause before each request, from and to: together they ask some fifty times a second."""


class Load:
    """All clients share one app; `run` may be called again and again. `heard` is called at each answer."""

    def __init__(self, base_url: str, heard: Callable[[Load], None] = lambda load: None) -> None:
        self.seen: list[Seen] = []
        self.answered: Counter[str] = Counter()
        self.errors = 0
        self._heard = heard
        self._rng = Random(1)  # noqa: S311  (pauses, no secrets)
        self.app = app(base_url)

    async def run(self, seconds: float) -> None:
        """Ask for so long; returns when the last answer is there."""
        until = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as clients:
            for number in range(CLIENTS):
                clients.create_task(self._ask_until(until, number))

    async def aclose(self) -> None:
        await self.app.aclose()

    async def _ask_until(self, until: float, number: int) -> None:
        turn = number
        while True:
            await asyncio.sleep(self._rng.uniform(*_THINK_SECONDS))
            if asyncio.get_running_loop().time() >= until:
                return
            turn += 1
            seen = await self._ask(20 + number, turn, stream=turn % 3 != 0)
            self.seen.append(seen)
            self.errors += seen.error is not None
            if seen.error is None:
                self.answered[seen.target or "nobody"] += 1
            self._heard(self)

    async def _ask(self, empty: int, freight: int, *, stream: bool) -> Seen:
        """Asks for a sum; the metadata tell the shadow experiment what is right."""
        question = f"How heavy is a truck with its freight: {empty} + {freight} tonnes?"
        asked = {
            "model": LOAD,
            "messages": [{"role": "user", "content": question}],
            "metadata": {"answer": str(empty + freight)},
        }
        return await self.app.ask(asked, stream=stream)
