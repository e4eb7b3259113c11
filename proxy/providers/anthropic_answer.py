"""Answers of the Anthropic Messages dialect, streamed and whole.

Wire facts from Anthropic's API reference (messages, streaming), from the types of its SDK and from recorded traffic:
usage counts are cumulative and overwritten, never added; `input_tokens` leaves out what was read from or written to
the cache; blocks of server-side tools are no calls for the client; a stream ends with `message_stop`.
"""

from __future__ import annotations

from typing import Any

import orjson

from policies.verdict import Kind
from proxy.errors import UpstreamError
from proxy.providers.conversation import CLAUDE_THINKING
from proxy.providers.errors import error_in, told_in_answer
from proxy.providers.frame import Gathered, ScribedStream, object_in
from proxy.wire.chunk import CONTENT, Chunk, Json, Usage
from proxy.wire.scribe import Scribe
from proxy.wire.sse import EventSplitter, payload
from proxy.wire.usage import Parts, parted, tier_of

_STOPS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


class _Block:
    """A content block that is being read."""

    __slots__ = ("call", "citations", "given", "kind", "signature", "start", "text", "told")

    def __init__(self, kind: str, start: int) -> None:
        self.kind = kind
        self.start = start
        """Characters of the answer before this block."""
        self.text: list[str] = []
        self.signature = ""
        self.citations: list[Json] = []
        self.call: int | None = None
        """The number of the tool call; None for the tool whose input is the answer."""
        self.given: Any = None
        """The whole input, as an answer that is not streamed gives it."""
        self.told = False
        """A piece of the input has come."""


