from __future__ import annotations

import itertools

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.verdict import Kind
from proxy.errors import UpstreamError
from proxy.providers.base import Endpoint
from proxy.providers.errors import retry_after
from proxy.providers.openai import BodyDecoder, OpenAI, StreamDecoder
from proxy.wire.chat import ChatRequest
from proxy.wire.chunk import COMMENT, CONTENT, DONE, FINISH, META, USAGE, Usage
from tests.scenarios.playbook import DONE as END
from tests.scenarios.playbook import HELLO, ROLE, STOP, WORLD, answer, event
from tests.scenarios.playbook import USAGE as USAGE_EVENT

TO = Endpoint("local", "http://127.0.0.1/v1", "m")
ASK = ChatRequest.parse(b'{"model":"chat","messages":[{"role":"user","content":"x"}]}')

TOOL = event({"tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}]})
WHOLE = b": hi\n\n" + ROLE + HELLO + TOOL + event({"content": "é漢😀"}) + STOP + USAGE_EVENT + END


def read(pieces: list[bytes], n: int = 1) -> tuple[list[tuple[int, bytes]], StreamDecoder]:
    decoder = StreamDecoder(n)
    chunks = [(chunk.kind, chunk.raw) for piece in pieces for chunk in decoder.feed(piece)]
    chunks += [(chunk.kind, chunk.raw) for chunk in decoder.close()]
    return chunks, decoder


def test_a_stream() -> None:
    chunks, decoder = read([WHOLE])
    assert [kind for kind, _ in chunks] == [COMMENT, META, CONTENT, CONTENT, CONTENT, FINISH, USAGE, DONE]
    assert b"".join(raw for _, raw in chunks) == WHOLE
    assert (decoder.model, decoder.finish_reason, decoder.usage) == ("m-1", "stop", Usage(5, 0, 0, 2, 0))


@settings(max_examples=60)
@given(st.lists(st.integers(0, len(WHOLE)), max_size=10))
def test_cuts_change_nothing(places: list[int]) -> None:
    edges = [0, *sorted(places), len(WHOLE)]
    pieces = [WHOLE[a:b] for a, b in itertools.pairwise(edges) if a != b]
    assert read(pieces)[0] == read([WHOLE])[0]


def test_byte_by_byte_and_with_crlf() -> None:
    assert read([bytes([byte]) for byte in WHOLE])[0] == read([WHOLE])[0]
    crlf = WHOLE.replace(b"\n", b"\r\n")
    assert b"".join(raw for _, raw in read([bytes([byte]) for byte in crlf])[0]) == crlf


@pytest.mark.parametrize(
    ("delta", "kind"),
    [
        ({"role": "assistant", "content": ""}, META),
        ({"content": None}, META),
        ({}, META),
        ({"role": "assistant", "content": "", "refusal": None, "tool_calls": []}, META),
        ({"content": " "}, CONTENT),
        ({"reasoning_content": "hm"}, CONTENT),
        ({"reasoning": "hm"}, CONTENT),
        ({"refusal": "no"}, CONTENT),
        ({"tool_calls": [{"index": 0}]}, CONTENT),
        ({"audio": {"data": "x"}}, CONTENT),
    ],
)
def test_what_counts_as_content(delta: dict[str, object], kind: int) -> None:
    assert StreamDecoder(1).feed(event(delta))[0].kind == kind


@pytest.mark.parametrize(
    "pieces",
    [
        [ROLE, HELLO],
        [ROLE, HELLO, WORLD[:30]],
        [ROLE, HELLO, END],
        [HELLO, HELLO.replace(b'"index":0', b'"index":1'), STOP, END],
        [],
    ],
)
def test_a_stream_that_does_not_say_it_ended_is_cut(pieces: list[bytes]) -> None:
    with pytest.raises(UpstreamError) as caught:
        read(pieces)
    assert caught.value.kind in (Kind.TRUNCATED, Kind.MALFORMED)


def test_choices_that_never_began_are_missed_unless_the_end_is_marked() -> None:
    read([HELLO, STOP, END], n=2)  # some servers know no `n`; the end marker is their word
    with pytest.raises(UpstreamError):
        read([HELLO, STOP], n=2)


def test_a_lost_connection_after_the_finish_reason_costs_nothing() -> None:
    decoder = StreamDecoder(1)
    decoder.feed(HELLO + STOP + b"data: {half")
    assert [chunk.kind for chunk in decoder.close(cut=True)] == [DONE]


def test_pending_chunks_are_kept_when_a_later_event_is_broken() -> None:
    decoder = StreamDecoder(1)
    with pytest.raises(UpstreamError):
        decoder.feed(ROLE + HELLO + b"data: {\n\n")
    assert [chunk.kind for chunk in decoder.pending] == [META, CONTENT]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"message": "x", "code": "rate_limit_exceeded"}, Kind.RATE_LIMIT),
        ({"message": "x", "code": 429}, Kind.RATE_LIMIT),
        ({"message": "x", "code": "insufficient_quota"}, Kind.QUOTA),
        ({"message": "x", "code": 402}, Kind.QUOTA),
        ({"message": "This model's maximum context length is 8 tokens"}, Kind.CONTEXT_LENGTH),
        ({"message": "x", "code": "content_filter"}, Kind.CONTENT_FILTER),
        ({"message": "x", "code": 400}, Kind.MALFORMED),
        ({"message": "x", "type": "server_error"}, Kind.MALFORMED),
        ("plain text", Kind.MALFORMED),
    ],
)
def test_errors_inside_a_stream(error: object, kind: Kind) -> None:
    with pytest.raises(UpstreamError) as caught:
        StreamDecoder(1).feed(b"data: " + orjson.dumps({"error": error}) + b"\n\n")
    assert caught.value.kind is kind


