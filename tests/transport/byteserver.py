"""A server that answers with literal bytes: each connection plays a script, written as a coroutine over a `Peer`."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Sequence

Script = Callable[["Peer"], Awaitable[None]]


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seen: list[bytes]) -> None:
        self._reader = reader
        self._writer = writer
        self._seen = seen
        self.sent = 0
        self.transport = writer.transport

    async def request(self) -> bytes:
        """The next request, head and body. Raises `asyncio.IncompleteReadError` when the client is gone."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        lengths = [int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
        whole = head + await self._reader.readexactly(sum(lengths))
        self._seen.append(whole)
        return whole

    async def send(self, *pieces: bytes) -> None:
        """Writes each piece by itself, and lets the client read between them."""
        for piece in pieces:
            self._writer.write(piece)
            await self._writer.drain()
            self.sent += len(piece)
            await asyncio.sleep(0)

    async def gone(self) -> bytes:
        """Waits until the client has closed; gives what it still sent."""
        try:
            return await self._reader.read()
        except ConnectionError:
            return b""

    def reset(self) -> None:
        """Ends the connection with RST in place of FIN."""
        raw = self.transport.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


class ByteServer:
    """Connection n plays script n, those past the end the last one. When its script is over, a connection is closed."""

    def __init__(self, scripts: Sequence[Script], *, tls: ssl.SSLContext | None = None) -> None:
        self._scripts = scripts
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self.requests: list[bytes] = []
        self.connections = 0
        self.peers: list[Peer] = []
        self.faults: list[BaseException] = []

    async def __aenter__(self) -> ByteServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        if self.faults:
            raise self.faults[0]

    @property
    def open(self) -> int:
        """Connections whose script is still being played."""
        return len(self._tasks)

    async def quiet(self) -> None:
        """Waits until every connection is over."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._play(reader, writer))
        self._tasks.add(task)

    async def _play(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = self._scripts[min(self.connections, len(self._scripts) - 1)]
        self.connections += 1
        peer = Peer(reader, writer, self.requests)
        self.peers.append(peer)
        try:
            await script(peer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client closed, which ends any script
        except AssertionError as fault:
            self.faults.append(fault)
        finally:
            task = asyncio.current_task()
            writer.close()
            try:
                await writer.wait_closed()
            except (ConnectionError, ssl.SSLError):
                pass
            finally:
                self._tasks.discard(task)  # type: ignore[arg-type]


def answers(*pieces: bytes) -> Script:
    """Answers every request with the same bytes, until the client leaves."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(*pieces)

    return script


def once(*pieces: bytes, then: str = "close") -> Script:
    """Answers one request, then closes (`close`), resets (`reset`) or waits for the client to leave (`wait`)."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(*pieces)
        if then == "reset":
            peer.reset()
        elif then == "wait":
            await peer.gone()

    return script
