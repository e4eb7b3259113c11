from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.errors import Refusal
from proxy.providers.base import Built, Endpoint
from proxy.providers.catalog import CATALOG
from proxy.providers.compatible import Compatible
from proxy.wire.chat import ChatRequest

STREAM = {"stream": True, "stream_options": {"include_usage": True}}
HELLO = [{"role": "user", "content": "x"}]


def build(name: str, model: str = "m", **more: Any) -> tuple[dict[str, Any], Built]:
    row = CATALOG[name]
    to = Endpoint(name, "http://127.0.0.1/v1", model, False, row.usage_in_stream, quirks=row.quirks)
    ask = ChatRequest.parse(orjson.dumps({"model": "chat", "messages": HELLO, **more}))
    built = Compatible().build(ask, to)
    return orjson.loads(built.body), built


@pytest.mark.parametrize(
    ("name", "more", "sent", "dropped"),
    [
        ("groq", {"logprobs": True, "seed": 1}, {"seed": 1}, ("logprobs",)),
        ("groq", {"store": False}, {}, ()),
        ("groq", {"service_tier": "priority"}, {}, ("service_tier",)),
        ("groq", {"service_tier": "flex"}, {"service_tier": "flex"}, ()),
        ("deepseek", {"max_completion_tokens": 5}, {"max_tokens": 5}, ()),
        ("deepseek", {"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}, ()),
        ("deepseek", {"reasoning_effort": "low"}, {"thinking": {"type": "enabled"}, "reasoning_effort": "low"}, ()),
        ("qwen", {"reasoning_effort": "high"}, {"enable_thinking": True}, ()),
        ("qwen", {"reasoning_effort": "high", "enable_thinking": False}, {"enable_thinking": False}, ()),
        ("xai", {"presence_penalty": 1, "logit_bias": {"1": 1}}, {"presence_penalty": 1}, ("logit_bias",)),
        ("openrouter", {"service_tier": "priority", "n": 1}, {"service_tier": "priority", "n": 1}, ()),
        ("tokenmix", {"seed": 1, "logprobs": True}, {"seed": 1, "logprobs": True}, ()),
        ("perplexity", {"stream": True}, {"stream": True}, ()),
        ("groq", {"stream": True}, STREAM, ()),
        ("groq", {"stream": True, "top_logprobs": 1}, STREAM, ("top_logprobs",)),
    ],
)  # fmt: skip
def test_parameters(name: str, more: dict[str, Any], sent: dict[str, Any], dropped: tuple[str, ...]) -> None:
    body, built = build(name, **more)
    assert body == {"model": "m", "messages": HELLO, **sent}
    assert built.dropped == dropped


def test_penalties_are_dropped_for_reasoning_models_only() -> None:
    assert build("xai", "grok-4", presence_penalty=1)[1].dropped == ("presence_penalty",)
    assert build("xai", "grok-2", presence_penalty=1)[1].dropped == ()


@pytest.mark.parametrize(
    ("name", "more", "param"),
    [
        ("groq", {"n": 2}, "n"),
        ("qwen", {"n": 2, "tools": [{"type": "function", "function": {"name": "f"}}]}, "n"),
        ("deepseek", {"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format"),
        ("zai", {"tool_choice": "required"}, "tool_choice"),
        ("moonshot", {"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
    ],
)
def test_what_changes_the_form_of_the_answer_is_refused(name: str, more: dict[str, Any], param: str) -> None:
    with pytest.raises(Refusal) as caught:
        build(name, **more)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert name in caught.value.message


def test_what_stays_within_the_limits_is_sent() -> None:
    build("qwen", n=2)
    build("zai", tool_choice="none", response_format={"type": "json_object"})


def test_messages() -> None:
    messages = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": "x", "name": "ann"},
        {"role": "assistant", "content": "y", "reasoning_content": "hm"},
    ]
    body, built = build("groq", messages=messages)
    assert body["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": "y", "reasoning": "hm"},
    ]
    assert built.dropped == ("messages.name",)
    assert build("deepseek", messages=messages)[0]["messages"][1:] == messages[1:]
    assert "hm" not in str(build("perplexity", messages=messages)[0])
    assert build("openrouter", messages=messages)[0]["messages"][0] == messages[0]


def test_a_request_without_quirks_is_sent_as_it_came() -> None:
    raw = b'{ "model":"chat","messages":[{"role":"user","content":"x"}],"temperature":1.0, "seed":1 }'
    to = Endpoint("groq", "http://127.0.0.1/v1", "m", False, quirks=CATALOG["groq"].quirks)
    assert Compatible().build(ChatRequest.parse(raw), to).body == raw.replace(b"chat", b"m")
