"""Answers and errors of Bedrock's Converse, hand-written to the documented shapes."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from policies.verdict import Kind
from proxy.errors import UpstreamError
from proxy.providers.base import Decoder, Endpoint, Minted, Signs
from proxy.providers.bedrock import Bedrock
from proxy.providers.eventstream import encode
from proxy.wire.chat import ChatRequest
from proxy.wire.chunk import CONTENT, DONE, FINISH, META, USAGE, Chunk, Json, Usage

BEDROCK = Bedrock()
CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
TO = Endpoint("bedrock", "https://bedrock-runtime.eu-central-1.amazonaws.com", CLAUDE, region="eu-central-1")
MINTED = Minted("chatcmpl-1", 1_780_000_000)
HELLO: list[Json] = [{"role": "user", "content": "Hello"}]


def ask(stream: bool = False, **more: Any) -> ChatRequest:
    return ChatRequest.parse(orjson.dumps({"model": "chat", "messages": HELLO, "stream": stream, **more}))


def event(name: str, payload: Json) -> bytes:
    headers = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    return encode(headers, orjson.dumps({"p": "abcd", **payload}))


def exception(name: str, message: str) -> bytes:
    headers = {":exception-type": name, ":content-type": "application/json", ":message-type": "exception"}
    return encode(headers, orjson.dumps({"message": message}))


def delta(at: int, told: Json) -> bytes:
    return event("contentBlockDelta", {"contentBlockIndex": at, "delta": told})


def start(at: int, told: Json) -> bytes:
    return event("contentBlockStart", {"contentBlockIndex": at, "start": told})


def stop(at: int) -> bytes:
    return event("contentBlockStop", {"contentBlockIndex": at})


def end(reason: str) -> bytes:
    return event("messageStop", {"stopReason": reason})


ROLE = event("messageStart", {"role": "assistant"})
USED = {"inputTokens": 10, "outputTokens": 7, "totalTokens": 25, "cacheReadInputTokens": 5, "cacheWriteInputTokens": 3}
METADATA = event("metadata", {"usage": USED, "metrics": {"latencyMs": 5}})
USAGE_READ = Usage(10, 5, 3, 7, 0)

# Everything an answer can hold, streamed and whole.
BLOCKS: list[Json] = [
    {"reasoningContent": {"reasoningText": {"text": "Hm, é漢😀.", "signature": "c2ln"}}},
    {"reasoningContent": {"redactedContent": "c2VjcmV0"}},
    {"text": "Let me look."},
    {"toolUse": {"toolUseId": "s1", "name": "nova_grounding", "input": {"query": "x"}, "type": "server_tool_use"}},
    {"toolResult": {"toolUseId": "s1", "content": [{"text": "found"}], "type": "nova_grounding_result"}},
    {
        "citationsContent": {
            "content": [{"text": "It is so."}],
            "citations": [
                {"title": "Page", "location": {"web": {"url": "https://a.example", "domain": "a.example"}}},
                {"title": "Doc", "location": {"documentPage": {"documentIndex": 0, "start": 1, "end": 2}}},
            ],
        }
    },
    {"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"city": "Köln"}}},
    {"toolUse": {"toolUseId": "t2", "name": "now", "input": {}}},
    {"image": {"format": "png", "source": {"bytes": "aW1hZ2U="}}},
]
CITED = BLOCKS[5]["citationsContent"]["citations"]
STREAM = b"".join(
    [
        ROLE,
        delta(0, {"reasoningContent": {"text": "Hm, "}}),
        delta(0, {"reasoningContent": {"text": "é漢😀."}}),
        delta(0, {"reasoningContent": {"signature": "c2ln"}}),
        stop(0),
        delta(1, {"reasoningContent": {"redactedContent": "c2VjcmV0"}}),
        stop(1),
        delta(2, {"text": "Let me"}),
        delta(2, {"text": " look."}),
        stop(2),
        start(3, {"toolUse": {"toolUseId": "s1", "name": "nova_grounding", "type": "server_tool_use"}}),
        delta(3, {"toolUse": {"input": '{"query":"x"}'}}),
        stop(3),
        start(4, {"toolResult": {"toolUseId": "s1", "type": "nova_grounding_result"}}),
        delta(4, {"toolResult": [{"text": "found"}]}),
        stop(4),
        event("somethingNew", {"contentBlockIndex": 4}),
        delta(5, {"text": "It is so."}),
        delta(5, {"citation": CITED[0]}),
        delta(5, {"citation": CITED[1]}),
        stop(5),
        start(6, {"toolUse": {"toolUseId": "t1", "name": "weather"}}),
        delta(6, {"toolUse": {"input": '{"city":'}}),
        delta(6, {"toolUse": {"input": '"Köln"}'}}),
        stop(6),
        start(7, {"toolUse": {"toolUseId": "t2", "name": "now"}}),
        stop(7),
        start(8, {"image": {"format": "png"}}),
        delta(8, {"image": {"source": {"bytes": "aW1h"}}}),
        delta(8, {"image": {"source": {"bytes": "Z2U="}}}),
        stop(8),
        end("tool_use"),
        METADATA,
    ]
)


def body(blocks: list[Json], reason: str | None = "end_turn", usage: Json | None = None) -> bytes:
    told: Json = {"output": {"message": {"role": "assistant", "content": blocks}}, "metrics": {"latencyMs": 5}}
    if reason is not None:
        told["stopReason"] = reason
    return orjson.dumps({**told, "usage": usage or USED})


def read(pieces: Iterable[bytes], request: ChatRequest | None = None, to: Endpoint = TO) -> tuple[list[Chunk], Decoder]:
    decoder = BEDROCK.decoder(request or ask(True), to, MINTED)
    chunks = [chunk for piece in pieces for chunk in decoder.feed(piece)]
    return chunks + decoder.close(), decoder


def whole(raw: bytes, request: ChatRequest | None = None, to: Endpoint = TO) -> tuple[Json, Decoder]:
    (chunk,), decoder = read([raw], request or ask(), to)
    ChatCompletion.model_validate_json(chunk.raw, strict=True)
    told: Json = orjson.loads(chunk.raw)
    return told, decoder


def assembled(chunks: list[Chunk]) -> Json:
    """The stream put together as official SDKs do."""
    message: Json = {"content": "", "reasoning_content": ""}
    finish = usage = None
    for chunk in chunks:
        if chunk.kind == DONE:
            continue
        told = orjson.loads(chunk.raw.removeprefix(b"data: "))
        ChatCompletionChunk.model_validate(told)
        assert (told["id"], told["created"], told["model"]) == (MINTED.id, MINTED.created, CLAUDE)
        usage = told.get("usage") or usage
        for choice in told["choices"]:
            assert finish is None
            finish = choice["finish_reason"]
            for key, value in choice["delta"].items():
                if key in ("content", "reasoning_content"):
                    message[key] += value
                elif key == "tool_calls":
                    calls = message.setdefault(key, [])
                    for call in value:
                        if call["index"] == len(calls):
                            calls.append({name: call[name] for name in ("id", "type", "function")})
                        else:
                            calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]
                elif type(value) is list:
                    message.setdefault(key, []).extend(value)
    return {"message": message, "finish_reason": finish, "usage": usage}


def test_a_whole_answer() -> None:
    told, decoder = whole(body(BLOCKS, "tool_use"))
    assert (told["id"], told["created"], told["model"]) == (MINTED.id, MINTED.created, CLAUDE)
    assert (decoder.model, decoder.finish_reason, decoder.usage) == (None, "tool_calls", USAGE_READ)
    (choice,) = told["choices"]
    message = choice["message"]
    assert message["content"] == "Let me look.It is so."
    assert message["reasoning_content"] == "Hm, é漢😀."
    assert [(call["id"], call["function"]) for call in message["tool_calls"]] == [
        ("t1", {"name": "weather", "arguments": '{"city":"Köln"}'}),
        ("t2", {"name": "now", "arguments": "{}"}),
    ]
    assert message["reasoning_details"] == [
        {
            "type": "reasoning.text",
            "text": "Hm, é漢😀.",
            "format": "anthropic-claude-v1",
            "signature": "c2ln",
            "index": 0,
        },
        {"type": "reasoning.encrypted", "data": "c2VjcmV0", "format": "amazon-bedrock-v1", "index": 1},
    ]
    link = {"url": "https://a.example", "title": "Page", "start_index": 12, "end_index": 21}
    assert message["annotations"] == [{"type": "url_citation", "url_citation": link}]
    assert message["citations"] == [{**CITED[1], "index": 0}]
    (image,) = message["images"]
    assert image["image_url"]["url"] == "data:image/png;base64,aW1hZ2U="
    assert told["usage"]["prompt_tokens"] == 18
    assert told["usage"]["total_tokens"] == 25


def test_the_stream_put_together_is_the_whole_answer() -> None:
    chunks, decoder = read([STREAM])
    told, _ = whole(body(BLOCKS, "tool_use"))
    (choice,) = told["choices"]
    one = assembled(chunks)
    expected = {key: value for key, value in choice["message"].items() if key not in ("role", "refusal")}
    assert one["message"] == expected
    assert (one["finish_reason"], one["usage"]) == (choice["finish_reason"], told["usage"])
    assert (decoder.ended, decoder.finish_reason, decoder.usage) == (True, "tool_calls", USAGE_READ)
    kinds = [chunk.kind for chunk in chunks]
    assert kinds[0] == META
    assert kinds[-3:] == [FINISH, USAGE, DONE]
    assert set(kinds[1:-3]) == {CONTENT}


def raws(pieces: Iterable[bytes]) -> list[tuple[int, bytes]]:
    return [(chunk.kind, chunk.raw) for chunk in read(pieces)[0]]


@settings(max_examples=60)
@given(st.lists(st.integers(0, len(STREAM)), max_size=10))
def test_cuts_change_nothing(places: list[int]) -> None:
    edges = [0, *sorted(places), len(STREAM)]
    assert raws(STREAM[a:b] for a, b in itertools.pairwise(edges) if a != b) == raws([STREAM])


def test_byte_by_byte() -> None:
    assert raws(STREAM[at : at + 1] for at in range(len(STREAM))) == raws([STREAM])
    raw = body(BLOCKS)
    singly, _ = read([raw[at : at + 1] for at in range(len(raw))], ask())
    assert singly[0].raw == read([raw], ask())[0][0].raw


@pytest.mark.parametrize(
    ("reason", "calls", "finish"),
    [
        ("end_turn", False, "stop"),
        ("stop_sequence", False, "stop"),
        ("tool_use", True, "tool_calls"),
        ("end_turn", True, "tool_calls"),
        ("tool_use", False, "stop"),
        ("max_tokens", False, "length"),
        ("max_tokens", True, "length"),
        ("model_context_window_exceeded", False, "length"),
        ("guardrail_intervened", False, "content_filter"),
        ("content_filtered", True, "content_filter"),
        ("malformed_model_output", False, "stop"),
        ("malformed_tool_use", False, "stop"),
        ("something_new", False, "stop"),
    ],
)
def test_finish_reasons(reason: str, calls: bool, finish: str) -> None:
    blocks = [{"text": "x"}, *(BLOCKS[6:8] if calls else [])]
    assert whole(body(blocks, reason))[1].finish_reason == finish
    called = start(1, {"toolUse": {"toolUseId": "t1", "name": "weather"}}) if calls else b""
    assert read([ROLE + delta(0, {"text": "x"}) + called + end(reason) + METADATA])[1].finish_reason == finish


@pytest.mark.parametrize(
    ("told", "usage"),
    [
        ({"inputTokens": 10, "outputTokens": 7, "totalTokens": 17}, Usage(10, 0, 0, 7, 0)),
        (USED, USAGE_READ),
        ({**USED, "totalTokens": 17}, Usage(2, 5, 3, 7, 0)),
        (
            {"inputTokens": 4, "outputTokens": 7, "totalTokens": 11, "cacheReadInputTokens": 9},
            Usage(0, 4, 0, 7, 0),
        ),
        (
            {"inputTokens": 1, "outputTokens": 1, "totalTokens": 4, "cacheReadInputTokenCount": 2},
            Usage(1, 2, 0, 1, 0),
        ),
        ({"inputTokens": -1, "outputTokens": None, "totalTokens": "x"}, Usage(0, 0, 0, 0, 0)),
    ],
)
def test_usage_in_disjoint_classes(told: Json, usage: Usage) -> None:
    assert whole(body([{"text": "x"}], usage=told))[1].usage == usage


def test_the_end_waits_for_usage_and_does_without_it() -> None:
    decoder = BEDROCK.decoder(ask(True), TO, MINTED)
    chunks = decoder.feed(ROLE + delta(0, {"text": "x"}) + end("end_turn"))
    assert [chunk.kind for chunk in chunks] == [META, CONTENT, FINISH]
    assert not decoder.ended
    assert [chunk.kind for chunk in decoder.close(cut=True)] == [DONE]
    assert decoder.usage is None


def test_the_model_that_a_router_chose() -> None:
    chosen = {"usage": USED, "trace": {"promptRouter": {"invokedModelId": "arn:aws:bedrock:::x"}}}
    stream = ROLE + delta(0, {"text": "x"}) + end("end_turn") + event("metadata", chosen)
    assert read([stream])[1].model == "arn:aws:bedrock:::x"


BEGUN = ROLE + delta(0, {"text": "x"})


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"", Kind.TRUNCATED),
        (BEGUN, Kind.TRUNCATED),
        (BEGUN + METADATA, Kind.TRUNCATED),
        (BEGUN + stop(0) + end("end_turn")[:-1], Kind.TRUNCATED),
        (BEGUN + b"\x00\x00\x00\x10" * 4, Kind.MALFORMED),
        (b"<html>no event stream</html>", Kind.MALFORMED),
        (b'{"message":"no event stream"}', Kind.MALFORMED),
        (b'{"message":"Input is too long for requested model."}', Kind.CONTEXT_LENGTH),
        (BEGUN + event("messageStop", {}), Kind.MALFORMED),
        (BEGUN + event("contentBlockDelta", {"contentBlockIndex": 0}), Kind.MALFORMED),
        (BEGUN + event("contentBlockDelta", {"contentBlockIndex": [], "delta": {}}), Kind.MALFORMED),
        (BEGUN + delta(0, {"text": None}), Kind.MALFORMED),
        (BEGUN + delta(1, {"toolUse": {"input": "{}"}}), Kind.MALFORMED),
        (BEGUN + start(1, {"toolUse": {"name": "f"}}), Kind.MALFORMED),
        (BEGUN + encode({":event-type": "messageStop", ":message-type": "event"}, b"{"), Kind.MALFORMED),
        (BEGUN + encode({":event-type": "messageStop", ":message-type": "event"}, b"[]"), Kind.MALFORMED),
        (BEGUN + exception("throttlingException", "Too many tokens, please wait"), Kind.RATE_LIMIT),
        (BEGUN + exception("modelStreamErrorException", "broke"), Kind.MALFORMED),
        (BEGUN + exception("internalServerException", "broke"), Kind.MALFORMED),
        (BEGUN + exception("serviceUnavailableException", "busy"), Kind.MALFORMED),
        (BEGUN + exception("validationException", "prompt is too long: 9 tokens > 8 maximum"), Kind.CONTEXT_LENGTH),
        (BEGUN + exception("validationException", "no"), Kind.MALFORMED),
        (BEGUN + encode({":message-type": "error", ":error-code": "x", ":error-message": "m"}, b""), Kind.MALFORMED),
        (BEGUN + end("end_turn") + exception("internalServerException", "broke"), Kind.MALFORMED),
    ],
)
def test_streams_that_break(raw: bytes, kind: Kind) -> None:
    for pieces in ([raw], [raw[at : at + 1] for at in range(len(raw))]):
        with pytest.raises(UpstreamError) as caught:
            read(pieces)
        assert caught.value.kind is kind


def test_what_came_before_the_fault_is_pending() -> None:
    decoder = BEDROCK.decoder(ask(True), TO, MINTED)
    with pytest.raises(UpstreamError):
        decoder.feed(BEGUN + exception("internalServerException", "broke"))
    assert [chunk.kind for chunk in decoder.pending] == [META, CONTENT]


def test_nothing_is_read_after_the_end() -> None:
    assert raws([STREAM + BEGUN + b"\xff" * 20]) == raws([STREAM])


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"", Kind.MALFORMED),
        (b"<html>", Kind.MALFORMED),
        (b"[]", Kind.MALFORMED),
        (b'{"message":"broke"}', Kind.MALFORMED),
        (b'{"message":"Input is too long for requested model."}', Kind.CONTEXT_LENGTH),
        (b'{"output":[]}', Kind.MALFORMED),
        (body([{"text": "x"}], None), Kind.MALFORMED),
        (body([{"text": 5}]), Kind.MALFORMED),
        (body([{"toolUse": {"toolUseId": "t"}}]), Kind.MALFORMED),
        (body([{"citationsContent": {"content": [5]}}]), Kind.MALFORMED),
        (body([{"image": {"source": {"bytes": "!"}}}]), Kind.MALFORMED),
        (orjson.dumps({"output": {"message": {"content": [5]}}, "stopReason": "end_turn"}), Kind.MALFORMED),
    ],
)
def test_bodies_that_are_no_answer(raw: bytes, kind: Kind) -> None:
    with pytest.raises(UpstreamError) as caught:
        read([raw], ask())
    assert caught.value.kind is kind


def test_an_empty_answer_of_a_guardrail_is_an_answer() -> None:
    told, decoder = whole(body([], "guardrail_intervened"))
    assert told["choices"][0]["message"]["content"] == ""
    assert decoder.finish_reason == "content_filter"
    assert read([ROLE + end("guardrail_intervened") + METADATA])[1].finish_reason == "content_filter"


def test_the_input_of_the_answers_tool_is_the_text() -> None:
    to = TO._replace(model="eu.amazon.nova-lite-v1:0")
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "properties": {}}}}
    block = {"toolUse": {"toolUseId": "t", "name": "json_answer", "input": {"a": 1}}}
    told, decoder = whole(body([block], "tool_use"), ask(response_format=form), to)
    assert told["choices"][0]["message"]["content"] == '{"a":1}'
    assert "tool_calls" not in told["choices"][0]["message"]
    assert decoder.finish_reason == "stop"
    stream = [start(0, {"toolUse": {"toolUseId": "t", "name": "json_answer"}}), delta(0, {"toolUse": {"input": "{}"}})]
    chunks, decoder = read([ROLE, *stream, stop(0), end("tool_use"), METADATA], ask(True, response_format=form), to)
    texts = [
        chunk.body["choices"][0]["delta"].get("content") for chunk in chunks if chunk.kind == CONTENT and chunk.body
    ]
    assert (texts, decoder.finish_reason) == (["{}"], "stop")


@pytest.mark.parametrize(
    ("status", "name", "message", "kind"),
    [
        (400, "ValidationException:http://internal.amazon.com/coral/x/", "Malformed input request", Kind.BAD_REQUEST),
        (400, "ValidationException", "Input is too long for requested model.", Kind.CONTEXT_LENGTH),
        (400, "ValidationException", "Input Tokens Exceeded: 9 > 8", Kind.CONTEXT_LENGTH),
        (400, "ValidationException", "The provided model identifier is invalid.", Kind.UNKNOWN_MODEL),
        (
            400,
            "ValidationException",
            "Invocation of model ID m with on-demand throughput isn't supported. Retry with an inference profile.",
            Kind.UNKNOWN_MODEL,
        ),
        (403, "AccessDeniedException", "You don't have access to the model with the specified ID", Kind.UNKNOWN_MODEL),
        (403, "AccessDeniedException", "User is not authorized to perform: bedrock:InvokeModel", Kind.AUTH),
        (403, "UnrecognizedClientException", "The security token is invalid.", Kind.AUTH),
        (403, "com.amazon.coral.service#ExpiredTokenException", "The security token is expired", Kind.AUTH),
        (403, "", "Invalid API Key format", Kind.AUTH),
        (404, "ResourceNotFoundException", "Could not resolve the foundation model", Kind.UNKNOWN_MODEL),
        (408, "ModelTimeoutException", "timed out", Kind.TIMEOUT),
        (424, "ModelErrorException", "The model broke", Kind.SERVER_ERROR),
        (413, "ValidationException", "the request is too large", Kind.CONTEXT_LENGTH),
        (429, "ThrottlingException", "Too many tokens, please wait before trying again.", Kind.RATE_LIMIT),
        (429, "ModelNotReadyException", "The model is not ready", Kind.SERVER_ERROR),
        (400, "ServiceQuotaExceededException", "over the quota of the account", Kind.QUOTA),
        (500, "InternalServerException", "broke", Kind.SERVER_ERROR),
        (503, "ServiceUnavailableException", "busy", Kind.SERVER_ERROR),
        (503, "", "", Kind.SERVER_ERROR),
    ],
)
def test_errors(status: int, name: str, message: str, kind: Kind) -> None:
    headers = [(b"x-amzn-errortype", name.encode())] if name else []
    error = BEDROCK.error(status, headers, orjson.dumps({"message": message}))
    assert (error.kind, error.status) == (kind, status)
    assert message in error.detail
    assert name.partition(":")[0].rpartition("#")[2] in error.detail


def test_errors_in_other_forms() -> None:
    error = BEDROCK.error(403, [(b"retry-after", b"2")], b'{"Message":"no key"}')
    assert (error.kind, error.retry_after, error.body) == (Kind.AUTH, 2.0, b'{"message":"no key"}')
    assert BEDROCK.error(502, [], b"<html>").body is None
    assert BEDROCK.error(400, [], b'{"__type":"ValidationException","message":"x"}').kind is Kind.BAD_REQUEST


def test_the_request_line_and_its_headers() -> None:
    assert BEDROCK.path(TO, False) == "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse"
    profile = TO._replace(model="arn:aws:bedrock:eu-central-1:1:inference-profile/x", headers=(("X-Team", "a"),))
    assert BEDROCK.path(profile, True) == (
        "/model/arn%3Aaws%3Abedrock%3Aeu-central-1%3A1%3Ainference-profile%2Fx/converse-stream"
    )
    headers = dict(BEDROCK.headers(profile, "ABSK-key", True))
    assert headers[b"authorization"] == b"Bearer ABSK-key"
    assert headers[b"accept"] == b"application/vnd.amazon.eventstream"
    assert headers[b"x-team"] == b"a"


def test_who_signs() -> None:
    assert isinstance(BEDROCK, Signs)
    assert BEDROCK.signer(TO, None) is None
    assert BEDROCK.signer(TO, "ABSK-key") is None
    pair = "AKIAIOSFODNN7EXAMPLE:secret"
    assert b"authorization" not in dict(BEDROCK.headers(TO, pair, False))
    sign = BEDROCK.signer(TO, pair)
    assert sign is not None
    signed = dict(sign("POST", "bedrock-runtime.eu-central-1.amazonaws.com", BEDROCK.path(TO, False), b"{}", 1.78e9))
    assert b"/eu-central-1/bedrock/aws4_request, " in signed[b"authorization"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2) | st.sampled_from(["", "x", base64.b64encode(b"x").decode()]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from([
        "text", "toolUse", "toolUseId", "name", "input", "type", "reasoningContent", "reasoningText", "signature",
        "redactedContent", "citation", "citations", "citationsContent", "content", "location", "web", "url", "image",
        "source", "bytes", "format", "title", "stopReason", "usage", "trace", "delta", "start", "contentBlockIndex",
    ]), inner, max_size=3),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=150)
@given(
    st.lists(st.tuples(st.sampled_from(["contentBlockStart", "contentBlockDelta", "messageStop", "metadata"]), JSON))
)
def test_no_event_makes_the_decoder_fall_over(events: list[tuple[str, Any]]) -> None:
    decoder = BEDROCK.decoder(ask(True), TO, MINTED)
    try:
        for name, told in events:
            for chunk in decoder.feed(event(name, told if type(told) is dict else {"delta": told, "start": told})):
                if chunk.kind != DONE:
                    ChatCompletionChunk.model_validate_json(chunk.raw.removeprefix(b"data: "))
        decoder.close()
    except UpstreamError:
        pass


@settings(max_examples=150)
@given(st.lists(JSON, max_size=4), JSON)
def test_no_body_makes_the_decoder_fall_over(blocks: list[Any], usage: Any) -> None:
    told = {"output": {"message": {"content": blocks}}, "stopReason": "end_turn", "usage": usage, "trace": usage}
    decoder = BEDROCK.decoder(ask(), TO, MINTED)
    decoder.feed(orjson.dumps(told))
    try:
        (chunk,) = decoder.close()
    except UpstreamError:
        return
    ChatCompletion.model_validate_json(chunk.raw, strict=True)
