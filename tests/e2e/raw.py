"""A bare HTTP/1.1 client: it sends what it is given and says exactly what came back, and whether that was whole.

It shares no code with the proxy, and hides nothing that a library would mend.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any, NamedTuple

LIMIT_S = 60.0
"""Ends a hung test; nothing is concluded from it."""


class Answer(NamedTuple):
    status: int
    """0 where the connection ended before the head of an answer was whole."""
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes
    whole: bool
    """The framing says that this is all of it."""
    interim: tuple[int, ...] = ()
    """1xx statuses before it."""

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """The error object, with the form that every one must have checked."""
        assert self.headers["content-type"] == "application/json", self
        found = self.json()["error"]
        assert found.keys() >= {"message", "type", "param", "code"}, found
        assert isinstance(found["message"], str), found
        assert found["message"], found
        return dict(found)

    @property
    def events(self) -> list[Any]:
        """The data of each server-sent event: parsed, or `[DONE]` as text."""
        assert self.headers["content-type"].startswith("text/event-stream"), self
        blocks = self.body.replace(b"\r\n", b"\n").split(b"\n\n")
        data = [line[5:].strip() for block in blocks for line in block.split(b"\n") if line.startswith(b"data:")]
        return ["[DONE]" if one == b"[DONE]" else json.loads(one) for one in data]


def request(
    body: Any = None,
    path: str = "/v1/chat/completions",
    method: str = "POST",
    headers: Iterable[tuple[str, str]] = (),
    version: str = "1.1",
) -> bytes:
    """A request as bytes; a `body` that is not bytes is sent as JSON, None sends none."""
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/{version}", "host: 127.0.0.1"]
    if body is not None:
        lines += ["content-type: application/json", f"content-length: {len(raw)}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + raw


def chat(model: str, stream: bool = False, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "How heavy is it?"}], "stream": stream, **more}


class Line:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    async def send(self, data: bytes) -> None:
        """Waits until most of it is on its way; a peer that hung up meanwhile is no error: its answer may be there."""
        self.writer.write(data)
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()

    async def answer(self, method: str = "POST") -> Answer:
        async with asyncio.timeout(LIMIT_S):
            interim: list[int] = []
            while True:
                head = await self._until(b"\r\n\r\n")
                if not head.endswith(b"\r\n\r\n"):
                    return Answer(0, {}, head, False, tuple(interim))
                first, *lines = head[:-4].decode("latin-1").split("\r\n")
                status = int(first.split(" ")[1])
                if status >= 200:
                    break
                interim.append(status)
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body, whole = await self._body(headers, method)
            return Answer(status, headers, body, whole, tuple(interim))

    async def _body(self, headers: Mapping[str, str], method: str) -> tuple[bytes, bool]:
        if method == "HEAD":
            return b"", True
        if headers.get("transfer-encoding") == "chunked":
            return await self._chunks()
        if "content-length" in headers:
            length = int(headers["content-length"])
            body = await self._exactly(length)
            return body, len(body) == length
        try:
            return await self.reader.read(-1), True
        except ConnectionError:
            return b"", False

    async def _chunks(self) -> tuple[bytes, bool]:
        parts = []
        while True:
            line = await self._until(b"\r\n")
            if not line.endswith(b"\r\n"):
                return b"".join(parts), False
            size = int(line, 16)
            data = await self._exactly(size + 2)
            parts.append(data[:size])
            if data[size:] != b"\r\n":
                return b"".join(parts), False
            if size == 0:
                return b"".join(parts), True

    async def _until(self, end: bytes) -> bytes:
        try:
            return await self.reader.readuntil(end)
        except asyncio.IncompleteReadError as error:
            return error.partial
        except ConnectionError:
            return b""

    async def _exactly(self, size: int) -> bytes:
        try:
            return await self.reader.readexactly(size)
        except asyncio.IncompleteReadError as error:
            return error.partial
        except ConnectionError:
            return b""

    async def ended(self) -> bool:
        """Waits for the end of the connection; False if anything comes before it."""
        async with asyncio.timeout(LIMIT_S):
            try:
                return not await self.reader.read(1)
            except ConnectionError:
                return True

    def reset(self) -> None:
        """Leave with a RST in place of a FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@contextlib.asynccontextmanager
async def line(port: int) -> AsyncIterator[Line]:
    """A connection to a port of this machine, closed at the end of the block."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    try:
        yield Line(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def post(
    port: int,
    body: Any,
    path: str = "/v1/chat/completions",
    headers: Iterable[tuple[str, str]] = (),
    method: str = "POST",
) -> Answer:
    """One request on a connection of its own."""
    async with line(port) as one:
        await one.send(request(body, path, method, headers))
        return await one.answer(method)


async def get(port: int, path: str, headers: Iterable[tuple[str, str]] = ()) -> Answer:
    return await post(port, None, path, headers, "GET")
