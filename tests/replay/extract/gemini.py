"""Google's generateContent and streamGenerateContent, on AI Studio and Vertex."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tests.replay.answer import Answer, Call, Tokens, finished
from tests.replay.frames import Broken, json_body, json_events

_FILTERED = {
    *("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE", "MODEL_ARMOR"),
    *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "IMAGE_OTHER", "NO_IMAGE"),
}
_FAULTS = {
    *("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"),
    *("MISSING_THOUGHT_SIGNATURE", "MALFORMED_RESPONSE"),
}
_NUMBERS: dict[Any, str] = dict(
    enumerate(
        (
            *("STOP", "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER", "BLOCKLIST"),
            *("PROHIBITED_CONTENT", "SPII", "MALFORMED_FUNCTION_CALL"),
        ),
        1,
    )
)
"""The enumeration of Vertex's older SDKs."""


def read_body(raw: bytes) -> Answer:
    return _read([json_body(raw)], stream=False)


def read_stream(raw: bytes) -> Answer:
    return _read([chunk for _, chunk in json_events(raw)], stream=True)


def _read(chunks: Sequence[Any], stream: bool) -> Answer:
    answer = Answer()
    reasons: dict[int, Any] = {}
    usage: dict[str, Any] = {}
    blocked = False
    for chunk in chunks:
        if not isinstance(chunk, dict) or chunk.get("error"):
            raise Broken(f"an error inside the answer: {json.dumps(chunk)[:80]}")
        answer.model = answer.model or chunk.get("modelVersion")
        usage.update({key: value for key, value in (chunk.get("usageMetadata") or {}).items() if value is not None})
        blocked = blocked or bool((chunk.get("promptFeedback") or {}).get("blockReason"))
        for candidate in chunk.get("candidates") or []:
            index = candidate.get("index") or 0
            _add_parts(answer, index, (candidate.get("content") or {}).get("parts") or [])
            if candidate.get("finishReason") is not None:
                reasons[index] = candidate["finishReason"]
    answer.usage = _tokens(usage)
    if not answer.choices:
        if not blocked:
            raise Broken("no candidates")
        answer.choice(0)
        reasons[0] = "SAFETY"
    for index, choice in answer.choices.items():
        if index not in reasons:
            if stream:
                raise Broken("a stream without a finish reason")
            answer.may_refuse = "no finish reason"
        reason = _NUMBERS.get(reasons.get(index), reasons.get(index))
        if reason in _FAULTS and not choice.text and not choice.calls:
            answer.may_refuse = f"finish reason {reason} and no content"
        choice.finish = finished(_finish(reason), choice)
    return answer


def _finish(reason: Any) -> str:
    if reason == "MAX_TOKENS":
        return "length"
    return "content_filter" if reason in _FILTERED else "stop"


def _add_parts(answer: Answer, index: int, parts: Sequence[dict[str, Any]]) -> None:
    choice = answer.choice(index)
    for part in parts:
        if part.get("thought"):
            choice.reasoning += part.get("text") or ""
        elif part.get("functionCall") is not None:
            told = part["functionCall"]
            choice.calls.append(Call(told.get("name") or "", json.dumps(told.get("args") or {}), told.get("id")))
        else:
            choice.text += part.get("text") or ""


def _tokens(usage: dict[str, Any]) -> Tokens | None:
    """The prompt holds the cached tokens and lacks those of tool use; the candidates' count lacks the thoughts."""
    if not any(key.endswith("TokenCount") for key in usage):
        return None
    thoughts = usage.get("thoughtsTokenCount") or 0
    return Tokens(
        (usage.get("promptTokenCount") or 0) + (usage.get("toolUsePromptTokenCount") or 0),
        (usage.get("candidatesTokenCount") or 0) + thoughts,
        usage.get("cachedContentTokenCount") or 0,
        0,
        thoughts,
    ).capped()
