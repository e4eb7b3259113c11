"""Cohere's v2 chat: whole answers and streams of typed events, written in OpenAI's form by the scribe.

Wire facts from Cohere's API reference and Python package (cohere 7.3) and from recorded traffic. What the model plans
before its calls (`tool_plan`) is told as reasoning. A stream is whole once `message-end` came with its finish reason.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import orjson

from policies.verdict import Kind
from proxy.errors import UpstreamError
from proxy.providers.base import Built, Decoder, Endpoint, Headers, Minted, Speaker
from proxy.providers.cohere_embeddings import CohereEmbeddings, CohereRerank
from proxy.providers.cohere_request import build
from proxy.providers.errors import error_in, told_in_answer
from proxy.providers.frame import Gathered, ScribedStream, json_in, malformed
from proxy.providers.openai import OpenAI
from proxy.wire.chat import ChatRequest
from proxy.wire.chunk import CONTENT, Chunk, Json, Usage
from proxy.wire.scribe import Scribe
from proxy.wire.sse import EventSplitter, payload

_FINISH = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
    "ERROR_TOXIC": "content_filter",
}
_FAILED = {"ERROR", "TIMEOUT", "ERROR_LIMIT"}


class Cohere(OpenAI):
    dialect = "cohere"
    natives: ClassVar[Mapping[str, Speaker[Any]]] = {"embeddings": CohereEmbeddings(), "rerank": CohereRerank()}

    def path(self, to: Endpoint, stream: bool) -> str:
        return "/chat" if to.base_url.endswith("/v2") else "/v2/chat"

    def models_path(self, to: Endpoint) -> str:
        return "/models?page_size=1000" if to.base_url.endswith("/v2") else "/v1/models?page_size=1000"

    def models_in(self, body: Any) -> list[Any]:
        return [one["name"] for one in body["models"]]

    def build(self, ask: ChatRequest, to: Endpoint) -> Built:
        return build(ask, to)

    def decoder(self, ask: ChatRequest, to: Endpoint, minted: Minted) -> Decoder:
        return StreamDecoder(to, minted) if ask.stream else BodyDecoder(to, minted)

    def error(self, status: int, headers: Headers, body: bytes) -> UpstreamError:
        error = super().error(status, headers, body)
        if b"TOO_MANY_TOKENS" in body and error.kind is Kind.BAD_REQUEST:
            error.kind = Kind.CONTEXT_LENGTH
        elif status == 498:  # "blocked input or output"
            error.kind = Kind.CONTENT_FILTER
        elif status == 429 and error_in(body) is not None and b"Trial key" in body and b"/ month" in body:
            error.kind = Kind.QUOTA
        return error


class _Decoder:
    """What both decoders share: the scribe and the facts."""

    def __init__(self, to: Endpoint, minted: Minted, *, stream: bool) -> None:
        self.scribe = Scribe(minted.id, minted.created, to.model, stream=stream)
        self._minted = minted.id.removeprefix("chatcmpl-")
        self._calls = 0
        self._more: Json = {}
        self.ended = False
        self.model: str | None = None
        """Cohere does not say."""
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.pending: list[Chunk] = []

    def _content(self, part: object) -> None:
        if type(part) is str:
            self.scribe.text(part)
        elif type(part) is dict:
            self.scribe.reasoning(_text(part.get("thinking")))
            self.scribe.text(_text(part.get("text")))

    def _call(self, call: object) -> int:
        function = call.get("function") if type(call) is dict else None
        if type(call) is not dict or type(function) is not dict or not _text(function.get("name")):
            raise malformed("a tool call without a name")
        id = _text(call.get("id")) or f"call_{self._minted}_{self._calls}"
        self._calls += 1
        return self.scribe.call(id, function["name"], _text(function.get("arguments")))

    def _cite(self, citations: list[Any]) -> None:
        kept = [one for one in citations if type(one) is dict]
        self.scribe.annotate([noted for one in kept for noted in _annotations(one)])
        self.scribe.append("citations", kept)

    def _finish(self, reason: object, usage: object, number_of_calls: int, error: object = None) -> None:
        """Raises `UpstreamError` for a finish reason that tells of a failure."""
        if error or (type(reason) is str and reason in _FAILED):
            found = error_in(orjson.dumps({"error": error})) if error else None
            raise told_in_answer(found, f"finish reason `{reason}`")
        if type(reason) is not str or not reason:
            raise malformed("an answer without a finish reason")
        told = _FINISH.get(reason, "stop")
        if told != "length":
            for number in range(number_of_calls):
                if not self.scribe.arguments_so_far(number).strip():
                    self.scribe.arguments(number, "{}")
        self.scribe.finish(told)
        self.finish_reason = self.scribe.finish_reason()
        self.usage, self._more = usage_of(usage)
        self.ended = True


def _place(body: Json) -> int | None:
    """Which part of the answer an event belongs to."""
    index = body.get("index")
    return index if type(index) is int else None


def _text(value: object) -> str:
    return value if type(value) is str else ""


def _list(value: object) -> list[Any]:
    return value if type(value) is list else []


def _annotations(citation: Json) -> list[Json]:
    """One for each source. A document may have an address and a title; otherwise its id stands for it."""
    noted = []
    start, end = citation.get("start"), citation.get("end")
    for source in _list(citation.get("sources")):
        if type(source) is not dict or type(start) is not int or type(end) is not int:
            continue
        told = source.get("document") or source.get("tool_output")
        told = told if type(told) is dict else {}
        id = _text(source.get("id"))
        url, title = _text(told.get("url")) or id, _text(told.get("title")) or id
        place = {"start_index": start, "end_index": end, "title": title, "url": url}
        noted.append({"type": "url_citation", "url_citation": place})
    return noted


def usage_of(usage: object) -> tuple[Usage | None, Json]:
    """`tokens` are what the model saw and wrote; `billed_units` are less and are kept beside them.

    Cached tokens can be more than those billed, never more than those seen; they are cut to these.
    """
    if type(usage) is not dict:
        return None, {}
    seen = usage.get("tokens") or usage.get("billed_units")
    if type(seen) is not dict or seen.get("input_tokens") is None:
        return None, {}
    prompt, written = _count(seen.get("input_tokens")), _count(seen.get("output_tokens"))
    cached = min(_count(usage.get("cached_tokens")), prompt)
    reasoning = min(_count(seen.get("reasoning_tokens")), written)
    more = {"billed_units": usage["billed_units"]} if usage.get("billed_units") else {}
    return Usage(prompt - cached, cached, 0, written - reasoning, reasoning), more


def _count(value: Any) -> int:
    return int(value) if type(value) in (int, float) and 0 < value < 10**12 else 0


class BodyDecoder(_Decoder):
    """An answer that is not streamed."""

    def __init__(self, to: Endpoint, minted: Minted) -> None:
        super().__init__(to, minted, stream=False)
        self._whole = Gathered()

    def feed(self, data: bytes) -> list[Chunk]:
        return self._whole.take(data)

    def close(self, cut: bool = False) -> list[Chunk]:
        raw = self._whole.raw()
        body = json_in(raw)
        message = body.get("message") if type(body) is dict else None
        if type(message) is not dict:
            raise told_in_answer(error_in(raw), "an answer without a message")
        self.scribe.id = _text(body.get("id")) or self.scribe.id
        self.scribe.text("")
        self.scribe.reasoning(_text(message.get("tool_plan")))
        content = message.get("content")
        for part in content if type(content) is list else [content]:
            self._content(part)
        calls = [self._call(call) for call in _list(message.get("tool_calls"))]
        self._cite(_list(message.get("citations")))
        self._finish(body.get("finish_reason"), body.get("usage"), len(calls))
        whole = self.scribe.body(self.usage, self._more)
        return [Chunk(CONTENT, orjson.dumps(whole), whole)]


class StreamDecoder(_Decoder, ScribedStream):
    """Typed events. Unknown types are passed over."""

    def __init__(self, to: Endpoint, minted: Minted) -> None:
        super().__init__(to, minted, stream=True)
        self._events = EventSplitter()
        self._numbers: dict[Any, int] = {}

    def close(self, cut: bool = False) -> list[Chunk]:
        self._last(cut)
        if not self.ended:
            raise UpstreamError(Kind.TRUNCATED, "decoder", "the stream ended without `message-end`", status=200)
        return self.scribe.take()

    def _event(self, event: bytes) -> None:
        data = payload(event)
        if not data.strip():
            return
        if data.strip() == b"[DONE]":
            raise UpstreamError(Kind.TRUNCATED, "decoder", "[DONE] came before `message-end`", status=200)
        body = json_in(data, "an event")
        kind = body.get("type") if type(body) is dict else None
        if kind is None or kind == "error":
            raise told_in_answer(error_in(data), "an error inside the stream")
        delta = body.get("delta")
        delta = delta if type(delta) is dict else {}
        if kind == "message-end":
            self._finish(delta.get("finish_reason"), delta.get("usage"), len(self._numbers), delta.get("error"))
            self.scribe.end(self.usage, self._more)
            return
        message = delta.get("message")
        self._say(kind, body, message if type(message) is dict else {})

    def _say(self, kind: object, body: Json, message: Json) -> None:
        if kind == "message-start":
            self.scribe.id = _text(body.get("id")) or self.scribe.id
        elif kind in ("content-start", "content-delta"):
            content = message.get("content")
            for part in content if type(content) is list else [content]:
                self._content(part)
        elif kind == "tool-plan-delta":
            self.scribe.reasoning(_text(message.get("tool_plan")))
        elif kind == "tool-call-start":
            self._numbers[_place(body)] = self._call(message.get("tool_calls"))
        elif kind == "tool-call-delta":
            call = message.get("tool_calls")
            function = call.get("function") if type(call) is dict else None
            number = self._numbers.get(_place(body))
            if number is None:
                raise malformed("arguments of a tool call that did not begin")
            if type(function) is dict:
                self.scribe.arguments(number, _text(function.get("arguments")))
        elif kind == "citation-start":
            cited = message.get("citations")
            self._cite(cited if type(cited) is list else [cited])
