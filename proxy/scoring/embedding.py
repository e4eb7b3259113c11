"""How near two texts are in an embedding: sameness, which never gates."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from math import sqrt

import orjson

from proxy.scoring.form import failed
from proxy.wire.answer import Answer

Embedding = Callable[[Sequence[str]], Awaitable[Sequence[Sequence[float]]]]
"""Asks any embeddings target; one vector a text, in order; none where it failed."""


def vectors(answer: bytes) -> list[list[float]]:
    """Those of an embeddings answer in OpenAI's form, in order; none where it is something else."""
    try:
        rows = orjson.loads(answer)["data"]
        return [[float(x) for x in row["embedding"]] for row in sorted(rows, key=lambda row: row["index"])]
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
        return []


async def same_meaning(embed: Embedding, primary: Answer, candidate: Answer) -> float | None:
    """Cosine of the two texts, nothing below 0; None unless both have text, or where there are no vectors."""
    if failed(primary) or failed(candidate) or not (primary.text.strip() and candidate.text.strip()):
        return None
    found = await embed([primary.text, candidate.text])
    return cosine(*found) if len(found) == 2 else None


def cosine(one: Sequence[float], other: Sequence[float]) -> float | None:
    size = sqrt(sum([a * a for a in one]) * sum([b * b for b in other]))
    if not size or len(one) != len(other):
        return None
    return min(1.0, max(0.0, sum([a * b for a, b in zip(one, other, strict=True)]) / size))
