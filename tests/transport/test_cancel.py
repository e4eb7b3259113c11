"""Cancelled at every point of its way, a request leaves no connection, no task and no slot behind."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable

import pytest
import trustme

from proxy.errors import TransportError
from proxy.transport.pool import Http1Transport
from tests.transport.byteserver import Peer
from tests.transport.rig import Rig, Way, every_way, native_ways, play, until

ROUNDS = 40
"""Rounds of the event loop after which the request is cancelled, from none to more than it needs."""


async def _slowly(peer: Peer) -> None:
    """An answer that takes many rounds of the loop."""
    while True:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n", b"transfer-encoding: chunked\r\n\r\n")
        await peer.send(*(b"1\r\nx\r\n" for _ in range(8)), b"0\r\n\r\n")


async def _cancelled_after(rig: Rig, rounds: int) -> None:
    task = asyncio.create_task(_request(rig))
    for _ in range(rounds):
        await asyncio.sleep(0)
    task.cancel()
    (result,) = await asyncio.gather(task, return_exceptions=True)
    assert result is None or isinstance(result, asyncio.CancelledError)  # None: it was quicker


async def _request(rig: Rig) -> None:
    reply = await rig.ask()
    try:
        while (await reply.read())[0]:
            pass
    except BaseException:
        reply.abort()
        raise
    reply.release()


@every_way
@pytest.mark.parametrize("warm", [False, True], ids=["new", "kept"])
def test_cancelled_anywhere(way: Way, warm: bool) -> None:
    play(way, _slowly, _cancel_everywhere(warm), host="localhost")


@native_ways
@pytest.mark.parametrize("warm", [False, True], ids=["new", "kept"])
def test_cancelled_anywhere_under_tls(way: Way, warm: bool) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    with authority.cert_pem.tempfile() as ca_file:
        play(way, _slowly, _cancel_everywhere(warm), tls=context, host="localhost", ca_file=ca_file)


def _cancel_everywhere(warm: bool) -> Callable[[Rig], Awaitable[None]]:
    async def act(rig: Rig) -> None:
        for rounds in range(ROUNDS):
            if warm:
                await rig.answer()
            await _cancelled_after(rig, rounds)
            if isinstance(rig.transport, Http1Transport):
                kept = sum(len(pool.idle) for pool in rig.transport._pools.values())
                assert kept == sum(pool.taken for pool in rig.transport._pools.values())
                await until(lambda: len(rig.transport.sockets) == kept)  # noqa: B023
                await until(lambda: rig.server.open == kept)  # noqa: B023
        assert (await rig.answer())[1] == b"x" * 8

    return act


@every_way
def test_many_cancelled_together(way: Way) -> None:
    """A pool of four, many callers, every other cancelled at once: the rest are served, nothing is stuck."""

    async def act(rig: Rig) -> None:
        for rounds in range(0, ROUNDS, 4):
            tasks = [asyncio.create_task(_request(rig)) for _ in range(40 if way.native else 8)]
            for _ in range(rounds):
                await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            results = await asyncio.gather(*tasks, return_exceptions=True)
            assert not any(isinstance(result, TransportError) for result in results[1::2])
            if way.native:
                assert all(pool.taken == len(pool.idle) <= 4 for pool in rig.transport._pools.values())

    play(way, _slowly, act, limit=4)
