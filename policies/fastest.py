"""The faster of two that are drawn, by what an answer would take now; or the one whose quantile is lowest.

Never simply the lowest latency: everybody would run to it until it is the slowest. Two are drawn, and the one with the
lower `ttft * (load + 1)` is taken (power of two choices), where a failure counted as a slow answer, so that failing
fast attracts nobody. With `quantile` the target is the one whose recent time to first content has the lowest such
quantile: for hosted models whose speed does not hang on our own load. The others get `explore` of the requests each,
so that a change is seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from random import Random
from typing import Annotated

from policies.base import Ask, Candidate, Choice, Setting

_CURIOUS = 0.1
"""Share of the requests for a target of which too little is known."""
_FEW = 5.0


@dataclass(frozen=True, slots=True)
class Fastest:
    quantile: Annotated[
        float | None, Setting("share", "The quantile of the time to first content that is to be low.", 0.01, 0.99)
    ] = None
    explore: Annotated[
        float, Setting("share", "With `quantile`: share of the requests for each other target.", 0.001, 0.1)
    ] = 0.01

    def plan(self, ask: Ask, candidates: Sequence[Candidate], rng: Random) -> Sequence[Choice]:
        if len(candidates) == 1:
            return [Choice(0, 1.0)]
        return self._lowest(candidates, rng) if self.quantile is not None else _of_two(ask, candidates, rng)

    def _lowest(self, candidates: Sequence[Candidate], rng: Random) -> Sequence[Choice]:
        count, q = len(candidates), self.quantile or 0.5
        seen = [_known(one, q) for one in candidates]
        known = [seconds for seconds in seen if seconds is not None]
        if not known:
            chances = [1.0 / count] * count
        else:
            best = seen.index(min(known))
            chances = [self.explore if seconds is not None else _CURIOUS for seconds in seen]
            chances[best] = 0.0
            scale = min(1.0, 0.5 / sum(chances)) if any(chances) else 1.0
            chances = [chance * scale for chance in chances]
            chances[best] = 1.0 - sum(chances)
        head = rng.choices(range(count), chances)[0]
        rest = sorted(range(count), key=lambda place: (place != head, seen[place] is None, seen[place] or 0.0))
        return [Choice(place, chances[place], seen[place]) for place in rest]


def _known(candidate: Candidate, q: float) -> float | None:
    """The quantile; None where fewer than `_FEW` answers of late are known."""
    latency = candidate.latency
    return latency.quantile(q) if latency is not None and latency.beyond(0.0)[1] >= _FEW else None


def _of_two(ask: Ask, candidates: Sequence[Candidate], rng: Random) -> Sequence[Choice]:
    costs = _costs(ask, candidates)
    count = len(candidates)
    chances = [0.0] * count
    each = 2.0 / (count * (count - 1))
    for one, other in combinations(range(count), 2):
        if costs[one] == costs[other]:
            chances[one] += each / 2.0
            chances[other] += each / 2.0
        else:
            chances[one if costs[one] < costs[other] else other] += each
    one, other = rng.sample(range(count), 2)
    head = one if costs[one] <= costs[other] else other
    order = sorted(range(count), key=lambda place: (place != head, costs[place]))
    return [Choice(place, chances[place], costs[place]) for place in order]


def _costs(ask: Ask, candidates: Sequence[Candidate]) -> list[float]:
    """Seconds to first content, times how many requests like this one would be under way; unknown: as the fastest.

    Where all that are known were punished for failures, what is not known is better than that.
    """
    fastest = min([one.ttft for one in candidates if one.ttft is not None] + [1.0])
    costs = []
    for one in candidates:
        own = ask.size / 4.0 + ask.output
        load = one.outstanding / own if one.outstanding else one.in_flight
        costs.append((fastest if one.ttft is None else one.ttft) * (load + 1.0) / (one.weight * one.ramp or 1e-9))
    return costs
