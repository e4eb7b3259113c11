"""A candidate gets a growing share of the conversations, step by step, as long as it is shown to be no worse.

This file deals the units; whether the share grows, holds or falls back to nothing is decided by `policies.rollout`
from what came of them, and arrives here as the candidate's `share`. The draw is nested: a unit that had the canary at
1 % has it at 5 %, too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Annotated

from policies.base import Ask, Candidate, Choice, Setting, called, drawn, first
from policies.rollout import Terms


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
    margin: Annotated[
        float, Setting("share", "How much lower its share of conversations without a failure may be.", 0.001, 0.5)
    ] = 0.02
    slo: Annotated[float | None, Setting("duration", "First content should come within this time.")] = None
    slower: Annotated[
        float, Setting("share", "How much lower its share of answers within `slo` may be.", 0.001, 0.5)
    ] = 0.05
    alpha: Annotated[float, Setting("number", "Twice the chance of a wrong verdict of either kind.", 0.001, 0.5)] = 0.05
    units: Annotated[int, Setting("whole", "Pairs of conversations that a step must have seen.", 1)] = 100
    hold: Annotated[float, Setting("duration", "Shortest time of a step.")] = 60.0
    patience: Annotated[float, Setting("duration", "Time after which a step that has shown nothing is given up.")] = (
        7 * 86400.0
    )
    seed: Annotated[str, Setting("text", "Another seed deals the conversations anew.")] = ""

    def __post_init__(self) -> None:
        if not self.steps or list(self.steps) != sorted(set(self.steps)) or not 0.0 < self.steps[0] <= 1.0:
            raise ValueError("steps must rise, from more than 0% to at most 100%")

    def terms(self) -> Terms:
        """How the rollout is judged."""
        margins = {"success": self.margin}
        if self.slo is not None:
            margins["fast"] = self.slower
        return Terms(self.steps, margins, self.alpha, self.units, self.hold, self.patience)

    def deals(self, unit: str, share: float) -> bool:
        """Whether the candidate has this unit at that share."""
        return drawn("canary", self.seed, self.candidate, unit) < share

    def plan(self, ask: Ask, candidates: Sequence[Candidate], rng: Random) -> Sequence[Choice]:
        places = range(len(candidates))
        trial = [place for place in places if called(candidates[place].name, self.candidate)]
        rest = [place for place in places if place not in trial]
        unit = ask.unit  # read in any case, so that the record has it
        if not trial or not rest:
            return first(places)
        share = candidates[trial[0]].share
        share = self.steps[0] if share is None else share
        chosen = self.deals(unit, share)
        chances = {trial[0]: share, rest[0]: 1.0 - share}
        order = trial + rest if chosen else rest + trial
        return [Choice(place, chances.get(place, 0.0), share, "canary" if chosen else "control") for place in order]
