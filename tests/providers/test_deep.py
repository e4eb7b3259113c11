"""Values nested deeper than can be written again are the client's fault, in every dialect and at every place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from proxy.assemble import DIALECTS
from proxy.errors import Refusal
from proxy.forms.plain import EmbeddingsRequest
from proxy.providers.base import Built, Endpoint, Speaker
from proxy.wire.chat import ChatRequest

DEEP = b'{"properties":' * 400 + b"{}" + b"}" * 400
HELLO = [{"role": "user", "content": "Hello"}]
PLACES: dict[str, Any] = {
    "the form of the answer": {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": "@"}}},
    "a tool": {"tools": [{"type": "function", "function": {"name": "f", "parameters": "@"}}]},
    "metadata": {"metadata": "@"},
    "an unknown parameter": {"whatever": "@"},
    "a part": {"messages": [{"role": "user", "content": [{"type": "text", "text": "x", "cache_control": "@"}]}]},
    "reasoning": {"messages": [*HELLO, {"role": "assistant", "content": "x", "reasoning_details": ["@"]}, *HELLO]},
}
MODELS = {
    "anthropic": ("claude-haiku-4-5", "claude-3-haiku-20240307"),
    "bedrock": ("anthropic.claude-3", "meta.llama3"),
}


def deep(body: Any) -> bytes:
    return orjson.dumps(body).replace(b'"@"', DEEP)


def to(dialect: str, model: str) -> Endpoint:
    return Endpoint(dialect, "http://upstream/v1", model, verbatim=False, region="x", api_version="1", deployment="d")


def refused_or_built(speaker: Speaker[Any], parse: Callable[[bytes], Any], raw: bytes, to: Endpoint) -> bool:
    try:
        return isinstance(speaker.build(parse(raw), to), Built)
    except Refusal as refusal:
        return refusal.status == 400


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_chat(dialect: str, place: str) -> None:
    raw = deep({"model": "chat", "messages": HELLO, **PLACES[place]})
    for model in MODELS.get(dialect, ("m",)):
        assert refused_or_built(DIALECTS[dialect], ChatRequest.parse, raw, to(dialect, model))


@pytest.mark.parametrize("dialect", [name for name, one in DIALECTS.items() if "embeddings" in one.natives])
def test_embeddings(dialect: str) -> None:
    speaker = DIALECTS[dialect].natives["embeddings"]
    for model in ("cohere.embed-v4:0", "amazon.titan-embed-text-v2:0", "m"):
        for body in ({"input": ["x", "@"]}, {"input": "x", "whatever": "@"}):
            raw = deep({"model": "chat", **body})
            assert refused_or_built(speaker, EmbeddingsRequest.parse, raw, to(dialect, model))
