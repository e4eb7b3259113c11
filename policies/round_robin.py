"""Each target in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from policies.base import Ask, Candidate, Choice, first


@dataclass(frozen=True, slots=True)
class RoundRobin:
    def plan(self, ask: Ask, candidates: Sequence[Candidate], rng: Random) -> Sequence[Choice]:
        count = len(candidates)
        begin = ask.turn % count
        return first([(begin + step) % count for step in range(count)])
