"""Answers in other forms: any way in which a chat's answer may come in pieces gives what the whole answer gives."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.forms.carried import PREFIX, packed, unpacked
from proxy.forms.messages import MessagesRequest
from proxy.forms.messages_answer import MessagesWriter
from proxy.forms.responses import ResponsesRequest
from proxy.forms.responses_answer import ResponsesWriter
from proxy.wire.chunk import CONTENT, DONE, Chunk
from tests.replay.extract import anthropic, responses
from tests.replay.forms import FORMS

USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 5,
    "total_tokens": 14,
    "prompt_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 1},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
WORDS = st.text('aé日🚚"\\\n ', min_size=1, max_size=12)
CALLS = st.lists(
    st.tuples(st.sampled_from(["weigh", "tare"]), st.dictionaries(WORDS, st.integers(-9, 9) | WORDS, max_size=3)),
    max_size=3,
)


@st.composite
def answers(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A message, and the deltas in which it comes; the pieces of parallel calls may be mixed."""
    thought, text = draw(st.just("") | WORDS), draw(st.just("") | WORDS)
    calls = draw(CALLS)
    message: dict[str, Any] = {"role": "assistant", "content": text or None}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    if thought:
        message["reasoning_content"] = thought
        deltas += [{"reasoning_content": piece} for piece in pieces(draw, thought)]
        if draw(st.booleans()):
            entry = {"type": "reasoning.text", "text": thought, "signature": "s", "format": "anthropic-claude-v1"}
            message["reasoning_details"] = [entry]
            deltas.append({"reasoning_details": [entry]})
    deltas += [{"content": piece} for piece in pieces(draw, text)]
    streams = []
    for number, (name, arguments) in enumerate(calls):
        told = orjson.dumps(arguments).decode()
        call = {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": told}}
        message.setdefault("tool_calls", []).append(call)
        begun = {**call, "index": number, "function": {"name": name, "arguments": ""}}
        streams.append([begun, *({"index": number, "function": {"arguments": one}} for one in pieces(draw, told))])
    started = 0
    while any(streams):
        # A call begins only once those before it have begun.
        ready = [at for at, stream in enumerate(streams) if stream and at <= started]
        at = draw(st.sampled_from(ready))
        started = max(started, at + 1)
        deltas.append({"tool_calls": [streams[at].pop(0)]})
    return message, deltas


def pieces(draw: st.DrawFn, text: str) -> list[str]:
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
    bounds = [0, *cuts, len(text)]
    return [text[one:other] for one, other in pairwise(bounds) if other > one]


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> Chunk:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return Chunk(CONTENT, b"", {"id": "c", "created": 1, "model": "m", "choices": [choice], **more})


def both(form: str, message: dict[str, Any], deltas: list[dict[str, Any]], finish: str) -> tuple[bytes, bytes]:
    """The answer whole and in pieces, in this form."""
    whole = {"id": "c", "created": 1, "model": "m", "usage": USAGE,
             "choices": [{"index": 0, "message": message, "finish_reason": finish}]}  # fmt: skip
    writer = FORMS[form].writer()
    chunks = [*map(chunk, deltas), chunk({}, finish), Chunk(CONTENT, b"", {"choices": [], "usage": USAGE})]
    streamed = b"".join(writer.stream([one]) for one in [*chunks, Chunk(DONE, b"")])
    return FORMS[form].writer().whole(Chunk(CONTENT, b"", whole)), streamed


@settings(max_examples=150, deadline=None)
@given(answers(), st.sampled_from(["stop", "length", "content_filter"]))
def test_messages_put_together_are_the_whole(told: tuple[dict[str, Any], list[dict[str, Any]]], finish: str) -> None:
    message, deltas = told
    whole, streamed = both("messages", message, deltas, finish)
    FORMS["messages"].whole.model_validate_json(whole, strict=True)
    body = json.loads(whole)
    content: list[dict[str, Any]] = []
    for line in streamed.decode().split("\n"):
        event = json.loads(line[6:]) if line.startswith("data: ") else {"type": ""}
        if event["type"] == "content_block_start":
            assert event["index"] == len(content)
            content.append(dict(event["content_block"], _=""))
        elif event["type"] == "content_block_delta":
            delta, block = event["delta"], content[event["index"]]
            if delta["type"] == "input_json_delta":
                block["_"] += delta["partial_json"]
            elif delta["type"] == "signature_delta":
                block["signature"] = delta["signature"]
            else:
                block[block["type"]] += delta[block["type"]]
    for block in content:
        filled = block.pop("_")
        if block["type"] == "tool_use":
            block["input"] = json.loads(filled) if filled else {}
    assert content == body["content"]
    assert anthropic.read_stream(streamed).usage == anthropic.read_body(whole).usage
    assert anthropic.read_stream(streamed).choices[0].finish == anthropic.read_body(whole).choices[0].finish


@settings(max_examples=150, deadline=None)
@given(answers(), st.sampled_from(["stop", "length", "content_filter"]))
def test_responses_put_together_are_the_whole(told: tuple[dict[str, Any], list[dict[str, Any]]], finish: str) -> None:
    message, deltas = told
    whole, streamed = both("responses", message, deltas, finish)
    FORMS["responses"].whole.model_validate_json(whole, strict=True)
    last = json.loads(streamed.decode().strip().rsplit("data: ", 1)[1])
    assert last["type"] == ("response.completed" if finish == "stop" else "response.incomplete")
    assert last["response"] == json.loads(whole)
    assert responses.read_stream(streamed).choices == responses.read_body(whole).choices


@settings(max_examples=100, deadline=None)
@given(answers())
def test_an_answer_comes_back_as_the_message_that_it_was(told: tuple[dict[str, Any], list[dict[str, Any]]]) -> None:
    message, deltas = told
    expected = {name: message.get(name) for name in ("reasoning_content", "tool_calls")}
    whole, _ = both("messages", message, deltas, "stop")
    turn = {"role": "assistant", "content": json.loads(whole)["content"]}
    body = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}, turn]}
    (_, back) = MessagesRequest.parse(orjson.dumps(body)).as_chat().body["messages"]
    assert {name: back.get(name) for name in expected} == expected
    assert (back["content"] or "") == (message["content"] or "")
    assert back.get("reasoning_details") == message.get("reasoning_details")

    whole, _ = both("responses", message, deltas, "stop")
    items = [{"role": "user", "content": "Hi"}, *json.loads(whole)["output"]]
    told_back = ResponsesRequest.parse(orjson.dumps({"model": "m", "input": items})).as_chat().body["messages"]
    if message.get("tool_calls") or message["content"]:
        assert {name: told_back[1].get(name) for name in expected} == expected
        assert (told_back[1]["content"] or "") == (message["content"] or "")


