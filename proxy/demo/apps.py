"""The apps that ask in the demo: by the official OpenAI SDK, or by plain HTTP where that is not installed.

Both count an answer as a user of an SDK would: an error event, or a stream without a finish reason, is none.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import httpx
import orjson

from proxy.wire.sse import EventSplitter, payload

if TYPE_CHECKING:
    import openai

_SECONDS = 60.0
_NOT_WHOLE = "an answer that is not whole"

Json = dict[str, Any]


class Seen(NamedTuple):
    """One request as its client saw it."""

    id: str | None
    """The proxy's `x-request-id`; None where no answer came."""
    target: str | None
    """Who answered, as the proxy's header tells."""
    error: str | None
    """What an app would have had to bear instead of an answer; None for a whole one."""


class App(Protocol):
    name: str
    """What it asks with, in words."""

    async def ask(self, body: Json, *, stream: bool) -> Seen:
        """`body`: a chat completion's."""
        ...

    async def aclose(self) -> None: ...


def app(base_url: str) -> App:
    """All clients of the load share it, and its connections."""
    return Sdk(base_url) if importlib.util.find_spec("openai") is not None else Plain(base_url)


class Sdk:
    name = "the official OpenAI SDK"

    def __init__(self, base_url: str) -> None:
        import openai

        self._sdk = openai.AsyncOpenAI(
            base_url=base_url,
            api_key="anything",
            max_retries=0,  # what fails shall be seen
            timeout=_SECONDS,
            # An outbound proxy that the environment names must not stand between us and this machine.
            http_client=openai.DefaultAsyncHttpxClient(trust_env=False),
        )

    async def aclose(self) -> None:
        await self._sdk.close()

    async def ask(self, body: Json, *, stream: bool) -> Seen:
        import openai

        id = target = None
        try:
            raw = await self._sdk.chat.completions.with_raw_response.create(**body, stream=stream)
            id, target = raw.headers.get("x-request-id"), raw.headers.get("x-weighbridge-target")
            answer: Any = raw.parse()
            whole = await self._read(answer) if stream else _is_whole(answer.model_dump())
        except openai.APIStatusError as error:
            return Seen(error.request_id, None, f"{error.status_code} {error.code or ''}".strip())
        except Exception as error:  # whatever the SDK raises, an app would have to bear
            return Seen(id, target, f"{type(error).__name__}: {error}"[:200])
        return Seen(id, target, None if whole else _NOT_WHOLE)

    @staticmethod
    async def _read(stream: openai.AsyncStream[Any]) -> bool:
        """Whether the answer is whole; the SDK raises for an error event."""
        async with stream:
            return _is_whole_stream([chunk.model_dump() async for chunk in stream])


class Plain:
    name = "plain HTTP, without the SDK"

    def __init__(self, base_url: str) -> None:
        self._http = httpx.AsyncClient(base_url=base_url, timeout=_SECONDS, trust_env=False)

    async def aclose(self) -> None:
        await self._http.aclose()

    async def ask(self, body: Json, *, stream: bool) -> Seen:
        id = target = None
        try:
            answer = await self._http.post("/chat/completions", json={**body, "stream": stream})
            id, target = answer.headers.get("x-request-id"), answer.headers.get("x-weighbridge-target")
            if answer.status_code != 200:
                return Seen(id, None, f"{answer.status_code} {answer.json()['error']['code'] or ''}".strip())
            whole = _is_whole_stream(_events(answer.content)) if stream else _is_whole(answer.json())
        except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
            return Seen(id, target, f"{type(error).__name__}: {error}"[:200])
        return Seen(id, target, None if whole else _NOT_WHOLE)


def _events(body: bytes) -> list[Json]:
    """Raises ValueError for what is no event of a chat stream, and for an error event."""
    told = [data for event in EventSplitter().feed(body) if (data := payload(event)) and data != b"[DONE]"]
    events = [orjson.loads(data) for data in told]
    if broken := next((event["error"] for event in events if event.get("error")), None):
        raise ValueError(broken["message"])
    return events


def _is_whole(answer: Json) -> bool:
    choices = answer["choices"]
    return bool(choices) and choices[0]["finish_reason"] == "stop" and bool(choices[0]["message"]["content"])


def _is_whole_stream(chunks: list[Json]) -> bool:
    """Whether it had text and a finish reason."""
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    text = "".join([choice["delta"].get("content") or "" for choice in choices])
    return bool(text) and [choice["finish_reason"] for choice in choices if choice["finish_reason"]] == ["stop"]
