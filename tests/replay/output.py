"""Our side: what the client would be sent, checked against OpenAI's own types and the rules of its streams."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import ValidationError

from tests.replay.answer import LITERALS, Answer, Call, Tokens
from tests.replay.extract.openai import tokens
from tests.replay.frames import Event, events


class Wrong(Exception):
    """Output that OpenAI's own server would not send."""


def body(sent: bytes, loose: bool) -> Answer:
    """A whole answer. Raises `Wrong`. `loose`: bytes passed on untouched may hold a call without arguments."""
    try:
        ChatCompletion.model_validate_json(sent, strict=True)
    except ValidationError as error:
        raise Wrong(_first(error)) from None
    told = json.loads(sent)
    if not told["id"]:
        raise Wrong("an empty id")
    answer = Answer(model=told["model"], usage=_usage(told.get("usage")))
    for one in told["choices"]:
        choice = answer.choice(one["index"])
        message = one["message"]
        choice.text = message.get("content") or ""
        choice.reasoning = _reasoning(message, loose)
        choice.refusal = message.get("refusal") or ""
        if "tool_calls" in message and not message["tool_calls"] and not loose:
            raise Wrong("`tool_calls` without a call: leave it out")
        for call in message.get("tool_calls") or []:
            choice.calls.append(_call(call))
        if message.get("function_call"):
            legacy = message["function_call"]
            choice.calls.append(Call(legacy["name"], legacy["arguments"]))
        choice.finish = one["finish_reason"]
        _check_calls(choice.calls, choice.finish, loose)
    return answer


def stream(sent: bytes, loose: bool) -> Answer:
    """A streamed answer, put together. Raises `Wrong`."""
    found = events(sent)
    if [event.data for event in found].count("[DONE]") != 1 or found[-1].data != "[DONE]":
        raise Wrong("the stream does not end with one [DONE]")
    chunks = [_chunk(event) for event in found[:-1]]
    _check_heads(chunks)
    answer = Answer(model=chunks[0]["model"])
    for place, chunk in enumerate(chunks):
        for told in chunk["choices"]:
            _add(answer, told, loose)
        if chunk.get("usage") is not None:
            if chunk["choices"] or place != len(chunks) - 1:
                raise Wrong("usage that is not alone in the last chunk")
            answer.usage = _usage(chunk["usage"])
    for index, choice in answer.choices.items():
        if choice.finish is None:
            raise Wrong(f"choice {index} has no finish reason")
        _check_calls(choice.calls, choice.finish, loose)
    return answer


def _chunk(event: Event) -> dict[str, Any]:
    try:
        ChatCompletionChunk.model_validate_json(event.data, strict=True)
    except ValidationError as error:
        raise Wrong(f"chunk: {_first(error)}") from None
    chunk: dict[str, Any] = json.loads(event.data)
    return chunk


def _check_heads(chunks: Sequence[dict[str, Any]]) -> None:
    if not chunks:
        raise Wrong("a stream without chunks")
    for name in ("id", "created", "model"):
        seen = {chunk[name] for chunk in chunks}
        if len(seen) > 1:
            raise Wrong(f"`{name}` changes: {sorted(map(str, seen))[:3]}")
        if not seen.pop() and name != "created":
            raise Wrong(f"`{name}` is empty")


def _add(answer: Answer, told: dict[str, Any], loose: bool) -> None:
    first = told["index"] not in answer.choices
    choice, delta = answer.choice(told["index"]), told["delta"]
    if first and delta.get("role") != "assistant":
        raise Wrong("the first delta has no role")
    if choice.finish is not None:
        raise Wrong(f"choice {told['index']} goes on after its finish reason: {json.dumps(told)[:60]}")
    choice.text += delta.get("content") or ""
    choice.reasoning += _reasoning(delta, loose)
    choice.refusal += delta.get("refusal") or ""
    for piece in delta.get("tool_calls") or []:
        _add_call(choice.calls, piece)
    if delta.get("function_call"):
        legacy = delta["function_call"]
        if legacy.get("name"):
            choice.calls.append(Call(legacy["name"], ""))
        choice.calls[-1].arguments += legacy.get("arguments") or ""
    choice.finish = told.get("finish_reason")


def _add_call(calls: list[Call], piece: dict[str, Any]) -> None:
    index, function = piece["index"], piece.get("function") or {}
    if index == len(calls):
        if not piece.get("id") or piece.get("type") != "function" or not function.get("name"):
            raise Wrong(f"call {index} begins without id, type or name")
        calls.append(Call(function["name"], function.get("arguments") or "", piece["id"]))
        return
    if index > len(calls):
        raise Wrong(f"call index {index} after {len(calls)} calls")
    if piece.get("id") or function.get("name"):
        raise Wrong(f"id or name of call {index} is told twice")
    calls[index].arguments += function.get("arguments") or ""


def _call(told: dict[str, Any]) -> Call:
    if told["type"] == "custom":
        return Call(told["custom"]["name"], json.dumps(told["custom"]["input"]), told["id"])
    return Call(told["function"]["name"], told["function"]["arguments"], told["id"])


def _check_calls(calls: Sequence[Call], finish: str | None, loose: bool) -> None:
    if finish not in LITERALS:
        raise Wrong(f"finish reason {finish!r}")
    ids = [call.id for call in calls if call.id]
    if len(set(ids)) != len(ids):
        raise Wrong(f"two calls of one id: {ids}")
    for call in calls:
        if not call.arguments.strip() and not (loose or finish == "length"):
            raise Wrong(f"call {call.name} has no arguments: they must be at least an empty object")


def _reasoning(message: dict[str, Any], loose: bool) -> str:
    """Ours has one name; where bytes are passed on untouched the provider's own name stays."""
    told = message.get("reasoning_content") or (message.get("reasoning") if loose else None)
    return told or ""


def _usage(usage: Any) -> Tokens | None:
    """Raises `Wrong` where the parts exceed the whole, or the total is not their sum."""
    told = tokens(usage)
    if told is None:
        return None
    if usage["total_tokens"] != usage["prompt_tokens"] + usage["completion_tokens"]:
        raise Wrong(f"the total is not prompt + completion: {json.dumps(usage)[:120]}")
    details, more = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
    cached = (details.get("cached_tokens") or 0) + (details.get("cache_write_tokens") or 0)
    if cached > usage["prompt_tokens"] or (more.get("reasoning_tokens") or 0) > usage["completion_tokens"]:
        raise Wrong(f"a part is larger than its whole: {json.dumps(usage)[:120]}")
    return told


def _first(error: ValidationError) -> str:
    told = error.errors()
    one = told[0]
    where = ".".join(str(place) for place in one["loc"])
    return f"{where}: {one['msg']}" + (f" (and {len(told) - 1} more)" if len(told) > 1 else "")


def without_usage(sent: bytes) -> Iterator[Any]:
    """The events as they should reach a client that did not ask for usage."""
    for event in events(sent):
        if event.data == "[DONE]":
            yield event.data
            continue
        chunk = json.loads(event.data)
        if chunk.get("usage") is None or chunk["choices"]:
            yield {key: value for key, value in chunk.items() if key != "usage"}
