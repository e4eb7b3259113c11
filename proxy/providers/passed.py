"""Answers that pass through unread but for their end: sound, text, pictures as events."""

from __future__ import annotations

from collections.abc import Callable

import orjson

from policies.verdict import Kind
from proxy.errors import UpstreamError
from proxy.providers.base import ANSWER_LIMIT
from proxy.providers.errors import check_text, error_in, told_in_answer
from proxy.providers.frame import last_event, object_in
from proxy.wire.chunk import COMMENT, CONTENT, DONE, FINISH, Chunk, Json, Usage
from proxy.wire.sse import EventSplitter, EventTooLarge, comments, payload

ReadUsage = Callable[[Json], Usage | None]

_ENDS = (".completed", ".done")
"""How the type of a last event ends: `image_generation.completed`, `transcript.text.done`, `speech.audio.done`."""


_NO_OBJECT: Json = {}
"""What these bytes say is nobody's business here."""


class _Facts:
    __slots__ = ("ended", "finish_reason", "model", "pending", "usage")

    def __init__(self) -> None:
        self.ended = False
        self.model: str | None = None
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.pending: list[Chunk] = []


class PassedBytes(_Facts):
    """Bytes as they came; `stream`: at once, else gathered. Whole if the transport says that they are."""

    __slots__ = ("_parts", "_read_usage", "_size", "_stream")

    def __init__(self, stream: bool, read_usage: ReadUsage) -> None:
        super().__init__()
        self._stream = stream
        self._read_usage = read_usage
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[Chunk]:
        self._size += len(data)
        if self._stream:
            return [Chunk(CONTENT, data, _NO_OBJECT)]
        self._parts.append(data)
        if self._size > ANSWER_LIMIT:
            raise UpstreamError(Kind.MALFORMED, "decoder", f"an answer of more than {ANSWER_LIMIT} bytes", status=200)
        return []

    def close(self, cut: bool = False) -> list[Chunk]:
        if cut:
            raise UpstreamError(Kind.TRUNCATED, "decoder", "the answer was cut", status=200)
        if not self._size:
            raise UpstreamError(Kind.MALFORMED, "decoder", "an empty answer", status=200)
        self.ended = True
        if self._stream:
            return [Chunk(DONE, b"")]
        raw = b"".join(self._parts)
        if raw.startswith(b"{"):
            try:
                body = orjson.loads(raw)
            except orjson.JSONDecodeError as error:
                raise UpstreamError(
                    Kind.MALFORMED, "decoder", f"the answer is not JSON: {error}", status=200
                ) from error
            if body.get("error"):
                raise told_in_answer(error_in(raw), "an error with a success status")
            self.usage = self._read_usage(body)
        return [Chunk(CONTENT, raw, _NO_OBJECT)]


class EventStream(_Facts):
    """Events as they came, read by `_event`. Whole only if the last one says so."""

    __slots__ = ("_events",)

    def __init__(self) -> None:
        super().__init__()
        self._events = EventSplitter()

    def feed(self, data: bytes) -> list[Chunk]:
        chunks: list[Chunk] = []
        try:
            for event in self._events.feed(data):
                if self.ended:
                    break
                if not event.isascii():
                    check_text(event)
                self._event(event, chunks)
        except EventTooLarge as error:
            self.pending = chunks
            raise UpstreamError(Kind.MALFORMED, "decoder", str(error), status=200) from error
        except UpstreamError:
            self.pending = chunks
            raise
        return chunks

    def close(self, cut: bool = False) -> list[Chunk]:
        chunks: list[Chunk] = []
        last_event(self._events, self.ended or cut, lambda event: self._event(event, chunks))
        if not self.ended:
            raise UpstreamError(Kind.TRUNCATED, "decoder", "the stream ended without its last event", status=200)
        return chunks

    def _event(self, event: bytes, chunks: list[Chunk]) -> None:
        """Adds what the event is; sets `ended` with the last one. Raises `UpstreamError`."""
        raise NotImplementedError

    def _last(self, event: bytes, body: Json, chunks: list[Chunk]) -> None:
        self.ended = True
        chunks.append(Chunk(FINISH, event, body))
        chunks.append(Chunk(DONE, b""))


class PassedEvents(EventStream):
    """Events that are not looked at but for usage, an error, and the end."""

    __slots__ = ("_read_usage",)

    def __init__(self, read_usage: ReadUsage) -> None:
        super().__init__()
        self._read_usage = read_usage

    def _event(self, event: bytes, chunks: list[Chunk]) -> None:
        data = payload(event)
        if not data or data.strip() == b"[DONE]":
            chunks.append(Chunk(COMMENT, event if data else comments(event)))
            return
        body = object_in(data, "an event")
        if body.get("error") or body.get("type") == "error":
            raise told_in_answer(error_in(data), "an error inside the stream")
        if str(body.get("type")).endswith(_ENDS):
            self.usage = self._read_usage(body)
            self._last(event, body, chunks)
        else:
            chunks.append(Chunk(CONTENT, event, body))
