"""Whatever a client sends: a 4xx in OpenAI's form that says what to mend, or a valid answer; the proxy serves on."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import processes
from tests.e2e.raw import Answer, chat, get, line, post, request
from tests.processes import Running

MB = 1_000_000
GOOD = chat("chat")
HOST = b"host: 127.0.0.1\r\n"
POST = b"POST /v1/chat/completions HTTP/1.1\r\n" + HOST


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("bad_input")
    with processes.upstream(folder, "--tokens", "3", "--strict") as up:
        config = {
            "providers": {"up": {"base_url": up.base_url, "api_key": None}},
            "routes": {"chat": {"targets": ["up/simulated"]}},
        }
        with processes.proxy(config, folder) as running:
            yield running
    log = running.log.read_text()
    assert "Traceback" not in log, log[-4000:]


@pytest.fixture(autouse=True)
def serves_on(proxy: Running) -> Iterator[None]:
    """The good request after the bad ones."""
    yield
    answer = asyncio.run(post(proxy.port, GOOD))
    assert (answer.status, answer.whole) == (200, True)


def sent(proxy: Running, raw: bytes) -> Answer:
    """The first answer to these bytes."""

    async def main() -> Answer:
        async with line(proxy.port) as one:
            await one.send(raw)
            return await one.answer()

    return asyncio.run(main())


def posted(proxy: Running, body: Any, *headers: tuple[str, str]) -> Answer:
    return asyncio.run(post(proxy.port, body, headers=headers))


def with_body(proxy: Running, changes: dict[str, Any]) -> Answer:
    return posted(proxy, {**GOOD, **changes})


# ---- bodies


NO_JSON = {
    "nothing": b"",
    "white space": b" \r\n ",
    "text": b"hello",
    "half": b'{"model": "chat", "messages": [',
    "two objects": b"{}{}",
    "a comment": b'{"model": "chat" /* yes */}',
    "single quotes": b"{'model': 'chat'}",
    "a trailing comma": b'{"model": "chat",}',
    "NaN": b'{"model": "chat", "temperature": NaN}',
    "Infinity": b'{"model": "chat", "temperature": Infinity}',
    "a NUL": b'{"model": "chat"}\0',
    "Latin-1": '{"model": "café"}'.encode("latin-1"),
    "half a character": b'{"model": "chat\xe2\x82"}',
    "UTF-16": '{"model": "chat"}'.encode("utf-16"),
    "a lone surrogate": b'{"model": "\\ud800"}',
    "a byte order mark": b"\xef\xbb\xbf{}",
    "a form": b"model=chat&messages=hi",
    "an event stream": b'data: {"model": "chat"}\n\n',
    "nested 10,000 deep": b"[" * 10_000 + b"]" * 10_000,
    "nested 10,000 deep in a field": b'{"model":"chat","metadata":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001,
    "open 1,000,000 times": b"[" * 1_000_000,
}


@pytest.mark.parametrize("name", NO_JSON)
def test_no_json(proxy: Running, name: str) -> None:
    answer = posted(proxy, NO_JSON[name])
    assert answer.status == 400
    assert "JSON" in answer.error["message"]


@pytest.mark.parametrize("body", [b"[]", b'"text"', b"1", b"null", b"true"])
def test_no_object(proxy: Running, body: bytes) -> None:
    answer = posted(proxy, body)
    assert (answer.status, answer.error["code"]) == (400, "invalid_type")
    assert "must be a JSON object" in answer.error["message"]


def test_a_body_nested_as_deep_as_it_can_be_read(proxy: Running) -> None:
    deep = b'{"model":"chat","messages":[{"role":"user","content":"x"}],"stream":true,"metadata":'
    for depth in (100, 254, 500, 900, 1021, 1022, 1023, 1024):
        answer = posted(proxy, deep + b"[" * depth + b"]" * depth + b"}")
        assert answer.status == 400, depth
        assert answer.error["message"]


def test_100_mb(proxy: Running) -> None:
    body = b'{"model":"chat","messages":[{"role":"user","content":"' + b"x" * (100 * MB) + b'"}]}'
    answer = posted(proxy, body)
    assert (answer.status, answer.error["code"]) == (413, "request_too_large")
    assert "body_limit" in answer.error["message"]
    assert answer.headers["connection"] == "close"


def test_100_mb_in_chunks(proxy: Running) -> None:
    async def main() -> Answer:
        async with line(proxy.port) as one:
            await one.send(POST + b"transfer-encoding: chunked\r\n\r\n")
            for _ in range(100):
                await one.send(b"f4240\r\n" + b"x" * MB + b"\r\n")
            await one.send(b"0\r\n\r\n")
            return await one.answer()

    answer = asyncio.run(main())
    assert (answer.status, answer.error["code"]) == (413, "request_too_large")


def test_a_body_far_too_large_is_not_waited_for(proxy: Running) -> None:
    answer = sent(proxy, POST + b"content-length: 10000000000\r\n\r\n{")
    assert (answer.status, answer.error["code"]) == (413, "request_too_large")


def test_a_large_body_within_the_limit(proxy: Running) -> None:
    content = "x" * (10 * MB)
    assert with_body(proxy, {"messages": [{"role": "user", "content": content}]}).status == 200


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "deflate", "x-unknown", "gzip, gzip"])
def test_compressed(proxy: Running, coding: str) -> None:
    answer = posted(proxy, gzip.compress(json.dumps(GOOD).encode()), ("content-encoding", coding))
    assert (answer.status, answer.error["code"]) == (415, "unsupported_content_encoding")
    assert coding in answer.error["message"]


def test_not_compressed(proxy: Running) -> None:
    assert posted(proxy, GOOD, ("content-encoding", "Identity")).status == 200


# ---- fields


VALUES: dict[str, Any] = {"string": "x", "number": 0.5, "integer": 1, "boolean": True, "array": [], "object": {}}
FIELDS: dict[str, list[str]] = {
    field: right.split()
    for right, fields in {
        "string": "model user reasoning_effort service_tier verbosity prompt_cache_key prompt_cache_retention "
        "safety_identifier",
        "number integer": "temperature top_p frequency_penalty presence_penalty",
        "integer": "max_tokens max_completion_tokens n seed top_logprobs",
        "boolean": "stream logprobs store parallel_tool_calls",
        "array": "messages tools functions modalities",
        "object": "metadata logit_bias response_format stream_options audio prediction web_search_options",
        "string object": "tool_choice function_call",
        "string array": "stop",
    }.items()
    for field in fields.split()
}
"""Each field of a chat completion with its JSON types in OpenAI's API reference; all but two may also be null."""

