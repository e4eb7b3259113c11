"""When a second attempt may be made beside a first that is late: rarely, and only where it costs little.

After the quantile of the target's own recent times to first content (95 % of requests never wait so long), at least
0.3 s and not before 100 answers have been seen; and at most in so many of a hundred requests, by a bucket that each
request fills a little (Dean and Barroso, The Tail at Scale). Times are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass

from policies.recent import Recent

SAMPLES = 100
SOONEST = 0.3
CAP = 10.0
LARGEST = 32_000
"""Bytes of a request that may be sent twice (some 8,000 tokens): a hedge's prompt is paid for."""
LEVEL = 0.2
"""Share of the second target's rate limits that must be left."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What a route allows."""

    quantile: float = 0.95
    share: float = 0.05
    """Of the requests that may be hedged."""


class Hedges:
    """The bucket of one route."""

    __slots__ = ("level", "terms")

    def __init__(self, terms: Terms) -> None:
        self.terms = terms
        self.level = 0.0

    def delay(self, recent: Recent, size: int) -> float | None:
        """How long a request of `size` bytes waits for first content before it may be hedged; None: it is not.

        Each request that asks fills the bucket a little.
        """
        self.level = min(CAP, self.level + self.terms.share)
        if size > LARGEST:
            return None
        late = recent.quantile(self.terms.quantile, SAMPLES)
        return None if late is None else max(SOONEST, late)

    def spend(self) -> bool:
        """Whether one more may be made; it is then counted."""
        if self.level < 1.0:
            return False
        self.level -= 1.0
        return True
