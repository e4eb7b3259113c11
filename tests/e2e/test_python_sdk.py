"""The official Python SDK, unmodified but for its base URL, through the proxy to a simulated upstream.

Every check runs with the synchronous and the asynchronous client.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests import processes
from tests.e2e.sdk import ASK, Async, Sync
from tests.processes import Running

PIXEL = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def tool(name: str, argument: str, schema: dict[str, Any]) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": {argument: schema},
        "required": [argument],
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "strict": True, "parameters": parameters}}


TOOLS = [
    tool("weigh", "axle", {"type": "integer", "minimum": 1, "maximum": 9}),
    tool("lift", "barrier", {"type": "boolean"}),
]
CALL_BOTH: dict[str, Any] = {"tools": TOOLS, "tool_choice": "required", "parallel_tool_calls": True}
TICKET = {
    "type": "json_schema",
    "json_schema": {
        "name": "ticket",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {
                "kg": {"type": "integer"},
                "plate": {"type": "string"},
                "axles": {"type": "array", "items": {"type": "number"}},
            },
            "required": ["kg", "plate", "axles"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("python-sdk")
    with processes.upstream(folder, "--dialect", "openai", "--seed", "7") as up:
        config = {
            "providers": {"up": {"dialect": "openai", "base_url": f"{up.base_url}/v1", "api_key": None}},
            "routes": {"healthy": {"targets": ["up/healthy"]}},
        }
        with processes.proxy(config, folder) as running:
            yield running


@pytest.fixture(params=[Sync, Async], ids=["sync", "async"])
def sdk(request: pytest.FixtureRequest, proxy: Running) -> Iterator[Sync | Async]:
    made = request.param(f"{proxy.base_url}/v1")
    yield made
    made.close()


def text_of(chunks: list[ChatCompletionChunk], index: int = 0) -> str:
    choices = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
    return "".join(choice.delta.content or "" for choice in choices)


def finishes_of(chunks: list[ChatCompletionChunk]) -> list[str]:
    return [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]


def test_a_whole_answer(sdk: Sync | Async) -> None:
    answer = sdk.create()
    ChatCompletion.model_validate(answer.model_dump(), strict=True)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_has_the_text_of_the_whole_answer(sdk: Sync | Async) -> None:
    chunks = sdk.chunks()
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk.model_dump(), strict=True)
    assert text_of(chunks) == sdk.create().choices[0].message.content
    assert chunks[0].choices[0].delta.role == "assistant"
    assert finishes_of(chunks) == ["stop"]
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in chunks}) == 1
    assert all(chunk.choices and chunk.usage is None for chunk in chunks), "usage was not asked for"


def test_usage_in_a_stream(sdk: Sync | Async) -> None:
    *chunks, last = sdk.chunks(stream_options={"include_usage": True})
    assert last.choices == []
    assert last.usage
    whole = sdk.create().usage
    assert whole
    assert (last.usage.prompt_tokens, last.usage.completion_tokens) == (whole.prompt_tokens, whole.completion_tokens)
    assert all(chunk.choices and chunk.usage is None for chunk in chunks)


def test_a_tool_call_and_its_result(sdk: Sync | Async) -> None:
    message = sdk.create(tools=TOOLS[:1], tool_choice="required").choices[0].message
    assert message.tool_calls
    (call,) = message.tool_calls
    assert call.type == "function"
    assert call.function.name == "weigh"
    assert json.loads(call.function.arguments).keys() == {"axle"}
    result = {"role": "tool", "tool_call_id": call.id, "content": "7.5 t"}
    messages = [*ASK["messages"], message.to_dict(), result]
    assert sdk.create(messages=messages, tools=TOOLS[:1]).choices[0].finish_reason


def test_parallel_tool_calls_streamed(sdk: Sync | Async) -> None:
    whole = sdk.create(**CALL_BOTH).choices[0]
    assert whole.finish_reason == "tool_calls"
    chunks = sdk.chunks(**CALL_BOTH)
    calls: dict[int, list[str]] = {}
    ids = set()
    for choice in (choice for chunk in chunks for choice in chunk.choices):
        for part in choice.delta.tool_calls or []:
            assert part.function
            if part.id:
                ids.add(part.id)
                calls[part.index] = [part.function.name or "", ""]
            calls[part.index][1] += part.function.arguments or ""
    assert list(calls) == [0, 1]
    assert len(ids) == 2
    expected = [call.function for call in whole.message.tool_calls or [] if call.type == "function"]
    assert [tuple(call) for call in calls.values()] == [(one.name, one.arguments) for one in expected]
    assert [name for name, _ in calls.values()] == ["weigh", "lift"]
    assert finishes_of(chunks) == ["tool_calls"]


def test_the_stream_assembler(sdk: Sync | Async) -> None:
    kinds, completion = sdk.assembled(stream_options={"include_usage": True})
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert completion.choices[0].message.content == sdk.create().choices[0].message.content
    assert completion.usage
    kinds, completion = sdk.assembled(**CALL_BOTH)
    assert "tool_calls.function.arguments.done" in kinds
    assert [call.function.name for call in completion.choices[0].message.tool_calls] == ["weigh", "lift"]


def test_a_json_schema(sdk: Sync | Async) -> None:
    content = sdk.create(response_format=TICKET).choices[0].message.content
    assert content
    value = json.loads(content)
    assert value.keys() == {"kg", "plate", "axles"}
    assert isinstance(value["kg"], int)
    assert text_of(sdk.chunks(response_format=TICKET)) == content


def test_image_parts(sdk: Sync | Async) -> None:
    image = {"type": "image_url", "image_url": {"url": PIXEL, "detail": "low"}}
    content = [{"type": "text", "text": "What stands here?"}, image]
    assert sdk.create(messages=[{"role": "user", "content": content}]).choices[0].message.content


def test_logprobs(sdk: Sync | Async) -> None:
    choice = sdk.create(logprobs=True, top_logprobs=2).choices[0]
    assert choice.logprobs
    entries = choice.logprobs.content or []
    assert "".join(entry.token for entry in entries) == choice.message.content
    assert all(entry.logprob <= 0 and len(entry.top_logprobs) == 2 for entry in entries)
    streamed = [one for chunk in sdk.chunks(logprobs=True, top_logprobs=2) for one in chunk.choices if one.logprobs]
    tokens = [entry.token for one in streamed if one.logprobs for entry in one.logprobs.content or []]
    assert "".join(tokens) == choice.message.content


def test_two_choices(sdk: Sync | Async) -> None:
    whole = sdk.create(n=2).choices
    chunks = sdk.chunks(n=2)
    assert [text_of(chunks, index) for index in (0, 1)] == [choice.message.content for choice in whole]
    assert whole[0].message.content != whole[1].message.content
    assert finishes_of(chunks) == ["stop", "stop"]


def test_stop_and_limit(sdk: Sync | Async) -> None:
    full = sdk.create().choices[0].message.content or ""
    word = full.split()[3]
    stopped = sdk.create(stop=[word]).choices[0]
    assert stopped.finish_reason == "stop"
    assert stopped.message.content == full[: full.index(word)]
    for name in ("max_tokens", "max_completion_tokens"):
        limited = sdk.create(**{name: 2})
        assert limited.choices[0].finish_reason == "length"
        assert limited.usage
        assert limited.usage.completion_tokens == 2


def test_seed(sdk: Sync | Async) -> None:
    first, second, other = (sdk.create(seed=seed).choices[0].message.content for seed in (1, 1, 2))
    assert first == second != other


def test_with_raw_response(sdk: Sync | Async) -> None:
    response, answer = sdk.raw()
    assert answer.choices[0].message.content
    assert response.status_code == 200
    assert response.request_id == response.headers["x-request-id"] == answer._request_id
    assert response.headers["x-weighbridge-target"] == "up/healthy"
    assert response.headers["x-weighbridge-attempts"] == "1"


def test_with_streaming_response(sdk: Sync | Async) -> None:
    response, body = sdk.streamed_body(stream=True)
    assert response.headers["content-type"].startswith("text/event-stream")
    assert body.endswith(b"data: [DONE]\n\n")
    response, body = sdk.streamed_body()
    assert json.loads(body)["object"] == "chat.completion"


def test_models(sdk: Sync | Async) -> None:
    assert "healthy" in sdk.models()


def test_an_unknown_model(sdk: Sync | Async) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        sdk.create(model="nobody")
    assert caught.value.code == "model_not_found"
    assert caught.value.request_id


def test_a_bad_request(sdk: Sync | Async) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.create(messages="x")
    assert caught.value.type == "invalid_request_error"
