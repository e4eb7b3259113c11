"""Which connection a request gets, and what becomes of it afterwards."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator
from typing import Any

import pytest

from policies.verdict import Kind
from proxy.errors import TransportError
from proxy.transport.base import Head, UpstreamRequest
from tests.transport.byteserver import ByteServer, answers, once
from tests.transport.rig import NATIVE, OK, Rig, Way, every_way, native_ways, play, until, whole


@every_way
def test_one_connection_serves_many_requests(way: Way) -> None:
    async def act(rig: Rig) -> None:
        for number in range(50):
            assert (await rig.answer(b"%d" % number))[1] == b"ok"
        assert rig.server.connections == 1
        assert [request.rpartition(b"\r\n\r\n")[2] for request in rig.server.requests] == [b"%d" % n for n in range(50)]

    play(way, answers(OK), act)


@native_ways
def test_last_in_first_out(way: Way) -> None:
    async def act(rig: Rig) -> None:
        replies = [await rig.ask() for _ in range(3)]
        assert rig.server.connections == 3
        connections = [reply._connection for reply in replies]  # type: ignore[attr-defined]
        for number in (1, 0, 2):
            replies[number].release()
        assert [rig.transport.idle(rig.origin) for _ in range(4)] == [connections[n] for n in (2, 0, 1)] + [None]
        for connection in connections:
            connection.discard()
            connection.discard()
        assert rig.pool.taken == 0

    play(way, answers(OK), act)


@native_ways
def test_waiting_is_first_come_first_served(way: Way) -> None:
    async def act(rig: Rig) -> None:
        order: list[int] = []

        async def one(number: int) -> None:
            reply = await rig.ask(b"%d" % number)
            order.append(number)
            await whole(reply)
            reply.release()

        tasks = [asyncio.create_task(one(number)) for number in range(12)]
        await asyncio.sleep(0)
        tasks[5].cancel()
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert order == [1, 2, 3, 4, 6, 7, 8, 9, 10, 11]
        assert rig.pool.taken <= 1
        assert not rig.pool._waiters

    play(way, answers(OK), act, limit=1)


@native_ways
def test_a_lost_connection_lets_the_next_waiter_open_one(way: Way) -> None:
    async def act(rig: Rig) -> None:
        replies = await asyncio.gather(*(rig.answer(b"%d" % n) for n in range(6)), return_exceptions=True)
        assert [isinstance(reply, tuple) for reply in replies] == [False, True, True, True, True, True]
        assert "1 taken, 1 idle, 0 waiting" in repr(rig.pool)

    play(way, [once(b"nonsense"), once(OK), answers(OK)], act, limit=1)


@native_ways
def test_failing_to_connect_lets_the_next_try(way: Way) -> None:
    async def act(rig: Rig) -> None:
        server = rig.server
        await rig.answer()
        await server.__aexit__()  # nobody listens any longer
        results = await asyncio.gather(*(rig.ask() for _ in range(5)), return_exceptions=True)
        assert [result.kind for result in results if isinstance(result, TransportError)] == [Kind.CONNECT] * 5
        assert rig.pool.taken == 0
        await server.__aenter__()

    play(way, answers(OK), act, limit=1)


@native_ways
@pytest.mark.parametrize("what", ["connection", "slot"])
def test_a_waiter_cancelled_in_its_turn_passes_it_on(way: Way, what: str) -> None:
    async def act(rig: Rig) -> None:
        reply = await rig.ask()
        tasks = [asyncio.create_task(rig.transport.connect(rig.origin)) for _ in range(2)]
        await asyncio.sleep(0)
        if what == "connection":
            reply.release()
        else:
            reply.abort()
        tasks[0].cancel()  # it has been served, but has not run yet
        with pytest.raises(asyncio.CancelledError):
            await tasks[0]
        connection = await tasks[1]
        assert rig.pool.taken == 1
        connection.discard()
        assert rig.pool.taken == 0

    play(way, answers(OK), act, limit=1)


@native_ways
@pytest.mark.parametrize("waits_on", [True, False])
def test_a_connection_that_dies_on_its_way_to_a_waiter(way: Way, waits_on: bool) -> None:
    async def act(rig: Rig) -> None:
        reply = await rig.ask()
        task = asyncio.create_task(rig.transport.connect(rig.origin))
        await asyncio.sleep(0)
        connection = reply._connection  # type: ignore[attr-defined]
        reply.release()
        connection.eof_received()
        if waits_on:
            fresh = await task
            assert not fresh.closed
            assert fresh is not connection
            assert rig.pool.taken == 1
            fresh.discard()
        else:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        assert rig.pool.taken == 0

    play(way, answers(OK), act, limit=1)


@native_ways
def test_idle_connections_are_bounded(way: Way) -> None:
    async def act(rig: Rig) -> None:
        replies = [await rig.ask() for _ in range(5)]
        kept = [reply._connection for reply in replies[2:]]  # type: ignore[attr-defined]
        for reply in replies:
            reply.release()
        assert rig.pool.idle == kept
        assert rig.pool.taken == 3
        await until(lambda: rig.server.open == 3)

    play(way, answers(OK), act, idle_limit=3)


@native_ways
def test_old_connections_are_not_used(way: Way) -> None:
    async def act(rig: Rig) -> None:
        await rig.answer()
        rig.transport.idle_ns = 0
        assert rig.transport.idle(rig.origin) is None
        assert rig.pool.taken == 0
        await rig.server.quiet()

    play(way, answers(OK), act)


@native_ways
def test_old_connections_are_closed_by_the_way(way: Way) -> None:
    """Without another request; the timer runs only while there is something to watch."""

    async def act(rig: Rig) -> None:
        await rig.answer()
        await rig.server.quiet()
        await until(lambda: rig.transport.timer is None)
        assert rig.pool.taken == 0

    play(way, answers(OK), act, idle_seconds=0.02)


@native_ways
def test_closing_the_transport_ends_everything(way: Way) -> None:
    async def act(rig: Rig) -> None:
        reply = await rig.ask()
        reading = asyncio.create_task(whole(reply))
        waiting = asyncio.create_task(rig.ask())
        await until(lambda: rig.pool._waiters)
        await rig.transport.aclose()
        results = await asyncio.gather(reading, waiting, return_exceptions=True)
        assert [result.kind for result in results] == [Kind.TRUNCATED, Kind.CONNECT]  # type: ignore[union-attr]
        with pytest.raises(TransportError, match="the transport was closed"):
            await rig.ask()
        reply.release()
        assert rig.pool.taken == 0

    play(way, once(b"HTTP/1.1 200 OK\r\n\r\nabc", then="wait"), act, limit=1)


@native_ways
def test_a_connection_opened_while_the_transport_closes(way: Way) -> None:
    async def act(rig: Rig) -> None:
        task = asyncio.create_task(rig.ask())
        await asyncio.sleep(0)
        await rig.transport.aclose()
        with pytest.raises(TransportError):
            await task
        assert rig.pool.taken == 0

    play(way, answers(OK), act)


def _counted(coroutine: Coroutine[Any, Any, Any], count: list[int]) -> Generator[Any, None, Any]:
    @types.coroutine
    def steps() -> Generator[Any, None, Any]:
        value = None
        while True:
            try:
                waited = coroutine.send(value)
            except StopIteration as stop:
                return stop.value
            count.append(1)
            value = yield waited

    return steps()


@native_ways
def test_a_small_answer_costs_one_wait(way: Way) -> None:
    async def act(rig: Rig) -> None:
        await rig.answer()
        connection = rig.transport.idle(rig.origin)
        sends: list[int] = []
        reads: list[int] = []
        reply = await _counted(connection.send(UpstreamRequest(rig.head, b"{}")), sends)
        assert reply.complete
        assert (await _counted(reply.read(), reads))[0] == b"ok"
        assert (await _counted(reply.read(), reads))[0] == b""
        assert (len(sends), len(reads)) == (1, 0)
        reply.release()

    play(way, answers(OK), act)


def test_nagle_is_off() -> None:
    import socket

    async def act(rig: Rig) -> None:
        reply = await rig.ask()
        (connection,) = rig.transport.sockets
        raw = connection.transport.get_extra_info("socket")
        assert raw.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        await whole(reply)
        reply.release()

    for way in NATIVE:
        play(way, answers(OK), act)


@native_ways
def test_a_request_is_one_write(way: Way) -> None:
    """Head and body arrive in one segment, byte for byte as they should be."""

    async def main() -> None:
        got: list[bytes] = []

        class Raw(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                self.transport = transport

            def data_received(self, data: bytes) -> None:
                got.append(data)
                self.transport.write(OK)  # type: ignore[attr-defined]

        server = await asyncio.get_running_loop().create_server(Raw, "127.0.0.1", 0)
        holder = ByteServer([])
        holder.port = server.sockets[0].getsockname()[1]
        transport = way.transport()
        from proxy.transport.base import Origin

        rig = Rig(transport, holder, Origin("http", "127.0.0.1", holder.port))
        for extra in ((), ((b"traceparent", b"00-ab-cd-01"),)):
            reply = await rig.ask(b'{"a": 1}', extra=extra)
            reply.release()
        connection = rig.transport.idle(rig.origin)
        await connection.send(UpstreamRequest(Head("GET", "/v1/models", ()), b""))
        await transport.aclose()
        server.close()
        await server.wait_closed()
        start = b"POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n" % holder.port
        middle = b"content-type: application/json\r\naccept-encoding: identity\r\ncontent-length: 8\r\n\r\n"
        assert got == [
            start + middle + b'{"a": 1}',
            start + b"traceparent: 00-ab-cd-01\r\n" + middle + b'{"a": 1}',
            b"GET /v1/models HTTP/1.1\r\nhost: 127.0.0.1:%d\r\n\r\n" % holder.port,
        ]

    with asyncio.Runner(loop_factory=way.loop) as runner:
        runner.run(main())
