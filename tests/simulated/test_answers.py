"""Answers in OpenAI's form: judged by the types of the official SDK, and by the rules that its types do not know."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from openai import AsyncOpenAI
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from pydantic import BaseModel

from proxy.simulated import Simulated
from tests.simulated.wire import answer, ask, chunks, connected, finishes, parse, payloads, request, run, text

_WEIGH = {
    "type": "function",
    "function": {
        "name": "weigh",
        "parameters": {
            "type": "object",
            "properties": {"plate": {"type": "string"}, "axle": {"type": "integer", "minimum": 1, "maximum": 5}},
            "required": ["plate", "axle"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}
_OPEN = {"type": "function", "function": {"name": "open_gate"}}


def _both(**more: Any) -> tuple[dict[str, Any], bytes]:
    """The whole answer, parsed, and the body of the streamed one; both checked by the SDK's types."""
    found: list[bytes] = []

    async def scenario(simulated: Simulated) -> None:
        for stream in (False, True):
            message = await answer(simulated, ask(stream=stream, **more))
            assert (message.status, message.complete, message.rest) == (200, True, b"")
            found.append(message.body)

    run(scenario)
    whole, stream = found
    ChatCompletion.model_validate_json(whole, strict=True)
    _check_stream(stream)
    return json.loads(whole), stream


def _check_stream(body: bytes) -> None:
    """What every well-formed stream keeps to, beside the types of its chunks."""
    *events, last = payloads(body)
    assert last == b"[DONE]"
    seen = [ChatCompletionChunk.model_validate_json(event, strict=True) for event in events]
    assert len({(chunk.id, chunk.created, chunk.model) for chunk in seen}) == 1
    *with_choices, usage = seen
    assert (usage.choices, usage.usage is not None) == ([], True)
    assert all(
        chunk.usage is None and b'"usage":null' in event for chunk, event in zip(with_choices, events, strict=False)
    )
    started: set[int] = set()
    finished: set[int] = set()
    for chunk in with_choices:
        for choice in chunk.choices:
            assert choice.index not in finished
            assert (choice.delta.role == "assistant") is (choice.index not in started)
            started.add(choice.index)
            if choice.finish_reason is not None:
                finished.add(choice.index)
    assert started == finished


