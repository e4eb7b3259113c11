"""Requests in Anthropic's form: every parameter, what is dropped and told, and what is refused."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.errors import Refusal
from proxy.providers.anthropic import Anthropic
from proxy.providers.anthropic_models import OTHER, model
from proxy.providers.anthropic_schema import NotNarrow, narrowed
from proxy.providers.base import Built, Endpoint, Minted
from proxy.wire.chat import ChatRequest
from tests.providers.test_anthropic import assembled, events, message, read

TO = Endpoint("anthropic", "https://api.anthropic.com", "claude-sonnet-4-5")
USER = [{"role": "user", "content": "x"}]
WEIGH = {"type": "function", "function": {"name": "weigh", "description": "Weighs.", "parameters": {"type": "object"}}}
NOW = {"type": "function", "function": {"name": "now"}}
SCHEMA = {"type": "object", "properties": {"kg": {"type": "number", "minimum": 0}}, "required": ["kg"]}
JSON_SCHEMA = {"type": "json_schema", "json_schema": {"name": "load", "schema": SCHEMA}}
CLOSED = {
    "type": "object",
    "properties": {"kg": {"type": "number", "description": 'Also holds: {"minimum":0}'}},
    "required": ["kg"],
    "additionalProperties": False,
}


def ask(**more: Any) -> ChatRequest:
    return ChatRequest.parse(orjson.dumps({"model": "chat", "messages": USER, **more}))


def built(name: str = "claude-sonnet-4-5", to: Endpoint = TO, **more: Any) -> tuple[dict[str, Any], Built]:
    made = Anthropic().build(ask(**more), to._replace(model=name))
    body: dict[str, Any] = orjson.loads(made.body)
    return body, made


def test_the_least_request() -> None:
    body, made = built()
    assert body == {
        "model": "claude-sonnet-4-5",
        "max_tokens": 64_000,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}],
    }
    assert (made.dropped, made.headers) == ((), ())


PARAMETERS: list[tuple[str, dict[str, Any], dict[str, Any], tuple[str, ...]]] = [
    # model, request, members of the body (None: absent), dropped
    ("claude-3-haiku-20240307", {}, {"max_tokens": 4_096}, ()),
    ("llama", {"max_tokens": 99_999}, {"max_tokens": 99_999}, ()),
    ("claude-3-haiku-20240307", {"max_tokens": 99_999}, {"max_tokens": 4_096}, ()),
    ("claude-sonnet-4-5", {"max_completion_tokens": 7, "max_tokens": 9}, {"max_tokens": 7}, ()),
    ("claude-sonnet-4-5", {"stream": True, "stream_options": {"include_usage": True}}, {"stream": True}, ()),
    ("claude-sonnet-4-5", {"stop": "END"}, {"stop_sequences": ["END"]}, ()),
    ("claude-sonnet-4-5", {"stop": ["a", "\n", ""]}, {"stop_sequences": ["a"]}, ("stop",)),
    ("claude-sonnet-4-5", {"stop": "\n"}, {"stop_sequences": None}, ("stop",)),
    ("claude-sonnet-4-5", {"temperature": 0.5}, {"temperature": 0.5}, ()),
    ("claude-sonnet-4-5", {"temperature": 1.5}, {"temperature": 1}, ("temperature",)),
    ("claude-sonnet-4-5", {"temperature": 0, "top_p": 0.5}, {"temperature": 0, "top_p": None}, ("top_p",)),
    ("claude-3-7-sonnet-latest", {"temperature": 0, "top_p": 0.5}, {"temperature": 0, "top_p": 0.5}, ()),
    ("claude-opus-4-7", {"temperature": 1, "top_p": 0.5, "top_k": 3}, {"temperature": None, "top_p": None,
     "top_k": None}, ("temperature", "top_p", "top_k")),
    ("claude-sonnet-4-5", {"user": "u"}, {"metadata": {"user_id": "u"}}, ()),
    ("claude-sonnet-4-5", {"user": "u", "safety_identifier": "s"}, {"metadata": {"user_id": "s"}}, ("user",)),
    ("claude-sonnet-4-5", {"metadata": {"user_id": "m", "a": "b"}}, {"metadata": {"user_id": "m"}}, ("metadata",)),
    ("claude-sonnet-4-5", {"user": "u" * 300}, {"metadata": None}, ("user",)),
    ("claude-sonnet-4-5", {"service_tier": "auto"}, {"service_tier": "auto"}, ()),
    ("claude-sonnet-4-5", {"service_tier": "default"}, {"service_tier": "standard_only"}, ()),
    ("claude-sonnet-4-5", {"service_tier": "flex"}, {"service_tier": None}, ("service_tier",)),
    ("claude-sonnet-4-5", {"n": 1, "modalities": ["text"], "seed": None}, {"seed": None}, ()),
    ("claude-sonnet-4-5", {"seed": 1, "logprobs": True, "top_logprobs": 2, "presence_penalty": 1, "logit_bias": {},
     "frequency_penalty": 1, "store": True, "verbosity": "low", "prompt_cache_key": "k", "prediction": {},
     "prompt_cache_retention": "24h"}, {"seed": None}, ("seed", "logprobs", "top_logprobs", "presence_penalty",
     "logit_bias", "frequency_penalty", "store", "verbosity", "prompt_cache_key", "prediction",
     "prompt_cache_retention")),
    ("claude-sonnet-4-5", {"cache_control": {"type": "ephemeral"}, "container": "c"},
     {"cache_control": {"type": "ephemeral"}, "container": "c"}, ()),
    # Thinking: a budget for older models, an effort for newer ones.
    ("claude-sonnet-4-5", {"reasoning_effort": "low"}, {"thinking": {"type": "enabled", "budget_tokens": 2048}}, ()),
    ("claude-sonnet-4-5", {"reasoning_effort": "high", "max_tokens": 4000},
     {"thinking": {"type": "enabled", "budget_tokens": 2000}}, ()),
    ("claude-sonnet-4-5", {"reasoning_effort": "high", "max_tokens": 2000}, {"thinking": None}, ("reasoning_effort",)),
    ("claude-sonnet-4-5", {"reasoning_effort": "none"}, {"thinking": None}, ()),
    ("claude-sonnet-4-5", {"reasoning_effort": "odd"}, {"thinking": None}, ("reasoning_effort",)),
    ("claude-3-haiku-20240307", {"reasoning_effort": "low"}, {"thinking": None}, ("reasoning_effort",)),
    ("claude-sonnet-4-5", {"reasoning_effort": "low", "temperature": 0.2, "top_p": 0.9, "top_k": 4},
     {"temperature": None, "top_p": None, "top_k": None}, ("top_k", "temperature", "top_p")),
    ("claude-sonnet-4-6", {"reasoning_effort": "xhigh", "temperature": 1},
     {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}, "temperature": 1}, ()),
    ("claude-opus-4-8", {"reasoning_effort": "xhigh"},
     {"thinking": {"type": "adaptive", "display": "summarized"}, "output_config": {"effort": "xhigh"}}, ()),
    ("claude-opus-5", {"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}, ()),
    ("claude-sonnet-5-5", {"reasoning_effort": "none"}, {"thinking": {"type": "between_tools"}}, ()),
    ("claude-opus-5-5", {"reasoning_effort": "none"}, {"thinking": None, "output_config": {"effort": "low"}},
     ("reasoning_effort",)),
    ("claude-opus-5-5", {"reasoning_effort": "minimal"}, {"output_config": {"effort": "low"}}, ()),
    ("claude-sonnet-4-5", {"thinking": {"type": "enabled", "budget_tokens": 1024}},
     {"thinking": {"type": "enabled", "budget_tokens": 1024}}, ()),
    ("claude-opus-4-8", {"thinking": {"type": "enabled", "budget_tokens": 1024}},
     {"thinking": {"type": "adaptive", "display": "summarized"}}, ()),
    ("claude-sonnet-4-5", {"thinking": {"type": "enabled", "clear_thinking": False}},
     {"thinking": {"type": "enabled", "budget_tokens": 8192}}, ()),
    ("claude-opus-5", {"thinking": {"type": "disabled"}}, {"thinking": {"type": "disabled"}}, ()),
    # Thinking and a forced call exclude each other.
    ("claude-sonnet-4-5", {"tools": [NOW], "tool_choice": "required", "reasoning_effort": "low"},
     {"thinking": None, "tool_choice": {"type": "any"}}, ("reasoning_effort",)),
    ("claude-opus-5", {"tools": [NOW], "tool_choice": "required"}, {"thinking": {"type": "disabled"}}, ()),
    # The answer's form.
    ("claude-sonnet-4-5", {"response_format": {"type": "text"}}, {"output_config": None, "system": None}, ()),
    ("claude-sonnet-4-5", {"response_format": JSON_SCHEMA},
     {"output_config": {"format": {"type": "json_schema", "schema": CLOSED}}}, ()),
    ("claude-opus-4-8", {"response_format": JSON_SCHEMA, "reasoning_effort": "low"},
     {"output_config": {"format": {"type": "json_schema", "schema": CLOSED}, "effort": "low"}}, ()),
    ("claude-3-haiku-20240307", {"response_format": JSON_SCHEMA},
     {"tools": [{"name": "json_answer", "description": "Gives the answer.", "input_schema": SCHEMA}],
      "tool_choice": {"type": "tool", "name": "json_answer", "disable_parallel_tool_use": True}}, ()),
    ("claude-3-7-sonnet-latest", {"response_format": JSON_SCHEMA, "tools": [NOW], "reasoning_effort": "low"},
     {"tool_choice": {"type": "any", "disable_parallel_tool_use": True}, "thinking": None}, ("reasoning_effort",)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "given", "members", "dropped"), PARAMETERS)
def test_parameters(name: str, given: dict[str, Any], members: dict[str, Any], dropped: tuple[str, ...]) -> None:
    body, made = built(name, **given)
    assert {key: body.get(key) for key in members} == members
    assert set(made.dropped) == set(dropped)
    assert not {"n", "seed", "stream_options", "response_format", "reasoning_effort", "user"} & body.keys()


@pytest.mark.parametrize(
    ("choice", "more", "expected"),
    [
        (None, {}, None),
        ("auto", {}, {"type": "auto"}),
        ("none", {}, {"type": "none"}),
        ("required", {}, {"type": "any"}),
        ({"type": "function", "function": {"name": "now"}}, {}, {"type": "tool", "name": "now"}),
        (None, {"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        (None, {"parallel_tool_calls": True}, None),
        ("required", {"parallel_tool_calls": False}, {"type": "any", "disable_parallel_tool_use": True}),
        ("none", {"parallel_tool_calls": False}, {"type": "none"}),
        ({"type": "any"}, {}, {"type": "any"}),
    ],
)
def test_tool_choice(choice: Any, more: dict[str, Any], expected: dict[str, Any] | None) -> None:
    body, made = built(tools=[WEIGH, NOW], **({} if choice is None else {"tool_choice": choice}), **more)
    assert body.get("tool_choice") == expected
    assert body["tools"] == [
        {"name": "weigh", "input_schema": {"type": "object"}, "description": "Weighs."},
        {"name": "now", "input_schema": {"type": "object", "properties": {}}},
    ]
    assert made.dropped == ()


def test_allowed_tools_are_the_only_ones_sent() -> None:
    tools = [{"type": "function", "function": {"name": "now"}}]
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": tools}}
    body, _ = built(tools=[WEIGH, NOW], tool_choice=choice)
    assert [tool["name"] for tool in body["tools"]] == ["now"]
    assert body["tool_choice"] == {"type": "any"}


def test_tools_of_anthropic_s_own_strict_tools_and_caching() -> None:
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 2}
    mark = {"type": "ephemeral", "ttl": "1h"}
    strict = {
        "type": "function",
        "function": {"name": "f", "strict": True, "parameters": SCHEMA},
        "cache_control": mark,
    }
    body, made = built(tools=[search, strict])
    assert body["tools"] == [search, {"name": "f", "input_schema": CLOSED, "strict": True, "cache_control": mark}]
    body, made = built("claude-3-7-sonnet-latest", tools=[strict])
    assert body["tools"] == [{"name": "f", "input_schema": SCHEMA, "cache_control": mark}]
    assert made.dropped == ("tools[].function.strict",)
    place = {"type": "approximate", "approximate": {"country": "CH", "city": "Bern"}}
    body, _ = built(web_search_options={"user_location": place})
    assert body["tools"][0]["user_location"] == {"type": "approximate", "country": "CH", "city": "Bern"}


@pytest.mark.parametrize(
    ("name", "given", "param"),
    [
        ("claude-sonnet-4-5", {"n": 2}, "n"),
        ("claude-sonnet-4-5", {"modalities": ["text", "audio"]}, "modalities"),
        ("claude-sonnet-4-5", {"audio": {"voice": "x"}}, "audio"),
        ("claude-sonnet-4-5", {"functions": [{"name": "f"}]}, "functions"),
        ("claude-sonnet-4-5", {"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0]"),
        ("claude-sonnet-4-5", {"tools": [{"type": "other:search"}]}, "tools[0]"),
        ("claude-sonnet-4-5", {"tools": [{"type": "function"}]}, "tools[0].function"),
        ("claude-sonnet-4-5", {"tools": [NOW], "tool_choice": "maybe"}, "tool_choice"),
        ("claude-opus-5-5", {"tools": [NOW], "tool_choice": "required"}, "tool_choice"),
        ("claude-sonnet-4-5", {"response_format": {"type": "xml"}}, "response_format"),
    ],
)
def test_what_would_change_the_answer_is_refused(name: str, given: dict[str, Any], param: str) -> None:
    with pytest.raises(Refusal) as caught:
        built(name, **given)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert param in caught.value.message


def test_defaults_and_forced_values_of_the_target() -> None:
    to = TO._replace(params={"max_tokens": 5, "temperature": 0.5}, force={"top_k": 3, "seed": 4})
    body, made = built(to=to, max_completion_tokens=9, top_k=9)
    assert (body["max_tokens"], body["temperature"], body["top_k"]) == (9, 0.5, 3)
    assert made.dropped == ("seed",)


def test_json_without_a_schema_is_asked_for_in_words() -> None:
    body, _ = built(response_format={"type": "json_object"}, messages=[{"role": "system", "content": "Be."}, *USER])
    assert [block["text"][:12] for block in body["system"]] == ["Be.", "Answer with "]
    loose = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}}
    body, _ = built("claude-opus-5-5", response_format=loose)
    assert body["system"][0]["text"].endswith('Its schema: {"type":"object"}')


def test_betas_travel_as_a_header() -> None:
    assert built(betas=["a-1", "b-2"])[1].headers == ((b"anthropic-beta", b"a-1,b-2"),)


@pytest.mark.parametrize(
    ("name", "limit", "thinking", "sampling"),
    [
        ("claude-3-opus-20240229", 4_096, "none", True),
        ("claude-3-5-sonnet-20241022", 8_192, "none", True),
        ("claude-3-7-sonnet-20250219", 64_000, "budget", True),
        ("claude-opus-4-20250514", 32_000, "budget", True),
        ("claude-sonnet-4-0", 64_000, "budget", True),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", 64_000, "budget", True),
        ("anthropic/claude-opus-4.6", 128_000, "adaptive", True),
        ("claude-opus-4-7-20260416", 128_000, "adaptive", False),
        ("claude-haiku-5-5", 128_000, "adaptive", False),
        ("claude-mythos-preview", 128_000, "always", False),
        ("claude-opus-9", 128_000, "always", False),
        ("deepseek-chat", 4_096, "budget", True),
    ],
)
def test_models_by_name(name: str, limit: int, thinking: str, sampling: bool) -> None:
    known = model(name)
    assert (known.max_tokens, known.thinking, known.sampling) == (limit, thinking, sampling)
    assert (known is OTHER) is (name == "deepseek-chat")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object"},
        {"type": "object", "properties": {"a": {"type": "object", "additionalProperties": {"type": "string"}}}},
        {"type": "array", "items": True},
        True,
    ],
)
def test_a_schema_that_leaves_members_open_is_not_narrowed(schema: Any) -> None:
    with pytest.raises(NotNarrow):
        narrowed(schema)


def test_a_schema_keeps_what_anthropic_takes() -> None:
    given = {"$schema": "x", "type": "array", "minItems": 3, "description": "Loads", "items": {"oneOf": [
        {"$ref": "#/$defs/a"}, {"type": "string", "format": "date"}, {"type": "string", "format": "odd"}]},
        "$defs": {"a": {"type": ["object", "null"], "properties": {"b": {"enum": [1]}}}}}  # fmt: skip
    assert narrowed(given) == {
        "type": "array",
        "description": 'Loads\n\nAlso holds: {"minItems":3}',
        "items": {"anyOf": [
            {"$ref": "#/$defs/a"}, {"type": "string", "format": "date"},
            {"type": "string", "description": 'Also holds: {"format":"odd"}'},
        ]},
        "$defs": {"a": {"type": ["object", "null"], "properties": {"b": {"enum": [1]}}, "additionalProperties": False}},
    }  # fmt: skip


@pytest.mark.parametrize("stream", [True, False])
def test_the_tool_whose_input_is_the_answer_becomes_content(stream: bool) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object", "properties": {}}}}
    to = TO._replace(model="claude-3-haiku-20240307")
    decoder = Anthropic().decoder(ask(stream=stream, response_format=form), to, Minted("chatcmpl-1", 1))
    blocks = [{"type": "tool_use", "id": "toolu_1", "name": "json_answer", "input": {"a": 1}}]
    raw = events(blocks, "tool_use") if stream else [orjson.dumps(message(blocks, "tool_use"))]
    chunks = read(decoder, raw)
    said = assembled(chunks) if stream else (chunks[0].body or {})["choices"][0]["message"]
    assert said["content"] == '{"a":1}'
    assert "tool_calls" not in said
    assert decoder.finish_reason == "stop"
