"""The same interface on httpx: for outbound proxies, HTTP/2, and whatever else our own client does not do.

Twenty to thirty times the processor time of `http1`, and less exact:

- Connecting is a part of `send`, so a deadline on `connect` does not see it, and `idle` never has a connection.
- A kept connection that dies unanswered is reported, not replayed: h11 does not tell whether half a head had come.
- An answer that begins before the request has left, on a connection that then breaks, may be lost.
- Bytes after the end of an answer go unnoticed and are taken for the beginning of the next.
- A TLS handshake that is cancelled may hold its socket until the server has answered it (asyncio's doing).
- Times come from httpcore's trace: `sent_ns` when the last write returned, `first_byte_ns` when the head was read.
"""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from time import perf_counter_ns
from typing import Any

import httpx

from policies.verdict import Kind
from proxy.errors import TransportError
from proxy.transport import tls
from proxy.transport.base import Headers, Origin, UpstreamRequest
from proxy.transport.coding import CodingError, Decoder, decoder_for
from proxy.transport.limits import HEAD_LIMIT, LINE_LIMIT, LINGER_LIMIT, LINGER_SECONDS
from proxy.transport.reasons import not_connected
from proxy.transport.request import check_target, checked

_SILENT = "Server disconnected without sending a response."


class _Marks:
    """Listens to httpcore's trace of one request."""

    __slots__ = ("first_byte_ns", "sent_ns")

    def __init__(self) -> None:
        self.sent_ns = 0
        self.first_byte_ns = 0

    async def __call__(self, event: str, _: dict[str, Any]) -> None:
        if event.endswith("send_request_body.complete"):
            self.sent_ns = perf_counter_ns()
        elif event.endswith("receive_response_headers.complete"):
            self.first_byte_ns = perf_counter_ns()


class HttpxConnection:
    """One request to come; httpx finds or opens the connection when it is sent."""

    __slots__ = ("_origin", "_transport")

    def __init__(self, transport: HttpxTransport, origin: Origin) -> None:
        self._transport = transport
        self._origin = origin

    async def send(self, request: UpstreamRequest) -> HttpxReply:
        """As `base.Connection.send`, and CONNECT also for what `connect` reports elsewhere."""
        head = request.head
        check_target(head)
        headers = list(checked((*head.headers, *request.extra)))
        marks = _Marks()
        try:
            scheme, host, port = self._origin
            sendable = httpx.Request(
                head.method,
                httpx.URL(scheme=scheme, host=host, port=port, raw_path=head.path.encode()),
                headers=headers,
                content=request.body,
                extensions={"trace": marks, "timeout": httpx.Timeout(None).as_dict()},
            )
            response = await self._transport.client().send(sendable, stream=True, auth=None)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ImportError) as error:
            raise self._mapped(error, marks) from None
        try:
            return HttpxReply(self._transport, response, marks)
        except CodingError as error:
            await response.aclose()
            raise TransportError(Kind.MALFORMED, str(error), sent=True, answered=True) from None

    def discard(self) -> None:
        """Nothing is held yet."""

    def _mapped(self, error: Exception, marks: _Marks) -> TransportError:
        if isinstance(error, httpx.RemoteProtocolError) and str(error) != _SILENT:
            return TransportError(Kind.MALFORMED, f"not HTTP: {error}", sent=True, answered=True)
        if isinstance(error, (httpx.NetworkError, httpx.RemoteProtocolError)) and not isinstance(
            error, httpx.ConnectError
        ):
            return TransportError(Kind.CONNECT, f"connection lost before any answer: {error}", sent=marks.sent_ns > 0)
        return not_connected(f"{self._origin.host}:{self._origin.port}", error)


