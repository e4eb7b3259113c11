"""Answers passed on byte for byte as long as they keep the rules of OpenAI's form (`sound.py`), rewritten where not.

Every server that calls itself compatible is, most of the time. A stream changes hands at the first chunk that breaks
a rule: what was told before it stays as it was sent, and the strict decoder goes on from there.
"""

from __future__ import annotations

import orjson

from policies.verdict import Kind
from proxy.errors import UpstreamError
from proxy.providers.base import Endpoint, Minted
from proxy.providers.errors import check_text, error_in, told_in_answer
from proxy.providers.mould import Mould
from proxy.providers.openai import BodyDecoder, StreamDecoder
from proxy.providers.sound import SoundStream, is_sound_body
from proxy.providers.strict_body import StrictBody
from proxy.providers.strict_stream import StrictStream
from proxy.wire.chat import ChatRequest
from proxy.wire.chunk import CONTENT, Chunk, Json, usage_of
from proxy.wire.render import END
from proxy.wire.sse import EventTooLarge, event_name, payload


class PassingBody(BodyDecoder):
    """An answer that is not streamed."""

    __slots__ = ("_minted", "_to")

    def __init__(self, to: Endpoint, minted: Minted) -> None:
        super().__init__()
        self._to = to
        self._minted = minted

    def _told(self, raw: bytes, body: Json) -> list[Chunk]:
        if is_sound_body(body):
            choices = body["choices"]
            if not choices or body.get("error"):
                return super()._told(raw, body)
            usage = body.get("usage")
            if usage is not None:
                self.usage = usage_of(usage, body.get("service_tier"))
            self.model, self.finish_reason, self.ended = body["model"], choices[0]["finish_reason"], True
            return [Chunk(CONTENT, raw, body)]
        strict = StrictBody(self._to, self._minted)
        strict.feed(raw)
        chunks = strict.close()
        self.model, self.usage, self.finish_reason = strict.model, strict.usage, strict.finish_reason
        self.ended = True
        return chunks


class PassingStream(StreamDecoder):
    """A stream of chunks."""

    __slots__ = ("_minted", "_mould", "_sound", "_strict", "_to")

    def __init__(self, ask: ChatRequest, to: Endpoint, minted: Minted) -> None:
        super().__init__(ask.n)
        options = ask.body.get("stream_options")
        self._sound = SoundStream(bool(options and options.get("continuous_usage_stats")))
        self._to = to
        self._minted = minted
        self._strict: StrictStream | None = None
        self._mould: Mould | None = None
        """Of the last event, if that was nothing but text."""

    def feed(self, data: bytes) -> list[Chunk]:
        chunks: list[Chunk] = []
        mould = self._mould
        try:
            for event in self._events.feed(data):
                if mould is not None and mould.fits(event):
                    chunks.append(Chunk(CONTENT, event, None, mould.usage_key))
                    continue
                if self.ended:
                    break
                mould = self._mould = None
                # The common form, one line of JSON, is read here; `_event` takes care of every other.
                body = _plain(event) if self._strict is None and event.startswith(b"data: {") else None
                if body is not None and self._sound.ticked(body):
                    event = _at(event, body, self._sound.created)
                if body is not None and self._sound.takes(body):
                    chunk = self._read(body, event)
                    chunks.append(chunk)
                    if self._sound.plain and self._n == 1:
                        mould = self._mould = Mould.of(event, chunk.usage_key)
                else:
                    self._event(event, chunks)
        except EventTooLarge as error:
            self.pending = chunks
            raise UpstreamError(Kind.MALFORMED, "decoder", str(error), status=200) from error
        except UpstreamError:
            self.pending = chunks
            raise
        return chunks

    def close(self, cut: bool = False) -> list[Chunk]:
        rest = self._events.rest()
        chunks: list[Chunk] = []
        if not self.ended and not cut and rest.strip():
            if rest.lstrip().startswith(b"{"):
                raise told_in_answer(error_in(rest), "JSON in place of an event stream")
            self._event(rest.rstrip(b"\r\n") + b"\n\n", chunks)
        if self.ended:
            return chunks
        if self._strict is None:
            return chunks + super().close(cut)
        chunks += self._strict.close(cut)
        self._note(self._strict)
        return chunks

    def _event(self, event: bytes, chunks: list[Chunk]) -> None:
        strict = self._strict
        if strict is None:
            if event == END:
                chunks.append(self._end(event))
                return
            body = _object(event)
            if body is None:
                chunks.append(self._careful(event))
                return
            if self._sound.takes(body):
                chunks.append(self._read(body, event))
                return
            headed = self._sound.headed(body)
            if self._sound.takes(headed):
                chunks.append(self._read(headed, b"data: %b\n\n" % orjson.dumps(headed)))
                return
            strict = self._strict = StrictStream(self._n, self._to, self._minted)
            strict.go_on(self._sound)
        try:
            strict.event(event)
        finally:
            chunks += strict.take()
            self._note(strict)

    def _note(self, strict: StrictStream) -> None:
        self.ended = strict.ended
        self.model = self.model or strict.model
        self.usage = strict.usage or self.usage
        self.finish_reason = strict.finish_reason or self.finish_reason


def _at(event: bytes, body: Json, created: int) -> bytes:
    """The event with the time of the stream's first chunk: some servers tell that of each chunk.

    Nothing else changes. Where the time does not stand there plainly, once, the event is left for the strict decoder.
    """
    for spelling in (b'"created":%d', b'"created": %d'):
        told = spelling % body["created"]
        if event.count(told) == 1 and event.count(b'"created"') == 1:
            body["created"] = created
            return event.replace(told, spelling % created)
    return event


def _plain(event: bytes) -> Json | None:
    try:
        body: Json = orjson.loads(event[6:])
    except orjson.JSONDecodeError:
        return None
    return body


def _object(event: bytes) -> Json | None:
    """The JSON object that the event holds; None where it holds anything else, or names itself an error."""
    if not event.startswith(b"data: {"):
        if event_name(event) == b"error":
            return None
        if not event.isascii():
            check_text(event)
        event = b"data: " + payload(event)
    try:
        body = orjson.loads(event[6:])
    except orjson.JSONDecodeError:
        return None
    return body if type(body) is dict else None