WRONG = [(field, kind) for field, right in FIELDS.items() for kind in VALUES if kind not in right]


def test_a_wrong_type_in_every_field(proxy: Running) -> None:
    async def main() -> list[Answer]:
        async with line(proxy.port) as one:
            answers = []
            for field, kind in WRONG:
                await one.send(request({**GOOD, field: VALUES[kind]}))
                answers.append(await one.answer())
            return answers

    for (field, kind), answer in zip(WRONG, asyncio.run(main()), strict=True):
        assert answer.status == 400, (field, kind)
        assert answer.error["type"] == "invalid_request_error"
        assert answer.error["param"] == field, (field, kind)
        assert field in answer.error["message"], (field, kind)


@pytest.mark.parametrize("field", [field for field in FIELDS if field not in ("model", "messages")])
def test_null_means_not_given(proxy: Running, field: str) -> None:
    assert with_body(proxy, {field: None}).status == 200


MESSAGES: dict[str, Any] = {
    "no message": [],
    "text": ["hello"],
    "null": [None],
    "no role": [{"content": "hello"}],
    "a role that is a number": [{"role": 1, "content": "hello"}],
    "an unknown role": [{"role": "weigher", "content": "hello"}],
    "content that is a number": [{"role": "user", "content": 5}],
    "content that is an object": [{"role": "user", "content": {"text": "hello"}}],
    "a part that is text": [{"role": "user", "content": ["hello"]}],
    "a part without a type": [{"role": "user", "content": [{"text": "hello"}]}],
    "a part of an unknown type": [{"role": "user", "content": [{"type": "smell", "smell": "x"}]}],
    "an image that is text": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}],
    "calls that are text": [{"role": "assistant", "tool_calls": "weigh()"}],
    "calls that are numbers": [{"role": "assistant", "tool_calls": [1]}],
    "arguments that are an object": [
        {
            "role": "assistant",
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": {}}}],
        }
    ],
    "a result of no call": [{"role": "tool", "content": "7 t", "tool_call_id": "nobody"}],
    "the second is wrong": [{"role": "user", "content": "hello"}, {"role": "user", "content": 5}],
}


