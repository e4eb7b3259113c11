"""Whatever stands in the place of any value, in a request or in an answer: a refusal or an upstream error, no fall."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from typing import Any

import orjson
import pytest

from proxy.errors import Refusal, UpstreamError
from proxy.providers.anthropic import Anthropic
from proxy.providers.base import Endpoint
from proxy.wire.chat import ChatRequest
from tests.providers.test_anthropic import CONTENT_BLOCKS, MINTED, ask, events, message

JUNK: list[Any] = [None, 0, -1, 2.5, True, "", "x", [], [1], [None], {}, {"a": 1}, [{}], {"type": "text"}]
FUNCTION = {"name": "f", "description": "d", "strict": True, "parameters": {"type": "object", "properties": {"a": {}}}}
REQUEST: dict[str, Any] = {
    "model": "r",
    "n": 1,
    "modalities": ["text"],
    "messages": [
        {"role": "system", "content": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]},
        {"role": "user", "content": [
            {"type": "text", "text": "b"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            {"type": "file", "file": {"file_data": "data:text/plain;base64,YQ==", "filename": "a"}},
        ]},
        {"role": "assistant", "content": "c", "refusal": "no",
         "reasoning_details": [{"type": "reasoning.text", "text": "h", "signature": "s"}],
         "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "1", "content": "x"},
        {"role": "assistant", "function_call": {"name": "g", "arguments": "{}"}},
        {"role": "function", "name": "g", "content": "x"},
    ],
    "tools": [{"type": "function", "function": FUNCTION}, {"type": "web_search_20250305", "name": "web_search"}],
    "tool_choice": {"type": "allowed_tools", "allowed_tools": {"tools": [{"function": {"name": "f"}}]}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": FUNCTION["parameters"]}},
    "stop": ["a"],
    "metadata": {"user_id": "x"},
    "reasoning_effort": "low",
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "output_config": {"effort": "low"},
    "betas": ["a"],
    "web_search_options": {"user_location": {"type": "approximate", "approximate": {"city": "B"}}},
}  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    inner = value.items() if type(value) is dict else enumerate(value) if type(value) is list else ()
    for key, one in inner:
        yield from places(one, (*path, key))


def spoilt(value: Any) -> Iterator[Any]:
    """Copies of the value, each with one piece of junk in one place."""
    for path in places(value):
        for junk in JUNK:
            made = at = copy.deepcopy(value)
            for key in path[:-1]:
                at = at[key]
            at[path[-1]] = junk
            yield made


@pytest.mark.parametrize("name", ["claude-3-haiku-20240307", "claude-opus-5"])
@pytest.mark.parametrize("without", ["tool_choice", "response_format"])
def test_requests(name: str, without: str) -> None:
    to = Endpoint("anthropic", "https://api.anthropic.com", name)
    taken = 0
    for body in spoilt({key: value for key, value in REQUEST.items() if key != without}):
        with contextlib.suppress(Refusal):
            request = ChatRequest.parse(orjson.dumps(body))
            Anthropic().decoder(request, to, MINTED)
            Anthropic().build(request, to)
            taken += 1
    assert taken > 500


def test_answers() -> None:
    to = Endpoint("anthropic", "https://api.anthropic.com", "claude-sonnet-4-5")
    details = {"stop_details": {"type": "refusal", "explanation": "x"}}
    told = [orjson.loads(event.split(b"data: ", 1)[1]) for event in events(CONTENT_BLOCKS, "refusal", **details)]
    streams = [b"".join(b"data: %b\n\n" % orjson.dumps(event) for event in one) for one in spoilt(told)]
    wholes = [orjson.dumps(one) for one in spoilt(message(CONTENT_BLOCKS, "refusal", **details))]
    read = 0
    for stream, answers in ((True, streams), (False, wholes)):
        for raw in answers:
            decoder = Anthropic().decoder(ask(stream), to, MINTED)
            with contextlib.suppress(UpstreamError):
                decoder.feed(raw)
                decoder.close()
                read += 1
    assert 1000 < read < len(streams) + len(wholes)
