"""Requests that came in another form, as a server of OpenAI's family is asked: nothing in them that it would refuse."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.forms.messages import MessagesRequest
from proxy.providers import quirks
from proxy.providers.base import Endpoint
from proxy.providers.compatible import Compatible
from proxy.simulated.dialect import Rules
from proxy.simulated.openai_ask import read_chat

MARK = {"cache_control": {"type": "ephemeral"}}
ASK: dict[str, Any] = {
    "model": "m",
    "max_tokens": 64_000,
    "system": [{"type": "text", "text": "Be brief.", **MARK}],
    "thinking": {"type": "enabled", "budget_tokens": 31_999},
    "metadata": {"user_id": "user_" + "a" * 140},
    "top_k": 5,
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "Weigh it", **MARK}]},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "Hm.", "signature": "abc"},
            {"type": "tool_use", "id": "toolu_1", "name": "weigh", "input": {}},
        ]},
        {"role": "user", "content": [
            {"type": "tool_result", "tool_use_id": "toolu_1", "is_error": True, "content": "no scale", **MARK},
            {"type": "text", "text": "Again."},
        ]},
    ],
    "tools": [{"name": "weigh", "input_schema": {"type": "object", "properties": {}}, **MARK}],
}  # fmt: skip


def asked(model: str, marks: quirks.Quirks) -> tuple[dict[str, Any], tuple[str, ...]]:
    ask = MessagesRequest.parse(orjson.dumps(ASK)).as_chat()
    to = Endpoint("p", "http://127.0.0.1:1", model, verbatim=True, quirks=marks)
    built = Compatible().build(ask, to)
    body: dict[str, Any] = orjson.loads(built.body)
    return body, (*ask.dropped, *built.dropped)


@pytest.mark.parametrize(("model", "reasons"), [("gpt-4o", False), ("gpt-5-mini", True), ("gpt-5-chat-latest", False)])
def test_openai_is_asked_in_its_own_words_alone(model: str, reasons: bool) -> None:
    body, dropped = asked(model, quirks.OPENAI)
    read_chat(body, Rules(strict=True))
    assert ("reasoning_effort" in body) is reasons
    assert set(dropped) == {"cache_control", "metadata.user_id", "top_k"} | (set() if reasons else {"reasoning_effort"})
    assert [message["role"] for message in body["messages"]] == ["system", "user", "assistant", "tool", "user"]
    assert body["messages"][3] == {"role": "tool", "tool_call_id": "toolu_1", "content": "Error: no scale"}
    assert body["messages"][2]["tool_calls"][0]["function"] == {"name": "weigh", "arguments": "{}"}
    raw = orjson.dumps(body)
    for word in (b"cache_control", b"is_error", b"reasoning_details", b"reasoning_content", b"signature"):
        assert word not in raw


def test_who_knows_marks_gets_them() -> None:
    body, dropped = asked("anthropic/claude-sonnet-4.5", quirks.OPENROUTER)
    assert "cache_control" not in dropped
    assert body["tools"][0]["cache_control"] == MARK["cache_control"]
    assert body["messages"][2]["reasoning_details"][0]["signature"] == "abc"


def test_own_servers_know_the_old_limit() -> None:
    body, _ = asked("llama", quirks.OWN_SERVER)
    assert body["max_tokens"] == 64_000
    assert body["messages"][2]["reasoning_content"] == "Hm."
