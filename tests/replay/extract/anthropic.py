"""Anthropic's Messages."""

from __future__ import annotations

import json
from typing import Any

from tests.replay.answer import Answer, Call, Tokens, finished
from tests.replay.frames import Broken, json_body, json_events

_FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def read_body(raw: bytes) -> Answer:
    body = json_body(raw)
    if not isinstance(body, dict) or body.get("type") != "message":
        raise Broken("no message")
    answer = Answer(model=body.get("model"))
    choice = answer.choice(0)
    for block in body.get("content") or []:
        if block["type"] == "text":
            choice.text += block["text"]
        elif block["type"] == "thinking":
            choice.reasoning += block["thinking"]
        elif block["type"] == "tool_use":
            choice.calls.append(Call(block["name"], json.dumps(block["input"]), block["id"]))
    if body.get("stop_reason") is None:
        answer.may_refuse = "no stop reason"
    choice.finish = finished(body.get("stop_reason"), choice, _FINISH)
    answer.usage = _tokens(body.get("usage") or {})
    return answer


def read_stream(raw: bytes) -> Answer:
    answer = Answer()
    choice = answer.choice(0)
    open_calls: dict[int, Call] = {}
    usage: dict[str, Any] = {}
    reason: str | None = None
    for _, event in json_events(raw):
        kind = event.get("type")
        if kind == "error":
            raise Broken(f"an error event: {json.dumps(event.get('error'))[:80]}")
        if kind == "message_start":
            answer.model = answer.model or event["message"].get("model")
            _overwrite(usage, event["message"].get("usage"))
        elif kind == "content_block_start":
            block = event["content_block"]
            open_calls.pop(event["index"], None)
            choice.text += block.get("text") or "" if block["type"] == "text" else ""
            choice.reasoning += block.get("thinking") or "" if block["type"] == "thinking" else ""
            if block["type"] == "tool_use":
                placeholder = block.get("input") or {}
                call = Call(block["name"], json.dumps(placeholder) if placeholder else "", block["id"])
                choice.calls.append(call)
                open_calls[event["index"]] = call
        elif kind == "content_block_delta":
            delta = event["delta"]
            choice.text += delta["text"] if delta["type"] == "text_delta" else ""
            choice.reasoning += delta["thinking"] if delta["type"] == "thinking_delta" else ""
            if delta["type"] == "input_json_delta" and event["index"] in open_calls:
                open_calls[event["index"]].arguments += delta["partial_json"]
        elif kind == "message_delta":
            reason = event["delta"].get("stop_reason") or reason
            _overwrite(usage, event.get("usage"))
    if reason is None:
        raise Broken("a stream without a stop reason")
    choice.finish = finished(reason, choice, _FINISH)
    answer.usage = _tokens(usage)
    return answer


def _overwrite(usage: dict[str, Any], told: Any) -> None:
    """Counts in a stream are cumulative: a later one replaces an earlier one."""
    usage.update({key: value for key, value in (told or {}).items() if value is not None})


def _tokens(usage: dict[str, Any]) -> Tokens | None:
    """The input count leaves out what was read from and written to the cache."""
    if usage.get("input_tokens") is None and usage.get("output_tokens") is None:
        return None
    write = usage.get("cache_creation_input_tokens")
    if write is None:
        write = sum(value or 0 for value in (usage.get("cache_creation") or {}).values())
    read = usage.get("cache_read_input_tokens") or 0
    thinking = (usage.get("output_tokens_details") or {}).get("thinking_tokens") or 0
    prompt = (usage.get("input_tokens") or 0) + read + write
    return Tokens(prompt, usage.get("output_tokens") or 0, read, write, thinking).capped()
