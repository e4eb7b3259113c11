"""The official Python SDK's two clients behind one face, so that every check is written once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import openai
from openai.types.chat import ChatCompletion, ChatCompletionChunk

T = TypeVar("T")

ASK: dict[str, Any] = {
    "model": "healthy",
    "messages": [{"role": "user", "content": "How much does the truck weigh? é 日 🚚"}],
}
"""What every call asks, unless told otherwise."""


class Sync:
    """The synchronous client, in the few ways in which the checks use it."""

    def __init__(self, base_url: str, **options: Any) -> None:
        self.client = openai.OpenAI(base_url=base_url, api_key="unused", **{"max_retries": 0, **options})
        self.chat = self.client.chat.completions

    def close(self) -> None:
        self.client.close()

    def create(self, **ask: Any) -> ChatCompletion:
        answer = self.chat.create(**{**ASK, **ask})
        assert isinstance(answer, ChatCompletion)
        return answer

    def chunks(self, **ask: Any) -> list[ChatCompletionChunk]:
        with self.chat.create(**{**ASK, **ask}, stream=True) as stream:
            return list(stream)

    def first_chunk(self, **ask: Any) -> ChatCompletionChunk:
        """Leaves after the first chunk."""
        with self.chat.create(**{**ASK, **ask}, stream=True) as stream:
            chunk: ChatCompletionChunk = next(iter(stream))
            return chunk

    def raw(self, **ask: Any) -> tuple[Any, ChatCompletion]:
        response = self.chat.with_raw_response.create(**{**ASK, **ask})
        return response, response.parse()

    def streamed_body(self, **ask: Any) -> tuple[Any, bytes]:
        with self.chat.with_streaming_response.create(**{**ASK, **ask}) as response:
            return response, b"".join(response.iter_bytes())

    def assembled(self, **ask: Any) -> tuple[set[str], Any]:
        """Types of the events of the stream assembler, and the completion that it assembles."""
        with self.chat.stream(**{**ASK, **ask}) as stream:
            return {event.type for event in stream}, stream.get_final_completion()

    def models(self) -> list[str]:
        return [model.id for model in self.client.models.list()]


class Async:
    """The asynchronous client, likewise."""

    def __init__(self, base_url: str, **options: Any) -> None:
        self.runner = asyncio.Runner()
        self.client = openai.AsyncOpenAI(base_url=base_url, api_key="unused", **{"max_retries": 0, **options})
        self.chat = self.client.chat.completions

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def close(self) -> None:
        self.run(self.client.close())
        self.runner.close()

    def create(self, **ask: Any) -> ChatCompletion:
        answer = self.run(self.chat.create(**{**ASK, **ask}))
        assert isinstance(answer, ChatCompletion)
        return answer

    def chunks(self, **ask: Any) -> list[ChatCompletionChunk]:
        async def work() -> list[ChatCompletionChunk]:
            async with await self.chat.create(**{**ASK, **ask}, stream=True) as stream:
                return [chunk async for chunk in stream]

        return self.run(work())

    def first_chunk(self, **ask: Any) -> ChatCompletionChunk:
        async def work() -> ChatCompletionChunk:
            async with await self.chat.create(**{**ASK, **ask}, stream=True) as stream:
                return await anext(aiter(stream))

        return self.run(work())

    def raw(self, **ask: Any) -> tuple[Any, ChatCompletion]:
        async def work() -> tuple[Any, ChatCompletion]:
            response = await self.chat.with_raw_response.create(**{**ASK, **ask})
            return response, response.parse()

        return self.run(work())

    def streamed_body(self, **ask: Any) -> tuple[Any, bytes]:
        async def work() -> tuple[Any, bytes]:
            async with self.chat.with_streaming_response.create(**{**ASK, **ask}) as response:
                return response, b"".join([part async for part in response.iter_bytes()])

        return self.run(work())

    def assembled(self, **ask: Any) -> tuple[set[str], Any]:
        async def work() -> tuple[set[str], Any]:
            async with self.chat.stream(**{**ASK, **ask}) as stream:
                return {event.type async for event in stream}, await stream.get_final_completion()

        return self.run(work())

    def models(self) -> list[str]:
        async def work() -> list[str]:
            return [model.id async for model in self.client.models.list()]

        return self.run(work())
