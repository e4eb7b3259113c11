"""Answers that break: what kind of error, what was known by then, and that the connection is gone."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from policies.verdict import Kind
from proxy.errors import TransportError
from proxy.transport.base import Origin, Reply, UpstreamRequest
from proxy.transport.pool import Http1Transport
from tests.transport.byteserver import Peer, answers, once
from tests.transport.rig import NATIVE, OK, WAYS, Rig, Way, every_way, native_ways, play, until, whole

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n"
GZIP = HEAD + b"content-encoding: gzip\r\nconnection: close\r\n\r\n"


class Broken(NamedTuple):
    raw: bytes
    then: str = "wait"
    both: bool = True
    """Also httpx sees it so."""


NO_HTTP = {
    "garbage": Broken(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    "a request": Broken(b"POST / HTTP/1.1\r\n\r\n"),
    "bad length": Broken(HEAD + b"Content-Length: 1a\r\n\r\n"),
    "negative length": Broken(HEAD + b"Content-Length: -1\r\n\r\n"),
    "huge length": Broken(HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n"),
    "two lengths": Broken(HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nok"),
    "length and chunked": Broken(CHUNKED[:-2] + b"content-length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n", both=False),
    "unknown transfer coding": Broken(HEAD + b"transfer-encoding: gzip, chunked\r\n\r\n"),
    "identity as transfer coding": Broken(HEAD + b"transfer-encoding: identity\r\n\r\n"),
    "unknown content coding": Broken(HEAD + b"content-encoding: br\r\ncontent-length: 2\r\n\r\nok"),
    "two content codings": Broken(HEAD + b"content-encoding: gzip, gzip\r\ncontent-length: 2\r\n\r\nok"),
    "switching protocols": Broken(b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n"),
    "switching without a word": Broken(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + OK),
    "status below 100": Broken(b"HTTP/1.1 099 What\r\ncontent-length: 0\r\n\r\n"),
    "space before the colon": Broken(HEAD + b"a : b\r\ncontent-length: 0\r\n\r\n"),
    "control character": Broken(HEAD + b"a: b\0c\r\ncontent-length: 0\r\n\r\n"),
    "a long line": Broken(HEAD + b"a: " + b"x" * (16 << 10) + b"\r\ncontent-length: 0\r\n\r\n"),
    "a long line, unfinished": Broken(HEAD + b"a: " + b"x" * (20 << 10), both=False),
    "many lines": Broken(HEAD + b"a: bcdefghijkl\r\n" * 5000 + b"content-length: 0\r\n\r\n"),
    "a line without end": Broken(HEAD + b"a: " + b"x" * (200 << 10)),
    "lines without end": Broken(HEAD + b"a: bcdefghijkl\r\n" * 20_000),
    "interim answers without end": Broken(b"HTTP/1.1 100 Continue\r\n\r\n" * 5000, both=False),
}

CUT = {
    "length, closed": Broken(HEAD + b"content-length: 10\r\n\r\nhello", "close"),
    "length, reset": Broken(HEAD + b"content-length: 10\r\n\r\nhello", "reset"),
    "length, nothing": Broken(HEAD + b"content-length: 10\r\n\r\n", "close"),
    "chunked, closed": Broken(CHUNKED + b"5\r\nhello\r\n", "close"),
    "chunked, closed before the last line": Broken(CHUNKED + b"5\r\nhello\r\n0\r\n", "close"),
    "chunked, reset": Broken(CHUNKED + b"5\r\nhello\r\n", "reset"),
    "chunked, no size": Broken(CHUNKED + b"5\r\nhello\r\nzz\r\n"),
    "chunked, too long": Broken(CHUNKED + b"5\r\nhello!\r\n0\r\n\r\n"),
    "chunked, overflow": Broken(CHUNKED + b"5\r\nhello\r\nfffffffffffffffffff\r\n", both=False),
    "chunk extension without end": Broken(CHUNKED + b"5\r\nhello\r\n5;" + b"x" * (200 << 10)),
    "trailers without end": Broken(CHUNKED + b"5\r\nhello\r\n0\r\n" + b"a: bcdefghijkl\r\n" * 20_000),
    "until close, reset": Broken(HEAD + b"\r\nhello", "reset"),
    "gzip cut short": Broken(GZIP + gzip.compress(b"hello" * 100)[:-4], "close"),
    "not gzip": Broken(GZIP + b"hello, this is plain", "close"),
    "gzip, then more": Broken(GZIP + gzip.compress(b"hello") + b"plain", "close"),
}


def _cases(table: dict[str, Broken]) -> Any:
    return pytest.mark.parametrize(
        ("way", "broken"),
        [
            pytest.param(way, broken, id=f"{name}-{way!r}")
            for name, broken in table.items()
            for way in WAYS
            if way.native or broken.both
        ],
    )


def _clean(rig: Rig) -> None:
    if isinstance(rig.transport, Http1Transport):
        assert rig.pool.taken == 0
        assert not rig.pool.idle


async def _read_on(reply: Reply, got: list[bytes]) -> None:
    """Reads until it fails; a cut answer must not end well, nor look complete before."""
    while True:
        assert not reply.complete
        data, _ = await reply.read()
        assert data
        got.append(data)


def _pieces(raw: bytes, size: int) -> Iterator[bytes]:
    return (raw[start : start + size] for start in range(0, len(raw), size))


@_cases(NO_HTTP)
@pytest.mark.parametrize("size", [1 << 20, 1000], ids=["whole", "slow"])
def test_no_http(way: Way, broken: Broken, size: int) -> None:
    async def act(rig: Rig) -> None:
        with pytest.raises(TransportError) as caught:
            await rig.ask()
        assert (caught.value.kind, caught.value.sent, caught.value.answered) == (Kind.MALFORMED, True, True)
        assert not caught.value.replayed
        await rig.server.quiet()
        _clean(rig)

    play(way, once(*_pieces(broken.raw, size), then="wait"), act)


@_cases(CUT)
def test_cut(way: Way, broken: Broken) -> None:
    """What came is handed out, then the error; the answer never counts as complete."""

    async def act(rig: Rig) -> None:
        reply = await rig.ask()
        got: list[bytes] = []
        with pytest.raises(TransportError) as caught:
            await _read_on(reply, got)
        assert (caught.value.kind, caught.value.answered) == (Kind.TRUNCATED, True)
        assert (b"hello" * 100).startswith(b"".join(got))
        assert not reply.complete
        reply.release()
        await rig.server.quiet()
        _clean(rig)

    play(way, once(broken.raw, then=broken.then), act)


@every_way
def test_a_bomb_is_not_unpacked(way: Way) -> None:
    bomb = gzip.compress(b"\0" * (80 << 20))
    head = HEAD + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(bomb)

    async def act(rig: Rig) -> None:
        reply = await rig.ask()
        got: list[bytes] = []
        with pytest.raises(TransportError, match="unfolds") as caught:
            await _read_on(reply, got)
        assert caught.value.kind is Kind.TRUNCATED
        assert max(map(len, got)) <= 1 << 20
        assert sum(map(len, got)) <= 64 << 20
        reply.abort()
        await rig.server.quiet()

    play(way, once(head, bomb, then="wait"), act)


@every_way
@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize(("raw", "answered"), [(b"", False), (b"HTTP/1.1 20", True)], ids=["silent", "half a line"])
def test_lost_before_the_head(way: Way, then: str, raw: bytes, answered: bool) -> None:
    async def act(rig: Rig) -> None:
        with pytest.raises(TransportError) as caught:
            await rig.ask()
        error = caught.value
        assert (error.kind, error.sent, error.replayed) == (Kind.CONNECT, True, False)
        if way.native:  # h11 does not tell
            assert error.answered is answered
        assert rig.server.connections == 1
        _clean(rig)

    play(way, once(raw, then=then) if raw else once(then=then), act)


@native_ways
def test_closed_before_the_request(way: Way) -> None:
    async def hang_up(peer: Peer) -> None:
        pass

    async def act(rig: Rig) -> None:
        connection = await rig.transport.connect(rig.origin)
        await rig.server.quiet()
        await until(lambda: connection.closed)
        with pytest.raises(TransportError) as caught:
            await connection.send(UpstreamRequest(rig.head, b"{}"))
        assert (caught.value.kind, caught.value.sent, caught.value.answered) == (Kind.CONNECT, False, False)
        _clean(rig)

    play(way, hang_up, act)


@every_way
def test_refused(way: Way) -> None:
    async def act(rig: Rig) -> None:
        with socket.socket() as taken:  # bound, not listening
            taken.bind(("127.0.0.1", 0))
            rig.origin = Origin("http", "127.0.0.1", taken.getsockname()[1])
            with pytest.raises(TransportError, match="connection refused") as caught:
                await rig.ask()
        assert (caught.value.kind, caught.value.sent) == (Kind.CONNECT, False)
        assert f"127.0.0.1:{rig.origin.port}" in caught.value.detail

    play(way, answers(OK), act)


@every_way
@pytest.mark.parametrize(
    "host", ["a" * 64 + ".test", "ä" * 64 + ".test", "two..dots"], ids=["long", "long and not ASCII", "dots"]
)
def test_no_such_name(way: Way, host: str) -> None:
    """Names that no resolver need be asked about."""

    async def act(rig: Rig) -> None:
        rig.origin = Origin("http", host, 80)
        with pytest.raises(TransportError) as caught:
            await rig.ask()
        assert (caught.value.kind, caught.value.sent) == (Kind.CONNECT, False)

    play(way, answers(OK), act)


def test_the_resolver_says_no(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    async def act(rig: Rig) -> None:
        rig.origin = Origin("http", "nowhere.test", 80)
        with pytest.raises(TransportError, match=r"nowhere\.test: the name is not known") as caught:
            await rig.ask()
        assert caught.value.kind is Kind.CONNECT

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    play(NATIVE[0], answers(OK), act)


@native_ways
def test_an_early_answer_is_read(way: Way) -> None:
    """The server refuses the body, and closes while most of it is still under way."""
    refusal = b"HTTP/1.1 413 Too Large\r\ncontent-length: 5\r\n\r\nlarge"

    async def refuse(peer: Peer) -> None:
        await peer.send(refusal)
        await asyncio.sleep(0)

    async def act(rig: Rig) -> None:
        reply = await rig.ask(b"x" * (30 << 20))
        assert reply.status == 413
        assert reply.sent_ns <= reply.first_byte_ns
        assert await whole(reply) == b"large"
        reply.release()
        assert (await rig.answer())[1] == b"ok"
        assert rig.server.connections == 2

    play(way, [refuse, answers(OK)], act)


@native_ways
def test_a_connection_with_half_a_request_in_it_is_not_kept(way: Way) -> None:
    async def refuse(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 5\r\n\r\nlarge")
        await gate.wait()

    async def act(rig: Rig) -> None:
        nonlocal gate
        gate = asyncio.Event()
        reply = await rig.ask(b"x" * (30 << 20))
        assert await whole(reply) == b"large"
        assert reply.complete
        reply.release()
        _clean(rig)
        gate.set()

    gate: asyncio.Event = None  # type: ignore[assignment]
    play(way, refuse, act)


@native_ways
@pytest.mark.parametrize("used", [True, False])
def test_an_answer_before_the_question(way: Way, used: bool) -> None:
    """A server that is full refuses a new connection before it reads anything, and closes."""

    async def refuse(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 503 Full\r\ncontent-length: 4\r\n\r\nfull")

    async def act(rig: Rig) -> None:
        connection = await rig.transport.connect(rig.origin)
        await rig.server.quiet()
        await until(lambda: connection.closed)
        if used:
            reply = await connection.send(UpstreamRequest(rig.head, b"{}"))
            assert (reply.status, await whole(reply)) == (503, b"full")
            assert reply.sent_ns == reply.first_byte_ns
            reply.release()
        else:
            connection.discard()
        _clean(rig)

    play(way, refuse, act)


@native_ways
@pytest.mark.parametrize("more", [b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", b"junk"])
def test_bytes_after_the_end(way: Way, more: bytes) -> None:
    """The answer stands, the connection does not: a later request must not be given somebody else's answer."""

    async def act(rig: Rig) -> None:
        assert (await rig.answer())[1] == b"ok"
        assert (await rig.answer())[1] == b"fine"
        assert rig.server.connections == 2

    fine = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfine"
    play(way, [once(OK + more, then="wait"), answers(fine)], act)


@native_ways
@pytest.mark.parametrize("when", ["before release", "when idle"])
def test_bytes_nobody_asked_for(way: Way, when: str) -> None:
    async def chatty(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await speak.wait()
        await peer.send(b"HTTP/1.1 408 Timeout\r\ncontent-length: 0\r\n\r\n")
        await peer.gone()

    speak: asyncio.Event = None  # type: ignore[assignment]

    async def act(rig: Rig) -> None:
        nonlocal speak
        speak = asyncio.Event()
        reply = await rig.ask()
        assert await whole(reply) == b"ok"
        if when == "before release":
            speak.set()
            await rig.server.quiet()
            assert reply.complete
            reply.release()
        else:
            reply.release()
            speak.set()
            await rig.server.quiet()
        assert rig.transport.idle(rig.origin) is None
        _clean(rig)

    play(way, chatty, act)


def test_every_way_of_breaking_is_told_in_words() -> None:
    async def act(rig: Rig) -> None:
        with pytest.raises(TransportError, match="connection lost within the head: the upstream closed it"):
            await rig.ask()

    play(NATIVE[0], once(b"HTTP/1.1 2"), act)
