"""What every transport test needs: a loop, a scripted server, a transport, and proof that nothing was left behind."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import uvloop

from proxy.transport.base import Head, Headers, Origin, Reply, UpstreamRequest
from proxy.transport.httpx_ import HttpxTransport
from proxy.transport.pool import Http1Transport
from tests.transport.byteserver import ByteServer, Script

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
HEADERS = ((b"content-type", b"application/json"), (b"accept-encoding", b"identity"))


class Way(NamedTuple):
    """One client on one loop."""

    client: str
    loop: Callable[[], asyncio.AbstractEventLoop]

    def __repr__(self) -> str:
        return f"{self.client}-{'uvloop' if self.loop is uvloop.new_event_loop else 'asyncio'}"

    @property
    def native(self) -> bool:
        return self.client == "http1"

    def transport(self, **options: Any) -> Http1Transport | HttpxTransport:
        return Http1Transport(**options) if self.native else HttpxTransport(**options)


NATIVE = (Way("http1", asyncio.new_event_loop), Way("http1", uvloop.new_event_loop))
WAYS = (*NATIVE, Way("httpx", asyncio.new_event_loop))


every_way = pytest.mark.parametrize("way", WAYS, ids=repr)
native_ways = pytest.mark.parametrize("way", NATIVE, ids=repr)


class Rig:
    """A client and a server that talk to each other."""

    def __init__(self, transport: Http1Transport | HttpxTransport, server: ByteServer, origin: Origin) -> None:
        self.transport: Any = transport
        self.server = server
        self.origin = origin
        self.head = Head("POST", "/v1/chat/completions", HEADERS)

    async def ask(self, body: bytes = b"{}", *, method: str = "POST", extra: Headers = ()) -> Reply:
        """As the attempt does it: a kept connection, else a new one."""
        head = self.head if method == "POST" else Head(method, "/", HEADERS)
        connection = self.transport.idle(self.origin) or await self.transport.connect(self.origin)
        reply: Reply = await connection.send(UpstreamRequest(head, body, extra))
        return reply

    async def answer(self, body: bytes = b"{}", *, method: str = "POST") -> tuple[Reply, bytes]:
        """One request and its whole answer; the connection is given back."""
        reply = await self.ask(body, method=method)
        data = await whole(reply)
        reply.release()
        await asyncio.sleep(0)
        return reply, data

    @property
    def pool(self) -> Any:
        return self.transport._pools[self.origin]


async def whole(reply: Reply) -> bytes:
    """The body to its proper end."""
    parts = []
    while True:
        data, _ = await reply.read()
        if not data:
            return b"".join(parts)
        parts.append(data)


def play(
    way: Way,
    scripts: Sequence[Script] | Script,
    act: Callable[[Rig], Awaitable[None]],
    *,
    tls: ssl.SSLContext | None = None,
    host: str = "127.0.0.1",
    **options: Any,
) -> None:
    """Runs `act`; afterwards no task, connection or file descriptor may be left."""
    scripts = scripts if isinstance(scripts, Sequence) else [scripts]

    async def main() -> None:
        before = sockets()
        # pytest's own timeout cannot interrupt uvloop
        async with asyncio.timeout(100), ByteServer(scripts, tls=tls) as server:
            transport = way.transport(**options)
            try:
                await act(Rig(transport, server, Origin("https" if tls else "http", host, server.port)))
            finally:
                await transport.aclose()
            await server.quiet()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:  # the server's own, at most: they end by themselves
            _, others = await asyncio.wait(others, timeout=10)
        assert not others
        for _ in range(1000):
            if sockets() <= before:
                break
            await asyncio.sleep(0.001)  # a closed socket goes in one of the next rounds of the loop
        assert sockets() <= before

    with asyncio.Runner(loop_factory=way.loop) as runner:
        runner.run(main())


def sockets() -> int:
    """Open sockets of this process, where the system tells."""
    folder = Path("/proc/self/fd")
    names = list(folder.iterdir()) if folder.is_dir() else []
    return sum(name.is_symlink() and os.readlink(name).startswith("socket:") for name in names)


async def until(true: Callable[[], bool]) -> None:
    """Lets the loop run until something has come about (the test's own timeout is the limit)."""
    while not true():  # noqa: ASYNC110
        await asyncio.sleep(0.001)
