"""The same answer is read from every form in which a client can have it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.wire.answer import Answer, ToolCall
from proxy.wire.answer_forms import answer_in

WANTED = Answer("Hello there", tool_calls=(ToolCall("c", "f", '{"a":1}'),), finish_reason="tool_calls")
RESPONSE = {
    "status": "completed",
    "output": [
        {"type": "message", "content": [{"type": "output_text", "text": "Hello there"}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"a":1}'},
    ],
}
USE = {"type": "tool_use", "id": "c", "name": "f"}
CHAT_CALL = {"id": "c", "function": {"name": "f", "arguments": '{"a":1}'}}

WHOLE: dict[str, dict[str, Any]] = {
    "chat": {
        "choices": [
            {
                "index": 0,
                "message": {"content": "Hello there", "tool_calls": [CHAT_CALL]},
                "finish_reason": "tool_calls",
            }
        ]
    },
    "responses": RESPONSE,
    "messages": {
        "content": [{"type": "text", "text": "Hello there"}, {**USE, "input": {"a": 1}}],
        "stop_reason": "tool_use",
    },
}
STREAMS: dict[str, list[dict[str, Any]]] = {
    "responses": [
        {"type": "response.created", "response": {"status": "in_progress", "output": []}},
        {"type": "response.output_text.delta", "delta": "Hello "},
        {"type": "response.completed", "response": RESPONSE},
    ],
    "messages": [
        {"type": "message_start", "message": {"content": []}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello "}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "there"}},
        {"type": "content_block_start", "index": 1, "content_block": {**USE, "input": {}}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"a"'}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": ":1}"}},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
    ],
}


def _events(bodies: list[dict[str, Any]]) -> bytes:
    return b"".join([b"event: x\ndata: %b\n\n" % orjson.dumps(body) for body in bodies])


@pytest.mark.parametrize("operation", WHOLE)
def test_a_whole_answer(operation: str) -> None:
    assert answer_in(operation, orjson.dumps(WHOLE[operation]), stream=False) == WANTED


@pytest.mark.parametrize("operation", STREAMS)
def test_a_stream(operation: str) -> None:
    assert answer_in(operation, _events(STREAMS[operation]), stream=True) == WANTED


@pytest.mark.parametrize("operation", STREAMS)
def test_a_cut_stream_has_no_finish_reason(operation: str) -> None:
    assert answer_in(operation, _events(STREAMS[operation][:-1]), stream=True).finish_reason is None


def test_a_completion() -> None:
    bodies: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "text": "Hel"}]},
        {"choices": [{"index": 1, "text": "other"}]},
        {"choices": [{"index": 0, "text": "lo", "finish_reason": "stop"}]},
    ]
    assert answer_in("completions", _events(bodies), stream=True) == Answer("Hello", finish_reason="stop")


@pytest.mark.parametrize("operation", ["chat", "completions", "responses", "messages"])
@pytest.mark.parametrize("data", [b"", b"[]", b"data: 7\n\n", b'{"choices": 7, "output": 7, "content": [7]}', b"\xff"])
@pytest.mark.parametrize("stream", [False, True])
def test_bytes_that_are_no_answer(operation: str, data: bytes, stream: bool) -> None:
    assert answer_in(operation, data, stream=stream).finish_reason is None
