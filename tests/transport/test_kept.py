"""Connections that are used again: dead ones, late ends, aborts, and readers that take their time."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from policies.verdict import Kind
from proxy.errors import TransportError
from proxy.transport import http1
from proxy.transport.base import UpstreamRequest
from tests.transport.byteserver import Peer, answers, once
from tests.transport.rig import OK, Rig, Way, every_way, native_ways, play, until, whole

CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


@every_way
def test_an_idle_connection_closed_by_the_server_is_not_used(way: Way) -> None:
    async def act(rig: Rig) -> None:
        await rig.answer()
        await rig.server.quiet()
        if way.native:
            await until(lambda: not rig.pool.idle)
            assert rig.pool.taken == 0
        reply, body = await rig.answer()
        assert (body, reply.replayed) == (b"ok", False)
        assert rig.server.connections == 2

    play(way, [once(OK), answers(OK)], act)


def _dies_on_second(how: str, raw: bytes = b"") -> Any:
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.request()
        if raw:
            await peer.send(raw)
        if how == "reset":
            peer.reset()

    return script


@native_ways
@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("limit", [1, 1000])
def test_a_stale_connection_is_replayed_once(way: Way, how: str, limit: int) -> None:
    async def act(rig: Rig) -> None:
        assert not (await rig.answer(b"first"))[0].replayed
        reply, body = await rig.answer(b"second")
        assert (body, reply.replayed) == (b"ok", True)
        assert 0 < reply.sent_ns <= reply.first_byte_ns
        assert [request.rpartition(b"\n")[2] for request in rig.server.requests] == [b"first", b"second", b"second"]
        assert rig.server.connections == 2
        assert (rig.pool.taken, len(rig.pool.idle)) == (1, 1)

    play(way, [_dies_on_second(how), answers(OK)], act, limit=limit)


@native_ways
def test_a_replay_is_not_replayed(way: Way) -> None:
    async def act(rig: Rig) -> None:
        await rig.answer()
        with pytest.raises(TransportError) as caught:
            await rig.ask()
        error = caught.value
        assert (error.kind, error.sent, error.answered, error.replayed) == (Kind.CONNECT, True, False, True)
        assert (rig.server.connections, len(rig.server.requests)) == (2, 3)
        assert rig.pool.taken == 0

    play(way, [_dies_on_second("close"), once()], act)


@native_ways
def test_no_replay_where_the_caller_forbids_it(way: Way) -> None:
    async def act(rig: Rig) -> None:
        await rig.answer()
        connection = rig.transport.idle(rig.origin)
        with pytest.raises(TransportError) as caught:
            await connection.send(UpstreamRequest(rig.head, b"{}", replay=False))
        error = caught.value
        assert (error.kind, error.sent, error.answered, error.replayed) == (Kind.CONNECT, True, False, False)
        assert (rig.server.connections, len(rig.server.requests)) == (1, 2)
        assert rig.pool.taken == 0

    play(way, [_dies_on_second("close"), answers(OK)], act, limit=1)


@native_ways
@pytest.mark.parametrize("raw", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n"], ids=["one byte", "interim"])
def test_no_replay_once_a_byte_has_come(way: Way, raw: bytes) -> None:
    async def act(rig: Rig) -> None:
        await rig.answer()
        with pytest.raises(TransportError) as caught:
            await rig.ask()
        error = caught.value
        assert (error.kind, error.answered, error.replayed) == (Kind.CONNECT, True, False)
        assert (rig.server.connections, len(rig.server.requests)) == (1, 2)
        assert rig.pool.taken == 0

    play(way, [_dies_on_second("close", raw), answers(OK)], act)


@native_ways
@pytest.mark.parametrize("asked", [True, False])
def test_a_connection_that_dies_between_idle_and_send(way: Way, asked: bool) -> None:
    """Its slot is kept for the replay, or given up if there is none to come."""

    async def act(rig: Rig) -> None:
        await rig.answer()
        connection = rig.transport.idle(rig.origin)
        close.set()
        await rig.server.quiet()
        await until(lambda: connection.closed)
        assert rig.pool.taken == 1
        if asked:
            reply = await connection.send(UpstreamRequest(rig.head, b"{}"))
            assert reply.replayed
            reply.release()
            assert rig.pool.taken == 1
        else:
            connection.discard()
            assert rig.pool.taken == 0

    async def wait(peer: Peer) -> None:
        nonlocal close
        close = asyncio.Event()
        await peer.request()
        await peer.send(OK)
        await close.wait()

    close: asyncio.Event = None  # type: ignore[assignment]
    play(way, [wait, answers(OK)], act, limit=1)


@every_way
@pytest.mark.parametrize("released", ["before the end", "after the end"])
def test_the_last_chunk_comes_after_release(way: Way, released: str) -> None:
    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(CHUNKED + b"6\r\n[DONE]\r\n")
            await end.wait()
            await peer.send(b"0\r\n\r\n")

    async def act(rig: Rig) -> None:
        nonlocal end
        end = asyncio.Event()
        reply = await rig.ask()
        assert (await reply.read())[0] == b"[DONE]"
        if released == "after the end":
            end.set()
            assert (await reply.read())[0] == b""
        reply.release()
        timers = [one._linger_timer for one in rig.transport.sockets] if way.native else []
        end.set()
        if way.native:
            await until(lambda: rig.pool.idle)
            assert all(timer.cancelled() for timer in timers if timer is not None)
            assert (timers == [None]) is (released == "after the end")
        else:
            await until(lambda: not rig.transport._tasks)
        assert (await rig.answer())[1] == b"[DONE]"
        assert rig.server.connections == 1

    end: asyncio.Event = None  # type: ignore[assignment]
    play(way, script, act)


@every_way
@pytest.mark.parametrize("more", ["nothing", "too much", "to the end"])
def test_a_release_does_not_wait_long(way: Way, more: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither for an end that does not come, nor for a body that goes on."""
    monkeypatch.setattr(http1, "LINGER_SECONDS", 0.01 if more == "nothing" else 100)
    monkeypatch.setattr("proxy.transport.httpx_.LINGER_SECONDS", 0.01 if more == "nothing" else 100)
    head = b"HTTP/1.1 200 OK\r\n\r\n" if more == "to the end" else CHUNKED

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(head + b"6\r\n[DONE]\r\n")
        if more == "too much":
            while True:
                await peer.send(b"400\r\n" + b"x" * 1024 + b"\r\n")
        await peer.gone()

    async def act(rig: Rig) -> None:
        if more == "to the end" and not way.native:
            return  # httpx reads on for a second before it gives up
        reply = await rig.ask()
        await reply.read()
        reply.release()
        reply.release()
        await rig.server.quiet()
        if way.native:
            assert rig.pool.taken == 0

    play(way, script, act)