def test_signatures_of_calls_come_back() -> None:
    extra = {"google": {"thought_signature": "abc"}}
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}, "extra_content": extra}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    for form, ask in (("messages", _messages), ("responses", _responses)):
        whole, streamed = both(form, message, [{"tool_calls": [{**call, "index": 0}]}], "tool_calls")
        assert PREFIX.encode() in streamed
        assert ask(json.loads(whole))["tool_calls"] == [call]


def _messages(whole: dict[str, Any]) -> dict[str, Any]:
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": whole["content"]}]
    body = {"model": "m", "max_tokens": 9, "messages": turns}
    told: dict[str, Any] = MessagesRequest.parse(orjson.dumps(body)).as_chat().body["messages"][1]
    return told


def _responses(whole: dict[str, Any]) -> dict[str, Any]:
    body = {"model": "m", "input": [{"role": "user", "content": "Hi"}, *whole["output"]]}
    told: dict[str, Any] = ResponsesRequest.parse(orjson.dumps(body)).as_chat().body["messages"][1]
    return told


@pytest.mark.parametrize("text", ["", "s1", "wb1", None, 3, "wb2.abc"])
def test_signatures_of_others_are_not_ours(text: object) -> None:
    assert unpacked(text) is None


@pytest.mark.parametrize("text", ["wb1.!!!", "wb1.AAAA", "wb1." + "W10=", "wb1.eyJkIjogM30="])
def test_what_is_ours_but_broken_carries_nothing(text: str) -> None:
    assert unpacked(text) == ([], {}, {})


def test_what_is_carried_comes_back() -> None:
    assert unpacked(packed([{"a": 1}], {"b": "é"}, {"id": {"c": 2}})) == ([{"a": 1}], {"b": "é"}, {"id": {"c": 2}})
    assert packed() == PREFIX


def test_the_writers_say_which_event_follows_a_break() -> None:
    writer = ResponsesWriter("chatcmpl-1", {})
    writer.stream([chunk({"content": "Hi"})])
    told = json.loads(writer.broken("no", type="api_error", code="x").split(b"data: ")[1])
    assert told["sequence_number"] == 5
    assert told["error"]["code"] == "x"
    broken = MessagesWriter("chatcmpl-1").broken("no", type="timeout", code="x")
    assert json.loads(broken.split(b"data: ")[1])["error"]["type"] == "timeout_error"
