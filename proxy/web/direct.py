"""A request to a measured endpoint, handed over without ASGI between: a `Downstream` on the connection itself.

It stands where uvicorn's protocol expects a cycle, so it carries the few names that uvicorn reads and writes there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from proxy.downstream import Headers, left
from proxy.web.head import joined

if TYPE_CHECKING:
    from proxy.web.connection import Connection, Endpoint


class Direct:
    __slots__ = (
        "_connection",
        "_expects_100",
        "_gone",
        "_head",
        "_left",
        "_waiter",
        "body",
        "chunked",
        "disconnected",
        "endpoint",
        "headers",
        "keep_alive",
        "late",
        "more_body",
        "response_complete",
        "response_started",
    )

    def __init__(self, connection: Connection, endpoint: Endpoint, keep_alive: bool) -> None:
        self._connection = connection
        self.endpoint = endpoint
        self.headers: Headers = connection.headers
        self._expects_100 = connection.expect_100_continue
        self._gone: Callable[[], None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._head = b""
        self._left = 0
        """Bytes of the body still to be written, where its length is known."""
        self.chunked = False
        self.late = False
        """The client stopped sending its body."""
        # uvicorn's names:
        self.body = b""
        """What has come and was not yet taken."""
        self.more_body = True
        self.keep_alive = keep_alive
        self.disconnected = False
        self.response_started = False
        self.response_complete = False

    @property
    def message_event(self) -> Direct:
        return self

    def set(self) -> None:
        """Something came, or the client left."""
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
        if self.disconnected and self._gone is not None:
            self._gone()

    # A `Downstream`.

    @property
    def full(self) -> bool:
        return self._connection.flow.write_paused

    async def receive(self) -> tuple[bytes, bool]:
        connection = self._connection
        if self._expects_100:
            self._expects_100 = False
            connection.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self.more_body and not self.body and not self.disconnected:
            connection.flow.resume_reading()
            self._waiter = connection.loop.create_future()
            await self._waiter
        if self.more_body and self.disconnected:
            raise left(self.late)
        body, self.body = self.body, b""
        return body, self.more_body

    def watch(self, gone: Callable[[], None]) -> None:
        if self.disconnected:
            gone()
        self._gone = gone
        self._connection.flow.resume_reading()  # a large body stopped it; who does not read is not told of the leaving

    def begin(self, status: int, headers: Headers, length: int | None, close: bool = False) -> None:
        if close:
            self.keep_alive = False
        if length is None:
            self.chunked = True
            framing = b"transfer-encoding: chunked\r\n"
        else:
            self._left = length
            framing = b"content-length: %d\r\n" % length
        if not self.keep_alive:
            framing += b"connection: close\r\n"
        head = joined(STATUS_LINE[status], (*self._connection.server_state.default_headers, *headers))
        self._head = b"%b%b\r\n" % (head, framing)
        self.response_started = True

    async def write(self, data: bytes, last: bool) -> None:
        connection = self._connection
        if connection.flow.write_paused and not self.disconnected:
            await connection.flow.drain()
        if self.disconnected:
            return
        if self.chunked:
            if data:
                data = b"%x\r\n%b\r\n" % (len(data), data)
            if last:
                data += b"0\r\n\r\n"
        else:
            self._left -= len(data)
            if self._left < 0 or (last and self._left):
                raise RuntimeError("the body is not as long as content-length says")
        if self._head:
            data, self._head = self._head + data, b""
        if data:
            connection.transport.write(data)
        if last:
            self.response_complete = True
            if not self.keep_alive:
                connection.transport.close()
            connection.on_response_complete()

    async def cut(self) -> None:
        self.disconnected = True
        self._connection.transport.abort()

    def close(self) -> None:
        self._gone = None
