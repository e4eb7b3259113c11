"""Gemini's and Vertex AI's embeddings.

Wire facts from Google's API references (`batchEmbedContents`; `embedContent` and `predict` of Vertex AI) and from
recorded traffic. On Vertex AI, models since gemini-embedding-2 are asked by `embedContent`, one text at a time.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from proxy.providers.base import Built, Decoder, Endpoint, Minted
from proxy.providers.embeddings import Embeddings, Vectors, count, lone, wanted
from proxy.wire.chunk import Json
from proxy.wire.request import Request, dumped

Address = Callable[[Endpoint, str], str]
"""The path of a model's method."""

_ALONE = re.compile(r"gemini-embedding-([2-9]|\d\d)")


class GeminiEmbeddings:
    def __init__(self, address: Address) -> None:
        self._address = address

    def path(self, to: Endpoint, stream: bool) -> str:
        return self._address(to, "batchEmbedContents")

    def build(self, ask: Request, to: Endpoint) -> Built:
        asked = wanted(ask, to)
        name = to.model if to.model.startswith(("models/", "tunedModels/")) else f"models/{to.model}"
        size = {"outputDimensionality": asked.dimensions} if asked.dimensions is not None else {}
        requests = [{"model": name, "content": {"parts": [{"text": text}]}, **size} for text in asked.texts]
        return Built(dumped({"requests": requests}))

    def decoder(self, ask: Request, to: Endpoint, minted: Minted) -> Decoder:
        return Embeddings(wanted(ask, to), to.model, _many)


class VertexEmbeddings:
    def __init__(self, address: Address) -> None:
        self._address = address

    def path(self, to: Endpoint, stream: bool) -> str:
        return self._address(to, "embedContent" if _ALONE.search(to.model) else "predict")

    def build(self, ask: Request, to: Endpoint) -> Built:
        asked = wanted(ask, to)
        size = {"outputDimensionality": asked.dimensions} if asked.dimensions is not None else {}
        if _ALONE.search(to.model):
            body: Json = {"content": {"parts": [{"text": lone(asked.texts, to)}]}, **size}
        else:
            body = {"instances": [{"content": text} for text in asked.texts], "parameters": size}
        return Built(dumped(body))

    def decoder(self, ask: Request, to: Endpoint, minted: Minted) -> Decoder:
        return Embeddings(wanted(ask, to), to.model, _one if _ALONE.search(to.model) else _predicted)


def _many(body: Json) -> Vectors:
    return Vectors([one["values"] for one in body["embeddings"]], _told(body))


def _one(body: Json) -> Vectors:
    return Vectors([body["embedding"]["values"]], _told(body))


def _told(body: Json) -> int | None:
    usage = body.get("usageMetadata")
    return count(usage.get("promptTokenCount")) if type(usage) is dict else None


def _predicted(body: Json) -> Vectors:
    told = [one["embeddings"] for one in body["predictions"]]
    counts = [one.get("statistics", {}).get("token_count") for one in told]
    known = all(isinstance(one, int | float) for one in counts)
    return Vectors([one["values"] for one in told], int(sum(counts)) if known else None)
