"""What servers of OpenAI's family can be asked for beside chat, in their own words: requests and answers pass as they
came, and are read beside that for completeness, errors and usage.

Wire facts from OpenAI's API reference, for `rerank` from vLLM's and Together's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from policies.verdict import Kind
from proxy.errors import UpstreamError
from proxy.providers.base import Built, Decoder, Endpoint, Minted, Speaker
from proxy.providers.openai import BodyDecoder, StreamDecoder
from proxy.providers.openai_responses import Responses, usage_in
from proxy.providers.passed import PassedBytes, PassedEvents
from proxy.providers.plain import PlainBody, openai_usage
from proxy.wire.chunk import Json, Usage
from proxy.wire.request import Request


def any_usage(body: Json) -> Usage | None:
    """Counts under chat's names or under those of Responses, as pictures and transcripts have them."""
    usage = body.get("usage")
    if type(usage) is dict and "input_tokens" in usage:
        return usage_in(body)
    return openai_usage(body)


class Passed:
    """One JSON object in, one JSON object out. `needs`: the member without which it is no answer."""

    def __init__(self, path: str, needs: str) -> None:
        self._path = path
        self._needs = needs

    def path(self, to: Endpoint, stream: bool) -> str:
        return self._path

    def build(self, ask: Request, to: Endpoint) -> Built:
        # The config's `params` are a chat's; what is forced is forced everywhere else by its own name.
        return Built(ask.for_upstream(to.model))

    def decoder(self, ask: Request, to: Endpoint, minted: Minted) -> Decoder:
        return PassedEvents(any_usage) if ask.stream else PlainBody(self._needs, any_usage)


class Media(Passed):
    """Bytes of any kind out, and perhaps a form of several parts in."""

    per_call = frozenset({b"content-type"})

    def build(self, ask: Request, to: Endpoint) -> Built:
        return Built(ask.for_upstream(to.model), (), ask.headers)

    def decoder(self, ask: Request, to: Endpoint, minted: Minted) -> Decoder:
        return PassedEvents(any_usage) if ask.wants_events else PassedBytes(ask.stream, any_usage)


class Completions:
    """`POST /v1/completions`."""

    def path(self, to: Endpoint, stream: bool) -> str:
        return "/completions"

    def build(self, ask: Request, to: Endpoint) -> Built:
        return Built(ask.for_upstream(to.model, ask_usage=to.usage_in_stream))

    def decoder(self, ask: Request, to: Endpoint, minted: Minted) -> Decoder:
        return StreamDecoder(1) if ask.stream else CompletionBody()


class CompletionBody(BodyDecoder):
    __slots__ = ()

    def _choice(self, choice: object) -> None:
        if type(choice) is not dict or type(choice.get("text")) is not str:
            raise UpstreamError(Kind.MALFORMED, "decoder", "a choice without text", status=200)
        reason = choice.get("finish_reason")
        if reason == "error":
            raise UpstreamError(Kind.MALFORMED, "decoder", "finish reason `error`", status=200)
        if self.finish_reason is None and type(reason) is str and reason:
            self.finish_reason = reason


NATIVES: Mapping[str, Speaker[Any]] = {
    "responses": Responses(),
    "completions": Completions(),
    "embeddings": Passed("/embeddings", "data"),
    "moderations": Passed("/moderations", "results"),
    "images": Passed("/images/generations", "data"),
    "rerank": Passed("/rerank", "results"),
    "speech": Media("/audio/speech", ""),
    "transcriptions": Media("/audio/transcriptions", ""),
}
"""Operation -> who speaks it. Which of them a provider has stands in its catalog row."""


class Elsewhere:
    """The same operation at another address, and perhaps under another model's name."""

    def __init__(
        self, speaker: Speaker[Any], path: Callable[[Endpoint, str], str], known_as: Callable[[Endpoint], Endpoint]
    ) -> None:
        self._speaker = speaker
        self._path = path
        self._known_as = known_as
        self.per_call: frozenset[bytes] = getattr(speaker, "per_call", frozenset())

    def path(self, to: Endpoint, stream: bool) -> str:
        return self._path(to, self._speaker.path(to, stream))

    def build(self, ask: Request, to: Endpoint) -> Built:
        return self._speaker.build(ask, self._known_as(to))

    def decoder(self, ask: Request, to: Endpoint, minted: Minted) -> Decoder:
        return self._speaker.decoder(ask, to, minted)
