"""One connection of the simulated upstream: requests in by httptools, scripted bytes out, at the pace of the script.

The script is played by timers of the event loop; there is no task per connection or chunk. When the client leaves,
the timer goes with it, so nothing more is produced.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from typing import NamedTuple, Protocol, cast

import httptools
import orjson

from proxy.simulated.dialect import Request
from proxy.simulated.reply import End, Reply, Script, script
from proxy.simulated.stats import Stats

REQUEST_LIMIT = 256 * 1024 * 1024
"""Bytes of one request, head and body."""
_TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
_NO_HTTP = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Planned(NamedTuple):
    reply: Reply
    ends_as: str | None
    """How the request counts when the script has been played; None for one that does not count."""


class Owner(Protocol):
    stats: Stats
    stopping: bool

    def accept(self, connection: Connection) -> bool:
        """Whether a new connection is taken; it is reset if not."""
        ...

    def lost(self, connection: Connection) -> None: ...

    def respond(self, request: Request) -> Planned: ...


class Connection(asyncio.Protocol):
    __slots__ = (
        "_at", "_body", "_close", "_headers", "_loop", "_owner", "_parser", "_paused", "_planned", "_queue", "_script",
        "_size", "_timer", "_transport", "_url", "_waited",
    )  # fmt: skip

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[tuple[Request, bool]] = deque()
        self._size = 0
        self._script: Script | None = None
        self._planned: Planned | None = None
        self._timer: asyncio.Handle | None = None
        self._at = 0
        self._waited = False
        self._paused = False
        self._close = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._owner.accept(self):
            self.reset()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._queue.clear()
        if self._script is not None:
            self._finish("stopped" if self._owner.stopping else "cancelled")
        self._owner.lost(self)

    @property
    def idle(self) -> bool:
        return self._script is None

    def reset(self) -> None:
        """RST: what has not been sent yet is lost."""
        sock = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def abort(self) -> None:
        self._transport.abort()

    # Requests, as httptools reports them.

    def data_received(self, data: bytes) -> None:
        self._owner.stats.bytes_in += len(data)
        self._size += len(data)
        if self._size > REQUEST_LIMIT:
            self._turn_away(_TOO_LARGE)
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError:
            # A mistake of the simulator itself, not of the client: the loop reports it and closes the connection.
            raise
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self._turn_away(_NO_HTTP)

    def _turn_away(self, answer: bytes) -> None:
        if not self._transport.is_closing():
            if self._script is None:
                self._write(answer)
            self._transport.close()

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        if any(name.lower() == b"expect" and value.lower() == b"100-continue" for name, value in self._headers):
            self._write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._size = 0
        body = b"".join(self._body)
        try:
            parsed = orjson.loads(body) if body else None
        except orjson.JSONDecodeError:
            parsed = None
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in self._headers}
        path = self._url.split(b"?", 1)[0].decode("latin-1")
        request = Request(self._parser.get_method().decode(), path, headers, body, parsed)
        self._queue.append((request, not self._parser.should_keep_alive()))
        if self._script is None:
            self._next()

    # Answers.

    def _next(self) -> None:
        while self._queue and self._script is None and not self._transport.is_closing():
            request, close = self._queue.popleft()
            self._planned = self._owner.respond(request)
            self._script = script(self._planned.reply, close=close)
            self._at = 0
            self._waited = False
            self._play()

    def _play(self) -> None:
        """Write what is due; come back by a timer, or by `resume_writing`, for the rest."""
        self._timer = None
        playing = self._script
        if playing is None:
            return
        while self._at < len(playing.steps):
            step = playing.steps[self._at]
            if step.pause is not None and not self._waited:
                self._waited = True
                again = self._resume
                self._timer = self._loop.call_later(step.pause, again) if step.pause else self._loop.call_soon(again)
                return
            if self._paused:
                return
            self._waited = False
            self._at += 1
            self._write(step.data)
            if self._transport.is_closing():
                return
        self._end(playing)

    def _resume(self) -> None:
        self._play()
        if self._script is None:
            self._next()

    def _end(self, played: Script) -> None:
        if played.end is End.HANG:
            return
        self._finish(self._planned and self._planned.ends_as)
        if played.end is End.RESET:
            self.reset()
        elif played.end is End.FIN or played.close:
            self._transport.close()

    def _finish(self, how: str | None) -> None:
        counted = self._planned is not None and self._planned.ends_as is not None
        self._script = self._planned = None
        if counted and how is not None:
            self._owner.stats.ended(how)

    def _write(self, data: bytes) -> None:
        if data:
            self._owner.stats.bytes_out += len(data)
            self._transport.write(data)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._script is not None and self._timer is None and self._at < len(self._script.steps):
            self._resume()
