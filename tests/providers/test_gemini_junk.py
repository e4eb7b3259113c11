"""Requests and answers with junk in any place: an answer, a refusal or an upstream's error, never another exception."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from random import Random
from typing import Any

import orjson
from openai.types.chat import ChatCompletion

from proxy.errors import Refusal, UpstreamError
from proxy.wire.chat import ChatRequest
from tests.providers.google import GEMINI, MINTED, TO, ask

JUNK: list[Any] = [None, 5, -1, 1.5, True, "", "x", [], {}, [None], [5], ["x"], {"x": 1}, "data:x", "{}", "[", [[]]]
CALLED = {"functionCall": {"name": "f", "args": {}}}
PIECE = {"functionCall": {"name": "f", "partialArgs": [{"jsonPath": "$.a[0].b", "stringValue": "x"}]}}
ENTRY = {"token": "a", "logProbability": -1}
ANSWER = {
    "candidates": [{
        "content": {"parts": [{"text": "hi", "thoughtSignature": "x"}, CALLED, PIECE,
                              {"inlineData": {"mimeType": "image/png", "data": "AA"}}, {"executableCode": {}}]},
        "finishReason": "STOP", "index": 0,
        "logprobsResult": {"chosenCandidates": [ENTRY], "topCandidates": [{"candidates": [ENTRY]}]},
        "groundingMetadata": {
            "groundingChunks": [{"web": {"uri": "u", "title": "t"}}],
            "groundingSupports": [{"segment": {"endIndex": 1, "text": "h"}, "groundingChunkIndices": [0]}],
        },
        "citationMetadata": {"citationSources": [{"startIndex": 0, "endIndex": 1, "uri": "u"}]},
    }],
    "promptFeedback": {"blockReason": "X"},
    "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 2}, "modelVersion": "m", "responseId": "r",
}  # fmt: skip
ERROR = {
    "error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED", "details": [
        {"reason": "r", "retryDelay": "3s", "fieldViolations": [{"field": "f"}]},
    ]},
}  # fmt: skip
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "detail": "low"}}
SIGNED = {"google": {"thought_signature": "s"}}
FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {}}}
REQUEST = {
    "model": "m",
    "messages": [
        {"role": "system", "content": [{"type": "text", "text": "s"}]},
        {"role": "assistant", "content": "x", "images": [PICTURE], "extra_content": SIGNED, "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}, "extra_content": SIGNED},
        ]},
        {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "1"}, PICTURE]},
        {"role": "user", "content": [PICTURE, {"type": "file", "file": {"file_data": "AA", "filename": "a"}},
                                     {"type": "input_audio", "input_audio": {"data": "A", "format": "wav"}}]},
    ],
    "tools": [FUNCTION], "functions": [{"name": "g"}],
    "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [FUNCTION]}},
    "response_format": {"type": "json_schema", "json_schema": {"schema": {}}}, "modalities": ["text"], "stop": ["a"],
    "n": 2, "seed": 1, "logprobs": True, "top_logprobs": 2, "reasoning_effort": "low", "service_tier": "flex",
    "web_search_options": {}, "extra_body": {"google": {"thinking_config": {"thinking_budget": 1}}},
}  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(inner, (*path, key))


def spoilt(value: Any) -> Iterator[Any]:
    """With each kind of junk in each place, and with some in two places at once."""
    rng = Random(5)
    found = list(places(value))
    for path in found:
        for junk in JUNK:
            changed = copy.deepcopy(value)
            put(changed, path, junk)
            if rng.random() < 0.3:
                put(changed, rng.choice(found), rng.choice(JUNK))
            yield changed


def put(value: Any, path: tuple[Any, ...], junk: Any) -> None:
    *way, last = path
    for key in way:
        if not isinstance(value, dict | list) or key not in (value if isinstance(value, dict) else range(len(value))):
            return  # What stood there was replaced a moment ago.
        value = value[key]
    if (isinstance(value, dict) and isinstance(last, str)) or (isinstance(value, list) and last in range(len(value))):
        value[last] = copy.deepcopy(junk)


def test_answers() -> None:
    outcomes = []
    for body in spoilt(ANSWER):
        raw = orjson.dumps(body)
        for stream in (False, True):
            decoder = GEMINI.decoder(ask(stream), TO, MINTED)
            try:
                decoder.feed(b"data: %b\n\n" % raw if stream else raw)
                chunks = decoder.close()
            except UpstreamError:
                outcomes.append(False)
                continue
            outcomes.append(True)
            if not stream:
                ChatCompletion.model_validate(chunks[0].body, strict=True)
    assert {*outcomes} == {True, False}
    assert outcomes[::2] == outcomes[1::2], "a stream is refused just where a whole answer is"


def test_errors() -> None:
    for body in spoilt(ERROR):
        raw = orjson.dumps(body)
        error = GEMINI.error(429, (), raw)
        assert error.body is None or orjson.loads(error.body)["error"].keys() == {"message", "type", "param", "code"}


def test_requests() -> None:
    outcomes = set()
    for body in spoilt(REQUEST):
        try:
            assert orjson.loads(GEMINI.build(ChatRequest.parse(orjson.dumps(body)), TO).body)["contents"]
        except Refusal as refusal:
            outcomes.add(refusal.status)
        else:
            outcomes.add(200)
    assert outcomes == {200, 400}