@pytest.mark.parametrize("name", MESSAGES)
def test_wrong_messages(proxy: Running, name: str) -> None:
    answer = with_body(proxy, {"messages": MESSAGES[name]})
    assert answer.status == 400
    assert answer.error["param"].startswith("messages")


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"n": 0}, "n"),
        ({"n": -1}, "n"),
        ({"n": 129}, "n"),
        ({"n": 10**30}, "n"),
        ({"tools": [5]}, "tools[0]"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"temperature": 1e300}, "temperature"),
        ({"stop": [1, 2]}, "stop"),
    ],
)
def test_wrong_values(proxy: Running, changes: dict[str, Any], param: str) -> None:
    answer = with_body(proxy, changes)
    assert answer.status == 400
    assert answer.error["param"].startswith(param)


def test_no_model(proxy: Running) -> None:
    for body in ({}, {"messages": GOOD["messages"]}, {**GOOD, "model": None}, {**GOOD, "model": ""}):
        answer = posted(proxy, body)
        assert (answer.status, answer.error["param"]) == (400, "model")
        assert "/v1/models" in answer.error["message"]


@pytest.mark.parametrize("model", ["chatt", "nobody/gpt", "/", "up/", "/simulated", "*", "chat ", "日本", "a" * 512])
def test_an_unknown_model(proxy: Running, model: str) -> None:
    answer = posted(proxy, chat(model))
    assert (answer.status, answer.error["code"], answer.error["param"]) == (404, "model_not_found", "model")
    assert ("`chat`" in answer.error["message"]) is (model in ("chatt", "chat "))


@pytest.mark.parametrize("model", ["up/x\r\nset-cookie: a=b", "up/\0", "up/\x7f", "up/" + "x" * 100_000])
def test_a_model_name_that_no_header_can_hold(proxy: Running, model: str) -> None:
    answer = posted(proxy, chat(model))
    assert (answer.status, answer.error["param"]) == (400, "model")
    assert "set-cookie" not in answer.headers


# ---- HTTP


FRAMING: dict[str, bytes] = {
    "a Content-Length that is no number": POST + b"content-length: many\r\n\r\n",
    "a negative Content-Length": POST + b"content-length: -1\r\n\r\n",
    "an endless Content-Length": POST + b"content-length: 99999999999999999999999\r\n\r\n",
    "two Content-Lengths": POST + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}}",
    "Content-Length and chunks": POST + b"content-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and Content-Length": POST + b"transfer-encoding: chunked\r\ncontent-length: 6\r\n\r\n0\r\n\r\n",
    "a chunk size that is no number": POST + b"transfer-encoding: chunked\r\n\r\nten\r\n{}\r\n0\r\n\r\n",
    "a chunk longer than it says": POST + b"transfer-encoding: chunked\r\n\r\n2\r\n{}}}\r\n0\r\n\r\n",
    "a chunk size without end": POST + b"transfer-encoding: chunked\r\n\r\n" + b"f" * 100,
    "an unknown transfer coding": POST + b"transfer-encoding: gzip\r\n\r\n{}",
    "a space in a header's name": POST + b"content length: 2\r\n\r\n{}",
    "no colon": POST + b"nonsense\r\n\r\n",
    "a folded header": POST + b"x: a\r\n b\r\ncontent-length: 2\r\n\r\n{}",
    "bare line feeds": b"POST /v1/chat/completions HTTP/1.1\nhost: x\ncontent-length: 2\n\n{}",
    "a NUL in a header": POST + b"x: a\0b\r\ncontent-length: 2\r\n\r\n{}",
    "a path with a space": b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n",
    "an unknown method": b"WEIGH /v1/chat/completions HTTP/1.1\r\n" + HOST + b"\r\n",
    "CONNECT": b"CONNECT 127.0.0.1:1 HTTP/1.1\r\n" + HOST + b"\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40,
    "no HTTP at all": b"hello\r\n\r\n",
}


