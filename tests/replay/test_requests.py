"""Requests in OpenAI's form, put into every dialect: the providers' own packages accept them, and reject bad ones."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from tests.replay.oracles import ORACLES, PACKAGES
from tests.replay.requests import main, present, put

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the packages themselves

PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
HELLO = {"role": "user", "content": "Hello"}
WEIGH: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weigh",
        "description": "Weighs a thing.",
        "parameters": {
            "type": "object",
            "properties": {"thing": {"$ref": "#/$defs/thing"}, "unit": {"type": ["string", "null"]}},
            "required": ["thing"],
            "additionalProperties": False,
            "$defs": {"thing": {"type": "string", "minLength": 1}},
        },
    },
}
TARE = {"type": "function", "function": {"name": "tare"}}
SCHEMA = {"name": "weight", "strict": True, "schema": WEIGH["function"]["parameters"]}


def _called(id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


CALLS = [_called("call_one12345678", "weigh", '{"thing": "tea"}'), _called("call_two12345678", "tare", "{}")]
RESULTS = [
    {"role": "tool", "tool_call_id": "call_two12345678", "content": "done"},
    {"role": "tool", "tool_call_id": "call_one12345678", "content": '{"kg": 7}'},
]
IMAGE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}

ASKED: dict[str, dict[str, Any]] = {
    "plain": {"messages": [HELLO]},
    "instructions": {
        "messages": [
            {"role": "developer", "content": "Be brief."},
            {"role": "system", "content": [{"type": "text", "text": "Be kind."}]},
            HELLO,
        ]
    },
    "one role twice": {"messages": [HELLO, HELLO, {"role": "assistant", "content": "Hi"}, HELLO]},
    "sampling": {
        "messages": [HELLO],
        "temperature": 1.4,
        "top_p": 0.5,
        "seed": 7,
        "presence_penalty": 0.5,
        "stop": ".",
    },
    "limits": {"messages": [HELLO], "max_completion_tokens": 64, "stop": ["a", "b"]},
    "streamed": {"messages": [HELLO], "stream": True, "stream_options": {"include_usage": True}},
    "an image": {"messages": [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, IMAGE]}]},
    "tools offered": {"messages": [HELLO], "tools": [WEIGH, TARE], "parallel_tool_calls": False},
    "a tool demanded": {"messages": [HELLO], "tools": [WEIGH], "tool_choice": "required"},
    "this tool demanded": {
        "messages": [HELLO],
        "tools": [WEIGH, TARE],
        "tool_choice": {"type": "function", "function": {"name": "weigh"}},
    },
    "no tool allowed": {"messages": [HELLO], "tools": [WEIGH], "tool_choice": "none"},
    "results out of order": {
        "messages": [HELLO, {"role": "assistant", "content": None, "tool_calls": CALLS}, *RESULTS],
        "tools": [WEIGH, TARE],
    },
    "results and a question": {
        "messages": [HELLO, {"role": "assistant", "content": "", "tool_calls": CALLS}, *RESULTS, HELLO],
        "tools": [WEIGH, TARE],
    },
    "two turns of tools": {
        "messages": [
            HELLO,
            {"role": "assistant", "content": "One.", "tool_calls": [CALLS[0]]},
            RESULTS[1],
            {"role": "assistant", "content": None, "tool_calls": [CALLS[1]]},
            RESULTS[0],
        ],
        "tools": [WEIGH, TARE],
    },
    "a schema": {"messages": [HELLO], "response_format": {"type": "json_schema", "json_schema": SCHEMA}},
    "metadata": {"messages": [HELLO], "user": "u-1", "metadata": {"purpose": "test"}, "service_tier": "auto"},
}

MAY_REFUSE = {("this tool demanded", "cohere")}
"""What a provider has no words for."""

SOUND: dict[str, dict[str, Any]] = {
    "openai": {"model": "m", "messages": [HELLO]},
    "anthropic": {"model": "m", "max_tokens": 9, "messages": [HELLO]},
    "gemini": {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]},
    "bedrock": {"messages": [{"role": "user", "content": [{"text": "Hello"}]}]},
    "cohere": {"model": "m", "messages": [HELLO]},
    "mistral": {"model": "m", "messages": [HELLO]},
}
"""The least request of each provider."""

_CALL = {"type": "tool_use", "id": "t1", "name": "weigh", "input": {}}

UNSOUND: list[tuple[str, dict[str, Any]]] = [
    ("openai", {"messages": [{"role": "nobody", "content": "x"}]}),
    ("openai", {"messages": [{"role": "tool", "content": "x"}]}),
    ("openai", {"max_output_tokens": 5}),
    ("anthropic", {"messages": [{"role": "user", "content": [IMAGE]}]}),
    ("anthropic", {"tools": [WEIGH]}),
    ("anthropic", {"stop": ["a"]}),
    ("anthropic", {"tool_choice": "auto"}),
    ("anthropic", {"messages": [HELLO, {"role": "tool", "content": "x", "tool_call_id": "t1"}]}),
    ("anthropic", {"seed": 7}),
    ("anthropic", {"temperature": 1.4}),
    ("anthropic", {"max_tokens": "many"}),
    ("anthropic", {"messages": [HELLO, {"role": "assistant", "content": [_CALL]}, HELLO]}),
    ("gemini", {"messages": [HELLO]}),
    ("gemini", {"contents": [{"role": "assistant", "parts": [{"text": "x"}]}]}),
    ("gemini", {"contents": [{"role": "user", "parts": [{"text": "x", "image_url": "y"}]}]}),
    ("gemini", {"tools": [WEIGH]}),
    ("gemini", {"generationConfig": {"max_tokens": 9}}),
    ("gemini", {"toolConfig": {"functionCallingConfig": {"mode": "ANY", "names": ["weigh"]}}}),
    ("gemini", {"toolConfig": {"functionCallingConfig": {"mode": "SOMETIMES"}}}),
    ("bedrock", {"messages": [HELLO]}),
    ("bedrock", {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}),
    ("bedrock", {"max_tokens": 9}),
    ("bedrock", {"inferenceConfig": {"maxTokens": "many"}}),
    ("bedrock", {"toolConfig": {"tools": [WEIGH]}}),
    (
        "bedrock",
        {"messages": [{"role": "user", "content": [{"toolResult": {"toolUseId": "t", "content": [{"text": "x"}]}}]}]},
    ),
    ("cohere", {"messages": [{"role": "developer", "content": "x"}]}),
    ("cohere", {"top_p": 0.5}),
    ("cohere", {"tools": [{"type": "function", "function": {"description": "nameless"}}]}),
    ("cohere", {"messages": [{"role": "user", "content": "x", "name": "me"}]}),
    ("mistral", {"messages": [{"role": "developer", "content": "x"}]}),
    ("mistral", {"seed": 7}),
    ("mistral", {"max_completion_tokens": 9}),
    ("mistral", {"messages": [{"role": "user", "content": "x", "name": "me"}]}),
]


def _needs(dialect: str) -> None:
    try:
        found = importlib.util.find_spec(PACKAGES[dialect])
    except ModuleNotFoundError:
        found = None
    if found is None:
        pytest.skip(f"the package {PACKAGES[dialect]} is not installed")


@pytest.mark.parametrize("dialect", SOUND)
def test_an_oracle_accepts_what_is_sound(dialect: str) -> None:
    _needs(dialect)
    assert list(ORACLES[dialect](SOUND[dialect])) == []


@pytest.mark.parametrize(("dialect", "fault"), UNSOUND)
def test_an_oracle_rejects_what_is_not(dialect: str, fault: dict[str, Any]) -> None:
    _needs(dialect)
    assert list(ORACLES[dialect]({**SOUND[dialect], **fault})) != []


@pytest.mark.parametrize("dialect", ORACLES)
@pytest.mark.parametrize("name", ASKED)
def test_a_request_is_accepted(name: str, dialect: str) -> None:
    _needs(dialect)
    if not present(dialect):
        pytest.skip(f"no dialect {dialect}")
    outcome = put(ASKED[name], dialect)
    assert outcome.mark == "accepted" or (outcome.mark == "refused" and (name, dialect) in MAY_REFUSE), outcome.reason


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = {
        "id": "one",
        "provider": "openai",
        "api": "chat",
        "request": {"body": {"model": "m", **ASKED["tools offered"]}},
        "response": {"body": {}},
    }
    (tmp_path / "one.jsonl").write_text(json.dumps(line))
    assert main([str(tmp_path), "--dialect", "openai"]) == 0
    assert "openai     1/1 accepted, 0 refused" in capsys.readouterr().out


JUNK: list[Any] = [
    5,
    "x",
    True,
    {},
    [5],
    [[]],
    [{}],
    [{"id": 5}],
    [{"id": "a", "function": 5}],
    {"type": "json_schema"},
]
JUNK += [{"type": "json_schema", "json_schema": 5}, {"type": "function", "function": 5}, -1, 1e30]


@pytest.mark.parametrize("dialect", ORACLES)
def test_junk_is_refused_by_name_or_passed_on_never_a_fault(dialect: str) -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [_called("call_one12345678", "weigh", "{}")]}
    asked: list[dict[str, Any]] = []
    for junk in JUNK:
        asked += [
            {"messages": [HELLO], key: junk} for key in ("tools", "tool_choice", "stop", "response_format", "user")
        ]
        for key in ("tool_calls", "content", "images", "reasoning_details", "tool_call_id", "refusal", "extra_content"):
            for role in ("assistant", "tool", "user", "system"):
                message = {"role": role, "content": "x", "tool_call_id": "call_one12345678", key: junk}
                asked.append({"messages": [HELLO, call, message, HELLO]})
    for body in asked:
        assert "fell over" not in put(body, dialect).reason
