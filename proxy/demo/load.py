"""The load: clients in a closed loop, each an app that uses the official OpenAI SDK with another base URL, no more."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import NamedTuple

import openai
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from proxy.demo.processes import LOAD

CLIENTS = 20
_THINK_SECONDS = (0.05, 0.25)
"""A client's pause before each request, from and to: together they ask some fifty times a second."""
_REQUEST_SECONDS = 60.0


class Seen(NamedTuple):
    """One request as its client saw it."""

    id: str | None
    """The proxy's `x-request-id`; None where no answer came."""
    target: str | None
    """Who answered, as the proxy's header tells."""
    error: str | None
    """What an app would have had to bear instead of an answer; None for a whole one."""


class Load:
    """All clients share one connection pool; `run` may be called again and again. `heard` is called at each answer."""

    def __init__(self, base_url: str, heard: Callable[[Load], None] = lambda load: None) -> None:
        self.seen: list[Seen] = []
        self.answered: Counter[str] = Counter()
        self.errors = 0
        self._heard = heard
        self._rng = Random(1)  # noqa: S311  (pauses, no secrets)
        self._sdk = openai.AsyncOpenAI(
            base_url=base_url,
            api_key="anything",
            max_retries=0,  # what fails shall be seen
            timeout=_REQUEST_SECONDS,
            # An outbound proxy that the environment names must not stand between us and this machine.
            http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
        )

    async def run(self, seconds: float) -> None:
        """Ask for so long; returns when the last answer is there."""
        until = asyncio.get_running_loop().time() + seconds
        async with asyncio.TaskGroup() as clients:
            for number in range(CLIENTS):
                clients.create_task(self._ask_until(until, number))

    async def aclose(self) -> None:
        await self._sdk.close()

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
        id = target = None
        try:
            raw = await self._sdk.chat.completions.with_raw_response.create(
                model=LOAD,
                messages=[{"role": "user", "content": question}],
                stream=stream,
                metadata={"answer": str(empty + freight)},
            )
            id, target = raw.headers.get("x-request-id"), raw.headers.get("x-weighbridge-target")
            answer = raw.parse()
            whole = _is_whole(answer) if isinstance(answer, ChatCompletion) else await _read(answer)
        except openai.APIStatusError as error:
            return Seen(error.request_id, None, f"{error.status_code} {error.code or ''}".strip())
        except Exception as error:  # whatever the SDK raises, an app would have to bear
            return Seen(id, target, f"{type(error).__name__}: {error}"[:200])
        return Seen(id, target, None if whole else "an answer that is not whole")


def _is_whole(answer: ChatCompletion) -> bool:
    return (
        bool(answer.choices) and answer.choices[0].finish_reason == "stop" and bool(answer.choices[0].message.content)
    )


async def _read(stream: openai.AsyncStream[ChatCompletionChunk]) -> bool:
    """Whether it had text and a finish reason; the SDK raises for an error event."""
    text, finish = "", None
    async with stream:
        async for chunk in stream:
            for choice in chunk.choices:
                text += choice.delta.content or ""
                finish = choice.finish_reason or finish
    return finish == "stop" and bool(text)
