"""The answer of one HTTP/1.1 connection, lent to one reader."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from policies.verdict import Kind
from proxy.errors import TransportError
from proxy.transport.base import Headers
from proxy.transport.coding import CodingError, Decoder

if TYPE_CHECKING:
    from proxy.transport.http1 import Http1Connection


class Http1Reply:
    """As `base.Reply`. `sent_ns` is `first_byte_ns` where the answer began before the request had left us."""

    __slots__ = ("_connection", "_decoder", "first_byte_ns", "headers", "replayed", "sent_ns", "status")

    def __init__(self, connection: Http1Connection, decoder: Decoder | None) -> None:
        self._connection: Http1Connection | None = connection
        self._decoder = decoder
        self.status = connection.status
        self.headers: Headers = connection.headers
        self.first_byte_ns = connection.first_ns
        self.sent_ns = connection.sent_ns or connection.first_ns
        self.replayed = False

    @property
    def complete(self) -> bool:
        """Also false once the connection was given back."""
        connection = self._connection
        if connection is None or not connection.ended:
            return False
        return self._decoder is None or (self._decoder.finished and not connection.parts)

    async def read(self) -> tuple[bytes, int]:
        """As `base.Reply.read`; the time is that of the youngest byte."""
        connection = self._connection
        if connection is None:
            raise RuntimeError("the reply was given back")
        if self._decoder is not None:
            return await self._read_decoded(connection, self._decoder)
        while not connection.parts:
            if connection.ended:
                return b"", connection.last_ns
            if connection.error is not None:
                raise connection.error
            try:
                await connection.more()
            except BaseException:
                connection.drop()
                raise
        return connection.take(), connection.last_ns

    async def _read_decoded(self, connection: Http1Connection, decoder: Decoder) -> tuple[bytes, int]:
        try:
            while True:
                if decoder.pending or connection.parts:
                    data = decoder.feed(b"" if decoder.pending else connection.take())
                    if data:
                        return data, connection.last_ns
                elif connection.ended:
                    decoder.end()
                    return b"", connection.last_ns
                elif connection.error is not None:
                    raise connection.error
                else:
                    await connection.more()
        except CodingError as error:
            connection.drop()
            raise TransportError(Kind.TRUNCATED, str(error), sent=True, answered=True) from None
        except asyncio.CancelledError:
            connection.drop()
            raise

    def release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.settle()

    def abort(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.drop()
