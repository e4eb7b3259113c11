"""The HTTP server: uvicorn, with the limits, the error form and the orderly end that a proxy needs."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

import orjson
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from proxy.wire.render import error_object

log = logging.getLogger(__name__)

HEAD_LIMIT = 64 * 1024
"""Bytes of a request line with its headers."""
HEAD_SECONDS = 10.0
"""How long a client may take to send them."""


class Connection(HttpToolsProtocol):
    """One client connection. Adds what uvicorn leaves open: a bound on the head, and errors in OpenAI's form."""

    _head_bytes = 0
    _in_head = True
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_LIMIT and not self._body_begins(data):
                self._refuse(431, f"The request's headers are larger than {HEAD_LIMIT} bytes.", "headers_too_large")
                return
        super().data_received(data)
        if self._in_head and self._head_bytes and self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._too_slow)

    def _body_begins(self, data: bytes) -> bool:
        """The head may end inside this very piece; then only what stands before its end counts."""
        end = data.find(b"\r\n\r\n")
        return end >= 0 and self._head_bytes - (len(data) - end) <= HEAD_LIMIT

    def on_message_complete(self) -> None:
        self._in_head = True
        super().on_message_complete()

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(
            400,
            "The request is not valid HTTP/1.1: check its chunked framing, Content-Length and header lines.",
            "invalid_http",
        )

    def _too_slow(self) -> None:
        self._refuse(408, f"The request's headers did not come within {HEAD_SECONDS:.0f} s.", "request_timeout")

    def _refuse(self, status: int, message: str, code: str) -> None:
        if self.transport is None or self.transport.is_closing():
            return
        cycle = self.cycle
        if cycle is not None and cycle.response_started and not cycle.response_complete:
            self.transport.close()  # in the middle of another answer: cutting it is the only honest end
            return
        body = orjson.dumps(error_object(message, type="invalid_request_error", code=code))
        reason = {400: b"Bad Request", 408: b"Request Timeout", 431: b"Request Header Fields Too Large"}[status]
        self.transport.write(
            b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
            % (status, reason, len(body), body)
        )
        self.transport.close()


class Server(uvicorn.Server):
    """Ends in order: the first signal calls `begin_drain`, which ends with `should_exit`; a second exits at once."""

    def __init__(self, config: uvicorn.Config, begin_drain: Callable[[], None]) -> None:
        super().__init__(config)
        self._begin_drain = begin_drain
        self._signals = 0

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._signals += 1
        if self._signals == 1:
            self._begin_drain()
        else:
            self.should_exit = True
            self.force_exit = self._signals > 2


def bind(host: str, port: int) -> socket.socket:
    """A socket that is listened on later. Raises `OSError` where the address is taken or not ours."""
    family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family, kind, proto)
    try:
        if os.name == "posix":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except BaseException:
        bound.close()
        raise
    return bound


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop where it is installed: it writes an answer's head and body in one system call."""
    try:
        import uvloop
    except ImportError:
        return None
    new: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return new


def server_config(app: Any, host: str, port: int) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=Connection,
        ws="none",
        lifespan="on",
        loop="auto",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=5,
        backlog=2048,
    )