@pytest.mark.parametrize("name", FRAMING)
def test_bad_framing(proxy: Running, name: str) -> None:
    answer = sent(proxy, FRAMING[name])
    assert (answer.status, answer.error["code"]) == (400, "invalid_http")
    assert answer.headers["connection"] == "close"


def test_a_content_length_that_is_too_short(proxy: Running) -> None:
    body = json.dumps(GOOD).encode()
    answer = sent(proxy, POST + b"content-length: %d\r\n\r\n" % (len(body) // 2) + body)
    assert answer.status == 400
    assert "JSON" in answer.error["message"] or "Content-Length" in answer.error["message"]


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\n" + HOST + b"x: " + b"a" * 70_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"x: " + b"a" * 70_000,
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
        b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"x-%d: yes\r\n" % at for at in range(6000)) + b"\r\n",
        POST + b"x: " + b"a" * 70_000 + b"\r\ncontent-length: 1000000\r\n\r\n" + b"x" * 100_000,
    ],
    ids=["value", "unfinished", "path", "many", "before a body"],
)
def test_oversize_heads(proxy: Running, raw: bytes) -> None:
    answer = sent(proxy, raw)
    assert (answer.status, answer.error["code"]) == (431, "headers_too_large")
    assert "65536" in answer.error["message"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/chat/completions", 405),
        ("PUT", "/v1/chat/completions", 405),
        ("POST", "/v1/chat/completion", 404),
        ("POST", "/chat/completions", 404),
        ("POST", "/v1/chat/completions/", 404),
        ("POST", "//v1/chat/completions", 404),
        ("POST", "/v1/embedding", 404),
        ("POST", "/v1/embeddings", 400),
        ("POST", "/", 405),
        ("PUT", "/v1/files", 405),
        ("GET", "/v1/batches/batch_none", 404),
        ("POST", "/v1/batches", 400),
        ("POST", "/v1/files", 415),
        ("GET", "/healthz/", 404),
        ("GET", "/%ff%00", 404),
        ("GET", "/" + "a" * 5000, 404),
        ("POST", "/v1/models", 405),
        ("DELETE", "/healthz", 405),
        ("GET", "/v1/models/nobody", 404),
        ("GET", "/v1/models/", 404),
        ("GET", "/api/exchanges/req_nobody", 404),
        ("GET", "/api/exchanges?limit=0", 400),
        ("GET", "/api/exchanges?limit=ten", 400),
        ("GET", "/api/exchanges?limit=" + "9" * 5000, 400),
        ("GET", "/api/exchanges?since=yesterday", 400),
        ("GET", "/api/exchanges?until=9999-12-31T23:59:59-23:00", 400),
        ("GET", "/api/exchanges?min_attempts=two", 400),
        ("GET", "/api/exchanges?failed=yes", 400),
        ("GET", "/api/exchanges?outcome=fine", 400),
        ("GET", "/api/exchanges?targt=up", 400),
        ("OPTIONS", "*", 404),
    ],
)
def test_unknown_paths_and_methods(proxy: Running, method: str, path: str, status: int) -> None:
    answer = asyncio.run(post(proxy.port, None if method == "GET" else b"{}", path, method=method))
    assert answer.status == status
    assert answer.error["message"]


