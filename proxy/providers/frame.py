"""What decoders of all dialects share: gathering an answer that is not streamed, and the frame of an event stream."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from policies.verdict import Kind
from proxy.errors import UpstreamError
from proxy.providers.base import ANSWER_LIMIT
from proxy.providers.errors import error_in, told_in_answer
from proxy.wire.chunk import Chunk, Json
from proxy.wire.scribe import Scribe
from proxy.wire.sse import EventSplitter, EventTooLarge


def malformed(what: str) -> UpstreamError:
    """What came with a success status is no answer."""
    return UpstreamError(Kind.MALFORMED, "decoder", what, status=200)


class Gathered:
    """The bytes of one answer, read when all have come."""

    __slots__ = ("_parts", "_size")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def take(self, data: bytes) -> list[Chunk]:
        """No chunk comes of it yet. Raises `UpstreamError` (MALFORMED) past `ANSWER_LIMIT`."""
        self._parts.append(data)
        self._size += len(data)
        if self._size > ANSWER_LIMIT:
            raise malformed(f"an answer of more than {ANSWER_LIMIT} bytes")
        return []

    def raw(self) -> bytes:
        parts = self._parts
        return parts[0] if len(parts) == 1 else b"".join(parts)


def json_in(raw: bytes, what: str = "the answer") -> Any:
    """Raises `UpstreamError` (MALFORMED) for what is no JSON."""
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise malformed(f"{what} is not JSON: {error}") from error


def object_in(raw: bytes, what: str = "the answer") -> Json:
    """Raises `UpstreamError` (MALFORMED) for what is no JSON object."""
    body = json_in(raw, what)
    if type(body) is not dict:
        raise malformed(f"{what} is not a JSON object")
    return body


class ScribedStream:
    """Server-sent events read by `_event`, one after the other, for a scribe that writes the chunks."""

    _events: EventSplitter
    scribe: Scribe
    ended: bool
    pending: list[Chunk]

    def feed(self, data: bytes) -> list[Chunk]:
        try:
            for event in self._events.feed(data):
                if self.ended:
                    break
                self._event(event)
        except EventTooLarge as error:
            self.pending = self.scribe.take()
            raise malformed(str(error)) from error
        except UpstreamError:
            self.pending = self.scribe.take()
            raise
        return self.scribe.take()

    def _last(self, cut: bool) -> None:
        """Reads what came after the last whole event, at the end of the stream."""
        last_event(self._events, self.ended or cut, self._event)

    def _event(self, event: bytes) -> object:
        """Sets `ended` with the last one. Raises `UpstreamError`."""
        raise NotImplementedError


def last_event(events: EventSplitter, over: bool, read: Callable[[bytes], object]) -> None:
    """Some servers leave out the last empty line; the line itself must be whole. `over`: the rest does not matter."""
    rest = events.rest()
    if over or not rest.strip():
        return
    if rest.lstrip().startswith(b"{"):
        raise told_in_answer(error_in(rest), "JSON in place of an event stream")
    read(rest.rstrip(b"\r\n") + b"\n\n")
