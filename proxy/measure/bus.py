"""Hands each sealed exchange to every sink, in the order in which they are listed."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Protocol, runtime_checkable

from proxy.record import Exchange, Sink

log = logging.getLogger(__name__)

_QUIET_SECONDS = 60.0


@runtime_checkable
class Lossy(Protocol):
    """A sink that may lose records says how many, by reason; reasons are a closed set, listed from the start."""

    def losses(self) -> Mapping[str, int]: ...


class _Raised:
    __slots__ = ("count", "quiet_until")

    def __init__(self) -> None:
        self.count = 0
        self.quiet_until = 0.0


class Bus:
    """`publish` runs on the event loop for every exchange; a sink that raises loses that record, never the request."""

    __slots__ = ("_now", "_raised", "_seq", "_sinks")

    def __init__(self, sinks: Mapping[str, Sink], now: Callable[[], float] = time.monotonic) -> None:
        """`sinks` by name (the `sink` label of the losses); `now` in seconds, for spacing the log lines."""
        self._sinks = tuple((name, sink, sink.accept) for name, sink in sinks.items())
        self._raised = {name: _Raised() for name in sinks}
        self._now = now
        self._seq = 0

    def add(self, name: str, sink: Sink) -> None:
        """One more sink, from the next exchange on."""
        self._raised[name] = _Raised()
        self._sinks = (*self._sinks, (name, sink, sink.accept))

    def publish(self, exchange: Exchange) -> None:
        """Number the exchange and give it to the sinks. Never raises."""
        self._seq += 1
        exchange.seq = self._seq
        for name, _, accept in self._sinks:
            try:
                accept(exchange)
            except Exception:
                self._note(name)

    @property
    def published(self) -> int:
        """How many exchanges were published."""
        return self._seq

    def losses(self) -> dict[tuple[str, str], int]:
        """Records lost by (sink, reason), since the start. `raised`: the sink itself failed."""
        lost = {(name, "raised"): raised.count for name, raised in self._raised.items()}
        for name, sink, _ in self._sinks:
            if isinstance(sink, Lossy):
                for reason, count in sink.losses().items():
                    lost[name, reason] = count
        return lost

    def _note(self, name: str) -> None:
        raised = self._raised[name]
        raised.count += 1
        now = self._now()
        if now >= raised.quiet_until:
            raised.quiet_until = now + _QUIET_SECONDS
            log.exception("the record sink %r failed; %d records lost to it so far", name, raised.count)
