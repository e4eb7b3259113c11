"""Streams with junk in any place of any event: read, or an upstream's error; never another exception.

Another exception would be the proxy's fault in the records, and no other target would be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson
import pytest

from proxy.assemble import DIALECTS
from proxy.errors import UpstreamError
from proxy.forms.messages import MessagesRequest
from proxy.forms.responses import ResponsesRequest
from proxy.providers.base import Decoder, Endpoint, Minted, Natives
from proxy.wire.chat import ChatRequest
from proxy.wire.request import Request
from tests.providers.test_gemini_junk import spoilt

Json = dict[str, Any]
MINTED = Minted("chatcmpl-00ff", 1_700_000_000)
HELLO = [{"role": "user", "content": "x"}]
ITEM = {"id": "i", "type": "message", "status": "completed", "content": [{"type": "output_text", "text": "hi"}]}
USAGE = {
    "input_tokens": 1, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 2,
    "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 3,
}  # fmt: skip
RESPONSE = {"id": "r", "object": "response", "status": "completed", "model": "m", "output": [ITEM], "usage": USAGE}
RESPONSES = [
    {"type": "response.created", "response": {**RESPONSE, "status": "in_progress"}},
    {"type": "response.output_item.added", "output_index": 0, "item": ITEM},
    {"type": "response.output_text.delta", "output_index": 0, "delta": "hi"},
    {"type": "response.output_item.done", "output_index": 0, "item": {"type": "function_call", "name": "f"}},
    {"type": "response.completed", "response": RESPONSE},
]
COHERE = [
    {"type": "message-start", "id": "c", "delta": {"message": {"role": "assistant", "content": []}}},
    {"type": "tool-plan-delta", "delta": {"message": {"tool_plan": "think"}}},
    {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}},
    {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "hi"}}}},
    {"type": "citation-start", "index": 0, "delta": {"message": {"citations": {
        "start": 0, "end": 2, "text": "hi", "sources": [{"type": "document", "id": "d", "document": {}}]}}}},
    {"type": "tool-call-start", "index": 1, "delta": {"message": {"tool_calls": {
        "id": "t", "type": "function", "function": {"name": "f", "arguments": ""}}}}},
    {"type": "tool-call-delta", "index": 1, "delta": {"message": {"tool_calls": {"function": {"arguments": "{}"}}}}},
    {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL", "usage": {
        "billed_units": {"input_tokens": 1, "output_tokens": 2}, "tokens": {"input_tokens": 1, "output_tokens": 2}}}},
]  # fmt: skip
MESSAGES = [
    {"type": "message_start", "message": {
        "id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": {"input_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
]  # fmt: skip
HEAD = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "service_tier": "default"}
CHAT = [
    {**HEAD, "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]},
    {**HEAD, "choices": [{"index": 0, "delta": {"content": "hi"}, "logprobs": None, "finish_reason": None}]},
    {**HEAD, "choices": [{"index": 0, "delta": {"reasoning_content": "hm"}, "finish_reason": None}]},
    {**HEAD, "choices": [{"index": 0, "finish_reason": None, "delta": {"tool_calls": [
        {"index": 0, "id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}}]},
    {**HEAD, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
    {**HEAD, "choices": [], "usage": {
        "prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "prompt_tokens_details": {"cached_tokens": 0}}},
]  # fmt: skip


def chat(dialect: str, verbatim: bool) -> Callable[[], Decoder]:
    body = {"model": "m", "messages": HELLO, "stream": True, "stream_options": {"include_usage": True}}
    to = Endpoint(dialect, "https://x.example/v1", "m", verbatim=verbatim)
    return lambda: DIALECTS[dialect].decoder(ChatRequest.parse(orjson.dumps(body)), to, MINTED)


def native(dialect: str, operation: str, form: type[Request], **body: Any) -> Callable[[], Decoder]:
    provider = DIALECTS[dialect]
    assert isinstance(provider, Natives)
    ask = form.parse(orjson.dumps({"model": "m", "stream": True, **body}))
    to = Endpoint(dialect, "https://x.example/v1", "m")
    return lambda: provider.natives[operation].decoder(ask, to, MINTED)


DECODERS: dict[str, tuple[Callable[[], Decoder], list[Json], bytes]] = {
    "chat": (chat("openai", True), CHAT, b"data: [DONE]\n\n"),
    "chat, strict": (chat("openai", False), CHAT, b"data: [DONE]\n\n"),
    "cohere": (chat("cohere", False), COHERE, b""),
    "anthropic": (chat("anthropic", False), MESSAGES, b""),
    "responses": (native("openai", "responses", ResponsesRequest, input="x"), RESPONSES, b""),
    "messages": (native("anthropic", "messages", MessagesRequest, messages=HELLO, max_tokens=5), MESSAGES, b""),
}


def event(body: Json) -> bytes:
    name = b"event: %b\n" % body["type"].encode() if type(body.get("type")) is str else b""
    return b"%bdata: %b\n\n" % (name, orjson.dumps(body))


def streams(events: list[Json]) -> Iterator[bytes]:
    for at, one in enumerate(events):
        for junk in spoilt(one):
            yield b"".join(map(event, [*events[:at], junk, *events[at + 1 :]]))


@pytest.mark.parametrize("name", DECODERS)
def test_junk_in_a_stream(name: str) -> None:
    make, events, end = DECODERS[name]
    outcomes = set()
    for stream in streams(events):
        decoder = make()
        try:
            for chunk in [*decoder.feed(stream + end), *decoder.close()]:
                assert chunk.kind is not None
            outcomes.add("read")
        except UpstreamError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


@pytest.mark.parametrize("name", ["responses", "messages"])
def test_lines_that_are_no_text_are_not_passed_on(name: str) -> None:
    make, events, _ = DECODERS[name]
    whole = b"".join(map(event, events))
    assert b"".join(chunk.raw for chunk in make().feed(whole.replace(b'"hi"', '"hé"'.encode())))
    with pytest.raises(UpstreamError, match="not text"):
        make().feed(whole.replace(b"event: ", b"event: \xff", 3))


@pytest.mark.parametrize(
    "line", [b": \xff\n\n", b"event: \xff\ndata:%b\n\n", b"data: %b\nid: \xff\n\n", b"x: \xff\ndata: %b\n\n"]
)
def test_nor_are_they_in_chat(line: bytes) -> None:
    make, events, _ = DECODERS["chat"]
    told = line.replace(b"%b", orjson.dumps(events[1]))
    with pytest.raises(UpstreamError, match="not text"):
        make().feed(event(events[0]) + told)
