"""Cohere's embeddings, by its own API and on Bedrock.

Wire facts from Cohere's API reference (v2 embed) and Bedrock's (models of Cohere's). `input_type` is demanded by models
since v3 and has no counterpart in OpenAI's form: a client may give it by its own name, else texts are documents.
"""

from __future__ import annotations

from proxy.providers.base import Built, Decoder, Endpoint, Minted
from proxy.providers.embeddings import Embeddings, Vectors, count, wanted
from proxy.providers.plain import PlainBody
from proxy.wire.chunk import Json
from proxy.wire.request import Request, dumped

_DOCUMENT = "search_document"


class CohereEmbeddings:
    def path(self, to: Endpoint, stream: bool) -> str:
        return "/embed" if to.base_url.endswith("/v2") else "/v2/embed"

    def build(self, ask: Request, to: Endpoint) -> Built:
        return Built(dumped({"model": to.model, **cohere_body(ask, to)}))

    def decoder(self, ask: Request, to: Endpoint, minted: Minted) -> Decoder:
        return Embeddings(wanted(ask, to), to.model, cohere_vectors)


def cohere_body(ask: Request, to: Endpoint) -> Json:
    """Without the model, which stands elsewhere on Bedrock."""
    asked = wanted(ask, to)
    body: Json = {
        "texts": asked.texts,
        "input_type": ask.body.get("input_type") or _DOCUMENT,
        "embedding_types": ["float"],
    }
    if asked.dimensions is not None:
        body["output_dimension"] = asked.dimensions
    return body


def cohere_vectors(body: Json) -> Vectors:
    told = body["embeddings"]
    billed = (body.get("meta") or {}).get("billed_units") or {}
    return Vectors(told["float"] if type(told) is dict else told, count(billed.get("input_tokens")))


class CohereRerank:
    """`POST /v1/rerank`: Cohere's own form, which the others took over."""

    def path(self, to: Endpoint, stream: bool) -> str:
        return "/rerank" if to.base_url.endswith("/v2") else "/v2/rerank"

    def build(self, ask: Request, to: Endpoint) -> Built:
        return Built(ask.for_upstream(to.model))

    def decoder(self, ask: Request, to: Endpoint, minted: Minted) -> Decoder:
        return PlainBody("results")
