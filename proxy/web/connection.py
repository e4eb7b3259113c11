"""One client connection: uvicorn's, with what it leaves open.

Heads and bodies must come within bounds of size and time, errors have OpenAI's form, the wish for another protocol is
passed over, and HTTP/1.0 gets no chunks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any
from urllib.parse import unquote

import httptools
import orjson
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from proxy.downstream import Downstream
from proxy.web.cycle import Cycle
from proxy.web.direct import Direct
from proxy.wire.render import error_object

HEAD_LIMIT = 64 * 1024
"""Bytes of a request line with its headers."""
HEAD_SECONDS = 10.0
"""How long a client may take to send them, or to send anything on a new connection."""
BODY_SECONDS = 30.0
"""How long a client may pause within a body."""
SEND_SECONDS = 30.0
"""How long a client may take nothing of an answer that is over."""

_BETWEEN, _HEAD, _BODY = range(3)
_REASONS = {400: b"Bad Request", 408: b"Request Timeout", 431: b"Request Header Fields Too Large"}
_UPGRADING = (b"upgrade", b"http2-settings")


Endpoint = Callable[[Downstream], Coroutine[Any, Any, None]]
"""Serves a request without ASGI between."""


def _parsed(url: bytes) -> dict[str, Any]:
    parts = httptools.parse_url(url)
    path = parts.path or b""
    return {
        "path": unquote(path.decode("ascii", "replace")),
        "raw_path": path,
        "query_string": parts.query or b"",
    }


class Connection(HttpToolsProtocol):
    _at = _BETWEEN
    """Where in a request the next byte belongs."""
    _head_bytes = 0
    _last = 0.0
    """When the last piece of the body came, in seconds of the event loop."""
    _idle_since = 0.0
    """When the last answer was over, in seconds of the event loop; 0 while a request is under way."""
    _timer: asyncio.TimerHandle | None = None
    _unsent = 0
    """Bytes that waited to be sent when that was last looked at."""
    _sending: asyncio.TimerHandle | None = None
    _serving: Cycle | Direct | None = None
    """The request that is being answered; `cycle` is the last one that came."""

    def __init__(self, *args: Any, direct: Mapping[bytes, Endpoint] | None = None, **kwargs: Any) -> None:
        """`direct`: endpoints for POST, by the whole of the request's path. All else goes to the ASGI application."""
        super().__init__(*args, **kwargs)
        self._direct = direct or {}

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._timer = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if self._sending is not None:
            self._sending.cancel()
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
            self.timeout_keep_alive_task = None
        serving = self._serving
        if serving is not None and serving is not self.cycle and not serving.response_complete:
            serving.disconnected = True
            serving.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._at != _BODY:
            self._head_bytes += len(data)
        self._idle_since = 0.0
        try:
            self._feed(data)
        except httptools.HttpParserError:
            self._refuse(
                400,
                "The request is not valid HTTP/1.1: check its first line, header lines, Content-Length and chunks.",
                "invalid_http",
            )
            return
        if self._head_bytes > HEAD_LIMIT and self._at != _BODY:
            self._refuse_head()
            return
        if self._at == _BODY:
            self._last = self.loop.time()
            if self._timer is None:
                self._timer = self.loop.call_later(BODY_SECONDS, self._body_is_late)
        elif self._at == _HEAD and self._timer is None:
            self._timer = self.loop.call_later(HEAD_SECONDS, self._head_is_late)

    def _feed(self, data: bytes) -> None:
        """Raises `httptools.HttpParserError`.

        The parser stops behind the head of a request that wishes for another protocol (Java's own client does so with
        its first one, `Upgrade: h2c`). A server may pass over the wish (RFC 9110, section 7.8); so the request is read
        again without it.
        """
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as wish:
                data = self._without_upgrade() + data[wish.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn sets it
            else:
                return

    def _without_upgrade(self) -> bytes:
        if self.parser.get_method() == b"CONNECT":
            raise httptools.HttpParserInvalidMethodError("CONNECT")
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        for name, value in self.headers:
            if name == b"connection":
                value = b",".join([one for one in value.split(b",") if one.strip().lower() not in _UPGRADING])
            if name not in _UPGRADING:
                lines.append(b"%s: %s" % (name, value))
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def _refuse_head(self) -> None:
        self._refuse(431, f"The request's headers are larger than {HEAD_LIMIT} bytes.", "headers_too_large")

    # The parser's side.

    def on_message_begin(self) -> None:
        self._at = _HEAD
        self.url = b""
        self.headers = []
        self.expect_100_continue = False

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            return
        if self._head_bytes > HEAD_LIMIT and self._head_size() > HEAD_LIMIT:
            self._refuse_head()
            raise ValueError("the head is too large")  # so that the parser stops here
        self._at = _BODY
        self._head_bytes = 0
        self._stop_timer()
        self._begin_cycle()

    def _head_size(self) -> int:
        """Bytes of the head alone: the piece in which it ended may hold a body too."""
        return len(self.url) + sum([len(name) + len(value) + 4 for name, value in self.headers])

    def on_body(self, body: bytes) -> None:
        cycle = self.cycle
        if cycle.response_complete:
            return
        cycle.body += body
        if len(cycle.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        if self._at != _BODY:
            return  # the request will be read again, without its wish for another protocol
        self._at = _BETWEEN
        self._stop_timer()
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()

    def _begin_cycle(self) -> None:
        parser, before = self.parser, self.cycle
        version = parser.get_http_version()
        keep_alive = version != "1.0" and parser.should_keep_alive()
        cycle: Cycle | Direct
        if version == "1.1" and self.url in self._direct and parser.get_method() == b"POST":
            cycle = Direct(self, self._direct[self.url], keep_alive)
        else:
            cycle = self._asgi_cycle(version, keep_alive)
        self.cycle = cycle  # type: ignore[assignment]
        if before is None or before.response_complete:
            self._serve(cycle)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))  # type: ignore[arg-type]

    def _asgi_cycle(self, version: str, keep_alive: bool) -> Cycle:
        """As uvicorn's `on_headers_complete` makes it."""
        scope: Any = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": version,
            "method": self.parser.get_method().decode("ascii"),
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme,
            "root_path": self.root_path,
            "headers": self.headers,
            "state": self.app_state.copy(),
            **_parsed(self.url),
        }
        return Cycle(
            scope=scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=keep_alive,
            on_response=self.on_response_complete,
        )

    def _serve(self, cycle: Cycle | Direct) -> None:
        self._serving = cycle
        served: Coroutine[Any, Any, None]
        if isinstance(cycle, Direct):
            served = cycle.endpoint(cycle)
        else:
            chunks = cycle.scope["http_version"] == "1.1"
            served = cycle.run_asgi(self.app if chunks else _without_chunks(cycle, self.app))
        task = self.loop.create_task(served)
        task.add_done_callback(self._served)
        self.tasks.add(task)

    def _served(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if task.cancelled():
            self.transport.abort()
        elif (fault := task.exception()) is not None:
            self.logger.error("a request could not be served", exc_info=fault)
            self.transport.abort()

    def on_response_complete(self) -> None:
        """As uvicorn's, but the timer of an idle connection stays armed from one request to the next."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            self._watch_sending()
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._serve(self.pipeline.pop()[0])  # type: ignore[arg-type]
            return
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._arm_keep_alive(self.timeout_keep_alive)

    # Bounds of time.

    def _arm_keep_alive(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def timeout_keep_alive_handler(self) -> None:
        self.timeout_keep_alive_task = None
        if not self._idle_since:
            return  # a request is under way; its end arms the timer again
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._arm_keep_alive(left)
        elif self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _head_is_late(self) -> None:
        if self._at == _BETWEEN:
            self.transport.close()  # it never asked for anything
        elif self.cycle is not None and not self.cycle.response_complete:
            self._timer = self.loop.call_later(HEAD_SECONDS, self._head_is_late)  # the answer before it comes first
        else:
            self._refuse(408, f"The request's headers did not come within {HEAD_SECONDS:.0f} s.", "request_timeout")

    def _body_is_late(self) -> None:
        left = self._last + BODY_SECONDS - self.loop.time()
        if left > 0 or self.flow.read_paused:
            self._timer = self.loop.call_later(max(left, 1.0), self._body_is_late)
        else:
            cycle: Any = self.cycle
            if isinstance(cycle, Direct):
                cycle.late = True
            else:
                cycle.scope["state"]["late"] = True
            self._refuse(408, f"The request body stopped coming for {BODY_SECONDS:.0f} s.", "request_timeout")

    # A transport that is told to close waits until the client has taken everything, so a client that takes nothing
    # would hold the connection for ever. While an answer is under way, its exchange bounds the time.

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_sending()

    def _watch_sending(self) -> None:
        if self._sending is None:
            self._unsent = self.transport.get_write_buffer_size()
            self._sending = self.loop.call_later(SEND_SECONDS, self._look_at_sending)

    def _look_at_sending(self) -> None:
        self._sending = None
        unsent = self.transport.get_write_buffer_size()
        over = self.transport.is_closing() or self.cycle.response_complete
        if over and unsent >= self._unsent > 0:
            self.transport.abort()
        elif unsent:
            self._watch_sending()

    def _refuse(self, status: int, message: str, code: str) -> None:
        """The last words on this connection; none where an answer has begun: cutting that is the only honest end."""
        if self.transport.is_closing():
            return
        cycle = self.cycle
        begun = cycle is not None and cycle.response_started and (self._at == _BODY or not cycle.response_complete)
        if not begun and not self.pipeline:
            body = orjson.dumps(error_object(message, type="invalid_request_error", code=code))
            self.transport.write(
                b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
                % (status, _REASONS[status], len(body), body)
            )
        self.transport.close()


def _without_chunks(cycle: RequestResponseCycle, app: Any) -> Any:
    """HTTP/1.0 knows no chunks (RFC 9112, section 6.1): a body without a length ends with the connection."""

    async def unframed(scope: Any, receive: Any, send: Any) -> None:
        open_ended = False

        async def written(message: Any) -> None:
            nonlocal open_ended
            if message["type"] == "http.response.start":
                open_ended = not any(name == b"content-length" for name, _ in message["headers"])
                if open_ended:
                    cycle.chunked_encoding = False
            elif open_ended:
                cycle.expected_content_length += len(message.get("body", b""))
            await send(message)

        await app(scope, receive, written)

    return unframed
