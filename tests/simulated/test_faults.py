"""Every fault, by the bytes it puts on the wire and by what becomes of the connection."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from proxy.simulated import FAULTS, Simulated
from proxy.simulated.connection import Connection
from proxy.simulated.spoil import BIG_LINE, EDITS
from tests.simulated.wire import (
    Broken,
    Client,
    answer,
    ask,
    chunks,
    connected,
    dechunked,
    exchange,
    finishes,
    parse,
    payloads,
    request,
    run,
    text,
    until,
)  # fmt: skip

_STREAM = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
_SEEN: set[str] = set()
"""Kinds that some test below has put on the wire."""


def _told(fault: str) -> dict[str, str]:
    _SEEN.add(fault.split("=")[0])
    return {"x-sim-fault": fault}


def _with(fault: str, *, stream: bool, **more: Any) -> tuple[Client, bytes]:
    """What a client saw under the fault, and the body that it gets without it."""
    seen: list[Client] = []
    clean: list[bytes] = []

    async def scenario(simulated: Simulated) -> None:
        clean.append((await answer(simulated, ask(stream=stream, **more))).body)
        seen.append(await exchange(simulated, ask(stream=stream, **more), **_told(fault)))

    counted = run(scenario).stats
    kind = fault.split("=")[0]
    assert counted.faults == {kind: 1}
    assert (counted.requests, counted.streams) == (2, 2 * stream)
    assert (counted.answered, counted.broken) == ((2, 0) if FAULTS[kind].harmless else (1, 1))
    return seen[0], clean[0]


def test_every_kind_has_an_edit() -> None:
    assert set(EDITS) == set(FAULTS)


@_STREAM
@pytest.mark.parametrize(
    ("fault", "raw", "ended"),
    [
        ("refuse", b"", "reset"),
        ("reset_before_headers", b"", "reset"),
        ("close_before_headers", b"", "fin"),
        ("garbage", b"\x15\x03\x01\x00\x02\x02\x46 this is no HTTP\r\n\r\n", "fin"),
    ],
)
def test_no_answer_at_all(fault: str, raw: bytes, ended: str, stream: bool) -> None:
    client, _ = _with(fault, stream=stream)
    assert client.raw == raw
    assert client.ended == ended


@_STREAM
@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("http_400", 400, "invalid_value"),
        ("context_length", 400, "context_length_exceeded"),
        ("content_filter", 400, "content_filter"),
        ("http_401", 401, "invalid_api_key"),
        ("http_402", 402, "credit_balance_exhausted"),
        ("http_403", 403, "unsupported_country_region_territory"),
        ("http_404", 404, "model_not_found"),
        ("http_408", 408, "request_timeout"),
        ("http_413", 413, "request_too_large"),
        ("http_422", 422, "unprocessable_entity"),
        ("http_429", 429, "rate_limit_exceeded"),
        ("http_429_quota", 429, "insufficient_quota"),
        ("http_500", 500, None),
        ("http_502", 502, None),
        ("http_503", 503, "server_is_overloaded"),
        ("http_504", 504, None),
        ("http_529", 529, "overloaded"),
    ],
)
def test_error_statuses(fault: str, status: int, code: str | None, stream: bool) -> None:
    message = parse(_with(fault, stream=stream)[0].raw)
    assert (message.status, message.complete, message.rest) == (status, True, b"")
    assert message.headers["content-type"] == "application/json"
    assert "retry-after" not in message.headers
    error = json.loads(message.body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code
    assert error["message"]


def test_retry_after() -> None:
    message = parse(_with("http_429=retry_after:2", stream=False)[0].raw)
    assert (message.status, message.headers["retry-after"]) == (429, "2")
    message = parse(_with("http_503=retry_after:0.5", stream=True)[0].raw)
    assert (message.status, message.headers["retry-after"]) == (503, "0.5")


@_STREAM
@pytest.mark.parametrize(("fault", "status"), [("html_200", 200), ("html_502", 502)])
def test_html(fault: str, status: int, stream: bool) -> None:
    message = parse(_with(fault, stream=stream)[0].raw)
    assert (message.status, message.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert message.complete
    assert message.body.startswith(b"<!DOCTYPE html>")


@_STREAM
def test_redirect(stream: bool) -> None:
    message = parse(_with("redirect_302", stream=stream)[0].raw)
    assert (message.status, message.headers["location"], message.body) == (302, "/redirected", b"")


@_STREAM
def test_empty(stream: bool) -> None:
    message = parse(_with("empty_200", stream=stream)[0].raw)
    assert (message.status, message.body, message.complete) == (200, b"", True)


@_STREAM
def test_error_with_a_success_status(stream: bool) -> None:
    message = parse(_with("error_in_200", stream=stream)[0].raw)
    assert (message.status, message.complete) == (200, True)
    assert list(json.loads(message.body)) == ["error"]


@pytest.mark.parametrize("fault", ["sse_for_json", "json_for_sse"])
def test_the_other_kind_of_answer(fault: str) -> None:
    streamed, whole = _with(fault, stream=False)
    message = parse(streamed.raw)
    assert message.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert text(message.body) == text(whole)
    single, stream = _with(fault, stream=True)
    message = parse(single.raw)
    assert message.headers["content-type"] == "application/json"
    assert json.loads(message.body)["object"] == "chat.completion"
    assert text(message.body) == text(stream)


@_STREAM
def test_empty_choices(stream: bool) -> None:
    message = parse(_with("empty_choices", stream=stream)[0].raw)
    assert message.complete
    bodies = chunks(message.body) if stream else [json.loads(message.body)]
    assert bodies
    assert all(body["choices"] == [] for body in bodies)


def test_done_only() -> None:
    assert parse(_with("done_only", stream=True)[0].raw).body == b"data: [DONE]\n\n"
    assert parse(_with("done_only", stream=False)[0].raw).body == b"{}"


def test_role_then_error() -> None:
    message = parse(_with("role_then_error", stream=True)[0].raw)
    first, second = chunks(message.body)
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert list(second) == ["error"]
    assert message.complete
    assert list(json.loads(parse(_with("role_then_error", stream=False)[0].raw).body)) == ["error"]


@pytest.mark.parametrize("after", [0, 2, 5])
@pytest.mark.parametrize(
    ("fault", "ended", "complete"),
    [("cut_mid_stream", "fin", False), ("cut_reset", "reset", False), ("cut_clean", "fin", True)],
)
def test_cut_streams(fault: str, ended: str, complete: bool, after: int) -> None:
    client, clean = _with(f"{fault}=after:{after}", stream=True)
    message = parse(client.raw)
    assert (client.ended, message.complete) == (ended, complete)
    assert len(payloads(message.body)) == 1 + after, "the role chunk and the content before the cut"
    assert text(clean).startswith(text(message.body))
    assert finishes(message.body) == []
    assert b"[DONE]" not in message.body


@pytest.mark.parametrize(("fault", "ended"), [("cut_mid_stream", "fin"), ("cut_reset", "reset")])
def test_cut_bodies(fault: str, ended: str) -> None:
    client, clean = _with(fault, stream=False)
    message = parse(client.raw)
    assert (client.ended, message.complete) == (ended, False)
    assert int(message.headers["content-length"]) == len(clean)
    assert len(message.body) == len(clean) // 2


@_STREAM
@pytest.mark.parametrize("fault", ["cut_clean", "missing_finish"])
def test_whole_messages_without_a_finish_reason(fault: str, stream: bool) -> None:
    client, clean = _with(fault, stream=stream)
    message = parse(client.raw)
    assert message.complete
    if stream:
        assert finishes(message.body) == []
        assert (payloads(message.body)[-1] == b"[DONE]") is (fault == "missing_finish")
        assert (text(message.body) == text(clean)) is (fault == "missing_finish")
    else:
        assert json.loads(message.body)["choices"][0]["finish_reason"] is None


def _hanging(fault: str, body: object, check: Callable[[Client], None]) -> None:
    """Under a fault that ends in silence: reads what is sent, leaves, and sees the simulator count it."""

    async def scenario(simulated: Simulated) -> None:
        async with connected(simulated) as client:
            client.transport.write(request(body, connection="close", **_told(fault)))
            await until(lambda: simulated.stats.running == 1)
            # The script has been played to its end in the turn in which the request was read.
            await client.until(lambda seen: len(seen.raw) == simulated.stats.bytes_out)
            check(client)
            assert client.ended == ""
            assert (simulated.stats.open, simulated.stats.cancelled) == (1, 0)
        await until(lambda: simulated.stats.open == 0)
        assert (simulated.stats.cancelled, simulated.stats.broken, simulated.stats.running) == (1, 0, 0)
        assert len(simulated.stats.cancelled_at) == 1

    run(scenario)


@_STREAM
def test_silence_before_headers(stream: bool) -> None:
    def check(client: Client) -> None:
        assert client.raw == b""

    _hanging("hang_before_headers", ask(stream=stream), check)


@pytest.mark.parametrize("after", [0, 3])
def test_stalled_streams(after: int) -> None:
    def check(client: Client) -> None:
        message = parse(client.raw)
        assert not message.complete
        assert len(payloads(message.body)) == 1 + after

    _hanging(f"stall_mid_stream=after:{after}", ask(stream=True), check)


@pytest.mark.parametrize("fault", ["stall_mid_stream", "slow_body"])
def test_stalled_bodies(fault: str) -> None:
    def check(client: Client) -> None:
        message = parse(client.raw)
        assert len(message.body) == int(message.headers["content-length"]) // 2

    _hanging(fault, ask(), check)


def test_stalled_amid_an_event() -> None:
    def check(client: Client) -> None:
        message = parse(client.raw)
        assert not message.complete
        assert not message.body.endswith(b"\n")
        assert message.body.count(b"\n\n") == 7, "the role chunk and six of twelve content chunks"

    _hanging("slow_body", ask(stream=True), check)


@pytest.mark.parametrize("after", [0, 2])
def test_truncated_json_in_a_stream(after: int) -> None:
    message = parse(_with(f"truncated_json=after:{after}", stream=True)[0].raw)
    assert message.complete
    *whole, last = message.body.split(b"\n\n")
    assert len(whole) == 1 + after
    assert last.startswith(b"data: {")
    with pytest.raises(json.JSONDecodeError):
        json.loads(last[6:])


def test_truncated_json() -> None:
    client, clean = _with("truncated_json", stream=False)
    message = parse(client.raw)
    assert message.complete
    assert clean.split(b'"created"')[0].split(b"chatcmpl-")[0] in message.body
    with pytest.raises(json.JSONDecodeError):
        json.loads(message.body)


@_STREAM
def test_content_length_too_large(stream: bool) -> None:
    client, clean = _with("wrong_content_length", stream=stream)
    message = parse(client.raw)
    assert (client.ended, message.complete) == ("fin", False)
    assert "transfer-encoding" not in message.headers
    if stream:
        assert int(message.headers["content-length"]) == len(clean)
        assert len(payloads(message.body)) == 3
    else:
        assert int(message.headers["content-length"]) == len(message.body) + 100
        assert text(message.body) == text(clean)


@_STREAM
def test_content_length_too_small(stream: bool) -> None:
    client, clean = _with("wrong_content_length_short", stream=stream)
    message = parse(client.raw)
    assert (client.ended, int(message.headers["content-length"])) == ("fin", len(clean) // 2)
    assert len(message.body + message.rest) == len(clean)


@_STREAM
def test_bad_chunk(stream: bool) -> None:
    client, clean = _with("bad_chunk", stream=stream)
    with pytest.raises(Broken, match="no chunk size: b'no size'"):
        parse(client.raw)
    before = client.raw.split(b"\r\n\r\n", 1)[1].split(b"no size\r\n")[0]
    sent = b"".join(dechunked(before)[0])
    assert len(payloads(sent)) == 3 if stream else len(sent) == len(clean) // 2


@pytest.mark.parametrize(("after", "place"), [(0, 0), (2, 3)])
def test_malformed_event(after: int, place: int) -> None:
    client, clean = _with(f"malformed_sse=after:{after}", stream=True)
    message = parse(client.raw)
    events = payloads(message.body)
    assert len(events) == len(payloads(clean)), "one event is damaged, none is missing"
    assert events[-1] == b"[DONE]"
    for at, event in enumerate(events[:-1]):
        if at == place:
            with pytest.raises(json.JSONDecodeError):
                json.loads(event)
        else:
            json.loads(event)
    intact = b"".join(b"data: " + event + b"\n\n" for at, event in enumerate(events) if at != place)
    assert text(intact) != text(clean), "a reader who skips the event loses content"


@pytest.mark.parametrize("after", [0, 2])
def test_malformed_body(after: int) -> None:
    message = parse(_with(f"malformed_sse=after:{after}", stream=False)[0].raw)
    assert message.complete
    with pytest.raises(json.JSONDecodeError):
        json.loads(message.body)


@pytest.mark.parametrize(("after", "events"), [(0, 1), (1, 3), (4, 6)])
def test_error_event(after: int, events: int) -> None:
    message = parse(_with(f"error_event=after:{after}", stream=True)[0].raw)
    seen = chunks(message.body)
    assert (message.status, message.complete, len(seen)) == (200, True, events)
    assert list(seen[-1]) == ["error"]
    assert b"[DONE]" not in message.body
    assert list(json.loads(parse(_with("error_event", stream=False)[0].raw).body)) == ["error"]


def test_big_line() -> None:
    client, clean = _with("big_line=after:0", stream=True)
    message = parse(client.raw)
    assert text(message.body) == "x" * BIG_LINE + text(clean)
    assert max(map(len, message.body.split(b"\n"))) > BIG_LINE
    whole = parse(_with("big_line", stream=False)[0].raw)
    assert (whole.body, whole.complete) == (b"x" * BIG_LINE, True)


def _harmless(fault: str, *, stream: bool) -> bytes:
    """The body, which must hold the whole answer."""
    client, clean = _with(fault, stream=stream)
    message = parse(client.raw)
    assert message.complete
    assert text(message.body) == text(clean)
    return message.body


def test_missing_usage() -> None:
    body = _harmless("missing_usage", stream=True)
    assert b'"usage"' not in body
    assert finishes(body) == ["stop"]
    assert b'"usage"' not in _harmless("missing_usage", stream=False)


def test_missing_done() -> None:
    body = _harmless("missing_done", stream=True)
    assert b"[DONE]" not in body
    assert finishes(body) == ["stop"]
    _harmless("missing_done", stream=False)


def test_extra_after_done() -> None:
    client, clean = _with("extra_after_done", stream=True)
    body = parse(client.raw).body
    before, after = body.split(b"data: [DONE]\n\n")
    assert text(before) == text(clean)
    assert text(after)
    assert _harmless("extra_after_done", stream=False).endswith(b"}\n\n")


def test_split_characters() -> None:
    client, clean = _with("split_utf8", stream=True)
    message = parse(client.raw)
    assert text(message.body) == text(clean)
    broken = 0
    for chunk in message.chunks:
        try:
            chunk.decode()
        except UnicodeDecodeError:
            broken += 1
    assert broken >= 4, "at least two characters are cut, each over two chunks"
    whole, clean = _with("split_utf8", stream=False)
    assert text(parse(whole.raw).body) == text(clean)


def test_crlf() -> None:
    client, clean = _with("crlf", stream=True)
    body = parse(client.raw).body
    assert body.count(b"\r\n") == body.count(b"\n") == clean.count(b"\n")
    assert text(body.replace(b"\r\n", b"\n")) == text(clean)
    assert b"\r\n" in _harmless("crlf", stream=False)


def test_comments() -> None:
    body = _harmless("comments", stream=True)
    assert body.count(b": SIMULATED PROCESSING\n\n") == len(payloads(body))
    client, clean = _with("comments", stream=False)
    body = parse(client.raw).body
    assert body.startswith(b"\n\n{")
    assert text(body.strip()) == text(clean)


@_STREAM
def test_byte_by_byte(stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[bytes] = []
    real = Connection._write

    def write(self: Connection, data: bytes) -> None:
        writes.append(data)
        real(self, data)

    async def scenario(simulated: Simulated) -> None:
        clean = await answer(simulated, ask(stream=stream))
        monkeypatch.setattr(Connection, "_write", write)
        client = await exchange(simulated, ask(stream=stream), **_told("byte_by_byte"))
        assert b"".join(writes) == client.raw
        assert set(map(len, writes)) == {1}
        assert text(parse(client.raw).body) == text(clean.body)

    run(scenario)


@_STREAM
def test_gzip(stream: bool) -> None:
    client, clean = _with("gzip", stream=stream)
    message = parse(client.raw)
    assert message.headers["content-encoding"] == "gzip"
    assert text(gzip.decompress(message.body)) == text(clean)
    if stream:
        reader = zlib.decompressobj(wbits=31)
        events = [reader.decompress(chunk) for chunk in message.chunks]
        assert all(event.endswith(b"\n\n") for event in events[:-1]), "each event can be read when it comes"


@_STREAM
def test_early_hints(stream: bool) -> None:
    client, clean = _with("early_hints", stream=stream)
    hints = parse(client.raw)
    assert (hints.status, "link" in hints.headers) == (103, True)
    message = parse(hints.rest)
    assert (message.status, text(message.body)) == (200, text(clean))


@_STREAM
def test_slow_first_token(stream: bool) -> None:
    """Headers and role come at once and the content waits for a timer, which is caught here and let go by hand."""
    held: list[float] = []

    async def scenario(simulated: Simulated) -> None:
        loop = asyncio.get_running_loop()
        later = loop.call_later
        release: list[Callable[[], None]] = []

        def call_later(delay: float, callback: Any, *args: Any, **more: Any) -> asyncio.TimerHandle:
            if delay == 30.0:
                held.append(delay)
                release.append(callback)
                delay = 3600.0
            return later(delay, callback, *args, **more)

        loop.call_later = call_later  # type: ignore[method-assign]
        async with connected(simulated) as client:
            client.transport.write(request(ask(stream=stream), connection="close", **_told("slow_ttft=30s")))
            await client.until(lambda seen: b"\r\n\r\n" in seen.raw and bool(held))
            early = parse(client.raw)
            assert (early.status, early.complete) == (200, False)
            assert len(payloads(early.body)) == (1 if stream else 0), "the role chunk alone, no content"
            release[0]()
            await client.until_ended()
            assert parse(client.raw).complete
            assert text(parse(client.raw).body)

    assert run(scenario).stats.answered == 1
    assert held == [30.0]


def test_every_kind_was_put_on_the_wire() -> None:
    """Last in the file: a new kind without a test of its bytes fails here."""
    if len(_SEEN) > len(FAULTS) // 2:
        assert set(FAULTS) <= _SEEN
