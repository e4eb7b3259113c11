"""Answers that nobody waits for are read in small pieces with pauses, so that one which floods holds up no live stream.

A read that brings more than one piece is handed on piece by piece; what the upstream sends meanwhile waits in its own
buffers. The times are those at which the bytes came, so that a pause makes no candidate slower.
"""

from __future__ import annotations

import asyncio

from policies.verdict import Kind
from proxy.carry import LARGEST
from proxy.errors import TransportError
from proxy.transport.base import Connection, Headers, Origin, Reply, Transport, UpstreamRequest

PIECE = 16 * 1024
"""Bytes that are worked on at once: well below a millisecond's work."""
PAUSE = 0.02
"""Seconds between the pieces of one read: 800 kB/s, some 3,000 tokens a second, which no model is meant to exceed."""


class Unhurried:
    """A `Transport`."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner

    def idle(self, origin: Origin) -> Connection | None:
        found = self._inner.idle(origin)
        return None if found is None else _Connection(found)

    async def connect(self, origin: Origin) -> Connection:
        return _Connection(await self._inner.connect(origin))

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Connection:
    def __init__(self, inner: Connection) -> None:
        self._inner = inner

    async def send(self, request: UpstreamRequest) -> Reply:
        return _Reply(await self._inner.send(request))

    def discard(self) -> None:
        self._inner.discard()


class _Reply:
    def __init__(self, inner: Reply) -> None:
        self._inner = inner
        self.status = inner.status
        self.headers: Headers = inner.headers
        self.sent_ns = inner.sent_ns
        self.first_byte_ns = inner.first_byte_ns
        self.replayed = inner.replayed
        self._rest = b""
        self._at = 0
        self._size = 0

    @property
    def complete(self) -> bool:
        return not self._rest and self._inner.complete

    async def read(self) -> tuple[bytes, int]:
        if self._rest:
            await asyncio.sleep(PAUSE)
        else:
            self._rest, self._at = await self._inner.read()
            self._size += len(self._rest)
            if self._size > LARGEST:
                raise TransportError(Kind.TRUNCATED, f"more than {LARGEST} bytes", sent=True, answered=True)
        piece, self._rest = self._rest[:PIECE], self._rest[PIECE:]
        return piece, self._at

    def release(self) -> None:
        if self._rest:
            self._inner.abort()
        else:
            self._inner.release()

    def abort(self) -> None:
        self._inner.abort()
