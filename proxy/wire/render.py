"""From the canonical form to the client's bytes: chunks, errors, the end marker."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import orjson

from proxy.errors import Refusal
from proxy.wire.chunk import USAGE, Chunk

END = b"data: [DONE]\n\n"


def error_object(
    message: str, *, type: str, param: str | None = None, code: str | None = None, **more: Any
) -> dict[str, Any]:
    """OpenAI's error body: all four members, always."""
    return {"error": {"message": message, "type": type, "param": param, "code": code, **more}}


def error_event(message: str, *, type: str, code: str | None) -> bytes:
    """The error inside a stream, after content: official SDKs raise on it. No end marker follows it."""
    return b"data: %s\n\n" % orjson.dumps(error_object(message, type=type, code=code))


def stream_bytes(chunks: Iterable[Chunk], wants_usage: bool, cost: Callable[[], float | None] | None = None) -> bytes:
    """Events for the client. Usage that only the proxy asked for is taken out again; else `cost` in USD is added."""
    if wants_usage:
        return b"".join([with_cost(chunk, cost) if cost and chunk.kind == USAGE else chunk.raw for chunk in chunks])
    return b"".join([without_usage(chunk) if chunk.usage_key else chunk.raw for chunk in chunks])


def with_cost(chunk: Chunk, cost: Callable[[], float | None]) -> bytes:
    """`cost` beside `usage`, and in it, where clients of OpenRouter look; not where the provider told it.

    Rounded to a billionth of a cent, which no price list is finer than.
    """
    body = chunk.body
    if body is None or "choices" not in body:
        return chunk.raw
    usage, usd = body["usage"], cost()
    if usd is None or "cost" in usage:
        return chunk.raw
    usd = round(usd, 11)
    return b"data: %b\n\n" % orjson.dumps({**body, "usage": {**usage, "cost": usd}, "cost": usd})


def without_usage(chunk: Chunk) -> bytes:
    """The event as it would be, had nobody asked for usage: no usage-only event, no `usage` member elsewhere."""
    if chunk.kind == USAGE:
        return b""
    raw = chunk.raw
    if raw.count(b'"usage"') == 1:
        # OpenAI writes it last; inside a JSON string the quotes would be escaped, so this is the member itself.
        for spelling in (b',"usage":null', b', "usage": null'):
            if spelling in raw:
                return raw.replace(spelling, b"", 1)
    body = chunk.body
    if body is None:
        return b""
    return b"data: %s\n\n" % orjson.dumps({key: value for key, value in body.items() if key != "usage"})


class Form(Protocol):
    """How a family of endpoints tells what went wrong."""

    id_headers: tuple[bytes, ...]
    """In which headers its clients look for the request's id."""

    def refusal(self, refusal: Refusal, id: str) -> bytes:
        """The body of an error; `id` is the exchange's."""
        ...

    def broken(self, message: str, *, type: str, code: str) -> bytes:
        """The event that ends a stream which cannot be finished; empty where the form has none."""
        ...


class OpenAIForm:
    id_headers: tuple[bytes, ...] = (b"x-request-id",)

    def refusal(self, refusal: Refusal, id: str) -> bytes:
        if refusal.body is not None:
            return refusal.body
        told = error_object(refusal.message, type=refusal.type, param=refusal.param, code=refusal.code, **refusal.more)
        return orjson.dumps(told)

    def broken(self, message: str, *, type: str, code: str) -> bytes:
        return error_event(message, type=type, code=code)


class BytesForm(OpenAIForm):
    """Of answers that are sound or text, in which nothing can be told: a broken one is cut."""

    def broken(self, message: str, *, type: str, code: str) -> bytes:
        return b""


OPENAI = OpenAIForm()
BYTES = BytesForm()
