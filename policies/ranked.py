"""A fixed order by price, latency or throughput: what a request's own `provider.sort` asks for.

What is not known comes last. There is no chance and no balance in it: whoever asks for it wants exactly that order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Annotated

from policies.base import Ask, Candidate, Choice, Setting, first

_FAR = 1e18


def expected_price(ask: Ask, candidate: Candidate) -> float | None:
    """USD for this request, if the answer is as long as expected; None where a price is not known."""
    if candidate.input_price is None or candidate.output_price is None:
        return None
    return (ask.tokens * candidate.input_price + ask.output * candidate.output_price) / 1e6


@dataclass(frozen=True, slots=True)
class Ranked:
    by: Annotated[str, Setting("one", "What comes first.", among=("price", "latency", "throughput"))] = "price"

    def plan(self, ask: Ask, candidates: Sequence[Candidate], rng: Random) -> Sequence[Choice]:
        known = [self._measure(ask, candidate) for candidate in candidates]
        scores = [_FAR if value is None else value for value in known]
        return first(sorted(range(len(candidates)), key=scores.__getitem__), scores, f"by {self.by}")

    def _measure(self, ask: Ask, candidate: Candidate) -> float | None:
        if self.by == "price":
            return expected_price(ask, candidate)
        return candidate.ttft if self.by == "latency" else candidate.tpot
