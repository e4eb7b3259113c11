"""Answers, streams and errors of the Anthropic dialect, against small cases written to its documented shapes."""

from __future__ import annotations

import itertools
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.verdict import Kind
from proxy.errors import UpstreamError
from proxy.providers.anthropic import Anthropic
from proxy.providers.base import Decoder, Endpoint, Minted
from proxy.wire.chat import ChatRequest
from proxy.wire.chunk import CONTENT, DONE, FINISH, META, USAGE, Chunk, Usage

TO = Endpoint("anthropic", "https://api.anthropic.com", "claude-sonnet-4-5")
MINTED = Minted("chatcmpl-minted", 1_790_000_000)
COUNTS = {
    "input_tokens": 10,
    "cache_read_input_tokens": 4,
    "cache_creation_input_tokens": 3,
    "output_tokens": 9,
    "output_tokens_details": {"thinking_tokens": 2},
}
CITED = {
    "type": "web_search_result_location",
    "url": "https://a.example",
    "title": "A",
    "cited_text": "said",
    "encrypted_index": "x",
}
PAGE = {"type": "page_location", "document_index": 2, "document_title": "Deed", "cited_text": "old", "start_page": 1}
CONTENT_BLOCKS: list[dict[str, Any]] = [
    {"type": "thinking", "thinking": "Hm, größer.", "signature": "sig-1"},
    {"type": "redacted_thinking", "data": "opaque"},
    {"type": "text", "text": "Let me see 🚚. "},
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "q"}},
    {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
    {"type": "text", "text": "It is so.", "citations": [CITED, PAGE]},
    {"type": "tool_use", "id": "toolu_1", "name": "weigh", "input": {"load": "größer", "n": [1, 2]}},
    {"type": "tool_use", "id": "toolu_2", "name": "now", "input": {}},
]


def ask(stream: bool, **more: Any) -> ChatRequest:
    body = {"model": "chat", "messages": [{"role": "user", "content": "x"}], "stream": stream, **more}
    return ChatRequest.parse(orjson.dumps(body))


def message(content: list[dict[str, Any]], stop: str | None, **more: Any) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5-20250929",
        "content": content,
        "stop_reason": stop,
        "stop_sequence": None,
        "usage": COUNTS,
        **more,
    }


def event(kind: str, **members: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), orjson.dumps({"type": kind, **members}))


