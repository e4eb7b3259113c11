"""What Bedrock's answers say, streamed or whole, put into the scribe's words.

A stream tells blocks in pieces (`start`, `delta`, `stop`), a whole answer tells them at once (`block`); both end in
`message_stop` and `metadata`. Wire facts from the Bedrock API reference (ContentBlock, ContentBlockDelta, TokenUsage).
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import orjson

from proxy.providers.bedrock_messages import OWN_THINKING
from proxy.providers.frame import malformed
from proxy.wire.chunk import Json, Usage
from proxy.wire.scribe import Scribe
from proxy.wire.usage import Parts, count, parted

_REASONS = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
"""Every other reason is `stop`, or `tool_calls` where calls were made."""


class Answer:
    """`signed`: the format of the thinking's signatures. `answer_tool`: the tool whose input is the answer's text."""

    __slots__ = (
        "_annotations",
        "_answer_tool",
        "_answering",
        "_calls",
        "_images",
        "_length",
        "_server",
        "_signed",
        "_spans",
        "_thinking",
        "model",
        "scribe",
        "stopped",
        "usage",
    )

    def __init__(self, scribe: Scribe, signed: str, answer_tool: str | None) -> None:
        self.scribe = scribe
        self.model: str | None = None
        self.usage: Usage | None = None
        self.stopped = False
        """The stop reason has come."""
        self._signed = signed
        self._answer_tool = answer_tool
        self._answering: set[int] = set()
        """Blocks in which the answer's tool is called."""
        self._calls: dict[int, int] = {}
        """Number of the content block -> number of the tool call."""
        self._server: set[int] = set()
        """Blocks of tools that run on the provider's side: no business of the client."""
        self._thinking: dict[int, Json] = {}
        self._annotations: list[tuple[int, Json]] = []
        self._images: dict[int, tuple[str, bytes]] = {}
        """Format and bytes."""
        self._length = 0
        """Characters of text so far."""
        self._spans: dict[int, list[int]] = {}
        """Block -> where its text begins and ends."""

    def start(self, at: int, start: Json) -> None:
        """Blocks of text and reasoning have no start."""
        tool = start.get("toolUse")
        if type(tool) is dict:
            self._call(at, tool)
        elif "toolResult" in start:
            self._server.add(at)
        elif type(start.get("image")) is dict:
            self._images[at] = (_text(start["image"], "format", "png"), b"")

    def delta(self, at: int, delta: Json) -> None:
        """A piece of a block: text, arguments, reasoning, a citation or an image."""
        if "text" in delta:
            self._text(at, _text(delta, "text"))
        if type(tool := delta.get("toolUse")) is dict:
            self._arguments(at, _text(tool, "input", ""))
        if type(reasoning := delta.get("reasoningContent")) is dict:
            self._reasoned(at, reasoning)
        if type(citation := delta.get("citation")) is dict:
            self._cited(at, citation)
        if type(image := delta.get("image")) is dict:
            format, held = self._images.get(at, ("png", b""))
            self._images[at] = (_text(image, "format", format), held + _bytes(_mapping(image, "source").get("bytes")))

    def stop(self, at: int) -> None:
        """The end of a block; a call without arguments has an empty object of them."""
        call = self._calls.get(at)
        if call is not None and not self.scribe.arguments_so_far(call):
            self.scribe.arguments(call, "{}")
        thought = self._thinking.pop(at, None)
        if thought is not None:
            self.scribe.append("reasoning_details", [thought])

    def block(self, at: int, block: Json) -> None:
        """A whole block of an answer that is not streamed."""
        if type(tool := block.get("toolUse")) is dict:
            self._call(at, tool)
            self._arguments(at, orjson.dumps(tool.get("input") or {}).decode())
        elif type(cited := block.get("citationsContent")) is dict:
            for piece in _list(cited, "content"):
                self._text(at, _text(piece, "text", ""))
            for citation in _list(cited, "citations"):
                self._cited(at, citation)
        elif type(reasoning := block.get("reasoningContent")) is dict:
            self._reasoned(at, {**reasoning, **_mapping(reasoning, "reasoningText")})
        elif "toolResult" not in block:
            self.delta(at, block)

    def message_stop(self, reason: object) -> None:
        """Raises `UpstreamError` (MALFORMED) where there is no reason."""
        if type(reason) is not str or not reason:
            raise malformed("a message that ends without a stop reason")
        self.stopped = True
        for at in self._calls:
            self.stop(at)
        if self._thinking:
            self.scribe.append("reasoning_details", [self._thinking[at] for at in sorted(self._thinking)])
        self.scribe.annotate([self._annotation(at, told) for at, told in self._annotations])
        if self._images:
            self.scribe.append("images", [_image(*self._images[at]) for at in sorted(self._images)])
        self.scribe.finish(_REASONS.get(reason, "stop"))

    def metadata(self, told: Json) -> None:
        """Usage, and the model that a prompt router chose."""
        if type(usage := told.get("usage")) is dict:
            self.usage = usage_of(usage)
        invoked = _mapping(_mapping(told, "trace"), "promptRouter").get("invokedModelId")
        if type(invoked) is str:
            self.model = invoked

    def _call(self, at: int, tool: Json) -> None:
        name = _text(tool, "name")
        if tool.get("type") == "server_tool_use":
            self._server.add(at)
        elif name == self._answer_tool:
            self._answering.add(at)
        else:
            self._calls[at] = self.scribe.call(_text(tool, "toolUseId"), name)

    def _arguments(self, at: int, piece: str) -> None:
        if at in self._answering:
            self._text(at, piece)
        elif at in self._calls:
            self.scribe.arguments(self._calls[at], piece)
        elif at not in self._server:
            raise malformed("arguments of a tool call that did not begin")

    def _text(self, at: int, text: str) -> None:
        span = self._spans.setdefault(at, [self._length, self._length])
        self._length += len(text)
        span[1] = self._length
        self.scribe.text(text)

    def _reasoned(self, at: int, reasoning: Json) -> None:
        """Text for the client to see, and the block as the next turn must bring it back."""
        if "redactedContent" in reasoning:
            held = self._thinking.setdefault(at, {"type": "reasoning.encrypted", "data": "", "format": OWN_THINKING})
            whole = _bytes(held.get("data")) + _bytes(reasoning["redactedContent"])
            held["data"] = base64.b64encode(whole).decode()
            return
        text = _text(reasoning, "text", "")
        signature = _text(reasoning, "signature", "")
        held = self._thinking.setdefault(at, {"type": "reasoning.text", "text": "", "format": self._signed})
        held["text"] = held.get("text", "") + text
        if signature:
            held["signature"] = held.get("signature", "") + signature
        self.scribe.reasoning(text)

    def _cited(self, at: int, citation: Json) -> None:
        web = _mapping(_mapping(citation, "location"), "web")
        if web:
            title = citation.get("title") or web.get("domain") or ""
            self._annotations.append((at, {"url": str(web.get("url") or ""), "title": str(title)}))
        else:
            # OpenAI's annotations know links and its own files only.
            self.scribe.append("citations", [citation])

    def _annotation(self, at: int, told: Json) -> Json:
        start, end = self._spans.get(at, (0, 0))
        return {"type": "url_citation", "url_citation": {**told, "start_index": start, "end_index": end}}