class _Reading:
    """What both forms of an answer share: blocks in, the scribe's words out."""

    __slots__ = (
        "_answer_tool", "_answered", "_blocks", "_calls", "_citations", "_counts", "_length", "_refusal", "_stop",
        "ended", "finish_reason", "model", "pending", "scribe", "usage",
    )  # fmt: skip

    def __init__(self, scribe: Scribe, answer_tool: str | None) -> None:
        self.scribe = scribe
        self._answer_tool = answer_tool
        self._answered = False
        self._blocks: dict[int, _Block] = {}
        self._calls = 0
        self._citations: list[Json] = []
        self._counts: Json = {}
        self._length = 0
        self._refusal: Json | None = None
        self._stop: str | None = None
        self.ended = False
        self.model: str | None = None
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.pending: list[Chunk] = []

    def _message(self, message: Json) -> None:
        """The outer members; a second start of the same stream says nothing new but its counts."""
        if self.model is None and type(message.get("model")) is str and message["model"]:
            self.model = self.scribe.model = message["model"]
            if type(message.get("id")) is str and message["id"]:
                self.scribe.id = message["id"]
        self._count(message.get("usage"))

    def _count(self, counts: object) -> None:
        """Each count overwrites the one before it; those that do not come again stay."""
        if type(counts) is not dict:
            return
        self._counts.update({name: value for name, value in counts.items() if value is not None})
        read = self._counts.get
        if read("input_tokens") is None and read("output_tokens") is None:
            return
        details = read("output_tokens_details")
        output = _number(read("output_tokens"))
        thought = min(_number(details.get("thinking_tokens")), output) if type(details) is dict else 0
        cached, written = _number(read("cache_read_input_tokens")), read("cache_creation_input_tokens")
        by_age = read("cache_creation")
        if written is None and type(by_age) is dict:
            written = sum(map(_number, by_age.values()))
        counted = Usage(_number(read("input_tokens")), cached, _number(written), output - thought, thought)
        self.usage = parted(counted, _parts(self._counts))

    def _open(self, index: int, given: Json) -> None:
        if index in self._blocks:
            self._shut(index)
        kind = given.get("type")
        if kind not in ("text", "thinking", "redacted_thinking", "tool_use"):
            return  # server-side tools and their results, compaction, and whatever comes later
        block = self._blocks[index] = _Block(kind, self._length)
        if kind == "text":
            self._text(block, given.get("text"))
            cited = given.get("citations")
            block.citations += [one for one in cited if type(one) is dict] if type(cited) is list else []
        elif kind == "thinking":
            self._thought(block, given.get("thinking"))
            block.signature = _string(given.get("signature"))
        elif kind == "redacted_thinking":
            block.signature = _string(given.get("data"))
        else:
            name, id = given.get("name"), given.get("id")
            if type(name) is not str or type(id) is not str:
                raise UpstreamError(Kind.MALFORMED, "decoder", "a tool call without id or name", status=200)
            block.given = given.get("input")
            if name == self._answer_tool:
                self._answered = True
            else:
                self._calls += 1
                block.call = self.scribe.call(id, name)

    def _shut(self, index: int) -> None:
        block = self._blocks.pop(index, None)
        if block is None:
            return
        if block.kind == "tool_use" and not block.told:
            self._input(block, orjson.dumps(block.given or {}).decode())
        elif block.kind == "thinking" and (block.text or block.signature):
            signed = {"signature": block.signature} if block.signature else {}
            text = {"type": "reasoning.text", "text": "".join(block.text), **signed, "format": CLAUDE_THINKING}
            self.scribe.append("reasoning_details", [text])
        elif block.kind == "redacted_thinking":
            data = {"type": "reasoning.encrypted", "data": block.signature, "format": CLAUDE_THINKING}
            self.scribe.append("reasoning_details", [data])
        self._citations += [_annotation(one, block.start, self._length) for one in block.citations]

    def _text(self, block: _Block, text: object) -> None:
        if type(text) is str:
            self._length += len(text)
            self.scribe.text(text)

    def _thought(self, block: _Block, text: object) -> None:
        if type(text) is str:
            block.text.append(text)
            self.scribe.reasoning(text)

    def _input(self, block: _Block, piece: str) -> None:
        block.told = block.told or bool(piece)
        if block.call is None:
            self._length += len(piece)
            self.scribe.text(piece)
        else:
            self.scribe.arguments(block.call, piece)

    def _stopped(self, end: Json) -> None:
        """The stop reason; what is told of a refusal beside it."""
        reason = end.get("stop_reason")
        if type(reason) is str and reason:
            self._stop = reason
        details = end.get("stop_details")
        if self._stop == "refusal" and type(details) is dict:
            self._refusal = details

    def _finish(self) -> None:
        """All that comes once every block is there. Citations come in one piece: SDKs cannot add lists."""
        for index in list(self._blocks):
            self._shut(index)
        self.scribe.annotate(self._citations)
        if self._refusal is not None:
            self.scribe.put("stop_details", self._refusal)
        reason = _STOPS.get(self._stop or "", "stop")
        # A call of the tool whose input is the answer is no call for the client.
        self.scribe.finish("stop" if self._answered and not self._calls else reason)
        self.finish_reason = self.scribe.finish_reason()
        self.ended = True


class StreamDecoder(_Reading, ScribedStream):
    """A stream of events. It ended well only if a stop reason came."""

    __slots__ = ("_events",)

    def __init__(self, scribe: Scribe, answer_tool: str | None) -> None:
        super().__init__(scribe, answer_tool)
        self._events = EventSplitter()

    def close(self, cut: bool = False) -> list[Chunk]:
        self._last(cut)
        if not self.ended:
            if self._stop is None:
                raise UpstreamError(Kind.TRUNCATED, "decoder", "the stream ended without a stop reason", status=200)
            self._end()
        return self.scribe.take()

    def _event(self, event: bytes) -> Json | None:
        """Reads one event; gives its object, or None for a comment."""
        data = payload(event)
        if not data:
            return None
        body = object_in(data, "an event")
        kind = body.get("type")
        if kind == "content_block_delta":
            self._delta(_index(body), _member(body, "delta"))
        elif kind == "content_block_start":
            self._open(_index(body), _member(body, "content_block"))
        elif kind == "content_block_stop":
            self._shut(_index(body))
        elif kind == "message_start":
            self._message(_member(body, "message"))
        elif kind == "message_delta":
            self._stopped(_member(body, "delta"))
            self._count(body.get("usage"))
        elif kind == "message_stop":
            if self._stop is None:
                raise UpstreamError(Kind.TRUNCATED, "decoder", "message_stop came before a stop reason", status=200)
            self._end()
        elif kind == "error" or "error" in body:
            raise told_in_answer(error_in(data), "an error inside the stream")
        return body

    def _delta(self, index: int, delta: Json) -> None:
        kind = delta.get("type")
        block = self._blocks.get(index)
        if block is None:
            if kind not in ("text_delta", "thinking_delta"):
                return  # of a server-side tool
            # A text whose beginning got lost is text all the same.
            block = self._blocks[index] = _Block(kind.removesuffix("_delta"), self._length)
        if kind == "text_delta":
            self._text(block, delta.get("text"))
        elif kind == "input_json_delta" and block.kind == "tool_use":
            self._input(block, _string(delta.get("partial_json")))
        elif kind == "thinking_delta":
            self._thought(block, delta.get("thinking"))
        elif kind == "signature_delta":
            block.signature = _string(delta.get("signature")) or block.signature
        elif kind == "citations_delta" and type(delta.get("citation")) is dict:
            block.citations.append(delta["citation"])

    def _end(self) -> None:
        self._finish()
        self.scribe.end(self.usage)


