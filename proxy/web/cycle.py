"""One request and its answer over ASGI: uvicorn's cycle, with an end for what cannot be ended cleanly."""

from __future__ import annotations

from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

CUT = "cut"
"""A message of this type ends the connection at once, whatever its client has not taken yet."""


class Cycle(RequestResponseCycle):
    async def send(self, message: Any) -> None:
        if message["type"] == CUT:
            self.disconnected = True
            self.transport.abort()
        else:
            await super().send(message)
