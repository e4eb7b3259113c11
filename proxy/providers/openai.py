"""The OpenAI chat completions dialect, spoken by OpenAI and by most self-hosted servers.

Wire facts from OpenAI's API reference (chat completions, streaming, errors) and from recorded traffic of compatible
servers. Answers pass through byte for byte; they are parsed beside that, since an answer that cannot be read, or that
does not say that it ended, must not be handed out as a whole one.
"""

from __future__ import annotations

import orjson

from policies.verdict import Kind
from proxy.errors import UpstreamError
from proxy.providers.base import ANSWER_LIMIT, Built, Decoder, Endpoint, Headers, Minted
from proxy.providers.errors import check_text, classify, error_in, is_error, retry_after, told_in_answer, words
from proxy.wire.chat import ChatRequest
from proxy.wire.chunk import COMMENT, CONTENT, DONE, FINISH, META, USAGE, Chunk, Json, Usage, usage_of
from proxy.wire.render import END
from proxy.wire.sse import EventSplitter, EventTooLarge, comments, event_name, payload


class OpenAI:
    """The dialect. One object serves every target that speaks it."""

    dialect = "openai"

    def headers(self, to: Endpoint, credential: str | None, stream: bool) -> Headers:
        fixed = [
            (b"content-type", b"application/json"),
            (b"accept", b"text/event-stream" if stream else b"application/json"),
            (b"accept-encoding", b"identity"),
            (b"user-agent", b"weighbridge"),
        ]
        if credential is not None:
            fixed.append((b"authorization", b"Bearer " + credential.encode()))
        return fixed + [(name.lower().encode(), value.encode()) for name, value in to.headers]

    def path(self, to: Endpoint, stream: bool) -> str:
        return "/chat/completions"

    def build(self, ask: ChatRequest, to: Endpoint) -> Built:
        return as_it_came(ask, to)

    def decoder(self, ask: ChatRequest, to: Endpoint, minted: Minted) -> Decoder:
        return StreamDecoder(ask.n) if ask.stream else BodyDecoder()

    def error(self, status: int, headers: Headers, body: bytes) -> UpstreamError:
        found = error_in(body)
        kind = classify(status, found)
        return UpstreamError(
            kind,
            "status",
            f"{status} {words(found) or body[:500].decode('utf-8', 'replace')}",
            status=status,
            retry_after=retry_after(headers),
            body=body if found is not None else None,
        )


def as_it_came(ask: ChatRequest, to: Endpoint) -> Built:
    """The client's own bytes, with the few edits that the target wants."""
    usage, params, force = to.usage_in_stream, to.params, to.force
    body = ask.for_upstream(to.model, ask_usage=usage, params=params, force=force)
    return Built(body, sent=ask.sent(ask_usage=usage, params=params, force=force))


