"""How sure one may be of a difference, however often one looks: e-processes and confidence sequences.

An experiment compares two arms, unit by unit: d = score(candidate) - score(primary), in [-1, 1]. An *e-value* is what
a fair bet against a hypothesis would have turned one unit of money into; if the hypothesis is true, the chance that it
*ever* reaches 1/a is at most a (Ville), so a test may stop whenever it likes. Units must be independent and have a
stable mean; under drift the answer is about the average over time.

The bets of `log_above` and `log_below` are fixed beforehand, so their value depends on nothing but the histogram of
the differences: histograms of several processes are added, and a verdict is recomputed from what SQL counts.
Sources: Waudby-Smith & Ramdas 2024 (betting), Waudby-Smith et al. 2024 (asymptotic sequences), Howard & Ramdas 2022
(quantiles). E-values are natural logarithms throughout.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import exp, inf, lgamma, log, log1p, sqrt
from typing import NamedTuple

BINS = 201
"""Differences are counted in bins of 0.01 from -1 (bin 0) over 0 (bin 100) to 1 (bin 200)."""
_STEP = (BINS - 1) // 2

BETS = tuple(0.01 * 190.0 ** (k / 15) for k in range(16))
"""Shares of the stake, 0.01 to 1.9 in equal ratios; each has a sixteenth of the money."""
_LARGEST = 0.99
"""No bet may lose more than this share of its stake in one unit, so that none is ever ruined by one."""

Counts = Mapping[int, int]
"""Bin -> number of units. Bins without units may be missing."""


class Interval(NamedTuple):
    low: float
    high: float


def bin_of(difference: float, id: str) -> int:
    """The bin of one unit's difference. One between two bins goes to either, with the odds that keep the mean.

    The draw comes from the pair's `id`, so that the same pair always falls into the same bin.
    """
    place = (min(1.0, max(-1.0, difference)) + 1.0) * _STEP
    below = int(place)
    rest = place - below
    if rest < 1e-9:
        return below
    if rest > 1 - 1e-9:
        return below + 1
    return below + (_draw(id) < rest)


def _draw(id: str) -> float:
    """A number in [0, 1) that is uniform over ids."""
    return (int.from_bytes(hashlib.blake2b(id.encode(), digest_size=8).digest()) >> 11) / 2.0**53


def count(bins: Iterable[int]) -> dict[int, int]:
    counts: dict[int, int] = {}
    for bin in bins:
        counts[bin] = counts.get(bin, 0) + 1
    return counts


def merged(*parts: Counts) -> dict[int, int]:
    """The histogram of all the units of the parts."""
    whole: dict[int, int] = {}
    for part in parts:
        for bin, number in part.items():
            whole[bin] = whole.get(bin, 0) + number
    return whole


def total(counts: Counts) -> int:
    return sum(counts.values())


def mean(counts: Counts) -> float:
    """Mean difference in [-1, 1]; 0 without units."""
    return sum((bin / _STEP - 1.0) * number for bin, number in counts.items()) / (total(counts) or 1)


def deviation(counts: Counts) -> float:
    """Standard deviation of the differences; 0 below two units."""
    n = total(counts)
    if n < 2:
        return 0.0
    centre = mean(counts)
    return sqrt(sum((bin / _STEP - 1.0 - centre) ** 2 * number for bin, number in counts.items()) / (n - 1))


def log_above(counts: Counts, null: float) -> float:
    """ln of the e-value against "the mean difference is at most `null`": large when it is above."""
    return _log_mixture(counts, (1.0 + null) / 2.0)


def log_below(counts: Counts, null: float) -> float:
    """ln of the e-value against "the mean difference is at least `null`": large when it is below."""
    return _log_mixture({BINS - 1 - bin: number for bin, number in counts.items()}, (1.0 - null) / 2.0)


def _log_mixture(counts: Counts, centre: float) -> float:
    """Bets that x = bin / 200 is above `centre` on average. Falls as `centre` rises, whatever the counts."""
    most = _LARGEST / centre if centre > 0 else inf
    pairs = [(bin / (BINS - 1) - centre, number) for bin, number in counts.items() if number]
    gains = []
    for bet in BETS:
        share = min(bet, most)
        gains.append(sum([number * log1p(share * x) for x, number in pairs]))
    best = max(gains)
    return best + log(sum([exp(gain - best) for gain in gains]) / len(gains))


def bar(alpha: float, shares: int = 1) -> float:
    """ln of what an e-value must reach for one side of a test at `alpha`, shared evenly by several."""
    return log(2.0 * shares / alpha)


def sequence(counts: Counts, alpha: float) -> Interval:
    """Confidence sequence of the mean difference: at all times together it holds the mean with chance >= 1 - alpha."""
    if not total(counts):
        return Interval(-1.0, 1.0)
    needed = bar(alpha)
    centre = mean(counts)
    low = _crossing(-1.0, centre, lambda null: log_above(counts, null) >= needed)
    high = -_crossing(-1.0, -centre, lambda null: log_below(counts, -null) >= needed)
    return Interval(low, high)


def _crossing(low: float, high: float, excluded: Callable[[float], bool]) -> float:
    """The end of the excluded values, which begin at `low` and never reach `high`; on their side of it."""
    if not excluded(low):
        return low
    for _ in range(24):
        middle = (low + high) / 2.0
        if excluded(middle):
            low = middle
        else:
            high = middle
    return low


def asymptotic_width(n: int, alpha: float, horizon: int = 200) -> float:
    """Half the width, in standard deviations, of a sequence for the mean of anything with a variance.

    Valid in the limit only: from about 100 units on. Tightest near `horizon` units.
    """
    if n < 2:
        return inf
    spread = (-2.0 * log(alpha) + log(-2.0 * log(alpha) + 1.0)) / horizon
    room = n * spread + 1.0
    return sqrt(room / (n * n * spread) * log(room / (alpha * alpha)))


class Ratio(NamedTuple):
    """Sums over units of what both arms took (dollars, say): all that a ratio of the totals needs; parts are added."""

    n: int = 0
    candidate: float = 0.0
    primary: float = 0.0
    candidate2: float = 0.0
    """Sum of squares."""
    product: float = 0.0
    primary2: float = 0.0

    def plus(self, candidate: float, primary: float) -> Ratio:
        return self.merged(Ratio(1, candidate, primary, candidate * candidate, candidate * primary, primary * primary))

    def merged(self, other: Ratio) -> Ratio:
        return Ratio(
            self.n + other.n,
            self.candidate + other.candidate,
            self.primary + other.primary,
            self.candidate2 + other.candidate2,
            self.product + other.product,
            self.primary2 + other.primary2,
        )

    @property
    def value(self) -> float | None:
        return self.candidate / self.primary if self.primary > 0 else None

    def sequence(self, alpha: float, horizon: int = 200) -> Interval:
        """Asymptotic confidence sequence of E[candidate] / E[primary], from the units' contrasts (Fieller)."""
        n, open_ended = self.n, Interval(0.0, inf)
        if n < 2 or self.primary <= 0:
            return open_ended
        width2 = asymptotic_width(n, alpha, horizon) ** 2
        c, p = self.candidate / n, self.primary / n
        scale = n / (n - 1)
        var_c = max(0.0, self.candidate2 / n - c * c) * scale
        var_p = max(0.0, self.primary2 / n - p * p) * scale
        covariance = (self.product / n - c * p) * scale
        # (c - r p)^2 <= width^2 var(C - r P), solved for r.
        square = p * p - width2 * var_p
        if square <= 0:
            return open_ended
        middle = (c * p - width2 * covariance) / square
        root = sqrt(max(0.0, middle * middle - (c * c - width2 * var_c) / square))
        return Interval(max(0.0, middle - root), middle + root)


