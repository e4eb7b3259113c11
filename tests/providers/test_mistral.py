from __future__ import annotations

from typing import Any

import orjson
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from policies.verdict import Kind
from proxy.errors import Refusal, UpstreamError
from proxy.providers.base import Built, Endpoint, Minted
from proxy.providers.catalog import CATALOG
from proxy.providers.mistral import Mistral, tool_id
from proxy.wire.chat import ChatRequest
from proxy.wire.chunk import COMMENT, DONE, Usage

TO = Endpoint("mistral", "http://127.0.0.1/v1", "m", False, False, quirks=CATALOG["mistral"].quirks)
HELLO = [{"role": "user", "content": "x"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}, "strict": True}}
NAMED = {"type": "function", "function": {"name": "f"}}


def build(model: str = "m", **more: Any) -> tuple[dict[str, Any], Built]:
    ask = ChatRequest.parse(orjson.dumps({"model": "chat", "messages": HELLO, **more}))
    built = Mistral().build(ask, TO._replace(model=model))
    return orjson.loads(built.body), built


@pytest.mark.parametrize(
    ("more", "sent", "dropped"),
    [
        ({"seed": 1}, {"random_seed": 1}, ()),
        ({"max_completion_tokens": 5}, {"max_tokens": 5}, ()),
        ({"tools": [TOOL], "tool_choice": "required"}, {"tools": [TOOL], "tool_choice": "any"}, ()),
        ({"tools": [TOOL], "tool_choice": "none"}, {"tools": [TOOL], "tool_choice": "none"}, ()),
        ({"tools": [TOOL], "tool_choice": NAMED}, {"tools": [TOOL], "tool_choice": NAMED}, ()),
        ({"tools": [TOOL], "parallel_tool_calls": False}, {"tools": [TOOL], "parallel_tool_calls": False}, ()),
        ({"tools": [NAMED]}, {"tools": [TOOL]}, ()),
        ({"response_format": SCHEMA}, {"response_format": SCHEMA}, ()),
        ({"response_format": {"type": "json_object"}}, {"response_format": {"type": "json_object"}}, ()),
        ({"stop": ["a"], "n": 2, "reasoning_effort": "high"}, {"stop": ["a"], "n": 2, "reasoning_effort": "high"}, ()),
        ({"user": "u", "logit_bias": {"1": 1}, "store": True}, {}, ("logit_bias", "store", "user")),
        ({"stream": True, "stream_options": {"include_usage": True}}, {"stream": True}, ()),
        ({"service_tier": "flex"}, {}, ("service_tier",)),
        ({"stream_options": None, "thinking": {"type": "enabled"}}, {}, ("thinking",)),
        ({"stream_options": None}, {}, ()),
    ],
)
def test_parameters(more: dict[str, Any], sent: dict[str, Any], dropped: tuple[str, ...]) -> None:
    body, built = build(**more)
    assert body == {"model": "m", "messages": HELLO, **sent}
    assert built.dropped == dropped


@pytest.mark.parametrize(
    "more",
    [
        {"audio": {"voice": "a", "format": "mp3"}},
        {"functions": [{"name": "f"}]},
        {"web_search_options": {}},
        {"tools": [{"type": "elsewhere:search"}]},
        {"messages": [{"role": "user", "content": [{"type": "video"}]}]},
    ],
)
def test_what_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(Refusal) as caught:
        build(**more)
    assert caught.value.status == 400
    assert caught.value.param


def test_ids_of_calls_are_nine_letters_or_digits_on_both_sides() -> None:
    calls = [
        {"id": id, "type": "function", "function": {"name": "f", "arguments": ""}} for id in ("call_a", "abc123XYZ")
    ]
    results = [{"role": "tool", "tool_call_id": id, "content": "ok"} for id in ("abc123XYZ", "call_a")]
    turn = {"role": "assistant", "content": None, "tool_calls": calls, "refusal": None}
    body, _ = build(messages=[*HELLO, turn, *results])
    _, turn, *results = body["messages"]
    first, second = (call["id"] for call in turn["tool_calls"])
    assert second == "abc123XYZ"
    assert len(first) == 9
    assert first.isalnum()
    assert first == tool_id("call_a") != tool_id("call_b")
    assert [result["tool_call_id"] for result in results] == [second, first]
    assert [call["function"]["arguments"] for call in turn["tool_calls"]] == ["{}", "{}"]
    assert "refusal" not in turn