def body(raw: bytes) -> BodyDecoder:
    decoder = BodyDecoder()
    for at in range(0, len(raw), 7):
        decoder.feed(raw[at : at + 7])
    (chunk,) = decoder.close()
    assert chunk.raw == raw
    return decoder


def test_an_answer() -> None:
    decoder = body(answer())
    assert (decoder.model, decoder.finish_reason, decoder.usage) == ("m-1", "stop", Usage(5, 0, 0, 2, 0))


def test_a_filtered_answer_without_a_message_is_an_answer() -> None:
    decoder = body(b'{"choices":[{"index":0,"finish_reason":"content_filter"}]}')
    assert (decoder.finish_reason, decoder.usage, decoder.model) == ("content_filter", None, None)


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b"<html>",
        b'{"choices":{}}',
        b'{"choices":[]}',
        b'{"choices":[1]}',
        b'{"choices":[{"finish_reason":"stop"}]}',
        b'{"choices":[{"message":{"content":"x"}}]}',
        b'{"choices":[{"message":{"content":"x"},"finish_reason":"error"}]}',
        b'{"error":{"message":"x"}}',
        b'{"error":"x"}',
        b'{"object":"error","message":"x"}',
        b'{"detail":"x"}',
        answer()[:-1],
    ],
)
def test_what_is_no_answer(raw: bytes) -> None:
    with pytest.raises(UpstreamError) as caught:
        body(raw)
    assert caught.value.kind is Kind.MALFORMED