class HttpxReply:
    """As `base.Reply`; `complete` is known only once a read has seen the end."""

    __slots__ = (
        "_chunks",
        "_decoder",
        "_ended",
        "_read_ns",
        "_response",
        "_transport",
        "first_byte_ns",
        "headers",
        "replayed",
        "sent_ns",
        "status",
    )

    def __init__(self, transport: HttpxTransport, response: httpx.Response, marks: _Marks) -> None:
        self._transport = transport
        self._response: httpx.Response | None = response
        self.status = response.status_code
        self.headers: Headers = [(name.lower(), value) for name, value in response.headers.raw]
        sizes = [len(name) + len(value) + 4 for name, value in self.headers]
        if sum(sizes) > HEAD_LIMIT or max(sizes, default=0) > LINE_LIMIT:
            raise CodingError("the head of the answer is too large")
        if self.status < 200:
            raise CodingError(f"status {self.status} was not asked for")
        self._decoder: Decoder | None = decoder_for(self.headers)
        self.first_byte_ns = self._read_ns = marks.first_byte_ns
        self.sent_ns = marks.sent_ns or marks.first_byte_ns
        self.replayed = False
        self._ended = False
        self._chunks = response.aiter_raw()

    @property
    def complete(self) -> bool:
        return self._ended and (self._decoder is None or self._decoder.finished)

    async def read(self) -> tuple[bytes, int]:
        """As `base.Reply.read`."""
        if self._response is None:
            raise RuntimeError("the reply was given back")
        try:
            while True:
                if self._decoder is not None and self._decoder.pending:
                    data = self._decoder.feed(b"")
                elif self._ended:
                    return b"", self._read_ns
                else:
                    data = await self._more()
                if data:
                    return data, self._read_ns
        except CodingError as error:
            self.abort()
            raise TransportError(Kind.TRUNCATED, str(error), sent=True, answered=True) from None

    async def _more(self) -> bytes:
        try:
            data = await anext(self._chunks, b"")
        except httpx.HTTPError as error:
            detail = f"connection lost within the body: {error or type(error).__name__}"
            raise TransportError(Kind.TRUNCATED, detail, sent=True, answered=True) from None
        self._read_ns = perf_counter_ns()
        if not data:
            self._ended = True
            if self._decoder is not None:
                self._decoder.end()
            return b""
        return data if self._decoder is None else self._decoder.feed(data)

    def release(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            self._transport.later(self._linger(response))

    def abort(self) -> None:
        response, self._response = self._response, None
        if response is not None:
            self._transport.later(response.aclose())

    async def _linger(self, response: httpx.Response) -> None:
        left = LINGER_LIMIT
        try:
            async with asyncio.timeout(LINGER_SECONDS):
                while not self._ended and left >= 0:
                    data = await anext(self._chunks, b"")
                    left -= len(data)
                    self._ended = not data
        except (TimeoutError, httpx.HTTPError):
            pass  # the caller had all it wanted; the connection is closed below instead of kept
        finally:
            await response.aclose()


class HttpxTransport:
    """As `base.Transport`. Heeds the proxy variables, certificates as in `tls.trust`, HTTP/2 where h2 is installed."""

    def __init__(
        self, *, limit: int = 1000, idle_limit: int = 100, idle_seconds: float = 60.0, ca_file: str | None = None
    ) -> None:
        self._limits = httpx.Limits(
            max_connections=limit, max_keepalive_connections=idle_limit, keepalive_expiry=idle_seconds
        )
        self._ca_file = ca_file
        self._client: httpx.AsyncClient | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def idle(self, origin: Origin) -> HttpxConnection | None:
        """None: httpx keeps its connections to itself."""
        return None

    async def connect(self, origin: Origin) -> HttpxConnection:
        if self._closed:
            raise TransportError(Kind.CONNECT, "the transport was closed")
        return HttpxConnection(self, origin)

    async def aclose(self) -> None:
        self._closed = True
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def client(self) -> httpx.AsyncClient:
        """Made at the first use, since that reads certificates. ImportError where a SOCKS proxy needs `socksio`."""
        if self._closed:
            raise TransportError(Kind.CONNECT, "the transport was closed")
        if self._client is None:
            self._client = httpx.AsyncClient(
                verify=tls.trust(self._ca_file),
                http2=find_spec("h2") is not None,
                timeout=None,  # noqa: S113  (deadlines are the caller's)
                limits=self._limits,
                follow_redirects=False,
                trust_env=True,
            )
        return self._client

    def later(self, closing: Any) -> None:
        """Closing is asynchronous in httpx, giving back is not."""
        task: asyncio.Task[None] = asyncio.get_running_loop().create_task(closing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
