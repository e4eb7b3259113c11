"""Whole conversations in OpenAI's form, as apps hold them: made up by hypothesis, sound by OpenAI's own types."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PDF = "data:application/pdf;base64,JVBERi0xLjQKJSVFT0YK"
NAMES = ["weigh", "tare", "get_weather", "search-docs", "A", "n" * 64]
TEXTS = st.sampled_from(["Hello", "", " ", "\n", "Grüß dich \U0001f600", "a" * 300, "{}", '{"kg": 7}', "a\nb", "0"])
SAID = TEXTS.filter(str.strip)

Json = dict[str, Any]

_SCHEMAS = st.sampled_from(
    [
        {"type": "object", "properties": {}},
        {"type": "object", "properties": {"kg": {"type": "number", "minimum": 0}}, "required": ["kg"]},
        {
            "type": "object",
            "properties": {"thing": {"$ref": "#/$defs/thing"}, "unit": {"type": ["string", "null"]}},
            "required": ["thing", "unit"],
            "additionalProperties": False,
            "$defs": {"thing": {"type": "string", "minLength": 1, "enum": ["tea", "salt"]}},
        },
        {"type": "object", "properties": {"many": {"type": "array", "items": {"anyOf": [{"type": "string"}, {}]}}}},
    ]
)

_ARGUMENTS = st.sampled_from(["{}", "", '{"kg": 7}', '{"thing": "tea", "unit": null}', '{"a": {"b": [1, "ü"]}}'])


def _text(text: str) -> Json:
    return {"type": "text", "text": text}


_IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"}}
_FILE = {"type": "file", "file": {"filename": "a.pdf", "file_data": PDF}}
_PARTS = st.lists(SAID.map(_text) | st.sampled_from([_IMAGE, _IMAGE, _FILE]), min_size=1, max_size=3)
_TOLD = TEXTS | st.lists(TEXTS.map(_text), min_size=1, max_size=2)
_SYSTEM = st.fixed_dictionaries({"role": st.sampled_from(["system", "developer"]), "content": _TOLD})


def _user(images: bool) -> st.SearchStrategy[Json]:
    content = SAID | _PARTS if images else SAID | st.lists(SAID.map(_text), min_size=1, max_size=2)
    return st.fixed_dictionaries({"role": st.just("user"), "content": content}, optional={"name": st.just("ann")})


@st.composite
def _turn(draw: st.DrawFn, place: int, tools: list[str], images: bool) -> list[Json]:
    """What the user says and the assistant makes of it: an answer, or calls, all answered, in any order."""
    said = [draw(_user(images)) for _ in range(draw(st.integers(1, 2)))]
    calls = draw(st.lists(st.tuples(st.sampled_from(tools), _ARGUMENTS), max_size=3)) if tools else []
    if not calls:
        content = draw(TEXTS | st.lists(SAID.map(_text), min_size=1, max_size=2))
        return [*said, {"role": "assistant", "content": content}]
    ids = [f"call_{place}_{number}" for number in range(len(calls))]
    made = [
        {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
        for id, (name, arguments) in zip(ids, calls, strict=True)
    ]
    told = {"role": "assistant", "content": draw(st.none() | TEXTS), "tool_calls": made}
    results = [
        {
            "role": "tool",
            "tool_call_id": id,
            "content": draw(_TOLD),
        }
        for id in draw(st.permutations(ids))
    ]
    ending = [{"role": "assistant", "content": draw(SAID)}] if draw(st.booleans()) else []
    return [*said, told, *results, *ending]


@st.composite
def conversations(draw: st.DrawFn) -> Json:
    """A request: its messages end with the user's word or with results."""
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=3))
    images = draw(st.booleans())
    messages: list[Json] = draw(st.lists(_SYSTEM, max_size=2))
    for place in range(draw(st.integers(0, 3))):
        messages += draw(_turn(place, names, images))
    if not messages or messages[-1]["role"] != "tool":
        messages.append(draw(_user(images)))
    body: Json = {"model": "m", "messages": messages, **draw(_settings())}
    if names:
        body["tools"] = [_tool(name, draw(_SCHEMAS | st.none())) for name in names]
        choice = draw(st.sampled_from([None, "auto", "none", "required", *names]))
        if choice in names:
            body["tool_choice"] = {"type": "function", "function": {"name": choice}}
        elif choice:
            body["tool_choice"] = choice
        if draw(st.booleans()):
            body["parallel_tool_calls"] = draw(st.booleans())
    return body


def _tool(name: str, schema: Json | None) -> Json:
    function: Json = {"name": name}
    if schema is not None:
        function |= {"description": "Does it.", "parameters": schema, "strict": "$defs" in json.dumps(schema)}
    return {"type": "function", "function": function}


def _settings() -> st.SearchStrategy[Json]:
    formats = st.sampled_from([{"type": "text"}, {"type": "json_object"}])
    schemas = _SCHEMAS.map(
        lambda one: {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": one}}
    )
    return st.fixed_dictionaries(
        {},
        optional={
            "max_tokens": st.integers(1, 4000),
            "temperature": st.floats(0, 2, allow_nan=False).map(lambda one: round(one, 2)),
            "top_p": st.sampled_from([0.1, 1.0]),
            "stop": st.sampled_from(["END", ["a", "b"], ["\n"], [], None]),
            "seed": st.integers(0, 2**31),
            "presence_penalty": st.sampled_from([-1.0, 0.5]),
            "n": st.just(1),
            "logprobs": st.booleans(),
            "user": st.just("u-1"),
            "metadata": st.just({"purpose": "test"}),
            "service_tier": st.sampled_from(["auto", "default", "flex"]),
            "reasoning_effort": st.sampled_from(["none", "minimal", "low", "medium", "high"]),
            "response_format": formats | schemas,
            "stream": st.booleans(),
        },
    )