def log_wins(wins: int, losses: int) -> float:
    """ln of the e-value against "both arms win equally often" (ties left out): a bet on either side."""
    prior = 2.0 * lgamma(0.5)
    return lgamma(wins + 0.5) + lgamma(losses + 0.5) - lgamma(wins + losses + 1.0) - prior + (wins + losses) * log(2.0)


def quantile_places(n: int, p: float, alpha: float) -> tuple[int, int]:
    """Places in the sorted values (1 to n) between which the p-quantile lies, at all times; 0 and n + 1: unbounded.

    For showing. Two such intervals that do not overlap are a test, but a weak one.
    """
    a, b, bar = 20.0 * p, 20.0 * (1.0 - p), log(1.0 / alpha)
    start = lgamma(a) + lgamma(b) - lgamma(a + b)

    def kept(k: int) -> bool:
        """Whether the quantile may have `k` of the values at or below it."""
        money = lgamma(a + k) + lgamma(b + n - k) - lgamma(a + b + n) - start
        return money - k * log(p) - (n - k) * log(1.0 - p) < bar

    near = min(n, max(0, round(n * p)))
    low = _last(near, 0, kept)
    high = _last(near, n, kept)
    return low, high + 1


def _last(start: int, end: int, kept: Callable[[int], bool]) -> int:
    """The last k from `start` towards `end` that is kept; the kept ones are neighbours."""
    inside, outside = start, end
    if kept(end):
        return end
    while abs(outside - inside) > 1:
        middle = (inside + outside) // 2
        if kept(middle):
            inside = middle
        else:
            outside = middle
    return inside


def quantile(values: Sequence[float], p: float, alpha: float) -> tuple[float, Interval]:
    """The p-quantile of `values` (sorted) and its confidence sequence; infinite where there are too few."""
    n = len(values)
    low, high = quantile_places(n, p, alpha)
    return (
        values[min(n - 1, int(n * p))],
        Interval(values[low - 1] if low >= 1 else -inf, values[high - 1] if high <= n else inf),
    )


class Plan(NamedTuple):
    """What an experiment will take, in units."""

    likely: int
    """Median until arms that are equal are shown equal within the margin."""
    most: int
    """Nine in ten experiments have their verdict by then: equal arms, and a candidate worse by twice the margin."""
    days: float | None
    """For the likely number, where the traffic is known."""
    usd: float | None
    """For the likely number of units, every call of theirs counted."""


def plan(
    deviation: float,
    margin: float,
    alpha: float = 0.05,
    metrics: int = 1,
    *,
    units_per_day: float | None = None,
    calls_per_unit: float = 1.0,
    usd_per_call: float | None = None,
) -> Plan:
    """`deviation`: of the paired differences. `units_per_day`: those sampled. `metrics`: that share alpha for harm.

    Units grow with (deviation / margin)^2 and the logarithm of the bar (about 9 and 0.05: measured by simulation); and
    even where the arms never differ, no bet gains faster than its largest stake allows, which takes some 6 / margin.
    """

    def units(bar: float) -> float:
        return max((2.0 * log(bar) + 1.6) * (deviation / margin) ** 2, 1.6 * log(bar) / margin, 100.0)

    likely, worse = round(units(2.0 / alpha)), round(units(2.0 * metrics / alpha))
    days = likely / units_per_day if units_per_day else None
    usd = likely * calls_per_unit * usd_per_call if usd_per_call is not None else None
    return Plan(likely, 2 * worse, days, usd)
