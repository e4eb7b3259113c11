"""When requests are due. Pure: the same seed gives the same times."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random
from typing import NamedTuple


class Phase(NamedTuple):
    """A stretch of a load: either so many users, each of whom asks again when answered, or a rate of arrivals."""

    seconds: float
    users: int | None = None
    rate: float | None = None
    """Requests a second."""
    measured: bool = True
    """False while warming up."""

    @property
    def label(self) -> str:
        return f"{self.users} user{'s' if self.users != 1 else ''}" if self.users is not None else f"{self.rate:g}/s"


def constant(rate: float, seconds: float) -> Iterator[float]:
    """Evenly spaced, the first after half a step."""
    for number in range(round(rate * seconds)):
        yield (number + 0.5) / rate


def poisson(rate: float, seconds: float, rng: Random) -> Iterator[float]:
    """Independent arrivals, as of many users who do not know of each other."""
    at = rng.expovariate(rate)
    while at < seconds:
        yield at
        at += rng.expovariate(rate)


def recorded(times: Sequence[float], speed: float = 1.0) -> list[float]:
    """The arrivals of a record (seconds, any order), from its first one on; `speed` 2 plays it in half the time."""
    ordered = sorted(times)
    return [(at - ordered[0]) / speed for at in ordered]


def ramp(low: int, high: int, steps: int, seconds: float) -> list[Phase]:
    """Users from `low` to `high` in so many equal steps, each held for `seconds`."""
    if steps < 2:
        return [Phase(seconds, users=high)]
    counts = [round(low + (high - low) * step / (steps - 1)) for step in range(steps)]
    return [Phase(seconds, users=count) for count in dict.fromkeys(counts)]


class Search:
    """Looks for the highest rate at which a service level still holds: doubles until it does not, then halves the gap.

    Ask `next` for the rate to try, tell `tried` how it went, until `next` is None.
    """

    def __init__(self, first: float, highest: float, precision: float = 0.1) -> None:
        """`precision`: relative width of the gap at which the search ends."""
        self.good: float | None = None
        """The highest rate at which it held."""
        self.bad: float | None = None
        """The lowest at which it did not."""
        self._next: float | None = min(first, highest)
        self._highest = highest
        self._precision = precision

    @property
    def next(self) -> float | None:
        return self._next

    def tried(self, rate: float, held: bool) -> None:
        if held:
            self.good = rate if self.good is None else max(self.good, rate)
        else:
            self.bad = rate if self.bad is None else min(self.bad, rate)
        self._next = self._after()

    def _after(self) -> float | None:
        good, bad = self.good, self.bad
        if bad is None:
            assert good is not None  # noqa: S101
            return None if good >= self._highest else min(2 * good, self._highest)
        if good is None:
            return bad / 2 if bad > self._highest / 4096 else None
        return None if bad <= good * (1 + self._precision) else (good + bad) / 2