def test_records_are_found_by_times_of_any_zone(proxy: Running) -> None:
    def found(query: str) -> int:
        return len(asyncio.run(get(proxy.port, f"/api/exchanges?limit=1&{query}")).json()["exchanges"])

    asyncio.run(post(proxy.port, GOOD))
    hour = datetime.now(UTC) - timedelta(hours=1)
    for zone in (UTC, timezone(timedelta(hours=9)), timezone(timedelta(hours=-9))):
        ago = hour.astimezone(zone).isoformat().replace("+", "%2B")
        assert (found(f"since={ago}"), found(f"until={ago}")) == (1, 0)
    assert found("model=chat&provider=up&outcome=ok&failed=0&min_attempts=1") == 1


@pytest.mark.parametrize("host", [b"[", b"a b", b"", b"x" * 10_000, b"127.0.0.1:99999999"])
def test_odd_hosts(proxy: Running, host: bytes) -> None:
    for path, status in ((b"/healthz", 200), (b"/nowhere", 404)):
        answer = sent(proxy, b"GET %s HTTP/1.1\r\nhost: %s\r\n\r\n" % (path, host))
        assert answer.status == status


def test_http_1_0_gets_no_chunks(proxy: Running) -> None:
    for stream in (False, True):
        answer = sent(proxy, request(chat("chat", stream), version="1.0"))
        assert answer.status == 200
        assert "transfer-encoding" not in answer.headers
        assert answer.headers["connection"] == "close"
        assert answer.events[-1] == "[DONE]" if stream else answer.json()["choices"]
    assert sent(proxy, request({}, version="1.0")).status == 400


def test_pipelined_requests_are_answered_in_order(proxy: Running) -> None:
    async def main() -> list[Answer]:
        async with line(proxy.port) as one:
            bad = request(b"{")
            await one.send(request(chat("chat", True)) + request(GOOD) + bad + request(None, "/healthz", "GET") + bad)
            return [await one.answer() for _ in range(5)]

    answers = asyncio.run(main())
    assert [answer.status for answer in answers] == [200, 200, 400, 200, 400]
    assert all(answer.whole for answer in answers)
    assert answers[0].events[-1] == "[DONE]"
    assert answers[3].json() == {"status": "ok"}


def test_expect_100_continue(proxy: Running) -> None:
    async def main() -> tuple[Answer, Answer]:
        body = json.dumps(GOOD).encode()
        head = POST + b"expect: 100-continue\r\ncontent-length: %d\r\n" % len(body)
        async with line(proxy.port) as one:
            await one.send(head + b"\r\n")
            assert await one.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            await one.send(body)
            first = await one.answer()
        async with line(proxy.port) as one:
            await one.send(head + b"content-encoding: gzip\r\n\r\n")
            return first, await one.answer()

    accepted, refused = asyncio.run(main())
    assert accepted.status == 200
    assert (refused.status, refused.interim) == (415, ())


@pytest.mark.parametrize("chunked", [False, True])
def test_the_wish_for_another_protocol_is_passed_over(proxy: Running, chunked: bool) -> None:
    """Java's own HTTP client asks so with its first request."""
    body = json.dumps(GOOD).encode()
    length = b"transfer-encoding: chunked" if chunked else b"content-length: %d" % len(body)
    wish = b"connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQBAAAAAAIAAAAA\r\n"
    head = POST + wish + length + b"\r\n\r\n"
    whole = head + (b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if chunked else body)

    async def main() -> list[int]:
        async with line(proxy.port) as one:
            await one.send(whole)
            statuses = [(await one.answer()).status]
            await one.send(head)
            await asyncio.sleep(0.05)
            await one.send(whole[len(head) :] + whole)
            return [*statuses, *[(await one.answer()).status for _ in range(2)]]

    assert asyncio.run(main()) == [200, 200, 200]


def test_a_websocket_is_refused(proxy: Running) -> None:
    wish = b"connection: keep-alive, upgrade\r\nupgrade: websocket\r\nsec-websocket-key: x\r\n\r\n"
    assert sent(proxy, b"GET /v1/realtime HTTP/1.1\r\n" + HOST + wish).status == 404


def test_a_request_that_comes_byte_by_byte(proxy: Running) -> None:
    async def main() -> Answer:
        async with line(proxy.port) as one:
            for at in (raw := request(GOOD)):
                await one.send(bytes([at]))
            assert len(raw) > 100
            return await one.answer()

    assert asyncio.run(main()).status == 200


