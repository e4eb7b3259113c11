"""The target with the least under way, measured by its weight; chance decides among equals.

Load is the estimated tokens outstanding, or the attempts in flight where no tokens are counted. It says nothing of
failures: a target that fails fast looks idle. The breaker bars such a target; `fastest` also counts failures as slow.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from policies.base import Ask, Candidate, Choice


@dataclass(frozen=True, slots=True)
class LeastLoaded:
    def plan(self, ask: Ask, candidates: Sequence[Candidate], rng: Random) -> Sequence[Choice]:
        loads = [(one.outstanding or one.in_flight) / (one.weight * one.ramp or 1e-9) for one in candidates]
        least = min(loads)
        ties = loads.count(least)
        order = sorted(range(len(candidates)), key=lambda place: (loads[place], rng.random()))
        return [Choice(place, 1.0 / ties if loads[place] == least else 0.0, loads[place]) for place in order]
