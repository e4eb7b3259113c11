"""What comes into the store from elsewhere: pairs of other processes, and what people say of answers."""

from __future__ import annotations

import asyncio

from proxy.measure.store.ledger import Ledger
from proxy.shadow.scores import rated
from proxy.shadow.standing import Score
from proxy.shadow.terms import Gauge, Terms

CYCLES = 60
"""How often more the store is taken to be shared after another process wrote to it."""


class Sharing:
    """Whether other processes write to the same store. All raise what the ledger raises."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._last = -1
        """The number of the last pair; -1 before that was looked up."""
        self._mine = 0
        """Pairs that this process stored since."""
        self._left = 0

    @property
    def begun(self) -> bool:
        return self._last >= 0

    def stored(self, pairs: int) -> None:
        """By this process."""
        self._mine += pairs

    async def with_others(self) -> bool:
        last, count = await asyncio.to_thread(self._ledger.pairs_after, max(0, self._last))
        if self.begun and count != self._mine:
            self._left = CYCLES
        self._last, self._mine = last, 0
        self._left = max(0, self._left - 1)
        return self._left > 0


def newly_rated(ledger: Ledger, terms: Terms, gauge: Gauge) -> list[Score]:
    """What people said of both answers of pairs since the last time; takes it down in the store."""
    if gauge.feedback is None:
        return []
    pairs = ledger.unrated(terms.name, terms.version, gauge.name, gauge.feedback)
    scores = [rated(gauge, pair.shadow_id, pair.primary, pair.candidate) for pair in pairs]
    ledger.rate([(pair.n, score) for pair, score in zip(pairs, scores, strict=True)])
    return scores
