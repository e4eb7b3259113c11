"""One HTTP/1.1 connection: an `asyncio.Protocol` over httptools (llhttp).

The hot path is short: one write, one wait for the head, and the body is there if it came in the same packet. The
parser appends body pieces straight to a list; everything else is decided once per `data_received`.

llhttp is strict: bare LF, folded headers, both Content-Length and Transfer-Encoding, or a repeated Content-Length are
errors (RFC 9112, sections 2.2, 5.2, 6.3). What it leaves open is decided here: 1xx are skipped, 101 is refused, any
transfer coding but `chunked` is refused, heads and trailers are bounded.
"""

from __future__ import annotations

import asyncio
from time import perf_counter_ns
from typing import TYPE_CHECKING, cast

import httptools

from policies.verdict import Kind
from proxy.errors import TransportError
from proxy.transport.base import UpstreamRequest
from proxy.transport.coding import Decoder, decoder_for
from proxy.transport.limits import HEAD_LIMIT, LINE_LIMIT, LINGER_LIMIT, LINGER_SECONDS, UNREAD_LIMIT
from proxy.transport.reply import Http1Reply
from proxy.transport.request import serialise

if TYPE_CHECKING:
    from proxy.transport.pool import Pool

_LENGTH = frozenset((b"content-length", b"transfer-encoding"))
_CODED = frozenset((b"transfer-encoding", b"content-encoding"))
_SWITCHING = 101


class _Refused(Exception):
    """The parser accepts it, we do not."""


