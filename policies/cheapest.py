"""The least expensive target that keeps the service level; prices as they come out with our own cache hits.

A target misses the level when its share of answers slower than `slo` is shown to be above `miss` (lower bound of
Wilson's interval, 95 %, one-sided), or is above it where many were seen. Asking for the opposite, that keeping the
level be shown before a target may serve, would never let one serve whose share is near `miss`: it would not be asked
often enough to show it. Old answers fade, so that a target that was too slow is tried again. Those that miss the
level, and those whose price is not known, are fallbacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from random import Random
from typing import Annotated

from policies.base import Ask, Candidate, Choice, Setting, first
from policies.ranked import expected_price

_Z = 1.645
_MANY = 10.0
"""Slow answers among those seen, if the share were `miss`: from so many on the share itself tells."""
_UNKNOWN = 1e9


@dataclass(frozen=True, slots=True)
class Cheapest:
    slo: Annotated[float | None, Setting("duration", "Longest time to first content that is good enough.")] = None
    miss: Annotated[float, Setting("share", "Share of the answers that may be slower.", 0.001, 0.5)] = 0.05

    def plan(self, ask: Ask, candidates: Sequence[Candidate], rng: Random) -> Sequence[Choice]:
        prices = [expected_price(ask, one) for one in candidates]
        scores = [_UNKNOWN if price is None else price for price in prices]
        late = [self.slo is not None and self._misses(one, self.slo) for one in candidates]
        return first(sorted(range(len(candidates)), key=lambda place: (late[place], scores[place])), scores)

    def _misses(self, candidate: Candidate, slo: float) -> bool:
        slow, count = candidate.latency.beyond(slo) if candidate.latency is not None else (0.0, 0.0)
        if count < 1.0:
            return False
        if count * self.miss >= _MANY:
            return slow / count > self.miss
        return wilson(slow, count)[0] > self.miss


def wilson(hits: float, count: float) -> tuple[float, float]:
    """Bounds of a share, each one-sided at 95 %."""
    share, z2 = hits / count, _Z * _Z
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z * sqrt(share * (1 - share) / count + z2 / (4 * count * count)) / (1 + z2 / count)
    return max(0.0, middle - half), min(1.0, middle + half)