def usage_of(usage: Json) -> Usage:
    """Disjoint already: `inputTokens` leaves out what was read from and written to the cache.

    Where the total is no more than input and output though a cache was used, the input counts it after all. How much
    of the output was reasoning is not told; `cacheDetails` tells what was written for an hour.
    """
    told = {name: value for name, value in usage.items() if type(value) is int and value > 0}
    fresh, output = told.get("inputTokens", 0), told.get("outputTokens", 0)
    read = told.get("cacheReadInputTokens", told.get("cacheReadInputTokenCount", 0))
    write = told.get("cacheWriteInputTokens", told.get("cacheWriteInputTokenCount", 0))
    if read + write and told.get("totalTokens") == fresh + output:
        read = min(read, fresh)
        write = min(write, fresh - read)
        fresh -= read + write
    counted = Usage(fresh, read, write, output, 0)
    details = usage.get("cacheDetails")
    if type(details) is not list:
        return counted
    hour = [one.get("inputTokens") for one in details if type(one) is dict and one.get("ttl") == "1h"]
    return parted(counted, Parts(cache_write_1h=sum(map(count, hour))))


def _mapping(held: Json, name: str) -> Json:
    found = held.get(name)
    return found if type(found) is dict else {}


def _list(held: Json, name: str) -> list[Json]:
    found = held.get(name) or []
    if type(found) is not list or any(type(one) is not dict for one in found):
        raise malformed(f"`{name}` is not an array of objects")
    return found


def _text(held: Any, name: str, default: str | None = None) -> str:
    found = held.get(name, default) if type(held) is dict else None
    if type(found) is not str:
        raise malformed(f"`{name}` is not a string")
    return found


def _bytes(text: object) -> bytes:
    try:
        return binascii.a2b_base64(text, strict_mode=True) if type(text) is str else b""
    except ValueError as error:
        raise malformed(f"bytes that are not base64: {error}") from error


def _image(format: str, held: bytes) -> Json:
    url = f"data:image/{format};base64,{base64.b64encode(held).decode()}"
    return {"type": "image_url", "image_url": {"url": url}}
