"""Several addresses for one name: the order, the race, and its losers."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from proxy.transport import dial
from tests.transport.byteserver import answers
from tests.transport.rig import OK, Rig, Way, native_ways, play, sockets, until


def _resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    async def resolved(*_: object) -> list[dial.Address]:
        return [dial.Address(socket.AF_INET, address) for address in addresses]

    monkeypatch.setattr(dial, "_resolved", resolved)


def test_families_take_turns() -> None:
    class Loop:
        async def getaddrinfo(self, *_: object, **__: object) -> list[Any]:
            six, four = socket.AF_INET6, socket.AF_INET
            names = [(six, "a"), (six, "b"), (six, "c"), (four, "d"), (four, "e")]
            return [(family, socket.SOCK_STREAM, 6, "", (name, 1)) for family, name in names]

    found = asyncio.run(dial._resolved(Loop(), "x.test", 1))  # type: ignore[arg-type]
    assert [address.sockaddr[0] for address in found] == ["a", "d", "b", "e", "c"]


@pytest.mark.parametrize(
    ("host", "family"), [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)], ids=["IPv4", "IPv6"]
)
def test_literal_addresses_ask_no_resolver(host: str, family: int) -> None:
    assert asyncio.run(dial._resolved(None, host, 80)) == [(family, (host, 80))]  # type: ignore[arg-type]


@native_ways
def test_the_second_address_serves_when_the_first_refuses(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(rig: Rig) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            _resolve_to(monkeypatch, taken.getsockname(), ("127.0.0.1", rig.server.port))
            assert (await rig.answer())[1] == b"ok"

    play(way, answers(OK), act)


@native_ways
def test_all_refuse(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("127.0.0.1", 0))
            two.bind(("127.0.0.1", 0))
            _resolve_to(monkeypatch, one.getsockname(), two.getsockname())
            before = sockets()
            with pytest.raises(ConnectionRefusedError):
                await dial.connected("x.test", 80)
            assert sockets() == before

    with asyncio.Runner(loop_factory=way.loop) as runner:
        runner.run(main())


@native_ways
def test_a_silent_first_address_is_overtaken(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """And its socket closed. So is every socket when the caller leaves in the middle of the race."""
    connect = dial._one

    async def one(loop: asyncio.AbstractEventLoop, address: dial.Address) -> socket.socket:
        if address.sockaddr[0] != "silent":
            return await connect(loop, address)
        started.append(address)
        sock = socket.socket()
        try:
            await asyncio.Event().wait()
        finally:
            sock.close()
        raise AssertionError

    async def act(rig: Rig) -> None:
        _resolve_to(monkeypatch, ("silent", 1), ("127.0.0.1", rig.server.port))
        assert (await rig.answer())[1] == b"ok"
        assert len(started) == 1
        rig.transport.idle(rig.origin).discard()
        _resolve_to(monkeypatch, ("silent", 1), ("silent", 2), ("silent", 3))
        task = asyncio.create_task(rig.ask())
        await until(lambda: len(started) == 4)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert rig.pool.taken == 0

    started: list[dial.Address] = []
    monkeypatch.setattr(dial, "ATTEMPT_DELAY", 0.01)
    monkeypatch.setattr(dial, "_one", one)
    play(way, answers(OK), act)


def test_two_that_connect_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """The preferred one wins, the other is closed."""

    async def one(*_: object) -> socket.socket:
        sock = socket.socket()
        made.append(sock)
        if len(made) == 2:
            both.set()
        await both.wait()
        return sock

    async def main() -> None:
        nonlocal both
        both = asyncio.Event()
        won = await dial.connected("x.test", 80)
        assert won is made[0]
        assert made[1].fileno() == -1
        won.close()

    both: asyncio.Event = None  # type: ignore[assignment]
    made: list[socket.socket] = []
    monkeypatch.setattr(dial, "ATTEMPT_DELAY", 0)
    monkeypatch.setattr(dial, "_one", one)
    _resolve_to(monkeypatch, ("a", 1), ("b", 1))
    asyncio.run(main())


def test_a_name_without_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
    with pytest.raises(OSError, match="no address"):
        asyncio.run(dial.connected("x.test", 80))