def test_text() -> None:
    whole, stream = _both()
    (choice,) = whole["choices"]
    assert choice["message"]["role"] == "assistant"
    assert "tool_calls" not in choice["message"]
    assert choice["finish_reason"] == "stop"
    assert len(choice["message"]["content"].split(" ")) == 12
    assert not choice["message"]["content"].isascii()
    assert text(stream) == choice["message"]["content"]
    assert finishes(stream) == ["stop"]
    assert whole["usage"]["completion_tokens"] == 12
    assert whole["usage"]["prompt_tokens"] == 14
    assert whole["usage"]["total_tokens"] == 26
    assert whole["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    assert whole["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0
    assert chunks(stream)[-1]["usage"] == whole["usage"]
    assert whole["system_fingerprint"] == "fp_simulated"


@pytest.mark.parametrize("options", [{}, {"stream_options": None}, {"stream_options": {"include_usage": False}}])
def test_usage_only_where_it_is_asked_for(options: dict[str, Any]) -> None:
    async def scenario(simulated: Simulated) -> None:
        body = {key: value for key, value in ask(stream=True).items() if key != "stream_options"} | options
        message = await answer(simulated, body)
        assert b"usage" not in message.body
        assert all(chunk["choices"] for chunk in chunks(message.body))

    run(scenario)


def test_headers() -> None:
    async def scenario(simulated: Simulated) -> None:
        for stream in (False, True):
            headers = (await answer(simulated, ask(stream=stream))).headers
            assert headers["content-type"].startswith("text/event-stream" if stream else "application/json")
            assert headers["x-request-id"].startswith("req_")
            assert headers["openai-processing-ms"] == "0"
            assert headers["x-ratelimit-limit-requests"] == "10000"
            assert headers["x-ratelimit-remaining-tokens"] == "1999986"
            assert headers["x-ratelimit-reset-requests"] == "6ms"

    run(scenario)


def test_several_choices() -> None:
    whole, stream = _both(n=3)
    texts = [choice["message"]["content"] for choice in whole["choices"]]
    assert [choice["index"] for choice in whole["choices"]] == [0, 1, 2]
    assert len(set(texts)) == 3
    assert [text(stream, place) for place in range(3)] == texts
    order = [chunk["choices"][0]["index"] for chunk in chunks(stream)[3:9]]
    assert order == [0, 1, 2, 0, 1, 2], "content of several choices takes turns"
    assert whole["usage"]["completion_tokens"] == 36


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_limit(field: str) -> None:
    full, _ = _both()
    whole, stream = _both(**{field: 4})
    assert whole["choices"][0]["finish_reason"] == "length"
    assert finishes(stream) == ["length"]
    assert whole["usage"]["completion_tokens"] == 4
    content = whole["choices"][0]["message"]["content"]
    assert text(stream) == content == " ".join(full["choices"][0]["message"]["content"].split(" ")[:4])
    assert _both(**{field: 12})[0]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("several", [False, True])
def test_stop(several: bool) -> None:
    full = _both()[0]["choices"][0]["message"]["content"]
    word = full.split(" ")[5]
    stop = ["never", word[1:], "nor this"] if several else word
    whole, stream = _both(stop=stop)
    content = whole["choices"][0]["message"]["content"]
    assert content == full[: full.index(word[1:] if several else word)]
    assert (text(stream), finishes(stream)) == (content, ["stop"])
    assert whole["usage"]["completion_tokens"] < 12


def test_log_probabilities() -> None:
    whole, stream = _both(logprobs=True, top_logprobs=3)
    entries = whole["choices"][0]["logprobs"]["content"]
    assert "".join(entry["token"] for entry in entries) == whole["choices"][0]["message"]["content"]
    assert all(bytes(entry["bytes"]).decode() == entry["token"] and entry["logprob"] <= 0 for entry in entries)
    assert {len(entry["top_logprobs"]) for entry in entries} == {3}
    parts = [choice["logprobs"] for chunk in chunks(stream) for choice in chunk["choices"] if choice["logprobs"]]
    assert [entry for part in parts for entry in part["content"]] == entries
    assert _both()[0]["choices"][0]["logprobs"] is None
    assert {len(entry["top_logprobs"]) for entry in _both(logprobs=True)[0]["choices"][0]["logprobs"]["content"]} == {0}


def _assembled(stream: bytes) -> list[dict[str, Any]]:
    """The tool calls of a stream: the id and name once for each, arguments put together."""
    calls: list[dict[str, Any]] = []
    for chunk in chunks(stream):
        for choice in chunk["choices"]:
            for delta in choice["delta"].get("tool_calls", ()):
                if delta["index"] == len(calls):
                    calls.append({"id": delta["id"], "type": delta["type"], "function": dict(delta["function"])})
                    assert delta["function"]["arguments"] == ""
                else:
                    assert delta["index"] == len(calls) - 1
                    assert set(delta) == {"index", "function"}
                    calls[-1]["function"]["arguments"] += delta["function"]["arguments"]
    return calls


def _called(whole: dict[str, Any]) -> list[str]:
    return [call["function"]["name"] for call in whole["choices"][0]["message"].get("tool_calls", ())]


def test_tools() -> None:
    whole, stream = _both(tools=[_WEIGH, _OPEN])
    message = whole["choices"][0]["message"]
    assert _called(whole) == ["weigh", "open_gate"]
    assert message["content"] is None
    assert whole["choices"][0]["finish_reason"] == "tool_calls"
    arguments = json.loads(message["tool_calls"][0]["function"]["arguments"])
    assert set(arguments) == {"plate", "axle"}
    assert type(arguments["axle"]) is int
    assert json.loads(message["tool_calls"][1]["function"]["arguments"]) == {}
    assert len({call["id"] for call in message["tool_calls"]}) == 2
    assert _assembled(stream) == message["tool_calls"]
    assert finishes(stream) == ["tool_calls"]
    assert text(stream) == ""


def test_which_tools_are_called() -> None:
    tools = [_WEIGH, _OPEN]
    forced = {"type": "function", "function": {"name": "open_gate"}}
    assert _called(_both(tools=tools, parallel_tool_calls=False)[0]) == ["weigh"]
    assert _called(_both(tools=tools, tool_choice="required")[0]) == ["weigh", "open_gate"]
    assert _called(_both(tools=tools, tool_choice=forced)[0]) == ["open_gate"]
    none = _both(tools=tools, tool_choice="none")[0]
    assert (_called(none), none["choices"][0]["finish_reason"]) == ([], "stop")
    assert none["choices"][0]["message"]["content"]


def test_after_the_results_of_tools() -> None:
    calls = _both(tools=[_WEIGH])[0]["choices"][0]["message"]["tool_calls"]
    messages = [
        *ask()["messages"],
        {"role": "assistant", "tool_calls": calls},
        {"role": "tool", "tool_call_id": calls[0]["id"], "content": "17 t"},
    ]
    whole, stream = _both(messages=messages, tools=[_WEIGH])
    assert whole["choices"][0]["finish_reason"] == "stop"
    assert whole["choices"][0]["message"]["content"] == text(stream) != ""
    assert _called(_both(messages=messages, tools=[_WEIGH], tool_choice="required")[0]) == ["weigh"]


def test_arguments_cut_by_the_limit() -> None:
    whole, stream = _both(tools=[_WEIGH, _OPEN], max_tokens=2)
    assert whole["choices"][0]["finish_reason"] == "length"
    (call,) = whole["choices"][0]["message"]["tool_calls"]
    assert len(call["function"]["arguments"]) == 12
    assert _assembled(stream) == [call]


class Ticket(BaseModel, extra="forbid"):
    plate: str
    gross: float
    axles: list[int]


def test_schema() -> None:
    wanted = {
        "type": "json_schema",
        "json_schema": {"name": "ticket", "schema": Ticket.model_json_schema(), "strict": True},
    }
    whole, stream = _both(response_format=wanted)
    content = whole["choices"][0]["message"]["content"]
    Ticket.model_validate_json(content, strict=True)
    assert (text(stream), whole["choices"][0]["finish_reason"]) == (content, "stop")
    assert len(chunks(stream)) > 5, "in pieces, as text comes"


def test_any_json() -> None:
    whole, stream = _both(response_format={"type": "json_object"})
    assert isinstance(json.loads(text(stream)), dict)
    assert text(stream) == whole["choices"][0]["message"]["content"]
    assert not _both(response_format={"type": "text"})[0]["choices"][0]["message"]["content"].startswith("{")


def _bytes(**options: Any) -> bytes:
    seen: list[bytes] = []

    async def scenario(simulated: Simulated) -> None:
        for stream in (False, True):
            for more in (
                {},
                {"tools": [_WEIGH]},
                {"n": 2, "logprobs": True},
                {"response_format": {"type": "json_object"}},
            ):
                seen.append((await answer(simulated, ask(stream=stream, **more))).body)

    run(scenario, tokens="5..30", **options)
    return b"\0".join(seen)


def test_same_seed_same_bytes() -> None:
    assert _bytes(seed=3) == _bytes(seed=3)
    assert _bytes(seed=3) != _bytes(seed=4)


def test_content_depends_on_the_question_alone() -> None:
    async def scenario(simulated: Simulated) -> None:
        first = await answer(simulated, ask())
        again = await answer(simulated, ask(model="another", user="u", temperature=0.5))
        assert text(first.body) == text(again.body)
        assert json.loads(first.body)["id"] != json.loads(again.body)["id"]
        assert json.loads(again.body)["model"] == "another"
        seeded = [text((await answer(simulated, ask(seed=seed))).body) for seed in (1, 1, 2)]
        assert seeded[0] == seeded[1] != seeded[2]
        other = ask(messages=[{"role": "user", "content": "And now?"}])
        assert text((await answer(simulated, other)).body) != text(first.body)

    run(scenario)


def test_completions() -> None:
    async def scenario(simulated: Simulated) -> None:
        body = {"model": "m", "prompt": "What does the scale say?", "max_tokens": 5}
        whole = await answer(simulated, body, path="/v1/completions")
        found = Completion.model_validate_json(whole.body, strict=True)
        assert (found.object, found.choices[0].finish_reason, found.id[:5]) == ("text_completion", "length", "cmpl-")
        streamed = await answer(
            simulated, {**body, "stream": True, "stream_options": {"include_usage": True}}, path="/v1/completions"
        )
        *events, last = payloads(streamed.body)
        assert last == b"[DONE]"
        # The SDK's type has no room for a finish reason that is still null, so each but the last is given one.
        *parts, usage = [json.loads(event) for event in events]
        assert [part["choices"][0]["finish_reason"] for part in parts] == [None] * 5 + ["length"]
        for part in parts:
            part["choices"][0]["finish_reason"] = "stop"
            Completion.model_validate(part, strict=True)
        assert "".join(part["choices"][0]["text"] for part in parts) == found.choices[0].text
        assert usage["choices"] == []
        assert usage["usage"] == json.loads(whole.body)["usage"]

    run(scenario)


def _with_sdk(scenario: Callable[[AsyncOpenAI], Awaitable[None]], **options: Any) -> Simulated:
    async def main() -> Simulated:
        async with (
            Simulated(**options) as simulated,
            AsyncOpenAI(base_url=simulated.base_url, api_key="k", max_retries=0) as client,
        ):
            await scenario(client)
        return simulated

    return asyncio.run(main())


def test_the_official_sdk() -> None:
    async def scenario(client: AsyncOpenAI) -> None:
        messages: Any = ask()["messages"]
        whole = await client.chat.completions.create(model="m", messages=messages)
        stream = await client.chat.completions.create(
            model="m", messages=messages, stream=True, stream_options={"include_usage": True}
        )
        seen = [chunk async for chunk in stream]
        assert "".join(chunk.choices[0].delta.content or "" for chunk in seen[:-1]) == whole.choices[0].message.content
        assert seen[-1].usage == whole.usage
        parsed = await client.chat.completions.parse(model="m", messages=messages, response_format=Ticket)
        assert isinstance(parsed.choices[0].message.parsed, Ticket)
        models = await client.models.list()
        assert [model.id for model in models.data] == ["m", "other"]
        assert (await client.models.retrieve("other")).id == "other"

    stats = _with_sdk(scenario, models=["m", "other"]).stats
    assert (stats.requests, stats.streams, stats.answered, stats.others) == (3, 1, 3, 2)


def test_chunked_request_bodies() -> None:
    async def scenario(simulated: Simulated) -> None:
        body = json.dumps(ask()).encode()
        head = request(b"", connection="close", transfer_encoding="chunked").replace(b"content-length: 0\r\n", b"")
        async with connected(simulated) as client:
            client.transport.write(head + b"%x\r\n%s\r\n" % (10, body[:10]))
            client.transport.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body) - 10, body[10:]))
            await client.until_ended()
        assert parse(client.raw).status == 200
        assert simulated.requests[-1].json == ask()

    run(scenario)
