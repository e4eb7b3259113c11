from __future__ import annotations

from random import Random
from typing import Any

import orjson
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from policies.verdict import Kind
from proxy.errors import Refusal, UpstreamError
from proxy.providers.base import Built, Decoder, Endpoint, Minted
from proxy.providers.cohere import Cohere
from proxy.wire.chat import ChatRequest
from proxy.wire.chunk import COMMENT, DONE, Chunk, Usage

TO = Endpoint("cohere", "https://api.cohere.com", "command-a", verbatim=False)
MINTED = Minted("chatcmpl-minted", 1_700_000_000)
HELLO = [{"role": "user", "content": "x"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
OTHER = {"type": "function", "function": {"name": "g", "description": "G", "parameters": {"type": "object"}}}
NAMED = {"type": "function", "function": {"name": "g"}}


def build(model: str = "command-a", **more: Any) -> tuple[dict[str, Any], Built]:
    ask = ChatRequest.parse(orjson.dumps({"model": "chat", "messages": HELLO, **more}))
    built = Cohere().build(ask, TO._replace(model=model))
    return orjson.loads(built.body), built


@pytest.mark.parametrize(
    ("more", "sent", "dropped"),
    [
        ({"stop": "a", "seed": 1, "top_p": 1, "top_k": 3}, {"stop_sequences": ["a"], "seed": 1, "p": 0.99, "k": 3}, ()),
        ({"stop": ["a", "b"]}, {"stop_sequences": ["a", "b"]}, ()),
        ({"max_completion_tokens": 5}, {"max_tokens": 5}, ()),
        ({"frequency_penalty": -1, "presence_penalty": 2}, {"presence_penalty": 1}, ("frequency_penalty",)),
        ({"user": "u", "logprobs": True, "store": False}, {}, ("logprobs", "user")),
        ({"tools": [TOOL], "parallel_tool_calls": False}, {"tools": [TOOL]}, ("parallel_tool_calls",)),
        ({"tools": [TOOL], "parallel_tool_calls": True}, {"tools": [TOOL]}, ()),
        ({"tools": [TOOL], "tool_choice": "auto"}, {"tools": [TOOL]}, ()),
        ({"tools": [TOOL], "tool_choice": "none"}, {"tools": [TOOL], "tool_choice": "NONE"}, ()),
        ({"tools": [TOOL], "tool_choice": "required"}, {"tools": [TOOL], "tool_choice": "REQUIRED"}, ()),
        ({"tools": [TOOL, OTHER], "tool_choice": NAMED}, {"tools": [OTHER], "tool_choice": "REQUIRED"}, ()),
        (
            {
                "tools": [TOOL, OTHER],
                "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NAMED]}},
            },
            {"tools": [OTHER]},
            (),
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "strict": True}}]},
            {"tools": [TOOL], "strict_tools": True},
            (),
        ),
        ({"response_format": {"type": "json_object"}}, {"response_format": {"type": "json_object"}}, ()),
        ({"response_format": {"type": "text"}}, {}, ()),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}},
            {"response_format": {"type": "json_object", "json_schema": {"type": "object"}}},
            (),
        ),
        ({"reasoning_effort": "high"}, {}, ("reasoning_effort",)),
        ({"thinking": {"type": "disabled", "other": 1}}, {"thinking": {"type": "disabled"}}, ()),
        ({"stream_options": {"include_usage": True}, "documents": ["d"]}, {"documents": ["d"]}, ()),
    ],
)
def test_parameters(more: dict[str, Any], sent: dict[str, Any], dropped: tuple[str, ...]) -> None:
    body, built = build(**more)
    assert body == {"model": "command-a", "messages": HELLO, "stream": False, **sent}
    assert built.dropped == dropped