def test_line_breaks_around_a_request(proxy: Running) -> None:
    async def main() -> list[int]:
        async with line(proxy.port) as one:
            await one.send(b"\r\n" + request(GOOD) + b"\r\n\r\n" + request(GOOD) + b"\r\n")
            return [(await one.answer()).status for _ in range(2)]

    assert asyncio.run(main()) == [200, 200]


def test_a_body_that_never_comes_whole(proxy: Running) -> None:
    async def main() -> None:
        async with line(proxy.port) as one:
            await one.send(request(GOOD)[:-10])

    asyncio.run(main())


# ---- anything


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
RICH: dict[str, Any] = {
    **GOOD,
    "max_tokens": 5,
    "temperature": 0.5,
    "stop": ["x"],
    "n": 2,
    "seed": 7,
    "metadata": {"a": "b"},
    "tools": [{"type": "function", "function": {"name": "weigh", "parameters": {"type": "object"}}}],
    "tool_choice": "auto",
    "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {"url": "data:,"}}],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "type": "function", "function": {"name": "weigh", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "7 t"},
    ],
}
fuzz = settings(max_examples=100, derandomize=True, database=None, deadline=None)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of everything inside."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield (*at, key)
        yield from places(inner, (*at, key))


PLACES = list(places(RICH))


def judge(answer: Answer) -> None:
    assert answer.whole
    if answer.status == 200:
        assert answer.headers["content-type"].startswith(("application/json", "text/event-stream"))
    else:
        assert 400 <= answer.status < 500, answer
        assert answer.error["message"]


@fuzz
@given(body=ANYTHING)
def test_any_json(proxy: Running, body: Any) -> None:
    judge(posted(proxy, json.dumps(body).encode()))


@fuzz
@given(place=st.sampled_from(PLACES), value=ANYTHING, drop=st.booleans(), stream=st.booleans())
def test_a_good_body_with_one_thing_changed(
    proxy: Running, place: tuple[Any, ...], value: Any, drop: bool, stream: bool
) -> None:
    body = json.loads(json.dumps({**RICH, "stream": stream}))
    inner = body
    for key in place[:-1]:
        inner = inner[key]
    if drop:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    judge(posted(proxy, json.dumps(body).encode()))


@fuzz
@given(at=st.integers(0, 10_000), new=st.binary(max_size=4), gone=st.integers(0, 4))
def test_a_good_body_with_some_bytes_changed(proxy: Running, at: int, new: bytes, gone: int) -> None:
    raw = json.dumps(RICH).encode()
    at %= len(raw)
    judge(posted(proxy, raw[:at] + new + raw[at + gone :]))


def test_a_good_head_with_some_bytes_changed(proxy: Running) -> None:
    """What is asked may then be anything, or wait for more; what is answered has a form."""
    rng = Random(7)
    raw = request(GOOD, headers=[("accept", "*/*"), ("authorization", "Bearer x"), ("connection", "keep-alive")])
    end = raw.index(b"\r\n\r\n")

    async def ask() -> Answer:
        at = rng.randrange(end)
        async with line(proxy.port) as one:
            await one.send(raw[:at] + rng.randbytes(rng.randint(1, 4)) + raw[at + rng.randint(0, 4) :])
            return await one.answer()

    async def main() -> list[Answer]:
        asks = [asyncio.create_task(ask()) for _ in range(300)]
        done, waiting = await asyncio.wait(asks, timeout=3)
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return [one.result() for one in done]

    answers = asyncio.run(main())
    assert len(answers) > 200
    assert len({answer.status for answer in answers}) > 2
    for answer in answers:
        judge(answer)


def test_what_came_of_all_this_is_on_record(proxy: Running) -> None:
    shown = asyncio.run(get(proxy.port, "/api/exchanges?limit=1000")).json()["exchanges"]
    assert {one["outcome"] for one in shown} <= {"ok", "client_error", "client_closed"}