class BodyDecoder(_Reading):
    """An answer that is not streamed: the bytes are gathered and read once."""

    __slots__ = ("_whole",)

    def __init__(self, scribe: Scribe, answer_tool: str | None) -> None:
        super().__init__(scribe, answer_tool)
        self._whole = Gathered()

    def feed(self, data: bytes) -> list[Chunk]:
        return self._whole.take(data)

    def close(self, cut: bool = False) -> list[Chunk]:
        raw = self._whole.raw()
        body = object_in(raw)
        blocks = body.get("content")
        if body.get("type") == "error" or body.get("error"):
            raise told_in_answer(error_in(raw), "an error with a success status")
        if type(blocks) is not list or any(type(block) is not dict for block in blocks):
            raise UpstreamError(Kind.MALFORMED, "decoder", "an answer without content blocks", status=200)
        self._message(body)
        for index, block in enumerate(blocks):
            self._open(index, block)
            self._shut(index)
        self._stopped(body)
        if self._stop is None:
            raise UpstreamError(Kind.MALFORMED, "decoder", "an answer without a stop reason", status=200)
        self._finish()
        whole = self.scribe.body(self.usage)
        return [Chunk(CONTENT, orjson.dumps(whole), whole)]


def _annotation(citation: Json, start: int, end: int) -> Json:
    """A citation in OpenAI's form. One of a document has no address: its number in the request stands for it."""
    url = citation.get("url") or citation.get("source")
    number = citation.get("document_index", citation.get("search_result_index"))
    told = {
        "start_index": start,
        "end_index": end,
        "title": _string(citation.get("title") or citation.get("document_title")),
        "url": url if type(url) is str and url else f"document:{number}",
    }
    cited = citation.get("cited_text")
    return {"type": "url_citation", "url_citation": {**told, **({"cited_text": cited} if cited else {})}}


def _member(body: Json, name: str) -> Json:
    value = body.get(name)
    if type(value) is not dict:
        raise UpstreamError(Kind.MALFORMED, "decoder", f"an event without its {name}", status=200)
    return value


def _index(body: Json) -> int:
    index = body.get("index", 0)
    if type(index) is not int:
        raise UpstreamError(Kind.MALFORMED, "decoder", "a block without a number", status=200)
    return index


def _parts(counts: Json) -> Parts:
    """What is billed apart: one hour in the cache, searches, priority or batch, fast mode, and a place to stay in."""
    by_age, tools = counts.get("cache_creation"), counts.get("server_tool_use")
    tiers = [tier_of(counts.get("service_tier")), tier_of(counts.get("speed"))]
    tiers.append("us" if counts.get("inference_geo") == "us" else None)
    return Parts(
        cache_write_1h=_number(by_age.get("ephemeral_1h_input_tokens")) if type(by_age) is dict else 0,
        searches=_number(tools.get("web_search_requests")) if type(tools) is dict else 0,
        tier="+".join([tier for tier in tiers if tier]) or None,
    )


def _number(value: object) -> int:
    return value if type(value) is int and value > 0 else 0


def _string(value: object) -> str:
    return value if type(value) is str else ""
