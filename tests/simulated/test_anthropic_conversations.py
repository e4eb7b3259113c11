"""Whole conversations, drawn at random, put into Anthropic's form: the simulated upstream takes every one of them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.errors import Refusal
from proxy.providers.anthropic import Anthropic
from proxy.providers.base import Endpoint
from proxy.simulated.answer import Complaint
from proxy.simulated.anthropic_ask import read_messages, signature
from proxy.simulated.dialect import Rules
from proxy.wire.chat import ChatRequest
from tests.providers.test_anthropic_junk import REQUEST, spoilt

MODELS = (
    "claude-3-haiku-20240307", "claude-3-7-sonnet-latest", "claude-opus-4-1", "claude-sonnet-4-5", "claude-sonnet-4-6",
    "claude-opus-4-8", "claude-opus-5", "claude-sonnet-5-5", "claude-opus-5-5", "claude-fable-5", "other-model",
)  # fmt: skip
UNFORCED = ("claude-sonnet-5-5", "claude-opus-5-5")
WORDS = st.sampled_from(["Hello", "größer 🚚", " ", "", "a\nb "])
NAMES = ("weigh", "now", "tare")
ARGUMENTS = st.sampled_from(["{}", "", '{"a": [1, null]}', "[1]", '{"cut": '])
PIXEL = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0="}}
LINK = {"type": "image_url", "image_url": {"url": "https://a.example/a.png"}}
PDF = {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERg==", "filename": "a.pdf"}}


@st.composite
def contents(draw: st.DrawFn) -> Any:
    if draw(st.booleans()):
        return draw(WORDS)
    parts = [{"type": "text", "text": draw(WORDS)} for _ in range(draw(st.integers(0, 2)))]
    return [*parts, *draw(st.lists(st.sampled_from([PIXEL, LINK, PDF]), max_size=2))]


def thought(text: str) -> dict[str, Any]:
    return {"type": "reasoning.text", "text": text, "signature": signature(text), "format": "anthropic-claude-v1"}


@st.composite
def called(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A turn of the assistant's with calls, and their results in any order."""
    ids = draw(st.lists(st.sampled_from(["c1", "c2", "c.3", "ü", "call_1"]), min_size=1, max_size=3, unique=True))
    calls = [
        {"id": id, "type": "function", "function": {"name": draw(st.sampled_from(NAMES)), "arguments": draw(ARGUMENTS)}}
        for id in ids
    ]
    message: dict[str, Any] = {"role": "assistant", "content": draw(st.none() | WORDS), "tool_calls": calls}
    if draw(st.booleans()):
        message["reasoning_details"] = [thought("Hm.")]
    results = [{"role": "tool", "tool_call_id": id, "content": draw(contents())} for id in draw(st.permutations(ids))]
    return [message, *results]


@st.composite
def turns(draw: st.DrawFn) -> list[dict[str, Any]]:
    kind = draw(st.sampled_from(["user", "assistant", "system", "developer", "called"]))
    if kind == "called":
        return draw(called())
    return [{"role": kind, "content": draw(contents() if kind == "user" else WORDS)}]


SCHEMA = {"type": "object", "properties": {"kg": {"type": "number", "minimum": 0}}, "required": ["kg"]}
OPEN = {"type": "object", "additionalProperties": {"type": "string"}}
OPTIONS: dict[str, st.SearchStrategy[Any]] = {
    "max_tokens": st.sampled_from([1, 900, 5_000, 500_000]),
    "temperature": st.sampled_from([0, 0.7, 1, 2]),
    "top_p": st.sampled_from([0.1, 0.99]),
    "stop": st.sampled_from(["END", ["a", " "], []]),
    "seed": st.just(1),
    "user": st.just("someone"),
    "metadata": st.just({"a": "b"}),
    "service_tier": st.sampled_from(["auto", "default", "priority"]),
    "reasoning_effort": st.sampled_from(["none", "minimal", "low", "medium", "high", "xhigh", "max"]),
    "parallel_tool_calls": st.booleans(),
    "stream": st.booleans(),
    "response_format": st.sampled_from(
        [
            {"type": "text"},
            {"type": "json_object"},
            {"type": "json_schema", "json_schema": {"name": "load", "schema": SCHEMA, "strict": True}},
            {"type": "json_schema", "json_schema": {"name": "open", "schema": OPEN}},
        ]
    ),
}
CHOICES = st.sampled_from(["auto", "none", "required", {"type": "function", "function": {"name": "now"}}])


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    messages = [message for turn in draw(st.lists(turns(), max_size=5)) for message in turn]
    body: dict[str, Any] = {"model": "r", "messages": [*messages, {"role": "user", "content": "So?"}]}
    if draw(st.booleans()) and messages and messages[-1]["role"] == "tool":
        body["messages"] = messages
    for name in draw(st.sets(st.sampled_from(sorted(OPTIONS)))):
        body[name] = draw(OPTIONS[name])
    if draw(st.booleans()):
        body["tools"] = [
            {"type": "function", "function": {"name": name, **more}}
            for name, more in zip(
                NAMES, ({"strict": True, "parameters": SCHEMA}, {}, {"parameters": OPEN}), strict=True
            )
        ]
        if draw(st.booleans()):
            body["tool_choice"] = draw(CHOICES)
    return body


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(requests(), st.sampled_from(MODELS))
def test_every_conversation_is_taken(body: dict[str, Any], name: str) -> None:
    to = Endpoint("anthropic", "https://api.anthropic.com", name)
    try:
        built = Anthropic().build(ChatRequest.parse(orjson.dumps(body)), to)
    except Refusal as refusal:
        # Of all that is drawn here, only a forced call is more than some models can do.
        if refusal.param != "tool_choice" or name not in UNFORCED:
            raise
        return
    sent = orjson.loads(built.body)
    wanted = read_messages(sent, Rules())
    assert wanted.stream == body.get("stream", False)
    words = [
        one for message in body["messages"] if type(message["content"]) is str and (one := message["content"].strip())
    ]
    held = orjson.dumps(sent).decode()
    assert all(orjson.dumps(one).decode()[1:-1] in held for one in words)
    calls = sum(len(message.get("tool_calls", ())) for message in body["messages"])
    assert held.count('"type":"tool_use"') == held.count('"type":"tool_result"') == calls


def test_junk_is_complained_of() -> None:
    ask = ChatRequest.parse(orjson.dumps(REQUEST | {"tool_choice": "auto", "stop": ["a"]}))
    body = orjson.loads(Anthropic().build(ask, Endpoint("anthropic", "https://a", "claude-opus-5")).body)
    body["messages"][1]["content"][0]["signature"] = signature("h")
    read_messages(body, Rules())
    complaints = 0
    for one in spoilt(body):
        try:
            read_messages(one, Rules())
        except Complaint:
            complaints += 1
    assert complaints > 500


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: body["messages"].append({"role": "tool", "content": "x"}),
        lambda body: body["messages"][0].update(role="system"),
        lambda body: body["messages"][0]["content"].append({"type": "text", "text": ""}),
        lambda body: body.update(seed=1),
        lambda body: body.pop("max_tokens"),
    ],
)
def test_the_judge_can_say_no(spoil: Any) -> None:
    ask = ChatRequest.parse(orjson.dumps({"model": "r", "messages": [{"role": "user", "content": "x"}]}))
    body = orjson.loads(Anthropic().build(ask, Endpoint("anthropic", "https://a", "claude-sonnet-4-5")).body)
    read_messages(body, Rules())
    spoil(body)
    with pytest.raises(Complaint):
        read_messages(body, Rules())
