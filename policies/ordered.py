"""The order of the config: the first target serves, the others stand by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from policies.base import Ask, Candidate, Choice


@dataclass(frozen=True, slots=True)
class Ordered:
    def plan(self, ask: Ask, candidates: Sequence[Candidate], rng: Random) -> Sequence[Choice]:
        return [Choice(index, 1.0 if index == 0 else 0.0) for index in range(len(candidates))]
