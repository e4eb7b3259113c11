"""Embeddings of providers with a form of their own: OpenAI's request read, their vectors put into OpenAI's answer."""

from __future__ import annotations

from array import array
from base64 import b64encode
from collections.abc import Callable, Sequence
from sys import byteorder
from typing import Any, NamedTuple

import orjson

from policies.verdict import Kind
from proxy.errors import Refusal, UpstreamError
from proxy.providers.base import Endpoint
from proxy.providers.plain import PlainBody
from proxy.wire.chunk import CONTENT, Chunk, Json, Usage
from proxy.wire.request import Request


class Wanted(NamedTuple):
    """What is asked for, with the target's `params` and `force` taken in where they are about embeddings."""

    texts: list[str]
    dimensions: int | None
    base64: bool


class Vectors(NamedTuple):
    values: Sequence[Sequence[float]]
    tokens: int | None
    """Of the input; None where the provider does not tell."""


def wanted(ask: Request, to: Endpoint) -> Wanted:
    """Raises `Refusal` (400) for tokens, which mean something to one provider's models alone."""
    body = ask.body
    given = body["input"]
    texts: list[Any] = [given] if type(given) is str else given
    if not all(type(text) is str for text in texts):
        message = f"`input`: {to.provider} takes texts, not tokens."
        raise Refusal(400, message, param="input", code="unsupported_value")
    for param in ("dimensions",):
        if body.get(param) is not None and body[param] < 1:
            raise Refusal(400, f"`{param}` must be at least 1.", param=param, code="invalid_value")
    return Wanted(texts, body.get("dimensions"), body.get("encoding_format") == "base64")


def lone(texts: list[str], to: Endpoint) -> str:
    """Raises `Refusal` (400) unless there is one text."""
    if len(texts) != 1:
        message = f"`input`: {to.provider} embeds one text at a time with {to.model}."
        raise Refusal(400, message, param="input", code="unsupported_value")
    return texts[0]


class Embeddings(PlainBody):
    """`read` finds the vectors in the provider's answer; KeyError, TypeError and ValueError say that it is none."""

    def __init__(self, asked: Wanted, model: str, read: Callable[[Json], Vectors]) -> None:
        super().__init__(read_usage=lambda body: None)
        self._asked = asked
        self._name = model
        self._read = read

    def close(self, cut: bool = False) -> list[Chunk]:
        (chunk,) = super().close(cut)
        try:
            found = self._read(chunk.body or {})
            data = [self._entry(at, values) for at, values in enumerate(found.values)]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            told = f"an answer without embeddings: {error!r}"
            raise UpstreamError(Kind.MALFORMED, "decoder", told, status=200) from error
        if len(data) != len(self._asked.texts):
            told = f"{len(data)} embeddings for {len(self._asked.texts)} texts"
            raise UpstreamError(Kind.MALFORMED, "decoder", told, status=200)
        self.model = self.model or self._name
        if found.tokens is not None:
            self.usage = Usage(found.tokens, 0, 0, 0, 0)
        count = found.tokens or 0
        usage = {"prompt_tokens": count, "total_tokens": count}
        body: Json = {"object": "list", "data": data, "model": self.model, "usage": usage}
        return [Chunk(CONTENT, orjson.dumps(body), body)]

    def _entry(self, at: int, values: Sequence[float]) -> Json:
        numbers = [float(value) for value in values]
        return {"object": "embedding", "index": at, "embedding": packed(numbers) if self._asked.base64 else numbers}


def packed(values: Sequence[float]) -> str:
    """Base64 of little-endian 32-bit numbers, as OpenAI's SDK asks for by default."""
    numbers = array("f", values)
    if byteorder == "big":
        numbers.byteswap()
    return b64encode(numbers.tobytes()).decode()


def count(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None