def pieces(block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A block as it begins in a stream, and its deltas."""
    kind = block["type"]
    if kind == "text":
        text = [{"type": "text_delta", "text": block["text"][at : at + 4]} for at in range(0, len(block["text"]), 4)]
        cited = [{"type": "citations_delta", "citation": one} for one in block.get("citations", ())]
        return {"type": "text", "text": ""}, text + cited
    if kind == "thinking":
        thought = [
            {"type": "thinking_delta", "thinking": one} for one in (block["thinking"][:3], block["thinking"][3:])
        ]
        signed = {"type": "signature_delta", "signature": block["signature"]}
        return {"type": "thinking", "thinking": "", "signature": ""}, [*thought, signed]
    if kind in ("tool_use", "server_tool_use"):
        text = orjson.dumps(block["input"]).decode() if block["input"] else ""
        parts = [text[at : at + 5] for at in range(0, len(text), 5)]
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in ["", *parts]]
        return {**block, "input": {}}, deltas if block["input"] else []
    return block, []


def events(content: list[dict[str, Any]], stop: str | None, **more: Any) -> list[bytes]:
    begun = message([], None, usage={**COUNTS, "output_tokens": 1})
    out = [event("message_start", message=begun), event("ping")]
    for index, block in enumerate(content):
        start, deltas = pieces(block)
        out.append(event("content_block_start", index=index, content_block=start))
        out += [event("content_block_delta", index=index, delta=delta) for delta in deltas]
        out.append(event("content_block_stop", index=index))
    if stop is not None:
        out.append(event("message_delta", delta={"stop_reason": stop, "stop_sequence": None, **more}, usage=COUNTS))
    return [*out, event("message_stop")]


def read(decoder: Decoder, parts: list[bytes]) -> list[Chunk]:
    chunks = [chunk for part in parts for chunk in decoder.feed(part)]
    return chunks + decoder.close()


def streamed(parts: list[bytes], **more: Any) -> tuple[list[Chunk], Decoder]:
    decoder = Anthropic().decoder(ask(True, **more), TO, MINTED)
    return read(decoder, parts), decoder


def whole(body: dict[str, Any], **more: Any) -> tuple[dict[str, Any], Decoder]:
    decoder = Anthropic().decoder(ask(False, **more), TO, MINTED)
    raw = orjson.dumps(body)
    (chunk,) = read(decoder, [raw[at : at + 7] for at in range(0, len(raw), 7)])
    assert (chunk.kind, orjson.loads(chunk.raw)) == (CONTENT, chunk.body)
    assert chunk.body is not None
    return chunk.body, decoder


def assembled(chunks: list[Chunk]) -> dict[str, Any]:
    """The message that a client puts together: strings grow, entries of lists meet by their index."""
    said: dict[str, Any] = {}
    for chunk in chunks:
        for choice in (chunk.body or {}).get("choices", ()):
            for key, value in choice["delta"].items():
                if key == "tool_calls":
                    for call in value:
                        calls = said.setdefault(key, [])
                        if call["index"] == len(calls):
                            calls.append({**call, "function": dict(call["function"])})
                        else:
                            calls[call["index"]]["function"]["arguments"] += call["function"]["arguments"]
                elif type(value) is str and key != "role":
                    said[key] = said.get(key, "") + value
                elif type(value) is list:
                    said[key] = said.get(key, []) + value
                else:
                    said[key] = value
    for call in said.get("tool_calls", ()):
        del call["index"]
    return said


def test_a_stream_put_together_is_the_answer_that_is_not_streamed() -> None:
    body, one = whole(message(CONTENT_BLOCKS, "tool_use"))
    chunks, two = streamed(events(CONTENT_BLOCKS, "tool_use"))
    said = body["choices"][0]["message"]
    assert assembled(chunks) == {key: value for key, value in said.items() if value is not None}
    assert said["content"] == "Let me see 🚚. It is so."
    assert said["reasoning_content"] == "Hm, größer."
    assert said["reasoning_details"] == [
        {"type": "reasoning.text", "text": "Hm, größer.", "signature": "sig-1", "format": "anthropic-claude-v1",
         "index": 0},
        {"type": "reasoning.encrypted", "data": "opaque", "format": "anthropic-claude-v1", "index": 1},
    ]  # fmt: skip
    assert [(call["id"], call["function"]["name"]) for call in said["tool_calls"]] == [
        ("toolu_1", "weigh"), ("toolu_2", "now"),
    ]  # fmt: skip
    assert orjson.loads(said["tool_calls"][0]["function"]["arguments"]) == {"load": "größer", "n": [1, 2]}
    assert said["tool_calls"][1]["function"]["arguments"] == "{}"
    at = {"start_index": len("Let me see 🚚. "), "end_index": len("Let me see 🚚. It is so.")}
    assert [note["url_citation"] for note in said["annotations"]] == [
        {**at, "title": "A", "url": "https://a.example", "cited_text": "said"},
        {**at, "title": "Deed", "url": "document:2", "cited_text": "old"},
    ]
    for decoder in (one, two):
        assert decoder.finish_reason == "tool_calls"
        assert decoder.model == "claude-sonnet-4-5-20250929"
        assert decoder.usage == Usage(10, 4, 3, 7, 2)
    assert body["usage"]["prompt_tokens"] == 17
    assert (body["id"], body["model"]) == ("msg_1", "claude-sonnet-4-5-20250929")


def test_the_chunks_of_a_stream() -> None:
    chunks, _ = streamed(events([{"type": "text", "text": "Hi"}], "end_turn"))
    assert [chunk.kind for chunk in chunks] == [META, CONTENT, FINISH, USAGE, DONE]
    assert {(c.body["id"], c.body["created"], c.body["model"]) for c in chunks if c.body} == {
        ("msg_1", MINTED.created, "claude-sonnet-4-5-20250929")
    }


WHOLE = b": hello\n\n" + b"".join(events(CONTENT_BLOCKS, "tool_use"))


@settings(max_examples=40)
@given(st.lists(st.integers(0, len(WHOLE)), max_size=10))
def test_cuts_change_nothing(places: list[int]) -> None:
    edges = [0, *sorted(places), len(WHOLE)]
    cut = [WHOLE[a:b] for a, b in itertools.pairwise(edges) if a != b]
    assert [c.raw for c in streamed(cut)[0]] == [c.raw for c in streamed([WHOLE])[0]]


def test_byte_by_byte_and_with_crlf() -> None:
    expected = [chunk.raw for chunk in streamed([WHOLE])[0]]
    for raw in (WHOLE, WHOLE.replace(b"\n", b"\r\n")):
        assert [chunk.raw for chunk in streamed([bytes([byte]) for byte in raw])[0]] == expected


@pytest.mark.parametrize(
    ("stop", "content", "finish"),
    [
        ("end_turn", "text", "stop"),
        ("stop_sequence", "text", "stop"),
        ("pause_turn", "text", "stop"),
        ("max_tokens", "text", "length"),
        ("model_context_window_exceeded", "text", "length"),
        ("refusal", "none", "content_filter"),
        ("tool_use", "call", "tool_calls"),
        ("end_turn", "call", "tool_calls"),
        ("max_tokens", "call", "length"),
        ("something_new", "text", "stop"),
        ("end_turn", "none", "stop"),
    ],
)
def test_stop_reasons(stop: str, content: str, finish: str) -> None:
    blocks = {"text": CONTENT_BLOCKS[2:3], "call": CONTENT_BLOCKS[6:7], "none": []}[content]
    body, decoder = whole(message(blocks, stop))
    chunks, other = streamed(events(blocks, stop))
    assert body["choices"][0]["finish_reason"] == decoder.finish_reason == other.finish_reason == finish
    assert [c.body["choices"][0]["finish_reason"] for c in chunks if c.kind == FINISH and c.body] == [finish]


def test_what_is_told_of_a_refusal_is_kept() -> None:
    details = {"type": "refusal", "category": "cyber", "explanation": "No."}
    body, _ = whole(message([], "refusal", stop_details=details))
    chunks, _ = streamed(events([], "refusal", stop_details=details))
    assert body["choices"][0]["message"]["stop_details"] == assembled(chunks)["stop_details"] == details


def test_counts_are_overwritten_and_those_that_stay_away_are_kept() -> None:
    parts = [
        event("message_start", message=message([], None, usage={"input_tokens": 5, "output_tokens": 1})),
        event("content_block_start", index=0, content_block={"type": "text", "text": "a"}),
        event("message_delta", delta={"stop_reason": None}, usage={"output_tokens": 4, "input_tokens": None}),
        event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 7}),
        event("message_stop"),
    ]
    assert streamed(parts)[1].usage == Usage(5, 0, 0, 7, 0)
    parts[2] = event("message_delta", delta={}, usage={"input_tokens": 900, "cache_read_input_tokens": 30})
    assert streamed(parts)[1].usage == Usage(900, 30, 0, 7, 0)


@pytest.mark.parametrize(
    ("counts", "usage"),
    [
        (None, None),
        ({}, None),
        ({"input_tokens": 3, "output_tokens": 2}, Usage(3, 0, 0, 2, 0)),
        (
            {"input_tokens": 3, "output_tokens": 2, "output_tokens_details": {"thinking_tokens": 9}},
            Usage(3, 0, 0, 0, 2),
        ),
        ({"input_tokens": 3, "output_tokens": -2, "cache_read_input_tokens": "x"}, Usage(3, 0, 0, 0, 0)),
        (
            {"input_tokens": 3, "output_tokens": 0, "cache_creation": {"ephemeral_5m_input_tokens": 2, "a": 5}},
            Usage(3, 0, 7, 0, 0),
        ),
    ],
)
def test_usage_in_disjoint_classes(counts: dict[str, Any] | None, usage: Usage | None) -> None:
    assert whole(message([], "end_turn", usage=counts))[1].usage == usage


def test_odd_streams_that_are_answers() -> None:
    start, *middle = events(CONTENT_BLOCKS[2:3], "end_turn")
    expected = assembled(streamed([start, *middle])[0])
    other = start.replace(b"msg_1", b"msg_2")
    assert assembled(streamed([start, start, *middle])[0]) == expected
    assert assembled(streamed([start, middle[0], other, *middle[1:]])[0]) == expected
    assert assembled(streamed([start, event("brand_new", x=1), *middle])[0]) == expected
    assert assembled(streamed([start, *[e for e in middle if b"content_block_start" not in e]])[0]) == expected
    assert assembled(streamed([start, *[e for e in middle if b"content_block_stop" not in e]])[0]) == expected
    assert assembled(streamed([start, *middle[:-1]])[0]) == expected  # the stop reason came, the end marker did not
    assert assembled(streamed([start, *middle[:-1], b"event: message_stop\n"])[0]) == expected


def test_a_lost_connection_after_the_stop_reason_costs_nothing() -> None:
    decoder = Anthropic().decoder(ask(True), TO, MINTED)
    for part in events(CONTENT_BLOCKS[2:3], "end_turn")[:-1]:
        decoder.feed(part)
    decoder.feed(b"event: mess")
    assert [chunk.kind for chunk in decoder.close(cut=True)] == [FINISH, USAGE, DONE]


@pytest.mark.parametrize(
    "parts",
    [
        [],
        events(CONTENT_BLOCKS[2:3], None),
        events(CONTENT_BLOCKS[2:3], None)[:-1],
        events(CONTENT_BLOCKS[6:7], "tool_use")[:-2],
        [b"data: {\n\n"],
        [b"data: [1]\n\n"],
        [event("content_block_start", index=0)],
        [event("content_block_start", index="0", content_block={})],
        [event("content_block_start", index=0, content_block={"type": "tool_use", "name": "x"})],
        [orjson.dumps(message([], "end_turn"))],
        [b"x" * 9_000_000],
    ],
)
def test_a_stream_that_does_not_say_it_ended_is_cut(parts: list[bytes]) -> None:
    with pytest.raises(UpstreamError) as caught:
        streamed(parts)
    assert caught.value.kind in (Kind.TRUNCATED, Kind.MALFORMED)


@pytest.mark.parametrize(
    ("kind", "message_", "expected"),
    [
        ("overloaded_error", "Overloaded", Kind.MALFORMED),
        ("api_error", "Internal server error", Kind.MALFORMED),
        ("rate_limit_error", "slow down", Kind.RATE_LIMIT),
        ("invalid_request_error", "prompt is too long: 2 tokens > 1 maximum", Kind.CONTEXT_LENGTH),
    ],
)
def test_errors_inside_an_answer(kind: str, message_: str, expected: Kind) -> None:
    error = {"type": "error", "error": {"type": kind, "message": message_}}
    decoder = Anthropic().decoder(ask(True), TO, MINTED)
    with pytest.raises(UpstreamError) as caught:
        decoder.feed(
            b"".join(events(CONTENT_BLOCKS[2:3], None)[:5]) + b"event: error\ndata: " + orjson.dumps(error) + b"\n\n"
        )
    assert caught.value.kind is expected
    assert [chunk.kind for chunk in decoder.pending][:2] == [META, CONTENT]
    with pytest.raises(UpstreamError) as caught:
        whole(error)
    assert caught.value.kind is expected


@pytest.mark.parametrize(
    "raw",
    [b"", b"[]", b"{}", b"<html>", b'{"content":{}}', b'{"content":[1],"stop_reason":"end_turn"}',
     b'{"content":[],"stop_reason":null}', b'{"type":"error","error":{"type":"x","message":"y"}}'],
)  # fmt: skip
def test_what_is_no_answer(raw: bytes) -> None:
    with pytest.raises(UpstreamError) as caught:
        read(Anthropic().decoder(ask(False), TO, MINTED), [raw])
    assert caught.value.kind is Kind.MALFORMED


def told(kind: str, text: str, **more: Any) -> bytes:
    return orjson.dumps({"type": "error", "error": {"type": kind, "message": text, **more}, "request_id": "req_1"})


SPEND = {"details": {"error_code": "enforced_spend_limit_reached"}}


@pytest.mark.parametrize(
    ("status", "raw", "kind"),
    [
        (400, told("invalid_request_error", "max_tokens: Field required"), Kind.BAD_REQUEST),
        (400, told("invalid_request_error", "prompt is too long: 9 tokens > 8 maximum"), Kind.CONTEXT_LENGTH),
        (400, told("invalid_request_error", "input length and `max_tokens` exceed context limit"), Kind.CONTEXT_LENGTH),
        (400, told("invalid_request_error", "Output blocked by content filtering policy"), Kind.CONTENT_FILTER),
        (400, told("invalid_request_error", "Your credit balance is too low to access"), Kind.QUOTA),
        (401, told("authentication_error", "invalid x-api-key"), Kind.AUTH),
        (402, told("billing_error", "pay"), Kind.QUOTA),
        (403, told("permission_error", "no"), Kind.AUTH),
        (404, told("not_found_error", "model: claude-x"), Kind.UNKNOWN_MODEL),
        (413, told("request_too_large", "x"), Kind.CONTEXT_LENGTH),
        (429, told("rate_limit_error", "x"), Kind.RATE_LIMIT),
        (429, told("rate_limit_error", "x", **SPEND), Kind.QUOTA),
        (500, told("api_error", "x"), Kind.SERVER_ERROR),
        (504, told("timeout_error", "x"), Kind.SERVER_ERROR),
        (529, told("overloaded_error", "x"), Kind.SERVER_ERROR),
        (502, b"<html>", Kind.SERVER_ERROR),
    ],
)
def test_errors_by_body_first_and_status_second(status: int, raw: bytes, kind: Kind) -> None:
    error = Anthropic().error(status, [(b"retry-after", b"3")], raw)
    assert (error.kind, error.status, error.retry_after) == (kind, status, 3.0)
    assert (error.body == raw) is (raw[:1] == b"{")


def test_headers_and_path() -> None:
    fixed = dict(Anthropic().headers(TO._replace(headers=(("X-Team", "a"),)), "sk-ant-api", True))
    assert (fixed[b"x-api-key"], fixed[b"anthropic-version"], fixed[b"x-team"]) == (b"sk-ant-api", b"2023-06-01", b"a")
    assert b"authorization" not in fixed
    oauth = dict(Anthropic().headers(TO._replace(headers=(("anthropic-beta", "a-1"),)), "sk-ant-oat01-x", False))
    assert oauth[b"authorization"] == b"Bearer sk-ant-oat01-x"
    assert oauth[b"anthropic-beta"] == b"a-1,oauth-2025-04-20"
    assert b"x-api-key" not in oauth
    assert b"x-api-key" not in dict(Anthropic().headers(TO, None, False))
    assert Anthropic().path(TO, True) == "/v1/messages"
    assert Anthropic().path(TO._replace(base_url="http://127.0.0.1:1/v1"), True) == "/messages"
