"""Faults that leave the content whole: odd forms, missing ends, late first tokens."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Callable
from typing import Any

import pytest

from proxy.simulated import Simulated
from proxy.simulated.connection import Connection
from tests.simulated.faulty import BOTH, told, under
from tests.simulated.wire import (
    answer,
    ask,
    connected,
    exchange,
    finishes,
    parse,
    payloads,
    request,
    run,
    text,
)


def _harmless(fault: str, *, stream: bool) -> bytes:
    """The body, which must hold the whole answer."""
    client, clean = under(fault, stream=stream)
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
    client, clean = under("extra_after_done", stream=True)
    body = parse(client.raw).body
    before, after = body.split(b"data: [DONE]\n\n")
    assert text(before) == text(clean)
    assert text(after)
    assert _harmless("extra_after_done", stream=False).endswith(b"}\n\n")


def test_split_characters() -> None:
    client, clean = under("split_utf8", stream=True)
    message = parse(client.raw)
    assert text(message.body) == text(clean)
    broken = 0
    for chunk in message.chunks:
        try:
            chunk.decode()
        except UnicodeDecodeError:
            broken += 1
    assert broken >= 4, "at least two characters are cut, each over two chunks"
    whole, clean = under("split_utf8", stream=False)
    assert text(parse(whole.raw).body) == text(clean)


def test_crlf() -> None:
    client, clean = under("crlf", stream=True)
    body = parse(client.raw).body
    assert body.count(b"\r\n") == body.count(b"\n") == clean.count(b"\n")
    assert text(body.replace(b"\r\n", b"\n")) == text(clean)
    assert b"\r\n" in _harmless("crlf", stream=False)


def test_comments() -> None:
    body = _harmless("comments", stream=True)
    assert body.count(b": SIMULATED PROCESSING\n\n") == len(payloads(body))
    client, clean = under("comments", stream=False)
    body = parse(client.raw).body
    assert body.startswith(b"\n\n{")
    assert text(body.strip()) == text(clean)


@BOTH
def test_byte_by_byte(stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    writes: list[bytes] = []
    real = Connection._write

    def write(self: Connection, data: bytes) -> None:
        writes.append(data)
        real(self, data)

    async def scenario(simulated: Simulated) -> None:
        clean = await answer(simulated, ask(stream=stream))
        monkeypatch.setattr(Connection, "_write", write)
        client = await exchange(simulated, ask(stream=stream), **told("byte_by_byte"))
        assert b"".join(writes) == client.raw
        assert set(map(len, writes)) == {1}
        assert text(parse(client.raw).body) == text(clean.body)

    run(scenario)


@BOTH
def test_gzip(stream: bool) -> None:
    client, clean = under("gzip", stream=stream)
    message = parse(client.raw)
    assert message.headers["content-encoding"] == "gzip"
    assert text(gzip.decompress(message.body)) == text(clean)
    if stream:
        reader = zlib.decompressobj(wbits=31)
        events = [reader.decompress(chunk) for chunk in message.chunks]
        assert all(event.endswith(b"\n\n") for event in events[:-1]), "each event can be read when it comes"


@BOTH
def test_early_hints(stream: bool) -> None:
    client, clean = under("early_hints", stream=stream)
    hints = parse(client.raw)
    assert (hints.status, "link" in hints.headers) == (103, True)
    message = parse(hints.rest)
    assert (message.status, text(message.body)) == (200, text(clean))


@BOTH
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
            client.transport.write(request(ask(stream=stream), connection="close", **told("slow_ttft=30s")))
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
