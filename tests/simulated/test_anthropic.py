"""The Anthropic dialect of the simulated upstream, spoken to by the proxy's own: what one writes the other takes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from policies.verdict import Kind
from proxy.errors import UpstreamError
from proxy.providers.anthropic import Anthropic
from proxy.providers.base import Endpoint, Minted
from proxy.simulated import FAULTS, Simulated
from proxy.wire.chat import ChatRequest
from proxy.wire.chunk import Usage
from tests.providers.test_anthropic import assembled
from tests.simulated.wire import answer as fetch

HI: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]
WEIGH = {"type": "function", "function": {"name": "weigh", "parameters": {
    "type": "object", "properties": {"load": {"type": "string"}}, "required": ["load"]}}}  # fmt: skip
NOW = {"type": "function", "function": {"name": "now"}}
SPEAKS = Anthropic()


class Said(dict[str, Any]):
    """The message, as a client has it in the end."""

    usage: Usage | None
    finish: str | None
    dropped: tuple[str, ...]


async def call(simulated: Simulated, model: str, *, stream: bool, fault: str | None = None, **more: Any) -> Said:
    """One request through the dialect. Raises `UpstreamError`."""
    ask = ChatRequest.parse(orjson.dumps({"model": "r", "messages": HI, "stream": stream, **more}))
    to = Endpoint("anthropic", simulated.base_url, model)
    built = SPEAKS.build(ask, to)
    head = {name.decode(): value.decode() for name, value in SPEAKS.headers(to, "key", stream)}
    if fault is not None:
        head["x-sim-fault"] = fault
    answer = await fetch(simulated, built.body, path=SPEAKS.path(to, stream), **head)
    if answer.status != 200:
        headers = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
        raise SPEAKS.error(answer.status, headers, answer.body)
    decoder = SPEAKS.decoder(ask, to, Minted("chatcmpl-1", 1))
    chunks = decoder.feed(answer.body) + decoder.close()
    said = Said(assembled(chunks) if stream else (chunks[0].body or {})["choices"][0]["message"])
    said.usage, said.finish, said.dropped = decoder.usage, decoder.finish_reason, built.dropped
    return said


def given(said: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in said.items() if value not in (None, "")}


@pytest.mark.parametrize(
    "model",
    ["claude-3-haiku-20240307", "claude-sonnet-4-5", "claude-sonnet-4-6", "claude-opus-5-5", "claude-haiku-5-5"],
)
@pytest.mark.parametrize("stream", [True, False])
def test_an_agent_of_three_turns_whose_thinking_comes_back(model: str, stream: bool) -> None:
    async def run() -> None:
        async with Simulated("anthropic", api_key="key") as simulated:
            messages = [{"role": "system", "content": "Be."}, *HI]
            for turn in range(3):
                asked: dict[str, Any] = {"messages": messages, "tools": [WEIGH, NOW], "reasoning_effort": "medium"}
                said = await call(simulated, model, stream=stream, **asked)
                other = await call(simulated, model, stream=not stream, **asked)
                assert given(said) == given(other)
                assert (said.finish, said.usage) == (other.finish, other.usage)
                thinks = model != "claude-3-haiku-20240307"
                assert ("reasoning_details" in said, said.dropped) == (thinks, () if thinks else ("reasoning_effort",))
                calls = said.get("tool_calls", [])
                assert [one["function"]["name"] for one in calls] == (["weigh", "now"] if turn != 1 else [])
                assert said.finish == ("stop" if turn == 1 else "tool_calls")
                messages = [*messages, dict(said)]
                messages += [{"role": "tool", "tool_call_id": one["id"], "content": "ok"} for one in reversed(calls)]
                messages += [] if calls else [{"role": "user", "content": "more"}]

    asyncio.run(run())


def test_thinking_that_was_changed_is_refused() -> None:
    async def run() -> None:
        async with Simulated("anthropic") as simulated:
            asked: dict[str, Any] = {"tools": [NOW], "reasoning_effort": "low"}
            said = await call(simulated, "claude-sonnet-4-5", stream=False, **asked)
            said["reasoning_details"][0]["text"] += "!"
            result = {"role": "tool", "tool_call_id": said["tool_calls"][0]["id"], "content": "ok"}
            with pytest.raises(UpstreamError, match="Invalid `signature`"):
                await call(simulated, "claude-sonnet-4-5", stream=False, messages=[*HI, dict(said), result], **asked)

    asyncio.run(run())


@pytest.mark.parametrize("model", ["claude-3-haiku-20240307", "claude-sonnet-4-5", "claude-opus-5-5"])
def test_json_in_every_way_of_asking(model: str) -> None:
    schema = {"type": "object", "properties": {"kg": {"type": "integer", "minimum": 3}}, "required": ["kg"]}

    async def run() -> None:
        async with Simulated("anthropic") as simulated:
            form: dict[str, Any] = {"type": "json_schema", "json_schema": {"name": "load", "schema": schema}}
            for stream in (True, False):
                said = await call(simulated, model, stream=stream, response_format=form)
                assert set(orjson.loads(said["content"])) == {"kg"}
                assert said.finish == "stop"
                said = await call(simulated, model, stream=stream, response_format={"type": "json_object"})
                assert type(orjson.loads(said["content"])) is dict

    asyncio.run(run())


EXPECTED = {
    "context_length": Kind.CONTEXT_LENGTH, "content_filter": Kind.CONTENT_FILTER, "http_401": Kind.AUTH,
    "http_400": Kind.BAD_REQUEST, "http_402": Kind.QUOTA, "http_403": Kind.AUTH, "http_404": Kind.UNKNOWN_MODEL,
    "http_408": Kind.TIMEOUT, "http_413": Kind.CONTEXT_LENGTH, "http_422": Kind.BAD_REQUEST,
    "http_429": Kind.RATE_LIMIT, "http_429_quota": Kind.QUOTA, "http_500": Kind.SERVER_ERROR,
    "http_502": Kind.SERVER_ERROR, "http_503": Kind.SERVER_ERROR, "http_504": Kind.SERVER_ERROR,
    "http_529": Kind.SERVER_ERROR, "html_502": Kind.SERVER_ERROR,
    "html_200": Kind.MALFORMED, "empty_200": Kind.MALFORMED, "error_in_200": Kind.MALFORMED,
    "sse_for_json": Kind.MALFORMED, "json_for_sse": Kind.MALFORMED, "empty_choices": Kind.MALFORMED,
    "done_only": Kind.MALFORMED, "role_then_error": Kind.MALFORMED, "cut_clean": Kind.MALFORMED,
    "truncated_json": Kind.MALFORMED, "malformed_sse": Kind.MALFORMED, "error_event": Kind.MALFORMED,
    "missing_finish": Kind.MALFORMED,
}  # fmt: skip


@pytest.mark.parametrize("kind", EXPECTED)
@pytest.mark.parametrize("stream", [True, False])
def test_faults_show_in_the_dialect_s_own_shapes(kind: str, stream: bool) -> None:
    async def run() -> None:
        async with Simulated("anthropic") as simulated:
            with pytest.raises(UpstreamError) as caught:
                await call(simulated, "claude-sonnet-4-5", stream=stream, fault=kind)
            # A stream that ends too early is told apart from one that is nonsense.
            allowed = {EXPECTED[kind]} | ({Kind.TRUNCATED} if EXPECTED[kind] is Kind.MALFORMED and stream else set())
            assert caught.value.kind in allowed

    asyncio.run(run())


@pytest.mark.parametrize("kind", [kind for kind in FAULTS if FAULTS[kind].harmless and kind not in (
    "slow_ttft", "byte_by_byte", "gzip", "early_hints")])  # fmt: skip
def test_faults_that_do_no_harm(kind: str) -> None:
    async def run() -> None:
        async with Simulated("anthropic") as simulated:
            expected = await call(simulated, "claude-sonnet-4-5", stream=True)
            got = await call(simulated, "claude-sonnet-4-5", stream=True, fault=kind)
            assert (got, got.finish) == (expected, "stop")
            assert got.usage == (None if kind == "missing_usage" else expected.usage)

    asyncio.run(run())


OK: dict[str, Any] = {"model": "claude-sonnet-4-5", "max_tokens": 2000, "messages": HI}
USED = {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]}
TOOL = {"name": "f", "input_schema": {"type": "object"}}


@pytest.mark.parametrize(
    ("more", "status", "words"),
    [
        ({}, 200, '"type":"message"'),
        ({"max_tokens": None}, 400, "max_tokens: Input should be"),
        ({"stop": ["x"]}, 400, "stop: Extra inputs are not permitted"),
        ({"seed": 1}, 400, "seed: Extra inputs"),
        ({"messages": [{"role": "tool", "content": "x"}]}, 400, "role 'tool'"),
        ({"messages": [{"role": "system", "content": "x"}]}, 400, "role 'system'"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, 400, "first message"),
        ({"messages": [{"role": "user", "content": " "}]}, 400, "non-whitespace"),
        ({"messages": [*HI, USED]}, 400, "without `tool_result`"),
        ({"messages": [*HI, USED, *HI]}, 400, "without `tool_result`"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, 400, "image_url"),
        ({"max_tokens": 64_001}, 400, "maximum allowed number of output tokens"),
        ({"temperature": 1.5}, 400, "range: 0..1"),
        ({"temperature": 0.5, "top_p": 0.5}, 400, "cannot both"),
        ({"model": "claude-opus-4-8", "temperature": 0.5}, 400, "not supported"),
        ({"thinking": {"type": "adaptive"}}, 400, "thinking.type.adaptive"),
        ({"thinking": {"type": "enabled", "budget_tokens": 10}}, 400, "at least 1024"),
        ({"tool_choice": {"type": "auto"}}, 400, "while providing tools"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, 400, "tools.0"),
        ({"tools": [TOOL], "tool_choice": {"type": "any"}, "thinking": {"type": "enabled", "budget_tokens": 1024}}, 400,
         "forces tool use"),
        ({"model": "claude-opus-4-8", "messages": [*HI, {"role": "assistant", "content": "x"}]}, 400, "prefill"),
        ({"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}}, 400, "additionalProper"),
        ({"model": "gone"}, 404, "not_found_error"),
    ],
)  # fmt: skip
def test_what_the_real_api_would_refuse(more: dict[str, Any], status: int, words: str) -> None:
    async def run() -> None:
        models = ("claude-sonnet-4-5", "claude-opus-4-8")
        async with Simulated("anthropic", models=models) as simulated:
            answer = await fetch(simulated, {**OK, **more}, path="/v1/messages", **{"anthropic-version": "2023-06-01"})
            assert (answer.status, words in answer.body.decode()) == (status, True), answer.body
            assert orjson.loads(answer.body)["type"] == ("message" if status == 200 else "error")

    asyncio.run(run())


def test_key_version_models_and_token_counts() -> None:
    async def run() -> None:
        async with Simulated("anthropic", api_key="k") as simulated:
            head = {"anthropic-version": "2023-06-01", "x-api-key": "k"}
            assert (await fetch(simulated, OK, path="/v1/messages", **head | {"x-api-key": "no"})).status == 401
            assert (await fetch(simulated, OK, path="/v1/messages", x_api_key="k")).status == 400
            counted = await fetch(
                simulated, {k: OK[k] for k in ("model", "messages")}, path="/v1/messages/count_tokens", **head
            )
            answer = await fetch(simulated, OK, path="/v1/messages", **head)
            assert orjson.loads(counted.body)["input_tokens"] == orjson.loads(answer.body)["usage"]["input_tokens"]
            listed = await fetch(simulated, b"", path="/v1/models", method="GET", **head)
            assert orjson.loads(listed.body)["data"][0]["type"] == "model"

    asyncio.run(run())
