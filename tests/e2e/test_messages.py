"""The official Anthropic SDK through `/v1/messages`, to a target of every dialect, over real sockets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter

from tests import processes
from tests.e2e.everyone import MODELS, World, everyone

NOTHING = {"type": "object", "properties": {}}
PLACE = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOLS: list[Any] = [
    {"name": "weigh", "description": "Weighs a truck.", "input_schema": PLACE},
    {"name": "tare", "input_schema": NOTHING},
]
HELLO: list[Any] = [{"role": "user", "content": "How much does the truck weigh? é 日 🚚"}]
THINKS = ("anthropic", "bedrock", "gemini")
"""Dialects whose simulated upstream thinks and wants its signatures back."""
EVENT: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    routes = {
        "native-first": {"targets": ["anthropic/claude-sonnet-4-5", "openai/gpt-5-mini"]},
        "native-second": {"targets": ["gemini/gemini-3.5-flash", "anthropic/claude-sonnet-4-5"]},
    }
    with everyone(tmp_path_factory.mktemp("messages"), routes=routes) as made:
        yield made


@pytest.fixture(scope="module")
def client(world: World) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=world.url, api_key="unused", max_retries=0) as made:
        yield made


def shown(message: Any) -> dict[str, Any]:
    """What must be the same, streamed or not: all but ids and what providers draw anew."""
    told: dict[str, Any] = json.loads(message.to_json())
    for block in told["content"]:
        block.pop("parsed_output", None)
        if block["type"] == "tool_use":
            block["id"] = "id"
        if block["type"] == "redacted_thinking":
            block["data"] = "data"
    return {key: told.get(key) for key in ("role", "type", "content", "stop_reason", "stop_sequence")} | {
        "usage": [told["usage"].get(key) for key in ("input_tokens", "output_tokens", "cache_read_input_tokens")]
    }


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("tools", [False, True], ids=["text", "tools"])
def test_the_stream_put_together_is_the_whole_answer(
    world: World, client: anthropic.Anthropic, model: str, tools: bool
) -> None:
    asked: dict[str, Any] = {"model": model, "max_tokens": 2000, "messages": HELLO}
    if tools:
        asked |= {"tools": TOOLS, "tool_choice": {"type": "any"}}
    whole = client.messages.create(**asked)
    Message.model_validate_json(whole.to_json(), strict=True)
    with client.messages.stream(**asked) as stream:
        streamed = stream.get_final_message()
    assert shown(streamed) == shown(whole)
    assert whole.stop_reason == ("tool_use" if tools else "end_turn")
    assert whole.usage.input_tokens > 0
    assert whole.usage.output_tokens > 0
    if tools:
        assert [block.name for block in whole.content if block.type == "tool_use"] == ["weigh", "tare"]
    else:
        assert [block.type for block in whole.content if block.type == "text"] == ["text"]


@pytest.mark.parametrize("model", MODELS)
def test_events_come_in_order_and_strictly_typed(world: World, model: str) -> None:
    body = {"model": model, "max_tokens": 500, "messages": HELLO, "stream": True, "tools": TOOLS,
            "tool_choice": {"type": "any"}}  # fmt: skip
    answer = world.proxy.ask("/v1/messages", body, headers={"anthropic-version": "2023-06-01"})
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = []
    for block in answer.body.decode().strip().split("\n\n"):
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        if event["type"] != "ping":
            EVENT.validate_json(data.removeprefix("data: "), strict=True)
            events.append(event)
    assert events[0]["type"] == "message_start"
    assert [event["type"] for event in events[-2:]] == ["message_delta", "message_stop"]
    open_block = None
    for event in events[1:-2]:
        if event["type"] == "content_block_start":
            assert open_block is None
            open_block = event["index"]
        assert event["index"] == open_block
        if event["type"] == "content_block_stop":
            open_block = None
    assert open_block is None
    starts = [event["index"] for event in events if event["type"] == "content_block_start"]
    assert starts == list(range(len(starts)))


@pytest.mark.parametrize("model", MODELS)
def test_an_agents_loop_of_three_turns(client: anthropic.Anthropic, model: str) -> None:
    messages: list[Any] = list(HELLO)
    options: dict[str, Any] = {}
    if model in THINKS:
        options["thinking"] = {"type": "enabled", "budget_tokens": 1024}
    called = 0
    for turn in range(4):
        choice = {} if model in THINKS else {"tool_choice": {"type": "any" if turn in (0, 2) else "auto"}}
        with client.messages.stream(
            model=model, max_tokens=4000, messages=messages, tools=TOOLS, **options, **choice
        ) as stream:
            answer = stream.get_final_message()
        messages.append({"role": "assistant", "content": [block.to_dict() for block in answer.content]})
        calls = [block for block in answer.content if block.type == "tool_use"]
        called += len(calls)
        if calls:
            results: list[Any] = [
                {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "12 t"}]}
                for call in reversed(calls)
            ]
            results[0]["is_error"] = True
            messages.append({"role": "user", "content": results})
        else:
            assert any(block.type == "text" for block in answer.content)
            messages.append({"role": "user", "content": "And now?"})
        if model in ("anthropic", "bedrock"):
            assert answer.content[0].type == "thinking"
            assert answer.content[0].signature
    assert called >= 3


def test_tokens_are_counted_natively_or_estimated(world: World, client: anthropic.Anthropic) -> None:
    image: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0="}}
    messages: Any = [{"role": "user", "content": [image, {"type": "text", "text": "What is this? " * 40}]}]
    for model in ("anthropic", "openai"):
        told = client.messages.with_raw_response.count_tokens(
            model=model, messages=messages, system="Be brief.", tools=TOOLS
        )
        assert (told.headers.get("x-weighbridge-estimate") == "true") is (model == "openai")
        assert told.parse().input_tokens > 100
    assert world.upstreams["anthropic"].requests[-1].path == "/v1/messages/count_tokens"
    with pytest.raises(anthropic.BadRequestError):
        client.messages.count_tokens(model="openai", messages=[])


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("fault", ["http_529", "empty_200", "error_in_200", "role_then_error"])
@pytest.mark.parametrize("model", ["native-first", "native-second"])
def test_before_content_another_target_answers(
    world: World, client: anthropic.Anthropic, model: str, fault: str, stream: bool
) -> None:
    first = "anthropic" if model == "native-first" else "gemini"
    world.upstreams[first].faults = (fault,)
    try:
        if stream:
            with client.messages.stream(model=model, max_tokens=500, messages=HELLO) as streamed:
                answer: Any = streamed.get_final_message()
        else:
            answer = client.messages.create(model=model, max_tokens=500, messages=HELLO)
    finally:
        world.upstreams[first].faults = ()
    assert answer.stop_reason == "end_turn"
    assert answer.content[0].type == "text"


def test_a_conversation_may_change_providers(world: World, client: anthropic.Anthropic) -> None:
    """Signatures of one provider are never handed to another that would take them for its own."""
    messages: list[Any] = list(HELLO)
    options: dict[str, Any] = {"max_tokens": 4000, "tools": TOOLS}
    for model in ("gemini", "anthropic", "bedrock", "gemini", "openai", "anthropic"):
        if model in THINKS and model != "anthropic":
            options["thinking"] = {"type": "enabled", "budget_tokens": 1024}
        answer = client.messages.create(model=model, messages=messages, **options)
        options.pop("thinking", None)
        messages.append({"role": "assistant", "content": [block.to_dict() for block in answer.content]})
        calls = [block for block in answer.content if block.type == "tool_use"]
        results: list[Any] = [{"type": "tool_result", "tool_use_id": call.id, "content": "12 t"} for call in calls]
        messages.append({"role": "user", "content": results or "And now?"})


def test_what_an_upstream_refuses_is_told_in_anthropics_form(client: anthropic.Anthropic, world: World) -> None:
    with pytest.raises(anthropic.NotFoundError) as unknown:
        client.messages.create(model="nothing", max_tokens=5, messages=HELLO)
    assert unknown.value.body["type"] == "error"  # type: ignore[index,call-overload]
    assert unknown.value.body["error"]["type"] == "not_found_error"  # type: ignore[index,call-overload]
    for model in ("openai", "anthropic", "gemini"):
        world.upstreams[model].faults = ("http_429",)
        try:
            with pytest.raises(anthropic.RateLimitError) as limited:
                client.messages.create(model=model, max_tokens=5, messages=HELLO)
        finally:
            world.upstreams[model].faults = ()
        assert limited.value.body["error"]["type"] == "rate_limit_error"  # type: ignore[index,call-overload]
        assert limited.value.request_id
    with pytest.raises(anthropic.BadRequestError) as native_only:
        client.messages.create(
            model="openai", max_tokens=5, messages=HELLO, tools=[{"type": "web_search_20250305", "name": "web_search"}]
        )
    assert "tools[0]" in str(native_only.value)


@pytest.mark.parametrize("model", ["openai", "anthropic", "bedrock"])
def test_a_cut_answer_never_looks_finished(client: anthropic.Anthropic, world: World, model: str) -> None:
    world.upstreams[model].faults = ("cut_mid_stream=after:2",)
    try:
        body = {"model": model, "max_tokens": 500, "messages": HELLO, "stream": True}
        answer = world.proxy.ask("/v1/messages", body)
        assert b"message_stop" not in answer.body
        last = json.loads(answer.body.strip().split(b"data: ")[-1])
        assert last["type"] == "error"
        with (
            pytest.raises(anthropic.APIStatusError),
            client.messages.stream(model=model, max_tokens=500, messages=HELLO) as stream,
        ):
            stream.get_final_message()
    finally:
        world.upstreams[model].faults = ()


def test_headers_of_the_client_reach_native_targets_only(world: World) -> None:
    sent = {"anthropic-version": "2023-06-01", "anthropic-beta": "one-2026-01-01,two-2026-01-01"}
    for model in ("anthropic", "openai"):
        answer = world.proxy.ask("/v1/messages", {"model": model, "max_tokens": 9, "messages": HELLO}, headers=sent)
        assert answer.status == 200, answer.body
        got = world.upstreams[model].requests[-1].headers
        assert (got.get("anthropic-beta") == sent["anthropic-beta"]) is (model == "anthropic")


def test_a_client_key_travels_as_anthropics_clients_send_it(tmp_path: Path) -> None:
    config: dict[str, Any] = {"providers": {"up": {"base_url": "http://127.0.0.1:9/v1", "api_key": None}},
              "routes": {"r": {"targets": ["up/m"]}}, "keys": [{"name": "app", "key": "app-key"}]}  # fmt: skip
    with processes.proxy(config, tmp_path) as running:
        for headers, status in (
            ({"x-api-key": "app-key"}, 502),
            ({"authorization": "Bearer app-key"}, 502),
            ({"x-api-key": "wrong"}, 401),
            ({}, 401),
        ):
            answer = running.ask("/v1/messages", {"model": "r", "max_tokens": 9, "messages": HELLO}, headers=headers)
            assert answer.status == status, answer.body
            assert answer.json()["error"]["type"] == ("authentication_error" if status == 401 else "api_error")