@pytest.mark.parametrize(
    ("status", "raw", "kind"),
    [
        (400, b'{"error":{"message":"x","type":"invalid_request_error","param":"n","code":null}}', Kind.BAD_REQUEST),
        (400, b'{"error":{"message":"maximum context length is 10 tokens","code":400}}', Kind.CONTEXT_LENGTH),
        (400, b'{"error":{"message":"x","type":"exceed_context_size_error"}}', Kind.BAD_REQUEST),
        (400, b'{"error":{"message":"x","code":"exceed_context_size"}}', Kind.CONTEXT_LENGTH),
        (400, b'{"error":{"message":"x","code":"insufficient_quota"}}', Kind.QUOTA),
        (400, b'{"error":{"message":"x","code":"content_filter"}}', Kind.CONTENT_FILTER),
        (400, b'{"object":"error","message":"prompt is too long","code":400}', Kind.CONTEXT_LENGTH),
        (422, b'{"detail":[{"loc":["body"],"msg":"x","type":"missing"}]}', Kind.BAD_REQUEST),
        (401, b'{"error":{"message":"too many tokens"}}', Kind.AUTH),
        (403, b"<html>", Kind.AUTH),
        (402, b"", Kind.QUOTA),
        (404, b'{"error":{"message":"no such model","code":"model_not_found"}}', Kind.UNKNOWN_MODEL),
        (404, b"", Kind.UNKNOWN_MODEL),
        (408, b"", Kind.TIMEOUT),
        (413, b"", Kind.CONTEXT_LENGTH),
        (429, b'[{"error":{"code":429,"message":"x","status":"RESOURCE_EXHAUSTED"}}]', Kind.RATE_LIMIT),
        (
            429,
            b'{"error":{"message":"maximum context length","type":"tokens","code":"rate_limit_exceeded"}}',
            Kind.RATE_LIMIT,
        ),
        (429, b'{"error":{"message":"x","type":"insufficient_quota"}}', Kind.QUOTA),
        (500, b"oops", Kind.SERVER_ERROR),
        (529, b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}', Kind.SERVER_ERROR),
        (302, b"", Kind.MALFORMED),
        (204, b"", Kind.MALFORMED),
        (418, b"", Kind.BAD_REQUEST),
    ],
)
def test_errors_by_body_first_and_status_second(status: int, raw: bytes, kind: Kind) -> None:
    error = OpenAI().error(status, [], raw)
    assert (error.kind, error.status) == (kind, status)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], None),
        ([(b"retry-after", b"3")], 3.0),
        ([(b"retry-after", b"0.5")], 0.5),
        ([(b"retry-after", b"20"), (b"retry-after-ms", b"1500")], 1.5),
        ([(b"retry-after-ms", b"x"), (b"retry-after", b"2")], 2.0),
        ([(b"retry-after", b"-1")], None),
        ([(b"retry-after", b"nan")], None),
        ([(b"retry-after", b"inf")], None),
        ([(b"retry-after", b"soon")], None),
        ([(b"retry-after", b"Wed, 21 Oct 2026 07:28:30 GMT"), (b"date", b"Wed, 21 Oct 2026 07:28:00 GMT")], 30.0),
        ([(b"retry-after", b"Wed, 21 Oct 2026 07:28:00 GMT"), (b"date", b"Wed, 21 Oct 2026 07:28:30 GMT")], 0.0),
        ([(b"retry-after", b"Wed, 21 Oct 2026 07:28:30 GMT")], None),
        ([(b"retry-after", b"\xff")], None),
    ],
)
def test_retry_after(headers: list[tuple[bytes, bytes]], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


def test_headers_carry_the_credential_and_nothing_of_the_client() -> None:
    to = TO._replace(headers=(("X-Team", "a"),))
    headers = dict(OpenAI().headers(to, "sk-1", True))
    assert headers[b"authorization"] == b"Bearer sk-1"
    assert headers[b"accept-encoding"] == b"identity"
    assert headers[b"x-team"] == b"a"
    assert b"authorization" not in dict(OpenAI().headers(TO, None, False))


def test_the_body_asks_for_usage_unless_the_row_says_no() -> None:
    ask = ChatRequest.parse(b'{"model":"chat","messages":[{"role":"user"}],"stream":true}')
    assert b"include_usage" in OpenAI().build(ask, TO).body
    assert b"include_usage" not in OpenAI().build(ask, TO._replace(usage_in_stream=False)).body
    assert OpenAI().build(ASK, TO).body == ASK.raw.replace(b"chat", b"m")
