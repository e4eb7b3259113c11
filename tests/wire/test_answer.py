"""An answer read back from a client's bytes: the same whether it was streamed or not."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.answer import Answer, ToolCall, answer_of

WHOLE = {
    "id": "x",
    "model": "m-1",
    "system_fingerprint": "fp",
    "choices": [
        {"index": 1, "message": {"content": "other"}, "finish_reason": "length"},
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "héllo",
                "reasoning_content": "hm",
                "tool_calls": [
                    {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
                    {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
                ],
            },
            "logprobs": {"content": [{"token": "h", "logprob": -0.5}]},
            "finish_reason": "tool_calls",
        },
    ],
}
DELTAS = [
    {"role": "assistant", "content": ""},
    {"reasoning_content": "h"},
    {"reasoning_content": "m"},
    {"content": "hé"},
    {"content": "llo"},
    {"tool_calls": [{"index": 0, "id": "a", "function": {"name": "f", "arguments": ""}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": '{"x"'}}]},
    {"tool_calls": [{"index": 1, "id": "b", "function": {"name": "g", "arguments": "{}"}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}]},
]


def _stream(end: bool = True) -> bytes:
    events = [
        {"model": "m-1", "system_fingerprint": "fp", "choices": [{"index": 0, "delta": delta}]} for delta in DELTAS
    ]
    events[4]["choices"][0]["logprobs"] = {"content": [{"token": "h", "logprob": -0.5}]}  # type: ignore[index]
    if end:
        events.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
        events.append({"choices": [], "usage": {}})  # type: ignore[dict-item]
    text = "".join(f"data: {json.dumps(event, ensure_ascii=False)}\n\n" for event in events)
    return (": hello\n\n" + text + ("data: [DONE]\n\n" if end else "")).encode()


EXPECTED = Answer(
    "héllo", "hm", "", (ToolCall("a", "f", '{"x":1}'), ToolCall("b", "g", "{}")), "tool_calls", "m-1", "fp", (-0.5,)
)


def test_whole_and_streamed_say_the_same() -> None:
    assert answer_of(json.dumps(WHOLE).encode(), stream=False) == EXPECTED
    assert answer_of(_stream(), stream=True) == EXPECTED


def test_a_cut_answer_has_no_finish_reason() -> None:
    assert answer_of(_stream(end=False), stream=True) == EXPECTED._replace(finish_reason=None)


@given(st.binary(max_size=200), st.booleans())
def test_bytes_that_are_no_answer_give_an_empty_one(data: bytes, stream: bool) -> None:
    assert answer_of(data, stream=stream).text == ""
    assert answer_of(b"data: " + data + b"\n\n", stream=stream).tool_calls == ()
