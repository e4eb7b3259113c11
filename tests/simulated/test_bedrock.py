"""The Bedrock dialect of the simulated upstream, spoken to by the proxy's own: what one writes the other takes."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from policies.verdict import Kind
from proxy.errors import UpstreamError
from proxy.providers.base import Endpoint, Minted
from proxy.providers.bedrock import Bedrock
from proxy.providers.eventstream import encode
from proxy.simulated import FAULTS, Simulated
from proxy.wire.chat import ChatRequest
from proxy.wire.chunk import DONE, Json, Usage
from tests.simulated.wire import answer as fetch

HI: list[Json] = [{"role": "user", "content": "hi"}]
WEIGH: Json = {"type": "function", "function": {"name": "weigh", "parameters": {
    "type": "object", "properties": {"load": {"type": "string"}}, "required": ["load"]}}}  # fmt: skip
NOW: Json = {"type": "function", "function": {"name": "now"}}
CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
PAIR = "AKIAIOSFODNN7EXAMPLE:secret/x:to=ken"
SPEAKS = Bedrock()


class Said(dict[str, Any]):
    """The message, as a client has it in the end."""

    usage: Usage | None
    finish: str | None
    dropped: tuple[str, ...]


async def call(
    simulated: Simulated, model: str = CLAUDE, *, stream: bool, fault: str | None = None, key: str = "ABSK", **more: Any
) -> Said:
    """One request through the dialect. Raises `UpstreamError`."""
    ask = ChatRequest.parse(orjson.dumps({"model": "r", "messages": HI, "stream": stream, **more}))
    to = Endpoint("bedrock", simulated.base_url, model, region="eu-central-1")
    built = SPEAKS.build(ask, to)
    path = SPEAKS.path(to, stream)
    headers = list(SPEAKS.headers(to, key, stream))
    sign = SPEAKS.signer(to, key)
    if sign is not None:
        headers += sign("POST", "simulated", path, built.body, 1_780_000_000.0)
    head = {name.decode(): value.decode() for name, value in headers}
    if fault is not None:
        head["x-sim-fault"] = fault
    answer = await fetch(simulated, built.body, path=path, **head)
    if answer.status != 200:
        raise SPEAKS.error(
            answer.status, [(name.encode(), value.encode()) for name, value in answer.headers.items()], answer.body
        )
    decoder = SPEAKS.decoder(ask, to, Minted("chatcmpl-1", 1))
    chunks = decoder.feed(answer.body) + decoder.close()
    said = Said(gathered([chunk.body or {} for chunk in chunks if chunk.kind != DONE]) if stream else {})
    if not stream:
        said.update((chunks[0].body or {})["choices"][0]["message"])
    said.usage, said.finish, said.dropped = decoder.usage, decoder.finish_reason, built.dropped
    return said


def gathered(chunks: list[Json]) -> Json:
    message: Json = {"content": ""}
    for delta in (choice["delta"] for chunk in chunks for choice in chunk["choices"]):
        for name, value in delta.items():
            if name == "tool_calls":
                calls = message.setdefault(name, [])
                for told in value:
                    if told["index"] == len(calls):
                        calls.append({"id": told["id"], "type": "function", "function": dict(told["function"])})
                    else:
                        calls[told["index"]]["function"]["arguments"] += told["function"]["arguments"]
            else:
                message[name] = message.get(name, [] if type(value) is list else "") + value
    return {**message, "role": "assistant"}


def given(said: Said) -> Json:
    return {key: value for key, value in said.items() if value not in (None, "")}


@pytest.mark.parametrize("model", [CLAUDE, "us.anthropic.claude-opus-4-7-v1", "amazon.nova-lite-v1:0"])
@pytest.mark.parametrize("stream", [True, False])
def test_an_agent_of_three_turns_whose_thinking_comes_back(model: str, stream: bool) -> None:
    async def run() -> None:
        async with Simulated("bedrock", api_key="ABSK") as simulated:
            messages = [{"role": "system", "content": "Be."}, *HI]
            for turn in range(3):
                asked: Json = {"messages": messages, "tools": [WEIGH, NOW], "reasoning_effort": "medium"}
                said = await call(simulated, model, stream=stream, **asked)
                other = await call(simulated, model, stream=not stream, **asked)
                assert given(said) == given(other)
                assert (said.finish, said.usage) == (other.finish, other.usage)
                thinks = "claude" in model
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
        async with Simulated("bedrock") as simulated:
            asked: Json = {"tools": [NOW], "reasoning_effort": "low"}
            said = await call(simulated, stream=False, **asked)
            said["reasoning_details"][0]["text"] += "!"
            result = {"role": "tool", "tool_call_id": said["tool_calls"][0]["id"], "content": "ok"}
            with pytest.raises(UpstreamError, match="Invalid `signature`"):
                await call(simulated, stream=False, messages=[*HI, dict(said), result], **asked)

    asyncio.run(run())


def test_a_conversation_that_has_no_tools_any_more() -> None:
    async def run() -> None:
        async with Simulated("bedrock") as simulated:
            said = await call(simulated, stream=False, tools=[NOW])
            result = {"role": "tool", "tool_call_id": said["tool_calls"][0]["id"], "content": "ok"}
            history = [*HI, dict(said), result, {"role": "user", "content": "more"}]
            for more in ({}, {"tools": [NOW], "tool_choice": "none"}):
                assert (await call(simulated, stream=True, messages=history, **more)).finish == "stop"

    asyncio.run(run())


@pytest.mark.parametrize(
    "model", [CLAUDE, "anthropic.claude-3-haiku-20240307-v1:0", "amazon.nova-lite-v1:0", "openai.gpt-oss-20b-1:0"]
)
def test_json_in_every_way_of_asking(model: str) -> None:
    schema = {"type": "object", "properties": {"kg": {"type": "integer"}}, "required": ["kg"]}
    form: Json = {"type": "json_schema", "json_schema": {"name": "load", "schema": schema}}

    async def run() -> None:
        async with Simulated("bedrock") as simulated:
            for stream in (True, False):
                said = await call(simulated, model, stream=stream, response_format=form)
                assert set(orjson.loads(said["content"])) == {"kg"}
                assert said.finish == "stop"
                said = await call(simulated, model, stream=stream, response_format={"type": "json_object"})
                assert type(orjson.loads(said["content"])) is dict

    asyncio.run(run())


@pytest.mark.parametrize(
    ("demanded", "sent", "taken"),
    [
        ("ABSK", "ABSK", True),
        ("ABSK", "ABSX", False),
        (PAIR, PAIR, True),
        (PAIR, PAIR.replace("secret", "other"), False),
        (PAIR, PAIR.replace("AKIAI", "AKIAJ"), False),
        (PAIR, "ABSK", False),
        ("ABSK", PAIR, False),
    ],
)
def test_keys(demanded: str, sent: str, taken: bool) -> None:
    async def run() -> None:
        async with Simulated("bedrock", api_key=demanded) as simulated:
            if taken:
                assert (await call(simulated, stream=True, key=sent)).finish == "stop"
                return
            with pytest.raises(UpstreamError) as caught:
                await call(simulated, stream=True, key=sent)
            assert (caught.value.kind, caught.value.status) == (Kind.AUTH, 403)

    asyncio.run(run())


EXPECTED = {
    "context_length": Kind.CONTEXT_LENGTH, "http_401": Kind.AUTH,
    "http_400": Kind.BAD_REQUEST, "http_402": Kind.QUOTA, "http_403": Kind.AUTH, "http_404": Kind.UNKNOWN_MODEL,
    "http_408": Kind.TIMEOUT, "http_422": Kind.BAD_REQUEST,
    "http_429": Kind.RATE_LIMIT, "http_429_quota": Kind.QUOTA, "http_500": Kind.SERVER_ERROR,
    "http_502": Kind.SERVER_ERROR, "http_503": Kind.SERVER_ERROR, "http_504": Kind.SERVER_ERROR,
    "http_529": Kind.SERVER_ERROR, "html_502": Kind.SERVER_ERROR,
    "html_200": Kind.MALFORMED, "empty_200": Kind.MALFORMED, "error_in_200": Kind.MALFORMED,
    "sse_for_json": Kind.MALFORMED, "json_for_sse": Kind.MALFORMED, "empty_choices": Kind.MALFORMED,
    "done_only": Kind.MALFORMED, "role_then_error": Kind.MALFORMED, "cut_clean": Kind.MALFORMED,
    "truncated_json": Kind.MALFORMED, "malformed_sse": Kind.MALFORMED, "error_event": Kind.MALFORMED,
    "missing_finish": Kind.MALFORMED, "big_line": Kind.MALFORMED,
}  # fmt: skip


@pytest.mark.parametrize("kind", EXPECTED)
@pytest.mark.parametrize("stream", [True, False])
def test_faults_show_in_the_dialect_s_own_shapes(kind: str, stream: bool) -> None:
    async def run() -> None:
        async with Simulated("bedrock") as simulated:
            with pytest.raises(UpstreamError) as caught:
                await call(simulated, stream=stream, fault=kind)
            # A stream that ends too early is told apart from one that is nonsense.
            allowed = {EXPECTED[kind]} | ({Kind.TRUNCATED} if EXPECTED[kind] is Kind.MALFORMED and stream else set())
            assert caught.value.kind in allowed

    asyncio.run(run())


HARMLESS = [kind for kind in FAULTS if FAULTS[kind].harmless and kind not in (
    "slow_ttft", "byte_by_byte", "gzip", "early_hints")]  # fmt: skip


@pytest.mark.parametrize("kind", HARMLESS)
def test_faults_that_do_no_harm(kind: str) -> None:
    async def run() -> None:
        async with Simulated("bedrock") as simulated:
            for stream in (True, False):
                plain = await call(simulated, stream=stream)
                assert given(await call(simulated, stream=stream, fault=kind)) == given(plain)

    asyncio.run(run())


USER: Json = {"role": "user", "content": [{"text": "hi"}]}
USES: Json = {"role": "assistant", "content": [{"toolUse": {"toolUseId": "a", "name": "f", "input": {}}}]}
RESULT: Json = {"role": "user", "content": [{"toolResult": {"toolUseId": "a", "content": []}}]}
SPEC: Json = {"toolSpec": {"name": "f", "inputSchema": {"json": {"type": "object"}}}}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ([], "Malformed input request"),
        ({"messages": [USER], "stop": ["x"]}, "extraneous key"),
        ({"messages": [USER], "inferenceConfig": {"max_tokens": 1}}, "extraneous key"),
        ({"messages": [USER], "inferenceConfig": {"temperature": 2}}, "between 0 and 1"),
        ({"messages": [USER], "inferenceConfig": {"stopSequences": [" "]}}, "blank"),
        ({"messages": []}, "at least one message"),
        ({"messages": [{"role": "tool", "content": [{"text": "x"}]}]}, "role"),
        ({"messages": [{"role": "user", "content": "x"}]}, "is empty"),
        ({"messages": [{"role": "assistant", "content": [{"text": "x"}]}]}, "start with a user message"),
        ({"messages": [USER, USER]}, "alternate"),
        ({"messages": [{"role": "user", "content": [{"text": " "}]}]}, "is blank"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}, "exactly one of"),
        ({"messages": [{"role": "user", "content": [{"image": {"format": "tiff", "source": {}}}]}]}, "known format"),
        ({"messages": [USER, USES, RESULT]}, "toolConfig field must be defined"),
        ({"messages": [USER, USES, USER]}, "Expected toolResult blocks"),
        ({"messages": [USER, USES]}, "Expected toolResult blocks"),
        ({"messages": [RESULT]}, "exceeds"),
        ({"messages": [USER], "toolConfig": {"tools": [{"type": "function"}]}}, "exactly one of"),
        ({"messages": [USER], "toolConfig": {"tools": []}}, "at least one tool"),
        ({"messages": [USER], "toolConfig": {"tools": [SPEC], "toolChoice": "auto"}}, "exactly one of"),
        (
            {"messages": [USER], "toolConfig": {"tools": [SPEC], "toolChoice": {"tool": {"name": "g"}}}},
            "names a tool",
        ),
        ({"messages": [USER], "system": "text"}, "system"),
    ],
)
def test_what_is_refused(body: Any, words: str) -> None:
    async def run() -> None:
        async with Simulated("bedrock") as simulated:
            answer = await fetch(simulated, orjson.dumps(body), path="/model/m/converse")
            assert answer.status == 400
            assert answer.headers["x-amzn-errortype"].startswith("ValidationException:")
            assert words in orjson.loads(answer.body)["message"]

    asyncio.run(run())


def test_the_bytes_of_a_stream() -> None:
    async def run() -> None:
        async with Simulated("bedrock", tokens=1) as simulated:
            answer = await fetch(simulated, orjson.dumps({"messages": [USER]}), path="/model/m/converse-stream")
            assert answer.headers["content-type"] == "application/vnd.amazon.eventstream"
            head = {":event-type": "messageStart", ":content-type": "application/json", ":message-type": "event"}
            assert answer.body.startswith(encode(head, b'{"role":"assistant","p":"abcdefghijkl"}'))

    asyncio.run(run())
