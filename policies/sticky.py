"""The same target for the same conversation, so that prompt caches hit, unless that target has too much to do.

Rendezvous hashing with a bound: each conversation has its own order of the targets, and takes the first whose load is
at most `bound` times the mean (or the mean plus four). When a target goes, only its own conversations move.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from random import Random
from typing import Annotated

from policies.base import Ask, Candidate, Choice, Setting, drawn

_SLACK = 4.0


@dataclass(frozen=True, slots=True)
class Sticky:
    on: Annotated[
        str,
        Setting("one", "What stays together: requests that begin alike, or conversations.", among=("prompt", "unit")),
    ] = "prompt"
    bound: Annotated[float, Setting("number", "Most load of a target, in multiples of the mean.", 1.0, 100.0)] = 1.25

    def plan(self, ask: Ask, candidates: Sequence[Candidate], rng: Random) -> Sequence[Choice]:
        key = ask.affinity if self.on == "prompt" else ask.unit
        weights = [one.weight * one.ramp or 1e-9 for one in candidates]
        mean = (sum([one.in_flight for one in candidates]) + 1.0) / sum(weights)
        most = max(self.bound * mean, mean + _SLACK)
        free = [(one.in_flight + 1.0) / weight <= most for one, weight in zip(candidates, weights, strict=True)]
        clocks = [-log(drawn(key, one.name)) / weight for one, weight in zip(candidates, weights, strict=True)]
        order = sorted(range(len(candidates)), key=lambda place: (not free[place], clocks[place]))
        total = sum([weight for weight, room in zip(weights, free, strict=True) if room])
        if not total:
            return [Choice(place, weights[place] / sum(weights)) for place in order]
        return [Choice(place, weights[place] / total if free[place] else 0.0) for place in order]
