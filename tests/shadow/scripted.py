"""An upstream whose quality is known: an OpenAI server in the test's own process, one behaviour for each model name.

What a model answers follows from the request's text and the model's name alone, so a run can be repeated; arms are
independent of each other.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from random import Random
from typing import Any

VALID, INVALID = '{"city": "Bern"}', '{"city": '
REFUSAL = "I'm sorry, but I can't help with that."


@dataclass(frozen=True)
class Model:
    """Chances and times of one simulated model."""

    valid: float = 0.95
    """That the answer is the JSON that was asked for."""
    errors: float = 0.0
    refuses: bool = False
    empty: bool = False
    ttft: float = 0.0
    """Seconds to the first content (of an answer that is not streamed: to all of it)."""
    tokens: int = 10
    hangs: bool = False
    floods: int = 0
    """Characters that it says at least."""
    limit: tuple[int, int] | None = None
    """Requests a minute that it may have, and how many are left, as its headers tell."""
    judges: bool = False
    """Prefers the answer that is whole JSON."""


class Scripted:
    def __init__(self, models: Mapping[str, Model]) -> None:
        self.models = models
        self.asked: Counter[str] = Counter()
        self.bodies: dict[str, list[dict[str, Any]]] = {}
        self.under_way: Counter[str] = Counter()
        self.most_under_way: Counter[str] = Counter()
        self.url = ""

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Scripted]:
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
        try:
            yield self
        finally:
            server.close()

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
                body = json.loads(await reader.readexactly(int(lengths[0].split(b":")[1])))
                name = body["model"]
                self.under_way[name] += 1
                self.most_under_way[name] = max(self.most_under_way[name], self.under_way[name])
                try:
                    await self._answer(name, body, writer)
                finally:
                    self.under_way[name] -= 1
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, name: str, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        self.asked[name] += 1
        self.bodies.setdefault(name, []).append(body)
        model = self.models[name]
        if "input" in body:
            _send(writer, 200, _embedded(name, body["input"], model.tokens))
            return
        text = str(body["messages"][-1]["content"])
        chance = Random(f"{name}/{text}")
        if model.hangs:
            await asyncio.sleep(3600)
        if chance.random() < model.errors:
            _send(writer, 500, b'{"error": {"message": "made up", "type": "server_error"}}')
            return
        said = VALID if chance.random() < model.valid else INVALID
        if model.judges:
            said = _judged(text)
        said = said.ljust(model.floods)
        said = REFUSAL if model.refuses else "" if model.empty else said
        if model.ttft:
            await asyncio.sleep(model.ttft * (0.8 + 0.4 * chance.random()))
        usage = {"prompt_tokens": 20, "completion_tokens": model.tokens, "total_tokens": 20 + model.tokens}
        common = {"id": "x", "created": 1, "model": name}
        if body.get("stream"):
            delta = {"role": "assistant", "content": said}
            events = [
                {**common, "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": d, "finish_reason": f}]}
                for d, f in ((delta, None), ({}, "stop"))
            ]
            events.append({**common, "object": "chat.completion.chunk", "choices": [], "usage": usage})
            data = b"".join([b"data: %b\n\n" % json.dumps(event).encode() for event in events]) + b"data: [DONE]\n\n"
            _send(writer, 200, data, b"text/event-stream", model.limit)
        else:
            message = {"role": "assistant", "content": said}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            whole = {**common, "object": "chat.completion", "choices": [choice], "usage": usage}
            _send(writer, 200, json.dumps(whole).encode(), limit=model.limit)


def _send(
    writer: asyncio.StreamWriter,
    status: int,
    data: bytes,
    kind: bytes = b"application/json",
    limit: tuple[int, int] | None = None,
) -> None:
    head = b"HTTP/1.1 %d X\r\ncontent-type: %b\r\ncontent-length: %d\r\n" % (status, kind, len(data))
    if limit is not None:
        head += b"x-ratelimit-limit-requests: %d\r\nx-ratelimit-remaining-requests: %d\r\n" % limit
    writer.write(head + b"\r\n" + data)


def _embedded(name: str, texts: list[str], tokens: int) -> bytes:
    """Whole JSON points one way, everything else another, 60 degrees apart; the last text is told first."""
    rows = [
        {"object": "embedding", "index": at, "embedding": [1.0, 0.0] if text == VALID else [0.5, 0.75**0.5]}
        for at, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return json.dumps({"object": "list", "data": rows[::-1], "model": name, "usage": usage}).encode()


def _judged(prompt: str) -> str:
    a, b = prompt.split(" answer A\n", 1)[1].split(" answer B\n", 1)
    whole = VALID in a, VALID in b
    return json.dumps({"winner": "tie" if whole[0] == whole[1] else "A" if whole[0] else "B"})
