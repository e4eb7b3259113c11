"""A client that sees every byte: what came, in which pieces, and how the connection ended.

The parsing here is the tests' own and shares nothing with the simulator.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, NamedTuple, cast

from proxy.simulated import Simulated


class Broken(Exception):
    """The framing of an HTTP message is violated, or the message is incomplete."""


class Client(asyncio.Protocol):
    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.ended = ""
        """`fin` or `reset`; empty while the connection is open."""
        self._changed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.pieces.append(data)
        self._changed.set()

    def eof_received(self) -> None:
        self.ended = "fin"
        self._changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = self.ended or ("reset" if exc else "closed")
        self._changed.set()

    @property
    def raw(self) -> bytes:
        return b"".join(self.pieces)

    async def until(self, reached: Callable[[Client], bool]) -> None:
        while not reached(self):
            self._changed.clear()
            await self._changed.wait()

    async def until_ended(self) -> None:
        await self.until(lambda client: client.ended != "")


class Message(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes
    """Freed of the transfer coding; as much as came."""
    complete: bool
    rest: bytes
    """What stands behind the message."""
    chunks: list[bytes]


@contextlib.asynccontextmanager
async def connected(simulated: Simulated) -> AsyncIterator[Client]:
    _, client = await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", simulated.port)
    try:
        yield client
    finally:
        client.transport.abort()


def request(body: object, *, path: str = "/v1/chat/completions", method: str = "POST", **headers: str) -> bytes:
    """A request as bytes; a body that is not bytes is sent as JSON. `_` in the name of a header stands for `-`."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "host: simulated", f"content-length: {len(raw)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + raw


def ask(*, stream: bool = False, **more: Any) -> dict[str, Any]:
    body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "What does the scale say?"}]}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return body | more


async def exchange(simulated: Simulated, body: object, **options: Any) -> Client:
    """One request on a connection of its own, which the client asks to close; returns when it has ended."""
    async with connected(simulated) as client:
        client.transport.write(request(body, connection="close", **options))
        await client.until_ended()
        return client


async def answer(simulated: Simulated, body: object, **options: Any) -> Message:
    return parse((await exchange(simulated, body, **options)).raw)


async def until(reached: Callable[[], bool]) -> None:
    """Waits, without a limit of its own: the limit of the test run ends one that hangs."""
    while not reached():  # noqa: ASYNC110 - what is waited for are plain counts
        await asyncio.sleep(0.001)


def parse(raw: bytes) -> Message:
    """The first message in `raw`. Raises Broken for what is no HTTP."""
    head, separator, rest = raw.partition(b"\r\n\r\n")
    if not separator or not head.startswith(b"HTTP/1.1 "):
        raise Broken(f"no HTTP head: {raw[:60]!r}")
    first, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    status = int(first.split(" ")[1])
    if status < 200:
        return Message(status, headers, b"", True, rest, [])
    if headers.get("transfer-encoding") == "chunked":
        chunks, complete, rest = dechunked(rest)
        return Message(status, headers, b"".join(chunks), complete, rest, chunks)
    length = int(headers["content-length"])
    return Message(status, headers, rest[:length], len(rest) >= length, rest[length:], [])


def dechunked(raw: bytes) -> tuple[list[bytes], bool, bytes]:
    """Chunks, whether the last chunk came, and what stands behind. Raises Broken for a size that is no number."""
    chunks = []
    while raw:
        line, separator, rest = raw.partition(b"\r\n")
        if not separator:
            break
        try:
            size = int(line, 16)
        except ValueError:
            raise Broken(f"no chunk size: {line!r}") from None
        if size == 0:
            return chunks, True, rest.removeprefix(b"\r\n")
        chunks.append(rest[:size])
        if len(rest) < size + 2:
            break
        raw = rest[size + 2 :]
    return chunks, False, b""


def payloads(body: bytes) -> list[bytes]:
    """The data of each event of a stream whose lines end in LF; comments and broken ends are left out."""
    return [event[6:] for event in body.split(b"\n\n") if event.startswith(b"data: ")]


def chunks(body: bytes) -> list[dict[str, Any]]:
    return [json.loads(data) for data in payloads(body) if data != b"[DONE]"]


def text(body: bytes, place: int = 0) -> str:
    """The content of one choice, of a stream or of a whole answer."""
    if body.startswith(b"{"):
        return str(json.loads(body)["choices"][place]["message"]["content"])
    found = [choice for chunk in chunks(body) for choice in chunk.get("choices", ()) if choice["index"] == place]
    return "".join(choice["delta"].get("content") or "" for choice in found)


def finishes(body: bytes) -> list[str]:
    found = [choice["finish_reason"] for chunk in chunks(body) for choice in chunk.get("choices", ())]
    return [reason for reason in found if reason is not None]


def run(scenario: Callable[[Simulated], Awaitable[None]], **options: Any) -> Simulated:
    """The scenario with a simulator of its own, which is stopped afterwards and returned for its counts."""

    async def main() -> Simulated:
        async with Simulated(**{"seed": 7, "tokens": 12, **options}) as simulated:
            await scenario(simulated)
        return simulated

    return asyncio.run(main())
