"""What nobody waits for is read in small pieces with pauses; it says the same, and came when it came."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from proxy.carry import LARGEST
from proxy.errors import TransportError
from proxy.shadow import unhurried
from proxy.shadow.unhurried import PIECE, Unhurried
from proxy.transport.base import Connection, Head, Headers, Origin, UpstreamRequest
from tests.shadow.rig import adds_up, config, experiment, rig
from tests.shadow.scripted import Model, Scripted

ORIGIN = Origin("http", "127.0.0.1", 1)
REQUEST = UpstreamRequest(Head("POST", "/", ()), b"")


class Scripts:
    """A transport, its connection and its reply, which has these reads to give."""

    status, sent_ns, first_byte_ns, replayed = 200, 1, 2, False
    headers: Headers = ()

    def __init__(self, reads: Sequence[bytes]) -> None:
        self.reads = [*reads]
        self.ended: list[str] = []
        self.read_at = 0

    def idle(self, origin: Origin) -> Connection | None:
        return None

    async def connect(self, origin: Origin) -> Scripts:
        return self

    async def send(self, request: UpstreamRequest) -> Scripts:
        return self

    def discard(self) -> None:
        self.ended.append("discarded")

    async def aclose(self) -> None:
        self.ended.append("closed")

    @property
    def complete(self) -> bool:
        return not self.reads

    async def read(self) -> tuple[bytes, int]:
        self.read_at += 1
        return (self.reads.pop(0) if self.reads else b""), self.read_at

    def release(self) -> None:
        self.ended.append("released")

    def abort(self) -> None:
        self.ended.append("aborted")


def test_pieces_and_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    async def test() -> None:
        flood = bytes(range(256)) * (3 * PIECE // 256) + b"end"
        inner = Scripts([b"a little", flood])
        reply = await (await Unhurried(inner).connect(ORIGIN)).send(REQUEST)
        assert (reply.status, reply.sent_ns, reply.first_byte_ns, reply.replayed) == (200, 1, 2, False)
        assert await reply.read() == (b"a little", 1)
        assert pauses == [], "who does not flood is not kept waiting"
        pieces, times = [], set()
        while not reply.complete:
            data, at = await reply.read()
            pieces.append(data)
            times.add(at)
        assert b"".join(pieces) == flood
        assert max(map(len, pieces)) == PIECE
        assert times == {2}, "all of it came at once"
        assert pauses == [unhurried.PAUSE] * 3
        assert await reply.read() == (b"", 3)
        reply.release()
        assert inner.ended == ["released"]

    monkeypatch.setattr(unhurried.asyncio, "sleep", pause)
    asyncio.run(test())


def test_who_leaves_in_the_middle_keeps_no_connection() -> None:
    async def test() -> None:
        inner = Scripts([bytes(2 * PIECE)])
        reply = await (await Unhurried(inner).connect(ORIGIN)).send(REQUEST)
        await reply.read()
        reply.release()
        assert inner.ended == ["aborted"]

    asyncio.run(test())


def test_an_answer_without_end_is_given_up() -> None:
    async def test() -> None:
        inner = Scripts([bytes(PIECE)] * (LARGEST // PIECE + 1))
        reply = await (await Unhurried(inner).connect(ORIGIN)).send(REQUEST)
        for _ in range(LARGEST // PIECE):
            await reply.read()
        with pytest.raises(TransportError, match="more than"):
            await reply.read()

    asyncio.run(test())


@pytest.mark.parametrize("stream", [False, True])
def test_a_candidate_that_floods_has_failed(stream: bool) -> None:
    async def test() -> None:
        models = {"primary": Model(valid=1.0), "candidate": Model(valid=1.0, floods=LARGEST + 1)}
        async with (
            Scripted(models).serving() as there,
            rig(config(None, there.url, {"x": experiment()})) as proxy,
        ):
            assert (await proxy.ask("hello", stream=stream)).status_code == 200
            await proxy.idle()
            assert proxy.one.counts["failed"] == 1
            assert proxy.one.tally.counts["errors"] == {0: 1}
            assert adds_up(proxy.one)

    asyncio.run(test())