def test_effort_is_thinking_where_the_model_reasons() -> None:
    assert build("command-a-reasoning", reasoning_effort="low")[0]["thinking"] == {"type": "enabled"}
    assert build("command-a-reasoning", reasoning_effort="none")[0]["thinking"] == {"type": "disabled"}


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": 2}, "n"),
        ({"audio": {"voice": "a"}}, "audio"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"response_format": {"type": "grammar"}}, "response_format"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0]"),
        ({"tools": [TOOL], "tool_choice": NAMED}, "tool_choice"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "function", "name": "f", "content": "x"}]}, "messages[0]"),
    ],
)
def test_what_is_refused(more: dict[str, Any], param: str) -> None:
    with pytest.raises(Refusal) as caught:
        build(**more)
    assert (caught.value.status, caught.value.param) == (400, param)


def test_messages() -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}
    other = {"id": "b", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aa", "detail": "low"}}
    text = {"type": "text", "text": "look"}
    messages = [
        {"role": "developer", "content": [{"type": "text", "text": "be "}, {"type": "text", "text": "brief"}]},
        {"role": "user", "content": [text, image]},
        {"role": "assistant", "content": None, "tool_calls": [call, other], "reasoning_content": "plan"},
        {"role": "tool", "tool_call_id": "b", "content": [text]},
        {"role": "tool", "tool_call_id": "a", "content": "ok"},
        {"role": "assistant", "content": "so", "refusal": None, "reasoning_content": "hm"},
    ]
    sent = build(messages=messages)[0]["messages"]
    called = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert sent == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [text, image]},
        {"role": "assistant", "tool_calls": [called, other], "tool_plan": "plan"},
        {"role": "tool", "tool_call_id": "b", "content": "look"},
        {"role": "tool", "tool_call_id": "a", "content": "ok"},
        {"role": "assistant", "content": "so"},
    ]
    thinking = build("command-a-reasoning", messages=messages)[0]["messages"]
    assert thinking[2] == {
        "role": "assistant",
        "tool_calls": [called, other],
        "content": [{"type": "thinking", "thinking": "plan"}],
    }
    assert thinking[5]["content"] == [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "so"}]


def test_paths() -> None:
    assert Cohere().path(TO, False) == "/v2/chat"
    assert Cohere().path(TO._replace(base_url="https://api.cohere.com/v2"), True) == "/chat"


def event(kind: str, message: dict[str, Any] | None = None, **more: Any) -> bytes:
    delta = {"delta": {"message": message}} if message is not None else {}
    return f"event: {kind}\n".encode() + b"data: %b\n\n" % orjson.dumps({"type": kind, **delta, **more})


CITED = {"start": 0, "end": 2, "text": "so", "type": "TEXT_CONTENT"}
SOURCES = [
    {"type": "tool", "id": "t:0", "tool_output": {"content": "Ruby"}},
    {"type": "document", "id": "d1", "document": {"title": "D", "url": "https://d"}},
]
COUNTS = {
    "billed_units": {"input_tokens": 3, "output_tokens": 4},
    "tokens": {"input_tokens": 30.0, "output_tokens": 9, "reasoning_tokens": 2},
    "cached_tokens": 16,
}
CITATION = {**CITED, "sources": SOURCES}
STREAM = [
    event("message-start", {"role": "assistant", "content": [], "tool_plan": ""}, id="m1"),
    event("tool-plan-delta", {"tool_plan": "I will "}),
    event("tool-plan-delta", {"tool_plan": "call."}),
    event("content-start", {"content": {"type": "thinking", "thinking": "hm"}}, index=0),
    event("content-end", index=0),
    event("content-start", {"content": {"type": "text", "text": ""}}, index=1),
    event("content-delta", {"content": {"text": "so é"}}, index=1),
    event("citation-start", {"citations": CITATION}, index=0),
    event("citation-end", index=0),
    event("new-kind-of-event", {"x": 1}),
    event("tool-call-start", {"tool_calls": {"id": "a", "function": {"name": "f", "arguments": ""}}}, index=0),
    event("tool-call-delta", {"tool_calls": {"function": {"arguments": '{"x"'}}}, index=0),
    event("tool-call-delta", {"tool_calls": {"function": {"arguments": ":1}"}}}, index=0),
    event("tool-call-end", index=0),
    event("tool-call-start", {"tool_calls": {"id": "b", "function": {"name": "g", "arguments": ""}}}, index=1),
    event("tool-call-end", index=1),
]
MESSAGE_END = event("message-end", delta={"finish_reason": "TOOL_CALL", "usage": COUNTS})
MESSAGE = {
    "role": "assistant",
    "tool_plan": "I will call.",
    "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "so é"}],
    "citations": [CITATION],
    "tool_calls": [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": ""}},
    ],
}


