"""Embeddings as the simulated upstream makes them: vectors of length 1 that depend on the text alone."""

from __future__ import annotations

import struct
from base64 import b64encode
from math import sqrt
from random import Random
from typing import Any

import orjson

from proxy.simulated.answer import Complaint, Wanted, digest
from proxy.simulated.dialect import Rules
from proxy.simulated.openai_fields import EMBEDDINGS, checked, invalid

DIMENSIONS = 16


def read_embeddings(body: object, rules: Rules) -> Wanted:
    """In OpenAI's form. Raises Complaint."""
    ask = checked(body, EMBEDDINGS, rules)
    given = ask.get("input")
    inputs: list[Any] = given if type(given) is list else [given]
    if inputs and type(inputs[0]) is int:
        inputs = [inputs]
    for one in inputs:
        if not (type(one) is str and one) and not (type(one) is list and all(type(token) is int for token in one)):
            raise invalid("input", "'$.input' is invalid. Please check the API reference.")
    return wanted_of(inputs, ask["model"], ask.get("dimensions"), base64=ask.get("encoding_format") == "base64")


def read_embed(body: Any, model: str = "") -> Wanted:
    """In Cohere's form; the same on Bedrock, where the model stands in the path. Raises Complaint."""
    texts = body.get("texts") if isinstance(body, dict) else None
    if type(texts) is not list or not all(type(text) is str for text in texts):
        raise Complaint(400, "invalid request: texts must be a list of strings")
    if body.get("input_type") not in ("search_document", "search_query", "classification", "clustering"):
        raise Complaint(400, "invalid request: valid input_type must be provided with the provided model")
    if not model and body.get("embedding_types") != ["float"]:
        raise Complaint(400, "invalid request: embedding_types")
    return wanted_of(texts, model or body["model"], body.get("output_dimension"))


def embedded(wanted: Wanted) -> dict[str, Any]:
    return {"embeddings": {"float": vectors(wanted)}, "response_type": "embeddings_by_type"}


def wanted_of(inputs: list[Any], model: str, dimensions: int | None, *, base64: bool = False) -> Wanted:
    if not inputs:
        raise Complaint(400, "The input is empty.", param="input")
    return Wanted(
        key=orjson.dumps(inputs),
        model=model,
        stream=False,
        prompt_tokens=sum(len(one) // 4 + 1 if type(one) is str else len(one) for one in inputs),
        form="embeddings",
        vectors=(len(inputs), dimensions or DIMENSIONS),
        base64=base64,
    )


def vectors(wanted: Wanted) -> list[list[float]]:
    """The same text has the same vector, whatever stands beside it."""
    told = []
    for text in orjson.loads(wanted.key)[: wanted.vectors[0]]:
        rng = Random(digest("embedding", orjson.dumps(text).decode()))
        values = [rng.gauss(0.0, 1.0) for _ in range(wanted.vectors[1])]
        length = sqrt(sum(value * value for value in values))
        told.append([_single(value / length) for value in values])
    return told


def in_base64(values: list[float]) -> str:
    return b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


def _single(value: float) -> float:
    """As a 32-bit number holds it."""
    (rounded,) = struct.unpack("<f", struct.pack("<f", value))
    return float(rounded)
