"""A candidate gets a growing share of the conversations, step by step, as long as it is shown to be no worse.

This file deals the units; whether the share grows, holds or falls back to nothing is decided by `policies.trial`
from what came of them, and arrives here as the candidate's `share`. The draw is nested: a unit that had the canary at
1 % has it at 5 %, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Annotated

from policies.base import Ask, Candidate, Choice, Setting, called, drawn, first


@dataclass(frozen=True, slots=True)
class Canary:
    candidate: Annotated[str, Setting("text", "The name of the target on trial.")]
    steps: Annotated[tuple[float, ...], Setting("share", "Shares of the conversations, one step after the other.")] = (
        0.01,
        0.05,
        0.25,
        0.5,
        1.0,
    )
    seed: Annotated[str, Setting("text", "Another seed deals the conversations anew.")] = ""

    def plan(self, ask: Ask, candidates: Sequence[Candidate], rng: Random) -> Sequence[Choice]:
        places = range(len(candidates))
        trial = [place for place in places if called(candidates[place], self.candidate)]
        rest = [place for place in places if place not in trial]
        if not trial or not rest:
            return first(places)
        share = candidates[trial[0]].share
        share = self.steps[0] if share is None else share
        chosen = drawn("canary", self.seed, self.candidate, ask.unit) < share
        chances = {trial[0]: share, rest[0]: 1.0 - share}
        order = trial + rest if chosen else rest + trial
        return [Choice(place, chances.get(place, 0.0), share, "canary" if chosen else "control") for place in order]
