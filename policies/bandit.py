"""Mostly the target with the best reward so far, and the others as often as they may still be better.

Discounted Thompson sampling: each target is chosen with the probability that it is the best one, as the rewards so far
have it. Old rewards fade (`discount` for each further one), so that a change is noticed. The probabilities are
computed on a grid and drawn from, rather than drawn by way of the rewards: so the recorded propensity is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import exp, log, prod, sqrt
from random import Random
from typing import Annotated

from policies.base import Ask, Candidate, Choice, Setting

_POINTS = 64


@dataclass(frozen=True, slots=True)
class Bandit:
    reward: Annotated[
        str,
        Setting(
            "one",
            "What is rewarded: answers that came, or what `POST /api/feedback` says of them.",
            among=("success", "feedback"),
        ),
    ] = "success"
    slo: Annotated[
        float | None,
        Setting("duration", "With `success`: an answer is rewarded if its first content came within this time."),
    ] = None
    discount: Annotated[float, Setting("number", "What a reward is worth after each further one.", 0.9, 1.0)] = 0.999

    def plan(self, ask: Ask, candidates: Sequence[Candidate], rng: Random) -> Sequence[Choice]:
        chances = best_chances([one.posterior for one in candidates])
        means = [good / (good + bad) for good, bad in (one.posterior for one in candidates)]
        head = rng.choices(range(len(candidates)), chances)[0]
        order = sorted(range(len(candidates)), key=lambda place: (place != head, -means[place]))
        return [Choice(place, chances[place], means[place]) for place in order]


def best_chances(posteriors: Sequence[tuple[float, float]]) -> list[float]:
    """For each of several Beta distributions, the probability that its value is the largest."""
    if len(set(posteriors)) == 1:
        return [1.0 / len(posteriors)] * len(posteriors)
    low, high = 1.0, 0.0
    for good, bad in posteriors:
        mean = good / (good + bad)
        spread = 5.0 * sqrt(mean * (1.0 - mean) / (good + bad + 1.0))
        low, high = min(low, mean - spread), max(high, mean + spread)
    low, high = max(0.0, low), min(1.0, high)
    step = (high - low) / _POINTS
    points = [low + step * (at + 0.5) for at in range(_POINTS)]
    logs = [(log(x), log(1.0 - x)) for x in points]
    densities, below = [], []
    for good, bad in posteriors:
        heights = [(good - 1.0) * a + (bad - 1.0) * b for a, b in logs]
        top = max(heights)
        weights = [exp(height - top) for height in heights]
        total = sum(weights)
        densities.append(weights)
        below.append([(run - weight / 2.0) / total for run, weight in zip(accumulate(weights), weights, strict=True)])
    chances = []
    for arm, weights in enumerate(densities):
        others = [cumulated for other, cumulated in enumerate(below) if other != arm]
        beaten = [prod(column) for column in zip(*others, strict=True)]
        chances.append(sum([weight * all_ for weight, all_ in zip(weights, beaten, strict=True)]) / sum(weights))
    whole = sum(chances)
    return [chance / whole for chance in chances]
