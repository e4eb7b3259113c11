"""The order of the config: the first target serves, the others stand by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from policies.base import Ask, Candidate, Choice, first


@dataclass(frozen=True, slots=True)
class Ordered:
    def plan(self, ask: Ask, candidates: Sequence[Candidate], rng: Random) -> Sequence[Choice]:
        return first(range(len(candidates)))