def test_parts_and_prefix_and_thinking() -> None:
    parts = [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,aa"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,aa"}},
        {"type": "file", "file": {"file_id": "f1"}},
        {"type": "input_audio", "input_audio": {"data": "aa", "format": "mp3"}},
    ]
    last = {"role": "assistant", "content": "so", "reasoning_content": "hm"}
    messages = [{"role": "user", "content": parts, "name": "ann"}, last]
    body, _ = build("magistral-medium", messages=messages)
    assert body["messages"] == [
        {
            "role": "user",
            "content": [
                *parts[:2],
                {"type": "document_url", "document_url": "data:application/pdf;base64,aa", "document_name": "a.pdf"},
                {"type": "file", "file_id": "f1"},
                {"type": "input_audio", "input_audio": "aa"},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
                {"type": "text", "text": "so"},
            ],
            "prefix": True,
        },
    ]
    assert build(messages=messages)[0]["messages"][1] == {"role": "assistant", "content": "so", "prefix": True}


THINKING = [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "so é"}]
CALL = {"id": "abc123XYZ", "function": {"name": "f", "arguments": '{"x":1}'}}
COUNTS = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7, "num_cached_tokens": 3}


def chunk(delta: dict[str, Any], reason: str | None = None, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    head = {"id": "c1", "object": "chat.completion.chunk", "created": 5, "model": "m-1", "p": "abc"}
    return b"data: %b\n\n" % orjson.dumps({**head, "choices": [choice], **more})


def test_a_stream_and_a_whole_answer() -> None:
    raw = chunk({"role": "assistant", "content": ""}) + chunk({"content": THINKING[:1]}) + chunk({"content": "so é"})
    raw += chunk({"tool_calls": [CALL]}, "tool_calls", usage=COUNTS) + b"data: [DONE]\n\n"
    outcomes = []
    for step in (len(raw), 1, 11):
        ask = ChatRequest.parse(orjson.dumps({"model": "chat", "messages": HELLO, "stream": True}))
        decoder = Mistral().decoder(ask, TO, Minted("chatcmpl-1", 1))
        outcomes.append([one for at in range(0, len(raw), step) for one in decoder.feed(raw[at : at + step])])
        assert (decoder.finish_reason, decoder.usage) == ("tool_calls", Usage(2, 3, 0, 2, 0))
    assert len({tuple(one.raw for one in outcome) for outcome in outcomes}) == 1
    whole: dict[str, Any] = {"content": "", "reasoning_content": "", "tool_calls": []}
    for one in outcomes[0]:
        if one.kind not in (COMMENT, DONE):
            ChatCompletionChunk.model_validate_json(one.raw[6:], strict=True)
            for choice in orjson.loads(one.raw[6:])["choices"]:
                for name in whole:
                    whole[name] += choice["delta"].get(name) or whole[name][:0]
    message = {"role": "assistant", "content": THINKING, "tool_calls": [CALL]}
    choices = [{"index": 0, "message": message, "finish_reason": "tool_calls"}]
    answer = orjson.dumps({"id": "c1", "created": 5, "model": "m-1", "choices": choices, "usage": COUNTS})
    decoder = Mistral().decoder(ChatRequest.parse(orjson.dumps({"model": "c", "messages": HELLO})), TO, Minted("c", 1))
    decoder.feed(answer)
    (told,) = decoder.close()
    ChatCompletion.model_validate_json(told.raw, strict=True)
    shown = orjson.loads(told.raw)["choices"][0]["message"]
    assert (
        [shown["content"], shown["reasoning_content"]]
        == [whole["content"], whole["reasoning_content"]]
        == ["so é", "hm"]
    )
    assert shown["tool_calls"] == [{"id": "abc123XYZ", "type": "function", "function": CALL["function"]}]
    assert whole["tool_calls"] == [{"index": 0, **shown["tool_calls"][0]}]


def test_a_failed_answer() -> None:
    ask = ChatRequest.parse(orjson.dumps({"model": "chat", "messages": HELLO, "stream": True}))
    with pytest.raises(UpstreamError):
        Mistral().decoder(ask, TO, Minted("c", 1)).feed(chunk({"content": "x"}, "error"))


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, {"detail": "Invalid API Key"}, Kind.AUTH),
        (422, {"detail": [{"loc": ["body", "x"], "msg": "extra", "type": "extra_forbidden"}]}, Kind.BAD_REQUEST),
        (400, {"message": "Prompt contains 9 tokens, too many tokens", "code": "3051"}, Kind.CONTEXT_LENGTH),
        (400, {"message": "Invalid model: x", "type": "invalid_model", "code": "1500"}, Kind.UNKNOWN_MODEL),
        (429, {"message": "Rate limit exceeded", "type": "rate_limited", "code": "1300"}, Kind.RATE_LIMIT),
        (503, {"message": "x"}, Kind.SERVER_ERROR),
    ],
)  # fmt: skip
def test_errors(status: int, body: dict[str, Any], kind: Kind) -> None:
    assert Mistral().error(status, [], orjson.dumps(body)).kind is kind
