"""Every shape of a good answer, whole and cut in every place, through both clients."""

from __future__ import annotations

import asyncio
import gzip
import random
import zlib
from itertools import pairwise
from time import perf_counter_ns
from typing import NamedTuple

import pytest

from tests.transport.byteserver import Peer, Script, answers, once
from tests.transport.rig import NATIVE, OK, Rig, Way, every_way, native_ways, play, until, whole

TEXT = b'{"say": "hi"}'
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n"


def _bare_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def _coded(name: bytes, data: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-encoding: %s\r\ncontent-length: %d\r\n\r\n%s" % (name, len(data), data)


class Case(NamedTuple):
    raw: bytes
    body: bytes
    status: int = 200
    kept: bool = True
    method: str = "POST"


CASES = {
    "length": Case(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-A:  b \r\n\r\nhello", b"hello"),
    "empty": Case(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
    "no reason": Case(b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", b"ok"),
    "chunked": Case(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n",
        b"abc0123456789",
    ),
    "extensions and trailers": Case(
        CHUNKED + b"3;x=y\r\nabc\r\n0\r\nx-sum: 1\r\nx-late: 2\r\n\r\n",
        b"abc",
    ),
    "until close": Case(b"HTTP/1.1 200 OK\r\nX-A: b\r\n\r\nuntil the end", b"until the end", kept=False),
    "connection close": Case(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", b"ok", kept=False),
    "HTTP/1.0": Case(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok", kept=False),
    "204": Case(b"HTTP/1.1 204 No Content\r\n\r\n", b"", 204),
    "304": Case(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n", b"", 304),
    "an error": Case(b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy", b"busy", 503),
    "an odd status": Case(b"HTTP/1.1 529 Overloaded\r\nContent-Length: 4\r\n\r\nbusy", b"busy", 529),
    "100 first": Case(b"HTTP/1.1 100 Continue\r\n\r\n" + OK, b"ok"),
    "103 first": Case(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n" + OK, b"ok"),
    "gzip": Case(_coded(b"GZIP", gzip.compress(TEXT)), TEXT),
    "gzip in two members": Case(_coded(b"x-gzip", gzip.compress(TEXT) + gzip.compress(b"more")), TEXT + b"more"),
    "deflate": Case(_coded(b"deflate", zlib.compress(TEXT)), TEXT),
    "bare deflate": Case(_coded(b"deflate", _bare_deflate(TEXT)), TEXT),
    "identity": Case(_coded(b"identity", TEXT), TEXT),
    "coded but empty": Case(_coded(b"gzip", b""), b""),
    "HEAD": Case(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", b"", kept=False, method="HEAD"),
}

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def _script(case: Case, *pieces: bytes) -> Script:
    return answers(*pieces) if case.kept or case.method == "HEAD" else once(*pieces)


async def _expect(rig: Rig, case: Case) -> None:
    reply, body = await rig.answer(method=case.method)
    assert (reply.status, body, reply.replayed) == (case.status, case.body, False)
    assert all(name == name.lower() for name, _ in reply.headers)
    assert b"link" not in dict(reply.headers)
    assert b"x-late" not in dict(reply.headers)
    assert 0 < reply.sent_ns <= reply.first_byte_ns


@every_way
@every_case
def test_whole_and_byte_by_byte(way: Way, case: Case) -> None:
    async def act(rig: Rig) -> None:
        await _expect(rig, case)

    play(way, _script(case, case.raw), act)
    play(way, _script(case, *(case.raw[i : i + 1] for i in range(len(case.raw)))), act)


@native_ways
@every_case
def test_every_cut(way: Way, case: Case) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            cut = len(rig_.server.requests)
            await peer.send(case.raw[:cut], case.raw[cut:])
            if not case.kept:
                return

    async def act(rig: Rig) -> None:
        nonlocal rig_
        rig_ = rig
        for _ in range(1, len(case.raw)):
            await _expect(rig, case)
        assert rig.server.connections == (1 if case.kept else len(case.raw) - 1)

    rig_: Rig = None  # type: ignore[assignment]
    play(way, script, act)


@pytest.mark.parametrize("name", CASES)
def test_random_cuts(name: str) -> None:
    case = CASES[name]
    dice = random.Random(name)

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            cuts = sorted(dice.sample(range(len(case.raw)), dice.randrange(2, 9)))
            await peer.send(*(case.raw[start:end] for start, end in pairwise([0, *cuts, len(case.raw)])))
            if not case.kept:
                return

    async def act(rig: Rig) -> None:
        for _ in range(10):
            await _expect(rig, case)

    play(NATIVE[0], script, act)


@every_way
@every_case
def test_kept_or_not(way: Way, case: Case) -> None:
    async def act(rig: Rig) -> None:
        for _ in range(3):
            await _expect(rig, case)
        kept = case.kept or (case.method == "HEAD" and not way.native)
        assert rig.server.connections == (1 if kept else 3)

    play(way, _script(case, case.raw), act)


@native_ways
def test_headers_as_they_came(way: Way) -> None:
    raw = b"HTTP/1.1 200 OK\r\nX-Two: a\r\nx-two:  b \t\r\nEmpty:\r\nContent-Length: 0\r\n\r\n"

    async def act(rig: Rig) -> None:
        reply, _ = await rig.answer()
        assert list(reply.headers) == [(b"x-two", b"a"), (b"x-two", b"b"), (b"empty", b""), (b"content-length", b"0")]

    play(way, answers(raw), act)


@every_way
def test_an_answer_is_read_as_it_comes(way: Way) -> None:
    """Each piece is handed on before the next is sent; times do not run backwards."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for number in range(3):
            await gates[number].wait()
            await peer.send(b"2\r\n%d\n\r\n" % number)
        await gates[3].wait()
        await peer.send(b"0\r\n\r\n")
        await peer.gone()

    async def act(rig: Rig) -> None:
        gates.extend(asyncio.Event() for _ in range(4))
        reply = await rig.ask()
        last = reply.first_byte_ns
        for number in range(3):
            assert not reply.complete
            gates[number].set()
            data, at = await reply.read()
            assert data == b"%d\n" % number
            assert at >= last
            last = at
        gates[3].set()
        assert (await reply.read())[0] == b""
        assert reply.complete
        assert (await reply.read())[0] == b""
        reply.release()

    gates: list[asyncio.Event] = []
    play(way, script, act)


@native_ways
def test_what_came_in_between_is_joined(way: Way) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        await peer.send(*(b"1\r\n%d\r\n" % number for number in range(10)), b"0\r\n\r\n")
        await peer.gone()

    async def act(rig: Rig) -> None:
        reply = await rig.ask()
        await until(lambda: reply.complete)
        assert (await reply.read())[0] == b"0123456789"
        assert (await reply.read())[0] == b""
        reply.abort()

    play(way, script, act)


@every_way
@pytest.mark.parametrize("coding", [b"identity", b"gzip"])
def test_a_large_answer_flows_through(way: Way, coding: bytes) -> None:
    text = b"".join(b'{"number": %d}\n' % (number * 7919) for number in range(300_000))
    body = gzip.compress(text, 1) if coding == b"gzip" else text

    async def act(rig: Rig) -> None:
        reply = await rig.ask()
        assert await whole(reply) == text
        reply.release()

    play(way, answers(_coded(coding, body)), act)


@native_ways
def test_sent_means_all_of_it(way: Way) -> None:
    """The time at which the last byte left, not the first."""

    async def script(peer: Peer) -> None:
        await gate.wait()
        opened.append(perf_counter_ns())
        await peer.request()
        await peer.send(OK)
        await peer.gone()

    async def act(rig: Rig) -> None:
        nonlocal gate
        gate = asyncio.Event()
        asyncio.get_running_loop().call_later(0.01, gate.set)
        reply = await rig.ask(b"x" * (30 << 20))
        assert opened[0] < reply.sent_ns < reply.first_byte_ns
        reply.abort()

    gate: asyncio.Event = None  # type: ignore[assignment]
    opened: list[int] = []
    play(way, script, act)


@native_ways
def test_an_interim_answer_is_not_the_first_byte(way: Way) -> None:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await until(lambda: any(one._head_size for one in rigs[0].transport.sockets))
        between.append(perf_counter_ns())
        await peer.send(OK)
        await peer.gone()

    async def act(rig: Rig) -> None:
        rigs.append(rig)
        reply = await rig.ask()
        assert reply.first_byte_ns > between[0]
        reply.abort()

    rigs: list[Rig] = []
    between: list[int] = []
    play(way, script, act)
