"""The same answer is read from every form in which it can cross the engine."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.scoring import FAILED, Answer, Call, said
from proxy.wire.chunk import CONTENT, Chunk

WANTED = Answer("Hello there", (Call("f", '{"a":1}'),), finish_reason="tool_calls")
CALL = {"name": "f", "arguments": '{"a":1}'}
RESPONSE = {
    "status": "completed",
    "output": [
        {"type": "message", "content": [{"type": "output_text", "text": "Hello there"}]},
        {"type": "function_call", **CALL},
    ],
}


def delta(index: int = 0, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": index, "delta": delta, "finish_reason": finish}]}


FORMS: dict[tuple[str, bool], list[dict[str, Any]]] = {
    ("chat", False): [
        {
            "choices": [
                {"index": 1, "message": {"content": "another"}, "finish_reason": "stop"},
                {
                    "index": 0,
                    "message": {"content": "Hello there", "tool_calls": [{"function": CALL}]},
                    "finish_reason": "tool_calls",
                },
            ]
        }
    ],
    ("chat", True): [
        delta(role="assistant"),
        delta(content="Hello "),
        delta(1, content="another"),
        delta(content="there", tool_calls=[{"index": 0, "function": {"name": "f", "arguments": ""}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": '{"a"'}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": ":1}"}}]),
        delta(finish="tool_calls"),
        {"choices": [], "usage": {}},
    ],
    ("responses", False): [RESPONSE],
    ("responses", True): [
        {"type": "response.created", "response": {"status": "in_progress", "output": []}},
        {"type": "response.output_text.delta", "delta": "Hello "},
        {"type": "response.completed", "response": RESPONSE},
    ],
    ("messages", False): [
        {
            "content": [{"type": "text", "text": "Hello there"}, {"type": "tool_use", "name": "f", "input": {"a": 1}}],
            "stop_reason": "tool_use",
        }
    ],
    ("messages", True): [
        {"type": "message_start", "message": {"content": []}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hello there"}},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "name": "f", "input": {}}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": '{"a"'}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": ":1}"}},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
    ],
}


@pytest.mark.parametrize(("operation", "stream"), FORMS)
def test_the_answer_is_read_from(operation: str, stream: bool) -> None:
    chunks = [Chunk(CONTENT, b"", body) for body in FORMS[operation, stream]]
    assert said(operation, [Chunk(CONTENT, b""), *chunks], stream=stream) == WANTED


def test_a_completion() -> None:
    bodies: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "text": "Hel"}]},
        {"choices": [{"index": 0, "text": "lo", "finish_reason": "stop"}]},
    ]
    chunks = [Chunk(CONTENT, b"", body) for body in bodies]
    assert said("completions", chunks, stream=True) == Answer("Hello", finish_reason="stop")


def test_nothing_is_a_failure() -> None:
    assert said("chat", [], stream=False) == FAILED
    assert said("messages", [], stream=False) == FAILED
    assert said("chat", [], stream=True).empty
    assert not Answer(refusal="no").empty