def decoder(stream: bool) -> Decoder:
    ask = ChatRequest.parse(orjson.dumps({"model": "chat", "messages": HELLO, "stream": stream}))
    return Cohere().decoder(ask, TO, MINTED)


def read_stream(raw: bytes) -> tuple[list[Chunk], Decoder]:
    rng = Random(3)
    places = sorted(rng.randrange(len(raw)) for _ in range(15))
    cut = [raw[a:b] for a, b in zip([0, *places], [*places, len(raw)], strict=True)]
    outcomes = []
    for pieces in ([raw], [raw[at : at + 1] for at in range(len(raw))], cut):
        made = decoder(True)
        chunks = [chunk for piece in pieces for chunk in made.feed(piece)]
        chunks += [] if made.ended else made.close()
        outcomes.append((chunks, made))
    assert len({tuple(chunk.raw for chunk in chunks) for chunks, _ in outcomes}) == 1
    for chunk in chunks:
        if chunk.kind not in (COMMENT, DONE):
            ChatCompletionChunk.model_validate_json(chunk.raw[6:], strict=True)
    return outcomes[0]


def read_body(body: object) -> tuple[dict[str, Any], Decoder]:
    made = decoder(False)
    raw = orjson.dumps(body)
    for at in range(0, len(raw), 9):
        made.feed(raw[at : at + 9])
    (chunk,) = made.close()
    ChatCompletion.model_validate_json(chunk.raw, strict=True)
    return orjson.loads(chunk.raw), made


def test_a_stream_put_together_is_the_whole_answer() -> None:
    chunks, streaming = read_stream(b"".join(STREAM) + MESSAGE_END + b"data: [DONE]\n\n")
    body, whole = read_body({"id": "m1", "message": MESSAGE, "finish_reason": "TOOL_CALL", "usage": COUNTS})
    message = body["choices"][0]["message"]
    together: dict[str, Any] = {"content": "", "reasoning_content": "", "annotations": [], "citations": []}
    calls: list[dict[str, Any]] = []
    for chunk in chunks[:-1]:
        for choice in orjson.loads(chunk.raw[6:])["choices"]:
            for name in together:
                together[name] += choice["delta"].get(name) or together[name][:0]
            for piece in choice["delta"].get("tool_calls", ()):
                if piece["index"] == len(calls):
                    calls.append({key: value for key, value in piece.items() if key != "index"})
                else:
                    calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]
    assert {name: message[name] for name in together} == together
    assert message["tool_calls"] == calls
    assert [call["function"]["arguments"] for call in calls] == ['{"x":1}', "{}"]
    assert (message["content"], message["reasoning_content"]) == ("so é", "I will call.hm")
    assert [one["url_citation"]["url"] for one in message["annotations"]] == ["t:0", "https://d"]
    assert [one["url_citation"]["title"] for one in message["annotations"]] == ["t:0", "D"]
    assert streaming.usage == whole.usage == Usage(14, 16, 0, 7, 2)
    assert streaming.finish_reason == whole.finish_reason == "tool_calls" == body["choices"][0]["finish_reason"]
    assert body["id"] == "m1" == orjson.loads(chunks[0].raw[6:])["id"]
    assert body["usage"] == orjson.loads(chunks[-2].raw[6:])["usage"]
    assert body["usage"]["billed_units"] == COUNTS["billed_units"]


