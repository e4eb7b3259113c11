"""The connections to one origin, and the transport that holds a pool for each.

Kept connections go out last in, first out, so that the fewest stay busy and the others grow old and are closed. The
number of connections is limited; who finds none waits, and the longest waiter is served first, either with a
connection that another caller gave back or with the right to open one (a slot).
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from time import perf_counter_ns

from policies.verdict import Kind
from proxy.errors import TransportError
from proxy.transport import tls
from proxy.transport.base import Origin
from proxy.transport.dial import connected
from proxy.transport.http1 import Http1Connection
from proxy.transport.reasons import not_connected
from proxy.transport.request import authority

_CLOSING_ROUNDS = 10_000


class Pool:
    """`taken` slots of `limit` are connections, open or being opened."""

    __slots__ = ("_tls", "_waiters", "authority", "idle", "loop", "origin", "owner", "taken")

    def __init__(self, owner: Http1Transport, origin: Origin) -> None:
        self.owner = owner
        self.origin = origin
        self.authority = authority(origin)
        self.loop = asyncio.get_running_loop()
        self.idle: list[Http1Connection] = []
        """Oldest first."""
        self.taken = 0
        self._tls: tls.ResumingContext | None = None
        self._waiters: deque[asyncio.Future[Http1Connection | None]] = deque()

    def __repr__(self) -> str:
        place = self.authority.decode()
        return f"<Pool {place} {self.taken} taken, {len(self.idle)} idle, {len(self._waiters)} waiting>"

    def pop(self) -> Http1Connection | None:
        """The kept connection that was used last, if it is not too old."""
        if self.idle and self.idle[0].last_ns <= (before_ns := perf_counter_ns() - self.owner.idle_ns):
            self.expire(before_ns)
        if not self.idle:
            return None
        connection = self.idle.pop()
        connection.lent = True
        return connection

    def expire(self, before_ns: int) -> None:
        """Close what has been idle since before that moment."""
        while self.idle and self.idle[0].last_ns <= before_ns:
            self.idle[0].drop()

    async def take(self) -> Http1Connection:
        """A kept connection, a new one, or the next that comes free."""
        kept = self.pop()
        if kept is not None:
            return kept
        if self.taken < self.owner.limit:
            self.taken += 1
            return await self.dial()
        turn = await self._turn()
        if turn is None:
            return await self.dial()
        if turn.closed and turn.yield_slot():
            return await self.dial()  # it died on the way to us, and its place is ours
        return turn

    async def _turn(self) -> Http1Connection | None:
        """Waits; None means that a slot was taken for the caller."""
        waiter: asyncio.Future[Http1Connection | None] = self.loop.create_future()
        self._waiters.append(waiter)
        try:
            return await waiter
        except BaseException:
            if waiter.cancelled():
                self._waiters.remove(waiter)
            elif waiter.exception() is None:
                self._pass_on(waiter.result())
            raise

    def _pass_on(self, turn: Http1Connection | None) -> None:
        if turn is None:
            self._vacate()
        elif turn.closed:
            turn.discard()
        else:
            turn.lent = False
            self.give(turn)

    async def dial(self) -> Http1Connection:
        """A new connection, in a slot that the caller has taken; it is given up when that fails."""
        try:
            connection = await self._open()
        except BaseException as error:
            self._vacate()
            if isinstance(error, (OSError, UnicodeError)):
                raise not_connected(self.authority.decode(), error) from None
            raise
        if connection.closed:
            self._vacate()  # send() will tell why
        else:
            connection.slot = True
            if self.owner.closed:
                connection.drop()
        return connection

    async def _open(self) -> Http1Connection:
        scheme, host, port = self.origin
        connection = Http1Connection(self)
        sock = await connected(host, port)
        try:
            await self.loop.create_connection(lambda: connection, sock=sock)
            if scheme == "https":
                await self._secure(connection)
        except BaseException:
            if connection in self.owner.sockets:
                connection.drop()
                connection.connection_lost(None)  # no loop tells it of every connect or handshake that was cancelled
            sock.close()
            raise
        return connection

    async def _secure(self, connection: Http1Connection) -> None:
        """TLS in a step of its own: a cancelled `create_connection(ssl=...)` leaves the plain transport open."""
        if self._tls is None:
            self._tls = tls.resuming(self.owner.trust())
        if connection.closed or connection.last_ns:
            # Plain bytes before the handshake must never pass for an answer that came through it.
            raise ConnectionResetError("TLS failed: the server closed or spoke before the handshake")
        try:
            secure = await self.loop.start_tls(
                connection.transport, connection, self._tls, server_hostname=self.origin.host
            )
        except ConnectionError:
            raise ConnectionResetError("TLS failed: connection lost in the handshake") from None
        if secure is None or connection.closed:  # not every loop raises when the peer leaves in the handshake
            raise ConnectionResetError("TLS failed: connection lost in the handshake")
        connection.secured(secure)

    def give(self, connection: Http1Connection) -> None:
        """A connection that may be used again: to the longest waiter, else kept."""
        if self.owner.closed:
            connection.drop()
            return
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                connection.lent = True
                waiter.set_result(connection)
                return
        self.idle.append(connection)
        if len(self.idle) > self.owner.idle_limit:
            self.idle[0].drop()
        if self.owner.timer is None:
            self.owner.watch(self.loop)

    def freed(self, connection: Http1Connection) -> None:
        """The connection is gone."""
        if not connection.lent:
            self.idle.remove(connection)
        self._vacate()

    def _vacate(self) -> None:
        """A slot is free: to the longest waiter."""
        self.taken -= 1
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                self.taken += 1
                waiter.set_result(None)
                return

    def refuse(self) -> None:
        """The transport is being closed: nobody waits any longer."""
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_exception(TransportError(Kind.CONNECT, "the transport was closed"))

    def keep_session(self, connection: Http1Connection) -> None:
        """An answer came over it: by now the server has given its ticket, if it gives any."""
        if self._tls is not None:
            self._tls.keep(connection.transport)

    def opened(self, connection: Http1Connection) -> None:
        self.owner.sockets.add(connection)

    def lost(self, connection: Http1Connection) -> None:
        self.owner.sockets.discard(connection)


class Http1Transport:
    """As `base.Transport`. Belongs to one event loop, the one that runs when it is first used."""

    def __init__(
        self, *, limit: int = 1000, idle_limit: int = 100, idle_seconds: float = 60.0, ca_file: str | None = None
    ) -> None:
        self.limit = limit
        """Connections per origin."""
        self.idle_limit = idle_limit
        self.idle_ns = round(idle_seconds * 1e9)
        self.sockets: set[Http1Connection] = set()
        """Everything that holds a file descriptor."""
        self.closed = False
        self._ca_file = ca_file
        self._trust: ssl.SSLContext | None = None
        self._pools: dict[Origin, Pool] = {}
        self.timer: asyncio.TimerHandle | None = None

    def idle(self, origin: Origin) -> Http1Connection | None:
        pool = self._pools.get(origin)
        return pool.pop() if pool is not None else None

    async def connect(self, origin: Origin) -> Http1Connection:
        if self.closed:
            raise TransportError(Kind.CONNECT, "the transport was closed")
        pool = self._pools.get(origin)
        if pool is None:
            try:
                pool = self._pools[origin] = Pool(self, origin)
            except UnicodeError as error:
                raise not_connected(repr(origin.host), error) from None
        return await pool.take()

    async def aclose(self) -> None:
        """Closes everything, also what is in use, and waits until the sockets are gone."""
        self.closed = True
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        for pool in self._pools.values():
            pool.refuse()
        for connection in list(self.sockets):
            connection.drop()
        for _ in range(_CLOSING_ROUNDS):  # they are gone after a round or two; a fault here must not hold up the end
            if not self.sockets:
                break
            await asyncio.sleep(0)

    def trust(self) -> ssl.SSLContext:
        """Made at the first use: reading the certificates takes tens of milliseconds."""
        if self._trust is None:
            self._trust = tls.trust(self._ca_file)
        return self._trust

    def watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Something is idle now: see to its age in a while."""
        self.timer = loop.call_later(self.idle_ns / 2e9, self._sweep, loop)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        self.timer = None
        before_ns = perf_counter_ns() - self.idle_ns
        for pool in self._pools.values():
            pool.expire(before_ns)
        if any(pool.idle for pool in self._pools.values()):
            self.watch(loop)
