"""The official OpenAI SDK through `/v1/responses`, to a target of every dialect, over real sockets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from tests.e2e.everyone import MODELS, World, everyone

PLACE = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"],
         "additionalProperties": False}  # fmt: skip
NOTHING = {"type": "object", "properties": {}, "additionalProperties": False, "required": []}
TOOLS: list[Any] = [
    {"type": "function", "name": "weigh", "description": "Weighs a truck.", "parameters": PLACE, "strict": True},
    {"type": "function", "name": "tare", "parameters": NOTHING, "strict": False},
]
HELLO = "How much does the truck weigh? é 日 🚚"
THINKS = ("openai", "anthropic", "bedrock", "gemini")
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    mixed = {
        "mixed": {"targets": ["openai/gpt-5-mini", "anthropic/claude-sonnet-4-5"]},
        "twice": {"targets": ["openai/gpt-5-mini", "openai/gpt-5"]},
        "desxim": {"targets": ["gemini/gemini-3.5-flash", "openai/gpt-5-mini"]},
    }
    with everyone(tmp_path_factory.mktemp("responses"), routes=mixed) as made:
        yield made


@pytest.fixture(scope="module")
def client(world: World) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{world.url}/v1", api_key="unused", max_retries=0) as made:
        yield made


def shown(response: Any) -> dict[str, Any]:
    """What must be the same, streamed or not: all but ids, times and what providers draw anew."""
    told: dict[str, Any] = json.loads(response.to_json())
    for item in told["output"]:
        for name in ("id", "call_id", "encrypted_content", "parsed_arguments"):
            item.pop(name, None)
        for part in item.get("content") or ():
            part.pop("parsed", None)
    return {key: told.get(key) for key in ("status", "output", "usage", "incomplete_details", "tools", "error")}


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("tools", [False, True], ids=["text", "tools"])
def test_the_stream_put_together_is_the_whole_answer(client: openai.OpenAI, model: str, tools: bool) -> None:
    asked: dict[str, Any] = {"model": model, "input": HELLO, "instructions": "Be brief."}
    if tools:
        asked |= {"tools": TOOLS, "tool_choice": "required"}
    whole = client.responses.create(**asked)
    Response.model_validate_json(whole.to_json(), strict=True)
    with client.responses.stream(**asked) as stream:
        for _ in stream:
            pass
        streamed = stream.get_final_response()
    assert shown(streamed) == shown(whole)
    assert whole.status == "completed"
    assert whole.usage is not None
    assert whole.usage.input_tokens > 0
    assert whole.usage.output_tokens > 0
    if tools:
        assert [item.name for item in whole.output if item.type == "function_call"] == ["weigh", "tare"]
    else:
        assert whole.output_text


@pytest.mark.parametrize("model", MODELS)
def test_events_come_in_order_and_strictly_typed(world: World, model: str) -> None:
    body = {"model": model, "input": HELLO, "stream": True, "tools": TOOLS, "tool_choice": "required"}
    answer = world.proxy.ask("/v1/responses", body)
    events = []
    for block in answer.body.decode().strip().split("\n\n"):
        name, data = block.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        EVENT.validate_json(data.removeprefix("data: "), strict=True)
        events.append(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    assert events[-1]["type"] == "response.completed"
    indices = [event["output_index"] for event in events if "output_index" in event]
    assert indices == sorted(indices)
    done = [event["item"] for event in events if event["type"] == "response.output_item.done"]
    assert done == events[-1]["response"]["output"]


@pytest.mark.parametrize("model", MODELS)
def test_an_agents_loop_of_three_turns(client: openai.OpenAI, model: str) -> None:
    items: list[Any] = [{"role": "user", "content": HELLO}]
    options: dict[str, Any] = {"store": False, "include": ["reasoning.encrypted_content"]}
    if model in THINKS:
        options["reasoning"] = {"effort": "medium"}
    called = 0
    for turn in range(4):
        choice = {} if model in THINKS else {"tool_choice": "required" if turn in (0, 2) else "auto"}
        asked: dict[str, Any] = {"model": model, "input": items, "tools": TOOLS, **options, **choice}
        with client.responses.stream(**asked) as stream:
            for _ in stream:
                pass
            answer = stream.get_final_response()
        calls = [item for item in answer.output if item.type == "function_call"]
        called += len(calls)
        items += [_given_back(item) for item in answer.output]
        if calls:
            items += [
                {"type": "function_call_output", "call_id": call.call_id, "output": "12 t"} for call in reversed(calls)
            ]
        else:
            assert answer.output_text
            items.append({"role": "user", "content": "And now?"})
        if model in ("openai", "anthropic", "bedrock"):
            assert answer.output[0].type == "reasoning"
    assert called >= 3


def _given_back(item: Any) -> dict[str, Any]:
    told: dict[str, Any] = item.to_dict()
    told.pop("parsed_arguments", None)
    for part in told.get("content") or ():
        part.pop("parsed", None)
    return told


def test_what_needs_a_providers_memory_or_tools_is_refused_where_it_is_not(client: openai.OpenAI) -> None:
    for param, extra in (
        ("previous_response_id", {"previous_response_id": "resp_1"}),
        ("background", {"background": True}),
        ("store", {"store": True}),
        ("tools[0]", {"tools": [{"type": "web_search"}]}),
        ("input[0]", {"input": [{"type": "item_reference", "id": "msg_1"}]}),
    ):
        asked: dict[str, Any] = {"model": "anthropic", "input": HELLO, **extra}
        with pytest.raises(openai.BadRequestError) as refused:
            client.responses.create(**asked)
        assert refused.value.param == param
        assert refused.value.code == "unsupported_parameter"


@pytest.mark.parametrize("model", ["mixed", "desxim"])
@pytest.mark.parametrize("fault", ["http_503", "empty_200", "error_in_200", "role_then_error"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_before_content_another_target_answers(
    world: World, client: openai.OpenAI, model: str, fault: str, stream: bool
) -> None:
    first = "openai" if model == "mixed" else "gemini"
    world.upstreams[first].faults = (fault,)
    try:
        if stream:
            with client.responses.stream(model=model, input=HELLO) as streamed:
                answer: Any = streamed.get_final_response()
        else:
            answer = client.responses.create(model=model, input=HELLO)
        assert answer.status == "completed"
        assert answer.output_text
    finally:
        world.upstreams[first].faults = ()


def test_what_is_stored_is_asked_for_once(world: World, client: openai.OpenAI) -> None:
    both = "twice"
    for fault, tries in (("http_503", "1"), ("http_429", "2")):
        world.upstreams["openai"].faults = (f"{fault}#1",)
        try:
            answer = world.proxy.ask("/v1/responses", {"model": both, "input": HELLO, "store": True})
        finally:
            world.upstreams["openai"].faults = ()
        assert answer.headers["x-weighbridge-attempts"] == tries
        assert answer.status == (503 if tries == "1" else 200), "what was declined may be asked for again"


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("fault", ["cut_mid_stream=after:2", "missing_finish"])
def test_a_cut_answer_never_looks_finished(world: World, client: openai.OpenAI, model: str, fault: str) -> None:
    world.upstreams[model].faults = (fault,)
    try:
        answer = world.proxy.ask("/v1/responses", {"model": model, "input": HELLO, "stream": True})
        assert b"response.completed" not in answer.body
        if answer.status == 200:
            event = EVENT.validate_json(answer.body.strip().split(b"data: ")[-1], strict=True)
            assert event.type == "error"
            assert event.sequence_number == answer.body.count(b"data: ") - 1
        else:
            assert answer.status == 502, "the whole stream came in one read, so that nothing had been sent yet"
            assert fault == "missing_finish"
        with pytest.raises(openai.APIError), client.responses.stream(model=model, input=HELLO) as stream:
            stream.get_final_response()
    finally:
        world.upstreams[model].faults = ()


def test_a_native_answer_passes_byte_for_byte(world: World) -> None:
    body = {"model": "gpt-5-mini", "input": HELLO, "stream": True, "unknown_member": [1.0, 1e3]}
    sent = {"authorization": "Bearer secret"}
    direct = _ask(world.upstreams["openai"].port, body, sent)
    through = world.proxy.ask("/v1/responses", {**body, "model": "openai"})
    assert _neutral(through.body) == _neutral(direct)
    assert json.loads(world.upstreams["openai"].requests[-1].body) == body


def _neutral(body: bytes) -> list[str]:
    """Without ids and times, which the simulated upstream draws anew."""
    lines = []
    for line in body.decode().splitlines():
        if line.startswith("data: "):
            event = json.loads(line[6:])
            for place in (event, event.get("response") or {}, event.get("item") or {}):
                for name in ("id", "item_id", "created_at"):
                    place.pop(name, None)
            for item in (event.get("response") or {}).get("output", ()):
                item.pop("id")
            line = json.dumps(event)
        lines.append(line)
    return lines


def _ask(port: int, body: Any, headers: dict[str, str]) -> bytes:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", "/v1/responses", json.dumps(body), {"content-type": "application/json", **headers})
        return connection.getresponse().read()
    finally:
        connection.close()
