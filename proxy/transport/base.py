"""What the engine asks of an HTTP client, and nothing more. Two clients stand behind it: `http1` and `httpx_`.

A connection is lent for one request. `Transport.idle` hands out a kept one at once; `Transport.connect` waits for a
new one. `Connection.send` writes the request and waits for the head of the answer; `Reply.read` yields what has come
since the last look. Deadlines are the caller's: any of these awaits may be cancelled at any moment, and a cancelled
or failed one leaves no connection, task or file descriptor behind.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

Headers = Sequence[tuple[bytes, bytes]]


class Origin(NamedTuple):
    """Where connections lead to; the key of a pool."""

    scheme: str
    host: str
    port: int


class Head:
    """The part of a request that stays the same from call to call, so that it is serialised once.

    `headers` holds neither Host nor Content-Length nor Transfer-Encoding: the transport writes those.
    """

    __slots__ = ("headers", "line", "method", "path", "wire")

    def __init__(self, method: str, path: str, headers: Headers) -> None:
        self.method = method
        self.path = path
        self.headers = tuple(headers)
        self.line: bytes | None = None
        """Serialised start, up to the value of Host; kept here by the transport that first needed it."""
        self.wire: bytes | None = None
        """Serialised headers that follow the value of Host."""


class UpstreamRequest(NamedTuple):
    head: Head
    body: bytes
    extra: Headers = ()
    """Headers of this one call (say `traceparent`)."""
    replay: bool = True
    """It may be sent again if a kept connection dies unanswered."""


class Reply(Protocol):
    """The answer, from its head on. Times are `time.perf_counter_ns` readings (monotonic, nanoseconds)."""

    status: int
    headers: Headers
    """Names in lower case, in the order of arrival."""
    sent_ns: int
    """The request had been handed to the socket, whole."""
    first_byte_ns: int
    """The first byte of the answer was read."""
    replayed: bool
    """A kept connection turned out dead without a byte of an answer, and the request went out again on a new one."""

    @property
    def complete(self) -> bool:
        """The whole body has come; after the last `read` there is nothing more to wait for."""
        ...

    async def read(self) -> tuple[bytes, int]:
        """All body bytes since the last call, decoded of transfer and content coding, and when they were read.

        Waits until there is at least one byte; `b""` means that the body ended as it should. Raises
        `TransportError` (kind TRUNCATED) if the connection broke or the framing was violated.
        """
        ...

    def release(self) -> None:
        """Give the connection back; it is kept if the body has ended (or does so in a moment), else closed.

        The first of `release` and `abort` counts; later calls, and reads, must not follow (calls do nothing).
        """
        ...

    def abort(self) -> None:
        """Close the connection at once, so that the upstream sees that nobody waits for the rest."""
        ...


class Connection(Protocol):
    async def send(self, request: UpstreamRequest) -> Reply:
        """Raises `TransportError`: CONNECT if it broke before the first byte of an answer, MALFORMED if the bytes
        that came are no HTTP answer or exceed the limits on lines and headers."""
        ...

    def discard(self) -> None:
        """Close a connection that will not be used after all."""
        ...


class Transport(Protocol):
    def idle(self, origin: Origin) -> Connection | None:
        """A kept connection, if there is one; never waits."""
        ...

    async def connect(self, origin: Origin) -> Connection:
        """A connection, kept or new; waits its turn (first come, first served) where the pool is full.

        Raises `TransportError` (kind CONNECT) when DNS, TCP or TLS fails.
        """
        ...

    async def aclose(self) -> None: ...
