"""Whether an answer has the form that its request demanded. None where the request demands none: garbage would pass.

JSON schemas come from clients. References to other documents are not followed, and `pattern` is not looked at: one
hostile pattern would hold up the whole process.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import orjson

from proxy.scoring.text import f1
from proxy.wire.answer import Answer, ToolCall
from proxy.wire.chunk import Json

_LARGEST = 1 << 20
"""Characters of an answer that is still checked."""
_IGNORED = ("pattern", "patternProperties", "format", "$dynamicRef")

_REFUSALS = re.compile(
    r"^\W*(?:i['’]?m (?:really |very |so )?sorry|sorry|i apologi[sz]e|unfortunately|as an ai)\b.{0,120}"
    r"\b(?:can(?:['’]|no)?t|cannot|unable|not able|won['’]?t|not comfortable)\b"
    r"|^\W*i (?:can(?:['’]|no)?t|cannot|am unable to|am not able to|won['’]?t|must decline|have to decline)\b"
    r"|^\W*i['’]m (?:unable|not able)\b",
    re.IGNORECASE | re.DOTALL,
)


def failed(answer: Answer) -> bool:
    """There was no answer, or only a part of one."""
    return answer.finish_reason is None


def empty(answer: Answer) -> bool:
    return not (answer.text.strip() or answer.tool_calls or answer.refusal)


def validity(body: Json, answer: Answer) -> float | None:
    """1 if the answer is JSON, keeps to its schema, or calls known tools with arguments that keep to theirs."""
    demanded = _demanded(body)
    if failed(answer) or empty(answer):
        return 0.0 if demanded is not None else None
    if answer.tool_calls:
        return float(all(_call_is_valid(call, body) for call in answer.tool_calls))
    if demanded is None:
        return None
    if demanded is _CALL:
        return 0.0
    return _valid(answer.text, demanded)


def answered(body: Json, answer: Answer) -> float | None:
    """1 unless the answer is a refusal, by its own field, its finish reason or its first words (English)."""
    if failed(answer):
        return None
    refused = bool(answer.refusal) or answer.finish_reason == "content_filter"
    return float(not (refused or _REFUSALS.search(answer.text[:400])))


def whole(body: Json, answer: Answer) -> float | None:
    """1 unless the answer was cut at the limit of tokens."""
    return None if failed(answer) else float(answer.finish_reason != "length")


def same_calls(primary: Answer, candidate: Answer) -> float | None:
    """F1 of the calls by name and arguments, half of it for the names alone; None if neither calls anything."""
    if failed(primary) or failed(candidate) or not (primary.tool_calls or candidate.tool_calls):
        return None
    names = f1([call.name for call in primary.tool_calls], [call.name for call in candidate.tool_calls])
    exactly = f1([_canonical(call) for call in primary.tool_calls], [_canonical(call) for call in candidate.tool_calls])
    return (names + exactly) / 2.0


_CALL: Json = {"demanded": "a call"}


def _demanded(body: Json) -> Json | None:
    """The schema that the text must keep to, `_CALL`, or None where any text will do."""
    choice = body.get("tool_choice")
    if body.get("tools") and (choice in ("required", "any") or isinstance(choice, dict)):
        return _CALL
    form = body.get("response_format")
    kind = form.get("type") if isinstance(form, dict) else None
    if kind == "json_object":
        return {"type": "object"}
    if kind == "json_schema" and isinstance(form, dict):
        schema = form.get("json_schema")
        schema = schema.get("schema") if isinstance(schema, dict) else None
        return schema if isinstance(schema, dict) else {}
    return None


def _call_is_valid(call: ToolCall, body: Json) -> bool:
    for tool in body.get("tools") or ():
        function = tool.get("function") if isinstance(tool, dict) else None
        if isinstance(function, dict) and function.get("name") == call.name:
            schema = function.get("parameters")
            demanded = {"type": "object"} if not isinstance(schema, dict) else {"type": "object", **schema}
            return _valid(call.arguments or "{}", demanded) != 0.0
    return False


def _valid(text: str, schema: Json) -> float | None:
    """None where the schema itself cannot be used, or the text is too long to be checked."""
    if len(text) > _LARGEST:
        return None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return 0.0
    try:
        return float(_validator(orjson.dumps(schema)).is_valid(value))
    except Exception:
        # jsonschema raises many kinds of error for schemas that are none; the model is not to blame for the schema.
        return None


@lru_cache(maxsize=64)
def _validator(schema: bytes) -> Any:
    from jsonschema import Draft202012Validator, validators
    from referencing import Registry

    rules = {name: rule for name, rule in Draft202012Validator.VALIDATORS.items() if name not in _IGNORED}
    kind = validators.create(Draft202012Validator.META_SCHEMA, rules, type_checker=Draft202012Validator.TYPE_CHECKER)
    return kind(orjson.loads(schema), registry=Registry())


def _canonical(call: ToolCall) -> tuple[str, bytes | str]:
    try:
        return call.name, orjson.dumps(orjson.loads(call.arguments), option=orjson.OPT_SORT_KEYS)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return call.name, call.arguments