@every_way
def test_abort_is_seen_at_once(way: Way) -> None:
    async def act(rig: Rig) -> None:
        reply = await rig.ask()
        assert (await reply.read())[0] == b"abc"
        reply.abort()
        await rig.server.quiet()
        if way.native:
            assert rig.pool.taken == 0

    play(way, once(CHUNKED + b"3\r\nabc\r\n", then="wait"), act)


@every_way
def test_a_reply_given_back_has_no_more_to_say(way: Way) -> None:
    """What its former owner still calls does not touch the next one."""

    async def act(rig: Rig) -> None:
        first, _ = await rig.answer()
        second = await rig.ask()
        first.abort()
        first.release()
        with pytest.raises(RuntimeError):
            await first.read()
        assert await whole(second) == b"ok"
        second.release()
        assert rig.server.connections == 1

    play(way, answers(OK), act)


@every_way
def test_a_slow_reader_holds_the_upstream_back(way: Way) -> None:
    total = 50 << 20
    piece = b"10000\r\n" + b"x" * 65536 + b"\r\n"

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(CHUNKED)
        for _ in range(total // 65536):
            await peer.send(piece)
        await peer.send(b"0\r\n\r\n")

    async def act(rig: Rig) -> None:
        reply = await rig.ask()
        before = -1
        while before != rig.server.peers[0].sent:  # until nothing moves any more
            before = rig.server.peers[0].sent
            await asyncio.sleep(0.05)
        assert before < total // 2
        if way.native:
            assert rig.transport.sockets
            (connection,) = rig.transport.sockets
            assert sum(map(len, connection.parts)) <= http1.UNREAD_LIMIT + (256 << 10)
        size = 0
        while True:
            data, _ = await reply.read()
            if not data:
                break
            size += len(data)
        assert size == total
        reply.release()

    play(way, script, act)


@native_ways
def test_a_paused_connection_can_be_used_again(way: Way) -> None:
    """Released unread, with more than the limit waiting: the rest is within what a release waits for."""
    body = b"x" * (http1.UNREAD_LIMIT + 2048)
    raw = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (len(body) + 1)

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(raw + body)
            await last.wait()
            await peer.send(b"y")

    async def act(rig: Rig) -> None:
        nonlocal last
        last = asyncio.Event()
        reply = await rig.ask()
        (connection,) = rig.transport.sockets
        await until(lambda: connection._paused)
        last.set()
        reply.release()
        await until(lambda: rig.pool.idle)
        assert len((await rig.answer())[1]) == len(body) + 1
        assert rig.server.connections == 1

    last: asyncio.Event = None  # type: ignore[assignment]
    play(way, script, act)
