"""One request and its answer on a connection: uvicorn's cycle with a shorter way out.

Where the application says that the body follows at once (`BODY_FOLLOWS` in the start message), the head waits for its
first piece, so that a whole answer, or the first event of a stream, leaves in one write. A head is checked once as a
whole, not header by header. `CUT` ends what cannot be ended cleanly. Everything else is uvicorn's.
"""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

BODY_FOLLOWS = "body_follows"
CUT = "cut"
"""A message of this type ends the connection at once, whatever its client has not taken yet."""

_BODILESS = (204, 304)


class Cycle(RequestResponseCycle):
    _head = b""
    """Made, and not yet written."""

    async def send(self, message: Any) -> None:
        """As ASGI has it. Raises RuntimeError for messages out of order, or a header that would break the head."""
        if message["type"] == CUT:
            self.disconnected = True
            self.transport.abort()
            return
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if not self.response_started:
            if message["type"] != "http.response.start":
                raise RuntimeError(f"expected http.response.start, got {message['type']}")
            self.response_started = True
            self.waiting_for_100_continue = False
            head = self._made_head(message["status"], message.get("headers", ()))
            if BODY_FOLLOWS in message:
                self._head = head
            else:
                self.transport.write(head)
        elif self.response_complete or message["type"] != "http.response.body":
            raise RuntimeError(f"unexpected {message['type']}")
        else:
            self._write(message.get("body", b""), message.get("more_body", False))

    def _made_head(self, status: int, headers: Any) -> bytes:
        lines = [STATUS_LINE[status]]
        given = (*self.default_headers, *headers)
        for name, value in given:
            if name == b"content-length":
                self.expected_content_length = int(value)
                self.chunked_encoding = False
            elif name == b"connection" and value == b"close":
                self.keep_alive = False
                continue
            lines.append(b"%b: %b\r\n" % (name, value))
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in _BODILESS:
            self.chunked_encoding = True
            lines.append(b"transfer-encoding: chunked\r\n")
        head = b"".join(lines)
        if head.count(b"\n") != len(lines) or head.count(b"\r") != len(lines) or b"\0" in head:
            raise RuntimeError("a header holds a line break or NUL")
        return head + b"\r\n"

    def _write(self, body: bytes, more: bool) -> None:
        if self.scope["method"] == "HEAD":
            self.expected_content_length = 0
            data = b""
        elif self.chunked_encoding:
            data = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            if not more:
                data += b"0\r\n\r\n"
        else:
            data = body
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0 or (not more and self.expected_content_length):
                raise RuntimeError("the body is not as long as content-length says")
        if self._head:
            data, self._head = self._head + data, b""
        if data:
            self.transport.write(data)
        if not more:
            self.response_complete = True
            self.message_event.set()
            if not self.keep_alive:
                self.transport.close()
            self.on_response()
