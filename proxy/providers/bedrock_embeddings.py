"""Embeddings on Bedrock, by `InvokeModel`: each maker's models in a form of their own.

Wire facts from Amazon Bedrock's user guide (Titan text embeddings, Nova multimodal embeddings, Cohere Embed) and from
recorded traffic. Amazon's own models embed one text at a time.
"""

from __future__ import annotations

from urllib.parse import quote

from proxy.providers.base import Built, Decoder, Endpoint, Minted
from proxy.providers.cohere_embeddings import cohere_body, cohere_vectors
from proxy.providers.embeddings import Embeddings, Vectors, count, lone, wanted
from proxy.wire.chunk import Json
from proxy.wire.request import Request, dumped


class BedrockEmbeddings:
    def path(self, to: Endpoint, stream: bool) -> str:
        return f"/model/{quote(to.model, safe='')}/invoke"

    def build(self, ask: Request, to: Endpoint) -> Built:
        if "cohere." in to.model:
            return Built(dumped(cohere_body(ask, to)))
        asked = wanted(ask, to)
        text = lone(asked.texts, to)
        if "nova" in to.model:
            single: Json = {
                "embeddingPurpose": "GENERIC_INDEX",
                "text": {"value": text, "truncationMode": "NONE"},
            }
            if asked.dimensions is not None:
                single["embeddingDimension"] = asked.dimensions
            return Built(dumped({"taskType": "SINGLE_EMBEDDING", "singleEmbeddingParams": single}))
        size = {"dimensions": asked.dimensions} if asked.dimensions is not None else {}
        return Built(dumped({"inputText": text, **size}))

    def decoder(self, ask: Request, to: Endpoint, minted: Minted) -> Decoder:
        read = cohere_vectors if "cohere." in to.model else _nova if "nova" in to.model else _titan
        return Embeddings(wanted(ask, to), to.model, read)


def _titan(body: Json) -> Vectors:
    return Vectors([body["embedding"]], count(body.get("inputTextTokenCount")))


def _nova(body: Json) -> Vectors:
    return Vectors([one["embedding"] for one in body["embeddings"]], None)
