"""Requests that the real API refuses, and what it says to them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.simulated import Simulated
from proxy.simulated.openai_fields import CHAT
from tests.simulated.wire import answer, ask, run

_TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
_CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def _error(body: object, status: int = 400, *, headers: dict[str, str] | None = None, **options: Any) -> dict[str, Any]:
    found: list[dict[str, Any]] = []

    async def scenario(simulated: Simulated) -> None:
        message = await answer(simulated, body, **(headers or {}))
        assert message.status == status, message.body
        assert message.headers["content-type"] == "application/json"
        found.append(json.loads(message.body)["error"])
        assert simulated.stats.faults == {}, "a fault is not counted where the request was at fault"

    stats = run(scenario, faults=["http_500"], **options).stats
    assert (stats.requests, stats.rejected, stats.answered, stats.broken) == (1, 1, 0, 0)
    (error,) = found
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    return error


def _named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def _schema(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


def _messages(*messages: object) -> dict[str, Any]:
    return ask(messages=list(messages))


_USER = {"role": "user", "content": "hi"}


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        (ask(temperature=3), "temperature", "decimal_above_max_value"),
        (ask(temperature=-0.5), "temperature", "decimal_below_min_value"),
        (ask(temperature="hot"), "temperature", "invalid_type"),
        (ask(temperature=True), "temperature", "invalid_type"),
        (ask(top_p=1.5), "top_p", "decimal_above_max_value"),
        (ask(presence_penalty=-3), "presence_penalty", "decimal_below_min_value"),
        (ask(n=0), "n", "integer_below_min_value"),
        (ask(n=1.5), "n", "invalid_type"),
        (ask(max_tokens=0), "max_tokens", "integer_below_min_value"),
        (ask(max_tokens=5, max_completion_tokens=5), "max_tokens", "invalid_value"),
        ({**ask(), "stream": "yes"}, "stream", "invalid_type"),
        (ask(stream_options={"include_usage": True}), "stream_options", "invalid_value"),
        (ask(stop=["a", "b", "c", "d", "e"]), "stop", "array_above_max_length"),
        (ask(stop=5), "stop", "invalid_type"),
        (ask(top_logprobs=3), "top_logprobs", "invalid_value"),
        (ask(logprobs=True, top_logprobs=21), "top_logprobs", "integer_above_max_value"),
        (ask(metadata={str(n): "v" for n in range(17)}), "metadata", "object_above_max_properties"),
        (ask(metadata={"a": 1}), "metadata.a", "invalid_type"),
        (ask(logit_bias={"50256": 101}), "logit_bias.50256", "decimal_above_max_value"),
        (ask(reasoning_effort="extreme"), "reasoning_effort", "invalid_value"),
        (ask(functions=[]), "functions", "unsupported_parameter"),
        (ask(tool_choice="auto"), "tool_choice", "invalid_value"),
        (ask(tools=[]), "tools", "empty_array"),
        (ask(tools=[{"type": "custom"}]), "tools[0].type", "invalid_value"),
        (ask(tools=[{"type": "function"}]), "tools[0].function", "invalid_type"),
        (ask(tools=[{"type": "function", "function": {"name": "a b"}}]), "tools[0].function.name", "invalid_value"),
        (ask(tools=[_TOOL], tool_choice="always"), "tool_choice", "invalid_value"),
        (ask(tools=[_TOOL], tool_choice=_named("g")), "tool_choice", "invalid_value"),
        (ask(response_format={"type": "xml"}), "response_format.type", "invalid_value"),
        (ask(response_format={"type": "json_schema"}), "response_format.json_schema", "invalid_type"),
        (
            ask(response_format=_schema({"type": "colour"})),
            None,
            "invalid_json_schema",
        ),
        ({"model": "m"}, "messages", "missing_required_parameter"),
        (ask(messages="hi"), "messages", "invalid_type"),
        (_messages(), "messages", "empty_array"),
        (_messages("hi"), "messages[0]", "invalid_type"),
        (_messages({"content": "hi"}), "messages[0].role", "missing_required_parameter"),
        (_messages(_USER, {"role": "boss", "content": "hi"}), "messages[1].role", "invalid_value"),
        (_messages({"role": "user"}), "messages[0].content", "invalid_type"),
        (_messages({"role": "user", "content": 5}), "messages[0].content", "invalid_type"),
        (_messages({"role": "assistant", "content": None}), "messages[0].content", "invalid_type"),
        (_messages({"role": "user", "content": ["hi"]}), "messages[0].content[0]", "invalid_type"),
        (_messages({"role": "user", "content": [{"type": "smell"}]}), "messages[0].content[0].type", "invalid_value"),
        (_messages({"role": "user", "content": [{"type": "text"}]}), "messages[0].content[0].text", "invalid_type"),
        (
            _messages({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "scale.png"}}]}),
            "messages[0].content[0].image_url.url",
            "invalid_image_url",
        ),
        (_messages(_USER, {"role": "tool", "tool_call_id": "c", "content": "x"}), "messages[1].role", "invalid_value"),
        (_messages({"role": "tool", "content": "x"}), "messages[0].tool_call_id", "invalid_type"),
        (
            _messages({"role": "assistant", "tool_calls": [{"id": "c"}]}),
            "messages[0].tool_calls[0].function",
            "invalid_type",
        ),
    ],
)  # fmt: skip
def test_complaints(body: dict[str, Any], param: str | None, code: str) -> None:
    error = _error(body)
    assert (error["param"], error["code"]) == (param, code)
    assert error["message"]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"', b"null", b"\xff\xfe", b"[" * 100_000])
def test_no_json_object(body: bytes) -> None:
    assert "could not parse the JSON body" in _error(body)["message"]


@pytest.mark.parametrize("model", [None, ""])
def test_no_model(model: object) -> None:
    assert "model" in _error(ask(model=model))["message"]


def test_unknown_model() -> None:
    assert _error(ask(), 404, models=["other"])["code"] == "model_not_found"


def test_keys() -> None:
    assert _error(ask(), 401, api_key="right")["code"] is None
    wrong = {"authorization": "Bearer wrong"}
    assert _error(ask(), 401, api_key="right", headers=wrong)["code"] == "invalid_api_key"

    async def scenario(simulated: Simulated) -> None:
        assert (await answer(simulated, ask(), authorization="Bearer right")).status == 200
        assert (await answer(simulated, b"", method="GET", path="/v1/models")).status == 401

    run(scenario, api_key="right")


def test_unknown_fields() -> None:
    async def scenario(simulated: Simulated) -> None:
        assert (await answer(simulated, ask(top_k=4))).status == 200

    run(scenario)
    assert _error(ask(top_k=4), strict=True) == {
        "message": "Unknown parameter: 'top_k'.",
        "type": "invalid_request_error",
        "param": "top_k",
        "code": "unknown_parameter",
    }


def test_what_is_well_formed_passes() -> None:
    """The negative tests above would also pass if everything were refused."""
    bodies = [
        ask(temperature=0, top_p=1, presence_penalty=-2, frequency_penalty=2.0, n=2, seed=-1, stop=None, user="u"),
        ask(max_completion_tokens=1, metadata={"a": "b"}, logit_bias={"1": -100}, reasoning_effort="low"),
        ask(tools=[_TOOL], tool_choice=_named("f"), parallel_tool_calls=True),
        _messages({"role": "developer", "content": "d"}, _USER,
                  {"role": "assistant", "content": None, "refusal": "no"}),
        _messages({"role": "assistant", "content": None, "tool_calls": [_CALL]},
                  {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "x"}]}),
        _messages({"role": "user", "content": [
            {"type": "text", "text": "what?"},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
            {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
            {"type": "file", "file": {"file_id": "f"}},
        ]}),
    ]  # fmt: skip

    async def scenario(simulated: Simulated) -> None:
        for body in bodies:
            message = await answer(simulated, body)
            assert message.status == 200, message.body

    run(scenario, strict=True)


@pytest.mark.parametrize("field", [*sorted(CHAT), "provider"])
def test_junk_in_every_field(field: str) -> None:
    """Whatever stands in a field, the answer is an answer or a complaint, and the next request is served."""
    junk: list[object] = [
        None, True, -1, 0, 10**30, 1e308, "", "\ud83d\ude9a", [], [None], [[]], {}, {"type": []}, {"type": "function"},
        {"type": "function", "function": []}, {"type": "function", "function": {"name": []}}, [{"type": {}}],
        [{"role": []}], [{"role": "user", "content": {}}], _schema({"anyOf": 1}),
        {"include_usage": "yes"}, [{"type": "function", "function": {"name": "f", "parameters": {"properties": 1}}}],
    ]  # fmt: skip

    async def scenario(simulated: Simulated) -> None:
        for value in junk:
            for stream in (False, True):
                for more in ({}, {"tools": [_TOOL]}):
                    message = await answer(simulated, {**ask(stream=stream), **more, field: value})
                    assert message.status in (200, 400), (value, message.body)
                    assert message.complete

    run(scenario, tokens=2)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/v1/chat/completions"), ("POST", "/v1/moderations"), ("GET", "/")]
)
def test_unknown_paths(method: str, path: str) -> None:
    async def scenario(simulated: Simulated) -> None:
        message = await answer(simulated, b"{}", method=method, path=path)
        assert message.status == 404
        assert json.loads(message.body)["error"]["message"] == f"Invalid URL ({method} {path})"
        assert (await answer(simulated, b"", method="GET", path="/v1/models/none")).status == 404

    stats = run(scenario, models=["m"]).stats
    assert (stats.requests, stats.others) == (0, 2)


@pytest.mark.parametrize("junk", [[5], [[]], [None], {"a": 1}, 5])
def test_what_nobody_foresaw_is_refused_too(junk: object) -> None:
    """The Responses API's input, which no schema here describes to the last part; the server lives on."""

    async def scenario(simulated: Simulated) -> None:
        for _ in range(2):
            body = {"model": "m", "input": [{"role": "user", "content": junk}, {"type": junk}]}
            message = await answer(simulated, body, path="/v1/responses")
            assert message.status == 400
            assert json.loads(message.body)["error"]["type"] == "invalid_request_error"

    assert run(scenario).stats.rejected == 2
