"""Cohere's v2 chat."""

from __future__ import annotations

from typing import Any

from tests.replay.answer import Answer, Call, Choice, Tokens, finished
from tests.replay.frames import Broken, json_body, json_events

_FINISH = {"COMPLETE": "stop", "STOP_SEQUENCE": "stop", "MAX_TOKENS": "length", "TOOL_CALL": "tool_calls"}
_FAILED = {"ERROR", "TIMEOUT"}


def read_body(raw: bytes) -> Answer:
    body = json_body(raw)
    message = body.get("message") if isinstance(body, dict) else None
    if not isinstance(message, dict):
        raise Broken("no message")
    answer = Answer(usage=_tokens(body.get("usage")))
    choice = answer.choice(0)
    for part in message.get("content") or []:
        choice.text += part.get("text") or ""
        choice.reasoning += part.get("thinking") or ""
    for call in message.get("tool_calls") or []:
        choice.calls.append(Call(call["function"]["name"], call["function"].get("arguments") or "", call["id"]))
    if body.get("finish_reason") is None:
        answer.may_refuse = "no finish reason"
    _end(choice, body.get("finish_reason"), message.get("tool_plan") or "")
    return answer


def read_stream(raw: bytes) -> Answer:
    answer = Answer()
    choice = answer.choice(0)
    plan, reason = "", None
    calls: dict[int, Call] = {}
    for _, event in json_events(raw):
        delta = event.get("delta") or {}
        message = delta.get("message") or {}
        if event.get("type") in ("content-start", "content-delta"):
            choice.text += message["content"].get("text") or ""
            choice.reasoning += message["content"].get("thinking") or ""
        elif event.get("type") == "tool-plan-delta":
            plan += message.get("tool_plan") or ""
        elif event.get("type") == "tool-call-start":
            told = message["tool_calls"]
            call = Call(told["function"]["name"], told["function"].get("arguments") or "", told["id"])
            calls[event["index"]] = call
            choice.calls.append(call)
        elif event.get("type") == "tool-call-delta":
            calls[event["index"]].arguments += message["tool_calls"]["function"].get("arguments") or ""
        elif event.get("type") == "message-end":
            reason = delta.get("finish_reason")
            answer.usage = _tokens(delta.get("usage"))
            if delta.get("error"):
                raise Broken(f"an error inside the stream: {delta['error']}")
    if reason is None:
        raise Broken("a stream without a finish reason")
    _end(choice, reason, plan)
    return answer


def _end(choice: Choice, reason: str | None, plan: str) -> None:
    """What the model plans before its calls may count as reasoning, or be left out."""
    if reason in _FAILED:
        raise Broken(f"finish reason {reason}")
    if plan:
        choice.or_reasoning = plan + choice.reasoning
    choice.finish = finished(reason, choice, _FINISH)


def _tokens(usage: Any) -> Tokens | None:
    """What the model saw and wrote; what is billed is less, and can be less than what was cached."""
    usage = usage or {}
    seen = usage.get("tokens") or usage.get("billed_units") or {}
    if seen.get("input_tokens") is None:
        return None
    return Tokens(
        int(seen["input_tokens"]),
        int(seen.get("output_tokens") or 0),
        int(usage.get("cached_tokens") or 0),
        0,
        int(seen.get("reasoning_tokens") or 0),
    ).capped()
