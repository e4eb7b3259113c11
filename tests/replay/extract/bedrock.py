"""Amazon Bedrock's Converse and ConverseStream."""

from __future__ import annotations

import json
from typing import Any

from tests.replay.answer import Answer, Call, Choice, Tokens, finished
from tests.replay.frames import Broken, json_body, messages

_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}


def read_body(raw: bytes) -> Answer:
    body = json_body(raw)
    message = ((body.get("output") or {}) if isinstance(body, dict) else {}).get("message")
    if not isinstance(message, dict):
        raise Broken("no message")
    answer = Answer(usage=_tokens(body.get("usage")))
    choice = answer.choice(0)
    for block in message.get("content") or []:
        choice.text += block.get("text") or ""
        for piece in (block.get("citationsContent") or {}).get("content") or []:
            choice.text += piece.get("text") or ""
        choice.reasoning += ((block.get("reasoningContent") or {}).get("reasoningText") or {}).get("text") or ""
        call = _call(block.get("toolUse"))
        if call is not None:
            call.arguments = json.dumps(block["toolUse"].get("input") or {})
            choice.calls.append(call)
    if body.get("stopReason") is None:
        answer.may_refuse = "no stop reason"
    choice.finish = finished(body.get("stopReason"), choice, _FINISH)
    return answer


def read_stream(raw: bytes) -> Answer:
    answer = Answer()
    choice = answer.choice(0)
    calls: dict[int, Call] = {}
    reason = None
    for headers, event in messages(raw):
        if headers.get(":message-type") != "event":
            raise Broken(f"an exception inside the stream: {headers.get(':exception-type')}")
        kind = headers.get(":event-type")
        if kind == "contentBlockStart":
            call = _call((event.get("start") or {}).get("toolUse"))
            if call is not None:
                calls[event["contentBlockIndex"]] = call
                choice.calls.append(call)
        elif kind == "contentBlockDelta":
            _add_delta(choice, calls.get(event["contentBlockIndex"]), event["delta"])
        elif kind == "messageStop":
            reason = event.get("stopReason")
        elif kind == "metadata":
            answer.usage = _tokens(event.get("usage"))
    if reason is None:
        raise Broken("a stream without a stop reason")
    choice.finish = finished(reason, choice, _FINISH)
    return answer


def _add_delta(choice: Choice, call: Call | None, delta: dict[str, Any]) -> None:
    choice.text += delta.get("text") or ""
    choice.reasoning += (delta.get("reasoningContent") or {}).get("text") or ""
    if call is not None and "toolUse" in delta:
        call.arguments += delta["toolUse"].get("input") or ""


def _call(told: Any) -> Call | None:
    """None for no call, and for a tool that runs on the provider's side."""
    if not isinstance(told, dict) or told.get("type") == "server_tool_use":
        return None
    return Call(told["name"], "", told["toolUseId"])


def _tokens(usage: Any) -> Tokens | None:
    """The input count leaves out what was read from and written to the cache; the total has everything."""
    if not isinstance(usage, dict) or usage.get("inputTokens") is None:
        return None
    read, write = usage.get("cacheReadInputTokens") or 0, usage.get("cacheWriteInputTokens") or 0
    return Tokens(usage["inputTokens"] + read + write, usage.get("outputTokens") or 0, read, write).capped()
