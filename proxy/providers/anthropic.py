"""The Anthropic Messages dialect: where it is spoken, with which headers, and what its errors mean.

Wire facts from Anthropic's API reference (authentication, versions, errors) and from recorded traffic.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from policies.verdict import Kind
from proxy.errors import UpstreamError
from proxy.providers.anthropic_answer import BodyDecoder, StreamDecoder
from proxy.providers.anthropic_models import model
from proxy.providers.anthropic_native import VERSION, CountTokens, Messages
from proxy.providers.anthropic_request import answer_tool, build
from proxy.providers.base import Built, Decoder, Endpoint, Headers, Minted, Speaker
from proxy.providers.errors import classify, error_in, retry_after, words
from proxy.wire.chat import ChatRequest
from proxy.wire.scribe import Scribe

OAUTH_BETA = b"oauth-2025-04-20"
"""Demanded with OAuth tokens (`sk-ant-oat…`), which travel as bearer tokens."""

_FILTERED = re.compile(r"content filtering policy", re.IGNORECASE)
_BROKE = re.compile(r"credit balance is too low|enforced_spend_limit_reached", re.IGNORECASE)


class Anthropic:
    """The dialect. One object serves every target that speaks it."""

    dialect = "anthropic"
    natives: ClassVar[Mapping[str, Speaker[Any]]] = {"messages": Messages(), "count_tokens": CountTokens()}

    def headers(self, to: Endpoint, credential: str | None, stream: bool) -> Headers:
        own = {name.lower().encode(): value.encode() for name, value in to.headers}
        fixed = {
            b"content-type": b"application/json",
            b"accept": b"text/event-stream" if stream else b"application/json",
            b"accept-encoding": b"identity",
            b"user-agent": b"weighbridge",
            b"anthropic-version": VERSION,
        }
        if credential is not None and credential.startswith("sk-ant-oat"):
            fixed[b"authorization"] = b"Bearer " + credential.encode()
            betas = own.get(b"anthropic-beta")
            own[b"anthropic-beta"] = betas + b"," + OAUTH_BETA if betas else OAUTH_BETA
        elif credential is not None:
            fixed[b"x-api-key"] = credential.encode()
        return list({**fixed, **own}.items())

    def path(self, to: Endpoint, stream: bool) -> str:
        return "/messages" if to.base_url.endswith("/v1") else "/v1/messages"

    def models_path(self, to: Endpoint) -> str:
        return f"{'' if to.base_url.endswith('/v1') else '/v1'}/models?limit=1000"

    def models_in(self, body: Any) -> list[Any]:
        return [one["id"] for one in body["data"]]

    def build(self, ask: ChatRequest, to: Endpoint) -> Built:
        return build(ask, to)

    def decoder(self, ask: ChatRequest, to: Endpoint, minted: Minted) -> Decoder:
        name = None
        if "response_format" in ask.body or to.params or to.force:
            name = answer_tool(ask.filled(to.params, to.force), model(to.model))
        scribe = Scribe(minted.id, minted.created, to.model, stream=ask.stream)
        return StreamDecoder(scribe, name) if ask.stream else BodyDecoder(scribe, name)

    def error(self, status: int, headers: Headers, body: bytes) -> UpstreamError:
        found = error_in(body)
        kind = classify(status, found)
        text = body.decode("utf-8", "replace")
        if kind in (Kind.BAD_REQUEST, Kind.RATE_LIMIT) and _BROKE.search(text):
            kind = Kind.QUOTA
        elif kind is Kind.BAD_REQUEST and _FILTERED.search(text):
            kind = Kind.CONTENT_FILTER
        return UpstreamError(
            kind,
            "status",
            f"{status} {words(found) or text[:500]}",
            status=status,
            retry_after=retry_after(headers),
            body=body if found is not None else None,
        )
