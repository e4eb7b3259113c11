"""One real proxy before a simulated upstream of every dialect, over real sockets."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from proxy.simulated import Simulated
from proxy.simulated.answer import Wanted
from proxy.simulated.dialect import Request, Rules
from proxy.simulated.openai import OpenAI
from tests import processes

MODELS = {
    "openai": "gpt-5-mini",
    "anthropic": "claude-sonnet-4-5",
    "gemini": "gemini-3.5-flash",
    "bedrock": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
    "cohere": "command-a-03-2025",
    "mistral": "mistral-small-latest",
}
"""Dialect -> a model of it; also the names of the routes."""
WITHOUT_ROUTE = ("vertex",)


class Mistral(OpenAI):
    """OpenAI's simulated upstream, as far as Mistral differs in what these tests use."""

    name = "mistral"

    def read(self, request: Request, rules: Rules) -> Wanted:
        body = request.json
        if isinstance(body, dict) and body.get("tool_choice") == "any":
            body = {**body, "tool_choice": "required"}
        return replace(super().read(request._replace(json=body), rules), usage=True)


class World(NamedTuple):
    proxy: processes.Running
    upstreams: Mapping[str, Simulated]

    @property
    def url(self) -> str:
        return self.proxy.base_url


@contextmanager
def everyone(folder: Path, **more: Any) -> Iterator[World]:
    """`more`: further sections of the config; `routes` are added to one for each dialect."""
    with _served() as upstreams:
        providers: dict[str, Any] = {
            name: {"like": name, "dialect": name, "base_url": upstream.base_url, "api_key": "secret"}
            for name, upstream in upstreams.items()
        }
        providers["bedrock"]["region"] = "us-east-1"
        routes = {name: {"targets": [f"{name}/{model}"]} for name, model in MODELS.items()}
        # The same few targets fail on purpose again and again here.
        config = {"defaults": {"breaker": False}, **more, "providers": {**providers, **more.get("providers", {})},
                  "routes": {**routes, **more.get("routes", {})}}  # fmt: skip
        with processes.proxy(config, folder) as running:
            yield World(running, upstreams)


@contextmanager
def _served() -> Iterator[dict[str, Simulated]]:
    """The upstreams, on a thread of their own with its own event loop."""
    upstreams = {
        name: Simulated(
            "openai" if name == "mistral" else name, seed=3, tokens=8, api_key="secret", keep=200, name=name
        )
        for name in (*MODELS, *WITHOUT_ROUTE)
    }
    upstreams["mistral"].dialect = Mistral()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def all_of(what: str) -> None:
        for upstream in upstreams.values():
            await getattr(upstream, what)()

    asyncio.run_coroutine_threadsafe(all_of("start"), loop).result(30)
    try:
        yield upstreams
    finally:
        asyncio.run_coroutine_threadsafe(all_of("stop"), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()
