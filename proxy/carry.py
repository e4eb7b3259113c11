"""Request and answer of one exchange, beside its record, while somebody has a use for them.

Whoever mirrors or captures says so when the request comes in; for all other requests nothing is kept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from proxy.record import Exchange
from proxy.wire.controls import Controls
from proxy.wire.request import Headers, Request

log = logging.getLogger(__name__)

LARGEST = 2 * 1024 * 1024
"""Bytes of an answer that are kept; a longer one is not kept at all."""


class Carry:
    __slots__ = ("_parts", "_size", "_takers", "ask", "key")

    def __init__(self, ask: Request, key: str, takers: list[Taker]) -> None:
        self.ask = ask
        self.key = key
        """Name of the client's key; empty where there is none."""
        self._parts: list[bytes] = []
        self._size = 0
        self._takers = takers

    def add(self, data: bytes) -> None:
        """The next bytes that the client is sent."""
        self._size += len(data)
        if self._size <= LARGEST:
            self._parts.append(data)
        else:
            self._parts.clear()

    @property
    def answer(self) -> bytes | None:
        """What the client was sent; None if it was more than is kept."""
        return b"".join(self._parts) if self._size <= LARGEST else None

    def hand_over(self, exchange: Exchange) -> None:
        """The exchange is sealed. A taker that raises harms no request."""
        for take in self._takers:
            try:
                take(exchange, self)
            except Exception:
                log.exception("request %s was not mirrored or captured by a fault of the proxy", exchange.id)


Taker = Callable[[Exchange, Carry], None]


class Onlooker(Protocol):
    """Somebody who may want to see request and answer."""

    def wants(self, ask: Request, route: str | None, key: str, headers: Headers, controls: Controls) -> Taker | None:
        """Decides before the request is sent. What is given back is called once, when the exchange is over."""
        ...


def carry_for(
    onlookers: tuple[Onlooker, ...],
    ask: Request,
    route: str | None,
    key: str,
    headers: Headers,
    controls: Controls,
) -> Carry | None:
    takers = [taker for one in onlookers if (taker := one.wants(ask, route, key, headers, controls)) is not None]
    return Carry(ask, key, takers) if takers else None
