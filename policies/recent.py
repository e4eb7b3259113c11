"""How long things took lately, without keeping them: for choosing targets, hedging and deadlines. Times in seconds."""

from __future__ import annotations

from math import exp, frexp

_PER_OCTAVE = 8
_LEAST = -10
"""Shortest time told apart: 2^-10 s, about a millisecond."""
_CLASSES = _PER_OCTAVE * 22
_LONG_AGO = 60.0
"""Exponent at which weights are scaled back before they grow out of a float."""


class Recent:
    """A histogram in classes of 1/8 octave (9 %), whose contents fade with time constant `fade`."""

    __slots__ = ("_counts", "_fade", "_missed", "_since", "_total", "_weight", "n")

    def __init__(self, fade: float = 300.0) -> None:
        self.n = 0
        """How many were added in all."""
        self._fade = fade
        self._since = 0.0
        self._counts: list[float] = []
        self._total = 0.0
        self._missed = 0.0
        self._weight = 1.0
        """Of the newest."""

    def add(self, seconds: float, now: float) -> None:
        # Old ones fade because new ones weigh more: nothing that is kept needs to be touched.
        age = (now - self._since) / self._fade
        if age > _LONG_AGO or not self._counts:
            self._rebase(now, age)
            age = 0.0
        weight = self._weight = exp(age)
        self._counts[_class_of(seconds)] += weight
        self._total += weight
        self.n += 1

    def missed(self, now: float) -> None:
        """There was no answer: for `beyond` it took longer than anything."""
        if not self._counts:
            self._rebase(now, 0.0)
        self._missed += exp(min(_LONG_AGO, (now - self._since) / self._fade))

    def as_of(self, now: float) -> Recent:
        """Itself, read at that moment: what is long ago counts less in `beyond`, whether or not anything came since."""
        if self._counts and now > self._since:
            self._weight = exp(min(_LONG_AGO, (now - self._since) / self._fade))
        return self

    def quantile(self, q: float, least: int = 1) -> float | None:
        """None before there were `least`."""
        if self.n < least or self._total <= 0.0:
            return None
        wanted = q * self._total
        seen = 0.0
        for place, count in enumerate(self._counts):
            if count and seen + count >= wanted:
                low, high = _bound(place), _bound(place + 1)
                return low + (high - low) * (wanted - seen) / count
            seen += count
        return None

    def beyond(self, seconds: float) -> tuple[float, float]:
        """(how many took longer, how many there were), a new one counting 1 and older ones less; by whole classes."""
        longer = sum(self._counts[_class_of(seconds) + 1 :]) + self._missed
        return longer / self._weight, (self._total + self._missed) / self._weight

    def _rebase(self, now: float, age: float) -> None:
        kept = exp(-min(age, 700.0)) if self._counts else 0.0
        self._counts = [count * kept for count in self._counts] or [0.0] * _CLASSES
        self._total *= kept
        self._missed *= kept
        self._since = now


def _class_of(seconds: float) -> int:
    if seconds <= 0.0:
        return 0
    fraction, exponent = frexp(seconds)  # fraction in [1/2, 1)
    place = (exponent - 1 - _LEAST) * _PER_OCTAVE + int((fraction * 2.0 - 1.0) * _PER_OCTAVE)
    return 0 if place < 0 else min(place, _CLASSES - 1)


def _bound(place: int) -> float:
    octave, part = divmod(place, _PER_OCTAVE)
    return float(2.0 ** (octave + _LEAST) * (1.0 + part / _PER_OCTAVE))


class Peak:
    """An average that believes bad news at once and good news slowly (peak EWMA, as Finagle has it).

    A slow average (over some 50 values) is what is usual; on it sits an excess that jumps up with a slow answer or a
    penalty and fades with time constant `fade`, also while nobody asks: a target that was slow gets another chance.
    """

    __slots__ = ("_at", "_excess", "_fade", "_n", "_usual")

    def __init__(self, fade: float = 30.0) -> None:
        self._fade = fade
        self._at = 0.0
        self._n = 0
        self._usual = 0.0
        self._excess = 0.0

    def add(self, seconds: float, now: float) -> None:
        kept = exp(-max(0.0, now - self._at) / self._fade)
        self._at = now
        self._n += 1
        self._usual += (seconds - self._usual) / min(self._n, 50)
        above = seconds - self._usual
        excess = self._excess * kept
        self._excess = above if above > excess else excess + (above - excess) * (1.0 - kept)

    def punish(self, seconds: float, now: float) -> None:
        """A failure counts as an answer that took so long, but only for a while."""
        kept = exp(-max(0.0, now - self._at) / self._fade)
        self._at = now
        self._excess = max(seconds, self._excess * kept)

    @property
    def usual(self) -> float:
        """The slow average; 0 of nothing."""
        return self._usual

    def value(self, now: float) -> float | None:
        """None before the first."""
        if not self._n and self._excess == 0.0:
            return None
        return max(0.0, self._usual + self._excess * exp(-max(0.0, now - self._at) / self._fade))
