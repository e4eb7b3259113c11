"""Anthropic asked by a client that speaks its own form: the body goes through, and so do the answer's bytes.

They are read beside that, as a translated answer is, so that finish reason, usage, errors and completeness are known.
"""

from __future__ import annotations

from typing import Any

from policies.verdict import Kind
from proxy.errors import UpstreamError
from proxy.providers.anthropic_answer import BodyDecoder, StreamDecoder
from proxy.providers.base import Built, Decoder, Endpoint, Headers, Minted
from proxy.providers.errors import check_text
from proxy.providers.plain import PlainBody
from proxy.wire.chunk import COMMENT, CONTENT, DONE, FINISH, META, Chunk, Json
from proxy.wire.request import CARRIED, Request
from proxy.wire.scribe import Scribe
from proxy.wire.sse import EventTooLarge

VERSION = b"2023-06-01"

_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_NAMES = {"max_completion_tokens": "max_tokens", "stop": "stop_sequences"}
"""Our config's `params` and `force` are in chat's words."""
_CARRIERS = {"thinking": "signature", "redacted_thinking": "data"}


class Messages:
    """`POST /v1/messages`, as it came."""

    per_call = frozenset({b"anthropic-version"})

    def path(self, to: Endpoint, stream: bool) -> str:
        return "/messages" if to.base_url.endswith("/v1") else "/v1/messages"

    def build(self, ask: Request, to: Endpoint) -> Built:
        body = ask.raw
        if CARRIED in body:
            ask = _without_carried(ask)
        params, force = _renamed(to.params), _renamed(to.force)
        body = ask.for_upstream(to.model, params=params, force=force)
        return Built(body, (), _headers(ask), ask.sent(params=params, force=force))

    def decoder(self, ask: Request, to: Endpoint, minted: Minted) -> Decoder:
        scribe = Scribe(minted.id, minted.created, to.model, stream=False)
        return NativeStream(scribe, None) if ask.stream else NativeBody(scribe, None)


class CountTokens(Messages):
    """`POST /v1/messages/count_tokens`."""

    def path(self, to: Endpoint, stream: bool) -> str:
        return f"{super().path(to, stream)}/count_tokens"

    def build(self, ask: Request, to: Endpoint) -> Built:
        if CARRIED in ask.raw:
            ask = _without_carried(ask)
        return Built(ask.for_upstream(to.model), (), _headers(ask))

    def decoder(self, ask: Request, to: Endpoint, minted: Minted) -> Decoder:
        return PlainBody(needs="input_tokens")


class NativeStream(StreamDecoder):
    """Events as they came, each with what it is."""

    __slots__ = ()

    def feed(self, data: bytes) -> list[Chunk]:
        chunks: list[Chunk] = []
        try:
            for event in self._events.feed(data):
                if self.ended:
                    break
                if not event.isascii():
                    check_text(event)
                body = self._event(event)
                chunks.append(Chunk(_kind(body), event, body))
        except EventTooLarge as error:
            self.pending = chunks
            raise UpstreamError(Kind.MALFORMED, "decoder", str(error), status=200) from error
        except UpstreamError:
            self.pending = chunks
            raise
        return chunks

    def close(self, cut: bool = False) -> list[Chunk]:
        if self.ended:
            return []
        super().close(cut)
        # All that is missing is the end marker.
        return [Chunk(DONE, _STOP)]


class NativeBody(BodyDecoder):
    __slots__ = ()

    def close(self, cut: bool = False) -> list[Chunk]:
        super().close(cut)
        return [Chunk(CONTENT, self._whole.raw())]


def _kind(body: Json | None) -> int:
    if body is None or body.get("type") == "ping":
        return COMMENT
    kind = body.get("type")
    if kind == "content_block_delta":
        return CONTENT
    if kind == "content_block_start":
        begun = body["content_block"].get("type")
        return META if begun in ("text", "thinking") else CONTENT
    if kind == "message_delta":
        return FINISH if body["delta"].get("stop_reason") else META
    return DONE if kind == "message_stop" else META


def _headers(ask: Request) -> Headers:
    given = ask.headers
    known = {name for name, _ in given}
    return given if b"anthropic-version" in known else [(b"anthropic-version", VERSION), *given]


def _renamed(params: dict[str, Any] | None) -> dict[str, Any] | None:
    if params is None:
        return None
    return {_NAMES.get(name, name): value for name, value in params.items()}


def _without_carried(ask: Request) -> Request:
    """Without the blocks that another provider's turns left: to Anthropic they would be forged signatures."""
    messages = []
    for message in ask.body["messages"]:
        content = message.get("content")
        if type(content) is list and message.get("role") == "assistant":
            message = {**message, "content": [block for block in content if not _carries(block)]}
        if message.get("content") != []:
            messages.append(message)
    return ask.with_body({**ask.body, "messages": messages})


def _carries(block: Json) -> bool:
    value = block.get(_CARRIERS.get(block["type"], ""))
    return type(value) is str and value.startswith(CARRIED.decode())