@pytest.mark.parametrize(
    ("reason", "wanted"),
    [("COMPLETE", "stop"), ("STOP_SEQUENCE", "stop"), ("MAX_TOKENS", "length"), ("ERROR_TOXIC", "content_filter")],
)
def test_finish_reasons(reason: str, wanted: str) -> None:
    message = {"content": [{"type": "text", "text": "x"}]}
    assert read_body({"id": "m", "message": message, "finish_reason": reason})[1].finish_reason == wanted
    raw = STREAM[0] + STREAM[6] + event("message-end", delta={"finish_reason": reason})
    chunks, made = read_stream(raw)
    assert (made.finish_reason, made.usage, chunks[-1].kind) == (wanted, None, DONE)


def test_usage_falls_back_to_what_is_billed_and_is_capped() -> None:
    body = {"id": "m", "message": {"content": []}, "finish_reason": "COMPLETE"}
    billed = {"billed_units": {"input_tokens": 3, "output_tokens": 1}, "cached_tokens": 9}
    assert read_body({**body, "usage": billed})[1].usage == Usage(0, 3, 0, 1, 0)
    assert read_body({**body, "usage": {}})[1].usage is None


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        STREAM[0] + STREAM[6],
        STREAM[0] + STREAM[6] + b"data: [DONE]\n\n",
        STREAM[0] + STREAM[6] + event("message-end", delta={}),
        STREAM[0] + STREAM[6] + event("message-end", delta={"finish_reason": "ERROR"}),
        STREAM[0] + STREAM[6] + event("message-end", delta={"finish_reason": "COMPLETE", "error": "broke"}),
        STREAM[0] + b"data: {half\n\n",
        STREAM[0] + STREAM[11] + MESSAGE_END,
        STREAM[0] + b'data: {"message":"too many requests"}\n\n',
        b'{"message":"x"}',
    ],
)
def test_a_stream_that_is_no_answer(raw: bytes) -> None:
    made = decoder(True)

    def whole() -> None:
        made.feed(raw)
        made.close()

    with pytest.raises(UpstreamError):
        whole()


@pytest.mark.parametrize(
    "body",
    [
        {"message": "x"},
        {"message": {"content": []}},
        {"message": {"content": []}, "finish_reason": "TIMEOUT"},
        {"message": {"tool_calls": [{"id": "a"}]}, "finish_reason": "TOOL_CALL"},
        [],
    ],
)
def test_what_is_no_answer(body: object) -> None:
    with pytest.raises(UpstreamError):
        read_body(body)


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (400, {"message": "too many tokens: 9"}, Kind.CONTEXT_LENGTH),
        (400, {"message": "x", "error_type": "TOO_MANY_TOKENS"}, Kind.CONTEXT_LENGTH),
        (400, {"message": "invalid request"}, Kind.BAD_REQUEST),
        (401, {"message": "invalid api token"}, Kind.AUTH),
        (402, {"message": "x"}, Kind.QUOTA),
        (404, {"message": "model 'x' not found"}, Kind.UNKNOWN_MODEL),
        (422, {"message": "x"}, Kind.BAD_REQUEST),
        (429, {"message": "Please wait"}, Kind.RATE_LIMIT),
        (429, {"message": "You are using a Trial key, which is limited to 1000 API calls / month."}, Kind.QUOTA),
        (498, {"message": "blocked input"}, Kind.CONTENT_FILTER),
        (503, {"message": "x"}, Kind.SERVER_ERROR),
    ],
)
def test_errors(status: int, body: dict[str, str], kind: Kind) -> None:
    assert Cohere().error(status, [], orjson.dumps({"id": "e", **body})).kind is kind
