"""The application in the test's own loop, before a scripted upstream over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from proxy.app import App
from proxy.config import Config, parse
from proxy.shadow.experiment import Experiment

LIMIT_S = 60.0
"""Ends a hung test; nothing is concluded from it."""


def config(folder: Path | None, url: str, shadow: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "storage": f"sqlite:///{folder / 'exchanges.db'}" if folder is not None else "none",
        "providers": {"local": {"base_url": url, "api_key": None}},
        "routes": {"chat": {"targets": ["local/primary"]}},
        "prices": {"local/*": {"input": "1 USD", "output": "10 USD"}},
        "shadow": shadow,
        **more,
    }


def experiment(candidate: str = "candidate", **more: Any) -> dict[str, Any]:
    """The loop's lateness and the live side's load are the test machine's, not the experiment's."""
    told = {
        "route": "chat",
        "candidate": f"local/{candidate}",
        "rate": 1.0,
        "late_above": "10m",
        "cpu_above": 100,
        "busy_above": 10_000,
    }
    return told | more


def _read(told: Mapping[str, Any]) -> Config:
    return parse(json.dumps(told), source="test.json", format="json", env={}, folder=Path())


class Rig:
    def __init__(self, app: App, client: httpx.AsyncClient) -> None:
        self.app = app
        self.client = client

    @property
    def one(self) -> Experiment:
        """The only experiment."""
        (experiment,) = self.app.mirror.experiments.values()
        return experiment

    def load(self, told: Mapping[str, Any]) -> None:
        """As when the file was saved."""
        self.app.load(_read(told))

    async def ask(self, text: str = "hello", headers: Mapping[str, str] | None = None, **more: Any) -> httpx.Response:
        body = {"model": "chat", "messages": [{"role": "user", "content": text}], "max_tokens": 100, **more}
        return await self.client.post("/v1/chat/completions", json=body, headers=headers)

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not true():  # noqa: ASYNC110  (what is waited for is in the application)
                await asyncio.sleep(0.01)

    async def idle(self) -> None:
        await self.until(lambda: self.app.mirror.waiting == 0)


@asynccontextmanager
async def rig(told: Mapping[str, Any]) -> AsyncIterator[Rig]:

    app = App(_read(told))
    app.mirror.start()
    try:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=LIMIT_S) as client:
            yield Rig(app, client)
    finally:
        await app.aclose()


def adds_up(experiment: Experiment) -> bool:
    counts = experiment.counts
    dropped = sum(n for what, n in counts.items() if what.startswith("dropped."))
    done = counts.get("completed", 0) + counts.get("failed", 0) + dropped
    return (
        counts.get("eligible", 0) == counts.get("sampled", 0) + counts.get("unsampled", 0)
        and counts.get("sampled", 0) == done + experiment.under_way
        and experiment.under_way >= 0
    )
