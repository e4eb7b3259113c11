"""Chat completions as OpenAI, Azure, Mistral and the compatible providers write them."""

from __future__ import annotations

import json
from typing import Any

from tests.replay.answer import Answer, Call, Choice, Tokens, finished
from tests.replay.frames import Broken, json_body, json_events

_FINISH = {"model_length": "length", "data_inspection_failed": "content_filter"}
_FAILED = {"error", "insufficient_system_resource"}
"""Finish reasons that tell of a failure of the provider's side (OpenRouter, Mistral, DeepSeek)."""


def read_body(raw: bytes, verbatim: bool = False) -> Answer:
    body = json_body(raw)
    _check(body)
    if not body.get("choices"):
        raise Broken("no choices")
    answer = Answer(model=body.get("model"), usage=tokens(body.get("usage")))
    for place, told in enumerate(body["choices"]):
        choice = answer.choice(told.get("index", place))
        message = told.get("message") or {}
        _add_text(choice, message)
        for call in message.get("tool_calls") or []:
            choice.calls.append(_call(call))
        _legacy(choice, message.get("function_call"))
        reason = told.get("finish_reason")
        if reason in _FAILED:
            raise Broken(f"finish reason {reason}")
        if reason is None:
            answer.may_refuse = "no finish reason"
        choice.finish = _finish(reason, choice, verbatim)
    return answer


def read_stream(raw: bytes, verbatim: bool = False) -> Answer:
    answer = Answer()
    reasons: dict[int, str] = {}
    calls: dict[int, list[Any]] = {}
    for name, chunk in json_events(raw):
        if name == "error":
            raise Broken("an error event")
        _check(chunk)
        answer.model = answer.model or chunk.get("model")
        usage = chunk.get("usage") or (chunk.get("x_groq") or {}).get("usage")
        for told in chunk.get("choices") or []:
            index = told.get("index", 0)
            choice = answer.choice(index)
            delta = told.get("delta") or {}
            _add_text(choice, delta)
            for piece in delta.get("tool_calls") or []:
                _add_piece(choice, calls.setdefault(index, []), piece)
            _legacy(choice, delta.get("function_call"))
            if told.get("finish_reason") is not None:
                reasons.setdefault(index, told["finish_reason"])
            usage = usage or told.get("usage")
        answer.usage = tokens(usage) or answer.usage
    if not answer.choices:
        raise Broken("a stream without choices")
    for index, choice in answer.choices.items():
        if index not in reasons:
            raise Broken("a stream without a finish reason")
        if reasons[index] in _FAILED:
            raise Broken(f"finish reason {reasons[index]}")
        choice.finish = _finish(reasons[index], choice, verbatim)
    return answer


def tokens(usage: Any) -> Tokens | None:
    """Cached tokens stand in five places; xAI alone leaves reasoning out of the completion, as its total shows."""
    if not isinstance(usage, dict) or usage.get("prompt_tokens") is None:
        return None
    prompt, completion = usage["prompt_tokens"], usage.get("completion_tokens") or 0
    details = usage.get("prompt_tokens_details") or usage.get("prompt_token_details") or {}
    read = max(
        details.get("cached_tokens") or 0,
        usage.get("prompt_cache_hit_tokens") or 0,
        usage.get("cached_tokens") or 0,
        usage.get("num_cached_tokens") or 0,
    )
    more = usage.get("completion_tokens_details") or {}
    reasoning = more.get("reasoning_tokens") or usage.get("reasoning_tokens") or 0
    total = usage.get("total_tokens")
    if reasoning and total == prompt + completion + reasoning:
        completion += reasoning
    return Tokens(prompt, completion, read, details.get("cache_write_tokens") or 0, reasoning).capped()


def _check(body: Any) -> None:
    if not isinstance(body, dict):
        raise Broken("no object")
    if body.get("error"):
        raise Broken(f"an error inside the answer: {json.dumps(body['error'])[:80]}")


def _finish(reason: str | None, choice: Choice, verbatim: bool) -> str | None:
    return reason if verbatim else finished(reason, choice, _FINISH)


def _add_text(choice: Choice, message: dict[str, Any]) -> None:
    content = message.get("content")
    if isinstance(content, str):
        choice.text += content
    for part in content if isinstance(content, list) else []:
        if part.get("type") == "thinking":
            thinking = part.get("thinking")
            pieces = [thinking] if isinstance(thinking, str) else [one.get("text", "") for one in thinking or []]
            choice.reasoning += "".join(pieces)
        elif part.get("type", "text") == "text":
            choice.text += part.get("text") or ""
    choice.reasoning += message.get("reasoning_content") or message.get("reasoning") or ""
    choice.refusal += message.get("refusal") or ""


def _call(told: dict[str, Any]) -> Call:
    function = told.get("function") or {}
    if function.get("name") or "custom" not in told:
        return Call(function.get("name") or "", _arguments(function.get("arguments")), told.get("id"))
    custom = told["custom"]
    return Call(custom.get("name") or "", json.dumps(custom.get("input") or ""), told.get("id"))


def _arguments(told: Any) -> str:
    if told is None:
        return ""
    return told if isinstance(told, str) else json.dumps(told)


def _add_piece(choice: Choice, numbers: list[Any], piece: dict[str, Any]) -> None:
    """A piece belongs to the call with its index; a new id under a known index, or none at all, begins a call."""
    made = _call(piece)
    number = piece.get("index")
    known = [place for place, one in enumerate(numbers) if one == number] if number is not None else []
    if known:
        call = choice.calls[known[-1]]
        another = made.id and made.name and call.id and made.id != call.id
        if not another and not (made.name and call.name and not (made.id or call.id) and call.parsed != call.arguments):
            call.arguments += made.arguments
            call.name = call.name or made.name
            call.id = call.id or made.id
            return
    elif number is None and not made.name and choice.calls:
        choice.calls[-1].arguments += made.arguments
        return
    numbers.append(number)
    choice.calls.append(made)


def _legacy(choice: Choice, told: Any) -> None:
    """`function_call`, the form before tools; some providers send an empty one with every message."""
    if isinstance(told, dict) and (told.get("name") or told.get("arguments")):
        if told.get("name") or not choice.calls:
            choice.calls.append(Call(told.get("name") or "", told.get("arguments") or "", "function_call"))
        else:
            choice.calls[-1].arguments += told.get("arguments") or ""
