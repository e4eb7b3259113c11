"""OpenAI's Responses, asked by a client that speaks them: the body goes through, and so do the answer's bytes.

Wire facts from OpenAI's API reference (responses, streaming events) and from recorded traffic of OpenAI, Azure, xAI and
OpenRouter. The bytes are read beside that: a stream is whole only with `response.completed` or `response.incomplete`.
"""

from __future__ import annotations

from typing import Any

import orjson

from policies.verdict import Kind
from proxy.errors import UpstreamError
from proxy.providers.base import Built, Decoder, Endpoint, Minted
from proxy.providers.errors import error_in, told_in_answer
from proxy.providers.frame import object_in
from proxy.providers.passed import EventStream
from proxy.providers.plain import PlainBody
from proxy.wire.chunk import COMMENT, CONTENT, META, Chunk, Json, Usage
from proxy.wire.request import CARRIED, Request
from proxy.wire.sse import comments, payload

_BEGINNINGS = {"response.created", "response.in_progress", "response.queued", "response.content_part.added"}
_ENDS = {"response.completed", "response.incomplete"}
_QUIET = ("message", "reasoning", None)
"""Items that say nothing when they are added; all others are calls, which are content."""
_NAMES = {"max_tokens": "max_output_tokens", "max_completion_tokens": "max_output_tokens"}
"""Our config's `params` and `force` are in chat's words."""
_INCOMPLETE = {"max_output_tokens": "length", "content_filter": "content_filter"}


class Responses:
    """`path`: what follows the base URL; Azure has its own ideas of it."""

    def path(self, to: Endpoint, stream: bool) -> str:
        return "/responses"

    def build(self, ask: Request, to: Endpoint) -> Built:
        if CARRIED in ask.raw:
            ask = _without_carried(ask)
        params, force = _renamed(to.params, ask.body), _renamed(to.force, ask.body)
        return Built(ask.for_upstream(to.model, params=params, force=force))

    def decoder(self, ask: Request, to: Endpoint, minted: Minted) -> Decoder:
        return ResponsesStream() if ask.stream else ResponsesBody()


class ResponsesBody(PlainBody):
    def __init__(self) -> None:
        super().__init__(needs="output", read_usage=usage_in)

    def answer(self, body: Json) -> Json:
        self.finish_reason = finish_in(body)
        return body


class ResponsesStream(EventStream):
    __slots__ = ()

    def _event(self, event: bytes, chunks: list[Chunk]) -> None:
        data = payload(event)
        if not data:
            chunks.append(Chunk(COMMENT, comments(event)))
            return
        if data.strip() == b"[DONE]":
            raise UpstreamError(Kind.TRUNCATED, "decoder", "[DONE] came before the last event", status=200)
        body = object_in(data, "an event")
        kind = str(body.get("type"))
        response = body.get("response")
        if type(response) is dict and self.model is None and type(response.get("model")) is str:
            self.model = response["model"] or None
        if kind in _ENDS and type(response) is dict:
            self.usage = usage_in(response) or self.usage
            self.finish_reason = finish_in(response)
            self._last(event, body, chunks)
            return
        if kind in ("error", "response.failed", "response.cancelled") or body.get("error"):
            told = response if type(response) is dict and response.get("error") else body
            raise told_in_answer(error_in(orjson.dumps(told)), "an error inside the stream")
        chunks.append(Chunk(_kind(kind, body), event, body))


def _kind(kind: str, body: Json) -> int:
    if kind in _BEGINNINGS:
        return META
    if kind.endswith(".delta"):
        return CONTENT if body.get("delta") else META
    if kind == "response.output_item.added":
        item = body.get("item")
        return META if type(item) is dict and item.get("type") in _QUIET else CONTENT
    return CONTENT if kind == "response.output_item.done" or "_call" in kind else META


def finish_in(response: Json) -> str | None:
    """As chat would say it; None for a response that has not ended."""
    status = response.get("status")
    if status == "incomplete":
        details = response.get("incomplete_details")
        return _INCOMPLETE.get(str(details.get("reason")) if type(details) is dict else "", "length")
    if status not in ("completed", None):
        return None
    items = response.get("output")
    kinds = [item.get("type") for item in items if type(item) is dict] if type(items) is list else []
    return "tool_calls" if "function_call" in kinds or "custom_tool_call" in kinds else "stop"


def usage_in(response: Json) -> Usage | None:
    """Cached and written tokens are part of the input, reasoning is part of the output, as in chat; xAI leaves it out,
    as its total shows."""
    usage = response.get("usage")
    if type(usage) is not dict:
        return None
    given, said = _count(usage.get("input_tokens")), _count(usage.get("output_tokens"))
    details = usage.get("input_tokens_details")
    read = write = 0
    if type(details) is dict:
        read = min(_count(details.get("cached_tokens")), given)
        write = min(_count(details.get("cache_write_tokens")), given - read)
    details = usage.get("output_tokens_details")
    reasoning = _count(details.get("reasoning_tokens")) if type(details) is dict else 0
    if reasoning and _count(usage.get("total_tokens")) == given + said + reasoning:
        said += reasoning
    reasoning = min(reasoning, said)
    return Usage(given - read - write, read, write, said - reasoning, reasoning)


def _count(value: object) -> int:
    return value if type(value) is int and value > 0 else 0


def _renamed(params: dict[str, Any] | None, body: Json) -> dict[str, Any] | None:
    if params is None:
        return None
    told = {_NAMES.get(name, name): value for name, value in params.items()}
    if "reasoning_effort" in told:
        own = body.get("reasoning")
        told["reasoning"] = {**(own if type(own) is dict else {}), "effort": told.pop("reasoning_effort")}
    return told


def _without_carried(ask: Request) -> Request:
    """Without the reasoning that another provider's turns left: OpenAI could not decrypt it."""
    items = ask.body.get("input")
    if type(items) is not list:
        return ask
    mark = CARRIED.decode()
    kept = [item for item in items if not str(item.get("encrypted_content") or "").startswith(mark)]
    return ask.with_body({**ask.body, "input": kept})