class Http1Connection(asyncio.Protocol):
    """One socket. `lent` from the moment the pool hands it out until it is given back or closed.

    `slot` is the connection's place among the pool's limited number. It is given up when the socket is gone, with one
    exception: a kept connection that dies unanswered keeps it for the replay, so that a full pool cannot starve it.
    """

    __slots__ = (
        "_asked",
        "_barren",
        "_bodiless",
        "_decoder",
        "_head_size",
        "_keep",
        "_line_size",
        "_linger_left",
        "_linger_timer",
        "_parser",
        "_paused",
        "_unread",
        "_waiter",
        "_writing",
        "closed",
        "ended",
        "error",
        "first_ns",
        "headed",
        "headers",
        "last_ns",
        "lent",
        "on_body",
        "parts",
        "pool",
        "sent_ns",
        "slot",
        "status",
        "transport",
        "used",
    )

    transport: asyncio.Transport

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.parts: list[bytes] = []
        self.on_body = self.parts.append
        self.closed = False
        self.slot = False
        self.lent = True
        self.used = False
        """Has given an answer before, so it may have died of age."""
        self.last_ns = 0
        self._writing = False
        """Bytes of the request still wait in our own buffer."""
        self._linger_timer: asyncio.TimerHandle | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._begin()

    def _begin(self) -> None:
        """The state of one message."""
        self.parts.clear()
        self.headers: list[tuple[bytes, bytes]] = []
        self.status = 0
        self._asked = False
        self.headed = False
        self.ended = False
        self.error: TransportError | None = None
        self.first_ns = 0
        self.sent_ns = 0
        self._decoder: Decoder | None = None
        self._bodiless = False
        self._keep = False
        self._waiter: asyncio.Future[None] | None = None
        self._paused = False
        self._unread = 0
        self._head_size = 0
        self._line_size = 0
        self._barren = 0
        self._linger_left = -1

    # The caller's side.

    async def send(self, request: UpstreamRequest) -> Http1Reply:
        """As `base.Connection.send`; ValueError for headers that cannot be sent.

        A kept connection that dies unanswered is replaced once by a new one.
        """
        try:
            wire = serialise(request, self.pool.authority)
            if not self.closed:
                self._asked = True
                self._bodiless = request.head.method == "HEAD"
                self.transport.write(wire)
                if not self._writing:
                    self.sent_ns = perf_counter_ns()
                if not self.headed:
                    self._waiter = self.pool.loop.create_future()
                    await self._waiter
        except BaseException:
            self.drop()
            raise
        if self.headed:
            return Http1Reply(self, self._decoder)
        if request.replay and self.yield_slot():
            return await self._replay(request)
        self._free()
        raise self.error or self._broken("it had been given up")

    async def _replay(self, request: UpstreamRequest) -> Http1Reply:
        try:
            fresh = await self.pool.dial()
            reply = await fresh.send(request)
        except TransportError as error:
            error.replayed = True
            raise
        reply.replayed = True
        return reply

    def more(self) -> asyncio.Future[None]:
        """Done when more of the body or its end has come. Who is cancelled while waiting closes the connection."""
        self._waiter = waiter = self.pool.loop.create_future()
        return waiter

    def take(self) -> bytes:
        """All body bytes as they came; the socket is read from again."""
        parts = self.parts
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        parts.clear()
        self._unread = 0
        if self._paused:
            self._resume()
        return data

    def discard(self) -> None:
        """Close a connection that will not be used after all; nothing if it serves a reply or was given back."""
        if self.lent and not self._asked:
            self.drop()

    def settle(self) -> None:
        """The reply was released: keep the connection, let it linger for the end of the message, or close it."""
        self.parts.clear()
        if not self.used:
            self.pool.keep_session(self)
        if self.closed:
            return
        if self.ended and self._keep and not self._writing:
            if self._paused:
                self._resume()
            self._give()
        elif self.ended or self._until_close():
            self.drop()
        else:
            self._linger_left = LINGER_LIMIT
            self._linger_timer = self.pool.loop.call_later(LINGER_SECONDS, self.drop)
            if self._paused:
                self._resume()

    def drop(self, error: TransportError | None = None) -> None:
        """Close at once, without the farewells of TLS: the peer sees it now. Gives up the slot."""
        if not self.closed:
            self._over(error or self._broken("it was closed on this side"))
            self.transport.abort()
        self._free()

    def yield_slot(self) -> bool:
        """Leave the slot, if it is still held, to the caller."""
        held, self.slot = self.slot, False
        return held

    # The socket's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=0)  # so that resume_writing tells when the request has left us
        self.pool.opened(self)

    def secured(self, transport: asyncio.Transport) -> None:
        """TLS stands between from now on."""
        self.transport = transport
        transport.set_write_buffer_limits(high=1, low=0)  # asyncio's TLS compares with >=, where 0 would flap

    def data_received(self, data: bytes) -> None:
        if self.closed or (self.used and not self._asked):
            # A server about to close may send a 408: not to be taken for the answer to the next request. On a new
            # connection there is no mistaking it: a server that is full may refuse before it has read anything.
            self.drop()
            return
        self.last_ns = perf_counter_ns()
        headed = self.headed  # before this piece
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._garbled(error.__context__ or error)
            return
        size = len(data)
        if not headed:
            self._head_size += size
            if (not self.headed or self._head_size > LINE_LIMIT) and not self._head_fits(data):
                self.headed = self.ended = False
                self._fail(Kind.MALFORMED, "the head of the answer is too large")
                return
        if self._linger_left >= 0:
            self._linger(size)
        elif self.headed:
            if not self.ended:
                self._bound_body(size)
            waiter = self._waiter
            if waiter is not None:
                self._waiter = None
                if not waiter.done():
                    waiter.set_result(None)

    def pause_writing(self) -> None:
        self._writing = True

    def resume_writing(self) -> None:
        self._writing = False
        self.sent_ns = perf_counter_ns()

    def eof_received(self) -> None:
        self._hung_up(None)
        self.transport.abort()  # a plain close would wait for a peer that may never take the rest of the request

    def connection_lost(self, exc: Exception | None) -> None:
        self._hung_up(exc)
        self._parser = cast(httptools.HttpResponseParser, None)  # it refers to this object: leave no cycle
        self.pool.lost(self)

    # The parser's side. `on_body` is `parts.append`.

    def on_message_begin(self) -> None:
        if self.ended:
            raise _Refused("bytes after the end of the answer")
        self.first_ns = self.last_ns

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.headed:  # trailers are ignored
            self.headers.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            if status < 100 or status == _SWITCHING:
                raise _Refused(f"status {status} was not asked for")
            self.headers = []
            return
        for name, value in self.headers:
            if name in _CODED:
                if name == b"content-encoding":
                    self._decoder = decoder_for(self.headers)
                elif value.lower() != b"chunked":
                    raise _Refused("unknown transfer coding")
        self.status = status
        self.headed = True
        if self._bodiless:
            self.ended = True
            raise _Refused("llhttp would wait for the body that an answer to HEAD does not have")

    def on_message_complete(self) -> None:
        if self.headed:  # not an interim answer
            self.ended = True
            self._keep = self._parser.should_keep_alive()

    # What follows from what came.

    def _head_fits(self, data: bytes) -> bool:
        """Bounds the head, whole or still under way."""
        if self.headed:
            sizes = [len(name) + len(value) + 4 for name, value in self.headers]
            return sum(sizes) <= HEAD_LIMIT and max(sizes, default=0) <= LINE_LIMIT
        end = data.rfind(b"\n")
        self._line_size = len(data) - 1 - end if end >= 0 else self._line_size + len(data)
        return self._head_size <= HEAD_LIMIT and self._line_size <= LINE_LIMIT

    def _bound_body(self, size: int) -> None:
        if self.parts:
            self._barren = 0
            self._unread += size
            if self._unread > UNREAD_LIMIT and not self._paused:
                self._paused = True
                self.transport.pause_reading()
        else:
            self._barren += size
            if self._barren > HEAD_LIMIT:
                self._fail(Kind.TRUNCATED, "trailers or chunk extensions without end")

    def _resume(self) -> None:
        self._paused = False
        if not self.closed:
            self.transport.resume_reading()

    def _linger(self, size: int) -> None:
        self.parts.clear()
        self._linger_left -= size
        if self.ended and self._keep and not self._writing:
            self._give()
        elif self.ended or self._linger_left < 0:
            self.drop()

    def _give(self) -> None:
        if self._linger_timer is not None:
            self._linger_timer.cancel()
            self._linger_timer = None
        self.used = True
        self.lent = False
        self._begin()
        self.pool.give(self)

    def _garbled(self, error: BaseException) -> None:
        if self.ended:
            self.drop()  # the answer is whole; what follows it makes the connection useless
            return
        self._fail(Kind.TRUNCATED if self.headed else Kind.MALFORMED, f"not HTTP/1.1: {error}")

    def _fail(self, kind: Kind, detail: str) -> None:
        self.drop(TransportError(kind, detail, sent=True, answered=True))

    def _hung_up(self, exc: Exception | None) -> None:
        if self.headed and not self.ended and exc is None and not self.closed and self._until_close():
            self.ended = True
        if not self.closed:
            self._over(self._broken("the upstream closed it" if exc is None else str(exc) or type(exc).__name__))

    def _until_close(self) -> bool:
        """The body has no length of its own and ends with the connection (RFC 9112, section 6.3, rule 8)."""
        return not any(name in _LENGTH for name, _ in self.headers)

    def _broken(self, why: str) -> TransportError:
        kind = Kind.TRUNCATED if self.headed else Kind.CONNECT
        where = "within the body" if self.headed else "within the head" if self.first_ns else "before any answer"
        return TransportError(
            kind,
            f"connection lost {where}: {why}",
            sent=self.headed or self._waiter is not None,
            answered=self.first_ns > 0,
        )

    def _over(self, error: TransportError) -> None:
        """Nothing more will come. The slot is kept where a replay is due."""
        self.closed = True
        if self._linger_timer is not None:
            self._linger_timer.cancel()
            self._linger_timer = None
        if not self.ended:
            self.error = error
        if not (self.lent and self.used and not self.first_ns):
            self._free()
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def _free(self) -> None:
        if self.yield_slot():
            self.pool.freed(self)
