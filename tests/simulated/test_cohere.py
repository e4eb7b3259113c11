"""The Cohere dialect of the simulated upstream, spoken to by the proxy's own: what one writes the other takes."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from policies.verdict import Kind
from proxy.errors import UpstreamError
from proxy.providers.base import Endpoint, Minted
from proxy.providers.cohere import Cohere
from proxy.simulated.server import Simulated
from proxy.wire.chat import ChatRequest
from proxy.wire.chunk import COMMENT, DONE, Usage
from tests.simulated.wire import answer as fetch

HI: list[dict[str, Any]] = [{"role": "user", "content": "hi"}]
WEIGH = {"type": "function", "function": {"name": "weigh", "parameters": {
    "type": "object", "properties": {"load": {"type": "string"}}, "required": ["load"]}}}  # fmt: skip
NOW = {"type": "function", "function": {"name": "now"}}
SPEAKS = Cohere()
Said = tuple[dict[str, Any], str | None, Usage | None]


async def call(simulated: Simulated, *, stream: bool, fault: str | None = None, **more: Any) -> Said:
    """The message, finish reason and usage of one request. Raises `UpstreamError`."""
    ask = ChatRequest.parse(orjson.dumps({"model": "r", "messages": HI, "stream": stream, **more}))
    to = Endpoint("cohere", simulated.base_url, "command-a-reasoning")
    head = {name.decode(): value.decode() for name, value in SPEAKS.headers(to, "key", stream)}
    if fault is not None:
        head["x-sim-fault"] = fault
    answer = await fetch(simulated, SPEAKS.build(ask, to).body, path=SPEAKS.path(to, stream), **head)
    if answer.status != 200:
        headers = [(name.encode(), value.encode()) for name, value in answer.headers.items()]
        raise SPEAKS.error(answer.status, headers, answer.body)
    decoder = SPEAKS.decoder(ask, to, Minted("chatcmpl-1", 1))
    chunks = decoder.feed(answer.body)
    chunks += [] if decoder.ended else decoder.close()
    if not stream:
        message = (chunks[0].body or {})["choices"][0]["message"]
        return {key: value for key, value in message.items() if value}, decoder.finish_reason, decoder.usage
    said: dict[str, Any] = {"role": "assistant", "content": "", "reasoning_content": "", "tool_calls": []}
    for chunk in chunks:
        for choice in (chunk.body or {})["choices"] if chunk.kind not in (COMMENT, DONE) else ():
            for name in ("content", "reasoning_content"):
                said[name] += choice["delta"].get(name) or ""
            for piece in choice["delta"].get("tool_calls", ()):
                if piece["index"] == len(said["tool_calls"]):
                    said["tool_calls"].append({key: piece[key] for key in ("id", "type", "function")})
                else:
                    said["tool_calls"][piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]
    return {key: value for key, value in said.items() if value}, decoder.finish_reason, decoder.usage


@pytest.mark.parametrize("stream", [True, False])
def test_an_agent_of_three_turns(stream: bool) -> None:
    async def run() -> None:
        async with Simulated("cohere", api_key="key") as simulated:
            messages = [{"role": "system", "content": "Be."}, *HI]
            for turn in range(3):
                asked: dict[str, Any] = {"messages": messages, "tools": [WEIGH, NOW], "reasoning_effort": "low"}
                said = await call(simulated, stream=stream, **asked)
                assert said == await call(simulated, stream=not stream, **asked)
                message, finish, usage = said
                assert message["reasoning_content"]
                assert usage is not None
                calls = message.get("tool_calls", [])
                assert [one["function"]["name"] for one in calls] == (["weigh", "now"] if turn != 1 else [])
                assert all(isinstance(orjson.loads(one["function"]["arguments"]), dict) for one in calls)
                assert finish == ("stop" if turn == 1 else "tool_calls")
                messages = [*messages, message]
                messages += [{"role": "tool", "tool_call_id": one["id"], "content": "ok"} for one in reversed(calls)]
                messages += [] if calls else [{"role": "user", "content": "more"}]

    asyncio.run(run())


def test_json_limits_and_one_tool() -> None:
    schema = {"type": "object", "properties": {"kg": {"type": "integer"}}, "required": ["kg"]}
    form = {"type": "json_schema", "json_schema": {"name": "load", "schema": schema}}
    chosen = {"type": "function", "function": {"name": "now"}}

    async def run() -> None:
        async with Simulated("cohere") as simulated:
            for stream in (True, False):
                message, finish, _ = await call(simulated, stream=stream, response_format=form)
                assert set(orjson.loads(message["content"])) == {"kg"}
                assert finish == "stop"
                assert (await call(simulated, stream=stream, max_tokens=2))[1] == "length"
                message, _, _ = await call(simulated, stream=stream, tools=[WEIGH, NOW], tool_choice=chosen)
                assert [one["function"]["name"] for one in message["tool_calls"]] == ["now"]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("fault", "stream", "kind"),
    [
        ("http_503", True, Kind.SERVER_ERROR),
        ("http_429", False, Kind.RATE_LIMIT),
        ("context_length", False, Kind.CONTEXT_LENGTH),
        ("http_429_quota", False, Kind.QUOTA),
        ("http_401", False, Kind.AUTH),
        ("error_event", True, Kind.MALFORMED),
        ("error_in_200", False, Kind.MALFORMED),
        ("cut_clean", True, Kind.TRUNCATED),
        ("missing_finish", True, Kind.TRUNCATED),
        ("malformed_sse", True, Kind.MALFORMED),
        ("empty_200", False, Kind.MALFORMED),
    ],
)
def test_faults_are_read_as_what_they_are(fault: str, stream: bool, kind: Kind) -> None:
    async def run() -> None:
        async with Simulated("cohere") as simulated:
            await call(simulated, stream=stream, fault=fault)

    with pytest.raises(UpstreamError) as caught:
        asyncio.run(run())
    assert caught.value.kind is kind


def test_a_wrong_key_and_what_the_api_does_not_know() -> None:
    async def run() -> None:
        async with Simulated("cohere", api_key="k") as simulated:
            good = {"authorization": "Bearer k"}
            body: dict[str, Any] = {"model": "m", "messages": HI}
            assert (await fetch(simulated, body, path="/v2/chat", authorization="Bearer x")).status == 401
            assert (await fetch(simulated, body, path="/v2/chat", **good)).status == 200
            assert (await fetch(simulated, {**body, "n": 1}, path="/v2/chat", **good)).status == 422
            assert (await fetch(simulated, {"model": "m"}, path="/v2/chat", **good)).status == 400
            assert (await fetch(simulated, {**body, "seed": "x"}, path="/v2/chat", **good)).status == 400

    asyncio.run(run())
