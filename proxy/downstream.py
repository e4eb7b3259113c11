"""The client's side of one request, as the measured endpoints see it.

Our own server hands it over directly (`web/direct.py`), since ASGI's messages and layers cost a third of what the whole
exchange does. `Asgi` is the same over any other server, or where ours has to go that way (HTTP/1.0).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from proxy.attempt import Gone
from proxy.errors import Refusal

Headers = list[tuple[bytes, bytes]]
Scope = dict[str, Any]
Receive = Callable[[], Any]
Send = Callable[[dict[str, Any]], Any]


class Downstream(Protocol):
    headers: Headers
    """Of the request; names in lower case."""

    @property
    def full(self) -> bool:
        """`write` may have to wait for the client."""
        ...

    async def receive(self) -> tuple[bytes, bool]:
        """The next piece of the request's body, and whether more will follow.

        Raises `Gone` if the client left, `Refusal` (408) if it stopped sending. The server bounds the time.
        """
        ...

    def watch(self, gone: Callable[[], None]) -> None:
        """From now on `gone` is called if the client leaves before it has its whole answer."""
        ...

    def begin(self, status: int, headers: Headers, length: int | None, close: bool = False) -> None:
        """The head of the answer; it leaves with the first piece of the body.

        `length`: bytes of the body, if known. `close`: no further request on this connection.
        """
        ...

    async def write(self, data: bytes, last: bool) -> None:
        """A piece of the answer's body; waits while the client takes nothing. Nothing happens if it has left."""
        ...

    async def cut(self) -> None:
        """Ends the connection at once: the answer cannot be ended cleanly."""
        ...

    def close(self) -> None:
        """The endpoint is done with it."""
        ...


class Asgi:
    """A `Downstream` over ASGI. Waiting for the client's leaving costs a task here."""

    __slots__ = ("_head", "_receive", "_scope", "_send", "_watching", "headers")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers: Headers = scope["headers"]
        self._scope = scope
        self._receive = receive
        self._send = send
        self._head: dict[str, Any] | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def full(self) -> bool:
        return True  # ASGI does not tell

    async def receive(self) -> tuple[bytes, bool]:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            raise left(self._scope.get("state", {}).get("late", False))
        return message.get("body", b""), message.get("more_body", False)

    def watch(self, gone: Callable[[], None]) -> None:
        self._watching = asyncio.get_running_loop().create_task(self._watch(gone))

    async def _watch(self, gone: Callable[[], None]) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        gone()

    def begin(self, status: int, headers: Headers, length: int | None, close: bool = False) -> None:
        if length is not None:
            headers = [*headers, (b"content-length", b"%d" % length)]
        if close:
            headers = [*headers, (b"connection", b"close")]
        self._head = {"type": "http.response.start", "status": status, "headers": headers}

    async def write(self, data: bytes, last: bool) -> None:
        head, self._head = self._head, None
        if head is not None:
            await self._send(head)
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})

    async def cut(self) -> None:
        await self._send({"type": "cut"})  # only our own server knows it: see `proxy.web.cycle`

    def close(self) -> None:
        watching, self._watching = self._watching, None  # a cancelled task leads back to here: leave no cycle
        if watching is not None:
            watching.cancel()


def left(late: bool) -> Refusal | Gone:
    """Why a request's body is not whole."""
    if late:
        return Refusal(408, "The request body stopped coming.", code="request_timeout")
    return Gone("the client left before its request was whole")