class StreamDecoder:
    """A stream of chunks. It ended well only if every choice that began has a finish reason."""

    __slots__ = ("_events", "_finished", "_n", "_seen", "ended", "finish_reason", "model", "pending", "usage")

    def __init__(self, n: int) -> None:
        self._events = EventSplitter()
        self._n = n
        self._seen: set[int] = set()
        self._finished: set[int] = set()
        self.ended = False
        self.model: str | None = None
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.pending: list[Chunk] = []

    def feed(self, data: bytes) -> list[Chunk]:
        chunks: list[Chunk] = []
        try:
            for event in self._events.feed(data):
                if self.ended:
                    break
                if event.startswith(b"data: {"):
                    # The common form: one line of JSON. Where it is not, the careful reading says what it is.
                    try:
                        body = orjson.loads(event[6:])
                    except orjson.JSONDecodeError:
                        chunks.append(self._careful(event))
                    else:
                        chunks.append(self._read(body, event))
                else:
                    chunks.append(self._careful(event))
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
            # Some servers leave out the last empty line; the line itself must be whole.
            if rest.lstrip().startswith(b"{"):
                raise told_in_answer(error_in(rest), "JSON in place of an event stream")
            chunks.append(self._careful(rest.rstrip(b"\r\n") + b"\n\n"))
        if not self.ended:
            if len(self._finished) < self._n or self._seen - self._finished:
                raise UpstreamError(Kind.TRUNCATED, "decoder", "the stream ended without a finish reason", status=200)
            self.ended = True
            chunks.append(Chunk(DONE, END))
        return chunks

    def _careful(self, event: bytes) -> Chunk:
        if not event.isascii():
            check_text(event)
        data = payload(event)
        if not data.strip():
            return Chunk(COMMENT, comments(event))
        if data.strip() == b"[DONE]":
            return self._end(event)
        try:
            body = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise UpstreamError(Kind.MALFORMED, "decoder", f"an event is not JSON: {error}", status=200) from error
        if type(body) is not dict:
            raise UpstreamError(Kind.MALFORMED, "decoder", "an event is not a JSON object", status=200)
        if event_name(event) == b"error":
            raise told_in_answer(error_in(data), "an error inside the stream")
        return self._read(body, event)

    def _read(self, body: Json, event: bytes) -> Chunk:
        choices = body.get("choices")
        if ("error" in body or choices is None) and (body.get("error") or is_error(body)):
            raise told_in_answer(error_in(payload(event)), "an error inside the stream")
        kind = self._choices(choices) if choices else META
        usage_key = "usage" in body
        if usage_key:
            usage = body["usage"]
            if type(usage) is dict:
                self.usage = usage_of(usage, body.get("service_tier"))
                if not choices:
                    kind = USAGE
        if self.model is None and type(body.get("model")) is str:
            self.model = body["model"] or None
        return Chunk(kind, event, body, usage_key)

    def _end(self, event: bytes) -> Chunk:
        if not self._finished or self._seen - self._finished:
            raise UpstreamError(Kind.TRUNCATED, "decoder", "[DONE] came before a finish reason", status=200)
        self.ended = True
        return Chunk(DONE, event)

    def _choices(self, choices: object) -> int:
        if type(choices) is not list:
            raise UpstreamError(Kind.MALFORMED, "decoder", "`choices` is not an array", status=200)
        kind = META
        for choice in choices:
            if type(choice) is not dict:
                raise UpstreamError(Kind.MALFORMED, "decoder", "a choice is not an object", status=200)
            index = choice.get("index")
            self._seen.add(index if type(index) is int else 0)
            delta = choice.get("delta")
            if type(delta) is dict:
                if delta.get("content") or _has_content(delta):
                    kind = CONTENT
            elif choice.get("text"):  # of a completion that is no chat
                kind = CONTENT
            reason = choice.get("finish_reason")
            if reason is not None and self._ends(reason, index) and kind == META:
                kind = FINISH
        return kind

    def _ends(self, reason: object, index: object) -> bool:
        """Notes a finish reason; the empty one says nothing."""
        if reason == "error":
            raise UpstreamError(Kind.MALFORMED, "decoder", "finish reason `error`", status=200)
        if reason:
            self._finished.add(index if type(index) is int else 0)
            self.finish_reason = str(reason)
        return bool(reason)


def _has_content(delta: Json) -> bool:
    """Reasoning, a refusal, a tool call, audio: whatever is not empty and not the role."""
    return any(value and key != "role" for key, value in delta.items())


class BodyDecoder:
    """An answer that is not streamed: the bytes are gathered and read once."""

    __slots__ = ("_parts", "_size", "ended", "finish_reason", "model", "pending", "usage")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self.ended = False
        self.model: str | None = None
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.pending: list[Chunk] = []

    def feed(self, data: bytes) -> list[Chunk]:
        self._parts.append(data)
        self._size += len(data)
        if self._size > ANSWER_LIMIT:
            raise UpstreamError(Kind.MALFORMED, "decoder", f"an answer of more than {ANSWER_LIMIT} bytes", status=200)
        return []

    def close(self, cut: bool = False) -> list[Chunk]:
        parts = self._parts
        raw = parts[0] if len(parts) == 1 else b"".join(parts)
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise UpstreamError(Kind.MALFORMED, "decoder", f"the answer is not JSON: {error}", status=200) from error
        if type(body) is not dict:
            raise UpstreamError(Kind.MALFORMED, "decoder", "the answer is not a JSON object", status=200)
        return self._told(raw, body)

    def _told(self, raw: bytes, body: Json) -> list[Chunk]:
        choices = body.get("choices")
        if body.get("error") or (choices is None and is_error(body)):
            raise told_in_answer(error_in(raw), "an error with a success status")
        # First: what was used is billed, whatever becomes of the answer.
        usage = body.get("usage")
        if type(usage) is dict:
            self.usage = usage_of(usage, body.get("service_tier"))
        if type(choices) is not list or not choices:
            raise UpstreamError(Kind.MALFORMED, "decoder", "an answer without choices", status=200)
        for choice in choices:
            self._choice(choice)
        model = body.get("model")
        if type(model) is str:
            self.model = model or None
        self.ended = True
        return [Chunk(CONTENT, raw, body)]

    def _choice(self, choice: object) -> None:
        reason = choice.get("finish_reason") if type(choice) is dict else None
        if type(choice) is not dict or not reason:
            raise UpstreamError(Kind.MALFORMED, "decoder", "a choice without a finish reason", status=200)
        if reason == "error":
            raise UpstreamError(Kind.MALFORMED, "decoder", "finish reason `error`", status=200)
        # Azure leaves the message out where its filter took it.
        if type(choice.get("message")) is not dict and reason != "content_filter":
            raise UpstreamError(Kind.MALFORMED, "decoder", "a choice without a message", status=200)
        if self.finish_reason is None:
            self.finish_reason = str(reason)
