"""Estimates with their intervals, in the standard library: what a report may say about a sample, and what not.

Pure. Intervals are two-sided 95 %. Shares: Wilson. Quantiles: order statistics, whose ranks follow from the binomial
distribution alone, whatever the latencies look like; a quantile of too small a sample has no interval and is not told.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

LEVEL = 0.95
Z = 1.959963984540054


class Estimate(NamedTuple):
    value: float | None
    low: float | None
    high: float | None
    n: int
    """What it was computed from."""
    note: str = ""
    """Why there is no value or no interval."""


def share(k: int, n: int) -> Estimate:
    """k of n."""
    if not n:
        return Estimate(None, None, None, 0, "nothing to count")
    p = k / n
    middle = p + Z * Z / (2 * n)
    spread = Z * math.sqrt(p * (1 - p) / n + Z * Z / (4 * n * n))
    whole = 1 + Z * Z / n
    return Estimate(p, max(0.0, (middle - spread) / whole), min(1.0, (middle + spread) / whole), n)


def least(q: float) -> int:
    """The smallest sample of which the quantile `q` has an interval on both sides (p95: 72, p99: 368)."""
    tail = (1 - LEVEL) / 2
    return math.ceil(max(math.log(tail) / math.log(q), math.log(tail) / math.log(1 - q)))


def ranks(n: int, q: float) -> tuple[int, int] | None:
    """Ranks (from 1) of the order statistics between which the quantile lies; None where n is too small."""
    if n < least(q):
        return None
    tail = (1 - LEVEL) / 2
    low = high = 0
    below = 0.0
    spread = 12 * math.sqrt(n * q * (1 - q)) + 12
    first, last = max(0, int(n * q - spread)), min(n, int(n * q + spread) + 1)
    odds = math.log(q) - math.log1p(-q)
    at = _log_binomial(n, first, q)
    found_low = False
    for k in range(first, last + 1):
        below += math.exp(at)
        if not found_low and below >= tail:
            low, found_low = k, True
        if below >= 1 - tail:
            high = k + 1
            break
        at += math.log(n - k) - math.log(k + 1) + odds if k < n else 0.0
    return (low, high) if low >= 1 and high <= n else None


def _log_binomial(n: int, k: int, p: float) -> float:
    chosen = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return chosen + k * math.log(p) + (n - k) * math.log1p(-p)


def quantile(ordered: Sequence[float], q: float) -> Estimate:
    """Of an ascending sample; the rule between two samples is linear. Infinite: it did not come at all.

    A sample too small for an interval gets no value either: it would be a number that means nothing.
    """
    n = len(ordered)
    found = ranks(n, q)
    if found is None:
        return Estimate(None, None, None, n, f"n too small: needs {least(q)}")
    place = (n - 1) * q
    below = math.floor(place)
    value = ordered[below]
    if place > below:
        above = ordered[below + 1]
        value = math.inf if math.isinf(above) else value + (above - value) * (place - below)
    return Estimate(value, ordered[found[0] - 1], ordered[found[1] - 1], n)


def quantile_of(counts: Sequence[tuple[float, int]], q: float) -> Estimate:
    """As `quantile`, of values in ascending order and how often each occurs; the nearest rank."""
    n = sum([count for _, count in counts])
    found = ranks(n, q)
    if found is None:
        return Estimate(None, None, None, n, f"n too small: needs {least(q)}")
    told: list[float] = []
    seen = 0
    wanted = (found[0], math.ceil(n * q - 1e-9), found[1])
    for value, count in counts:
        seen += count
        while len(told) < 3 and wanted[len(told)] <= seen:
            told.append(value)
    return Estimate(told[1], told[0], told[2], n)


class Sums:
    """For a ratio of two means, say cost per success, without keeping the sample."""

    __slots__ = ("n", "x", "xx", "xy", "y", "yy")

    def __init__(self) -> None:
        self.n = 0
        self.x = self.y = self.xx = self.yy = self.xy = 0.0

    def add(self, x: float, y: float = 1.0) -> None:
        self.n += 1
        self.x += x
        self.y += y
        self.xx += x * x
        self.yy += y * y
        self.xy += x * y

    def merge(self, n: int, x: float, y: float, xx: float, yy: float, xy: float) -> None:
        """Pairs of which only the sums are known."""
        self.n += n
        self.x += x
        self.y += y
        self.xx += xx
        self.yy += yy
        self.xy += xy

    def ratio(self) -> Estimate:
        """Sum of x by sum of y. The interval is the normal one of the residuals, from 30 on."""
        n = self.n
        if not self.y:
            return Estimate(None, None, None, n, "nothing to divide by")
        r = self.x / self.y
        if n < 30:
            return Estimate(r, None, None, n, "n too small for an interval: needs 30")
        rest = max(0.0, self.xx - 2 * r * self.xy + r * r * self.yy) / (n - 1)
        spread = Z * math.sqrt(rest / n) / (self.y / n)
        return Estimate(r, max(0.0, r - spread), r + spread, n)


def apart(one: Estimate, other: Estimate) -> bool | None:
    """Whether two estimates differ for certain: their intervals do not touch. None where one has none."""
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return None
    return one.low > other.high or other.low > one.high
