"""Servers that speak OpenAI's chat completions, but not quite: asked with their quirks in mind, answers made strict.

What is asked for stands in `compatible_request.py`, the parts of an answer in `tidy.py`; the decoders in
`strict_stream.py` and `strict_body.py`.
Where the endpoint says so, answers are passed on byte for byte as long as they keep OpenAI's form (`passing.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from proxy.errors import UpstreamError
from proxy.providers.base import Built, Decoder, Endpoint, Headers, Minted, Speaker
from proxy.providers.compatible_errors import compatible_error
from proxy.providers.compatible_request import build
from proxy.providers.openai import OpenAI, as_it_came
from proxy.providers.openai_operations import NATIVES
from proxy.providers.passing import PassingBody, PassingStream
from proxy.providers.strict_body import StrictBody
from proxy.providers.strict_stream import StrictStream
from proxy.wire.chat import ChatRequest


class Compatible(OpenAI):
    """The `openai` dialect for every server that speaks it, byte for byte or made strict."""

    natives: ClassVar[Mapping[str, Speaker[Any]]] = NATIVES

    def models_path(self, to: Endpoint) -> str:
        return "/models"

    def models_in(self, body: Any) -> list[Any]:
        return [one["id"] for one in (body if isinstance(body, list) else body["data"])]

    def build(self, ask: ChatRequest, to: Endpoint) -> Built:
        if ask.onward is not None and to.quirks.routes:
            to = to._replace(force={**ask.onward, **(to.force or {})})
        if to.verbatim and not ask.translated:
            return as_it_came(ask, to)
        return build(ask, to)

    def decoder(self, ask: ChatRequest, to: Endpoint, minted: Minted) -> Decoder:
        if to.verbatim:
            return PassingStream(ask, to, minted) if ask.stream else PassingBody(to, minted)
        return StrictStream(ask.n, to, minted) if ask.stream else StrictBody(to, minted)

    def error(self, status: int, headers: Headers, body: bytes) -> UpstreamError:
        return compatible_error(super().error(status, headers, body), body)
