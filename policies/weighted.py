"""Shares by weight. A unit (a conversation) stays where it is: a change of one share moves no unit between others.

Each target draws a number from the hash of the unit and its own name, and the lowest of `-ln(u) / weight` wins: this
is the first of independent clocks that run at the speeds of the weights, so that shares are exact, and a change of one
clock changes only who is before or behind it (weighted rendezvous hashing).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from random import Random
from typing import Annotated

from policies.base import Ask, Candidate, Choice, Setting, drawn


@dataclass(frozen=True, slots=True)
class Weighted:
    seed: Annotated[str, Setting("text", "Another seed deals the units anew.")] = ""

    def plan(self, ask: Ask, candidates: Sequence[Candidate], rng: Random) -> Sequence[Choice]:
        weights = [candidate.weight * candidate.ramp for candidate in candidates]
        total = sum(weights)
        clocks = [
            -log(drawn(self.seed, ask.unit, candidate.name)) / weight if weight else float("inf")
            for candidate, weight in zip(candidates, weights, strict=True)
        ]
        if not total:
            return [Choice(place, 1.0 / len(candidates)) for place in range(len(candidates))]
        order = sorted(range(len(candidates)), key=clocks.__getitem__)
        return [Choice(place, weights[place] / total, weights[place] / total) for place in order]
