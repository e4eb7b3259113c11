"""Intervals and tests for benchmark results, from scipy and statsmodels; each says what it takes as its unit.

The unit for quality is the prompt: repeats of one prompt are averaged first, since pooling them understates the error
(by a fifth for three repeats). The unit for latency quantiles is the request. Every function that draws takes its own
seeded generator, so that a report made twice is the same to the byte. Fractions throughout, never per cent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats as scipy_stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

Floats = NDArray[np.float64]

LEVEL = 0.95
RESAMPLES = 2000
LEAST_FOR_TREND = 20


class Estimate(NamedTuple):
    """A value with its interval. `low` and `high` are None where there is too little to say."""

    value: float | None
    low: float | None
    high: float | None
    n: int
    """How many units it rests on."""
    note: str = ""
    """Why there is no interval, in words for a reader."""

    @property
    def known(self) -> bool:
        return self.low is not None and self.high is not None


def _nothing(n: int, note: str) -> Estimate:
    return Estimate(None, None, None, n, note)


def share(
    units: Sequence[float] | Floats, weights: Sequence[float] | Floats | None = None, level: float = LEVEL
) -> Estimate:
    """The mean of scores in [0, 1], one for each independent unit (prompt, or cluster of prompts).

    `weights`: how much of the real mix each unit stands for. Wilson's interval at the effective sample size: `n` where
    the units are 0 or 1 and weigh alike, otherwise the number of yes/no units that would have the same variance. Never
    of zero width, even at 0 or 1 (Wilson 1927; effective size as in Korn and Graubard 1998).
    """
    x = np.asarray(units, dtype=float)
    n = int(x.size)
    if n == 0:
        return _nothing(0, "no units")
    w = np.ones(n) if weights is None else np.asarray(weights, dtype=float)
    mean = min(1.0, max(0.0, math.fsum(w * x) / math.fsum(w)))
    w = w / w.sum()
    if n == 1:
        return Estimate(mean, None, None, 1, "one unit tells no spread")
    error2 = float((w**2 * (x - mean) ** 2).sum()) * n / (n - 1)
    # Scores that are all equal say nothing of the spread: then a yes/no variance at Kish's size is the cautious answer.
    effective = 1.0 / float((w**2).sum())
    if x.min() < x.max():
        effective = mean * (1 - mean) / error2
    z = float(scipy_stats.norm.ppf((1 + level) / 2) if n >= 60 else scipy_stats.t.ppf((1 + level) / 2, n - 1))
    middle = (mean + z * z / (2 * effective)) / (1 + z * z / effective)
    half = z * math.sqrt(mean * (1 - mean) / effective + z * z / (4 * effective**2)) / (1 + z * z / effective)
    return Estimate(mean, max(0.0, middle - half), min(1.0, middle + half), n)


def mean(units: Sequence[float] | Floats, level: float = LEVEL) -> Estimate:
    """The mean of any quantity, one value for each independent unit, with Student's interval."""
    x = np.asarray(units, dtype=float)
    n = int(x.size)
    if n == 0:
        return _nothing(0, "no units")
    value = float(x.mean())
    if n < 2:
        return Estimate(value, None, None, n, "one unit tells no spread")
    half = float(scipy_stats.t.ppf((1 + level) / 2, n - 1)) * float(x.std(ddof=1)) / math.sqrt(n)
    return Estimate(value, value - half, value + half, n)


def least_for_quantile(q: float, level: float = LEVEL) -> int:
    """The least sample size for which order statistics bound the quantile on both sides (p95: 72, p99: 368)."""
    # The extreme interval [min, max] covers with 1 - q^n - (1-q)^n, each side held to (1 - level) / 2.
    alpha = (1 - level) / 2
    return math.ceil(math.log(alpha) / math.log(max(q, 1 - q)))


def quantile(values: Sequence[float] | Floats, q: float, level: float = LEVEL) -> Estimate:
    """The q-quantile with a distribution-free interval from order statistics (binomial).

    A request that failed or was cut off is given as `inf`: it took at least as long as it was waited for, and leaving
    it out would make slow targets look fast. The value is numpy's `linear` quantile; infinite where failures reach it.
    """
    x = np.sort(np.asarray(values, dtype=float))
    n = int(x.size)
    if n == 0:
        return _nothing(0, "no requests")
    place = (n - 1) * q
    lower, upper = x[math.floor(place)], x[math.ceil(place)]
    if lower == upper or math.isinf(lower):
        value = float(lower)
    else:
        value = float(lower + (upper - lower) * (place - math.floor(place)))
    least = least_for_quantile(q, level)
    if n < least:
        return Estimate(value, None, None, n, f"n too small: {least} needed")
    alpha = (1 - level) / 2
    first = int(scipy_stats.binom.ppf(alpha, n, q))  # P(X < first) <= alpha, so x_(first) lies below the quantile
    last = int(scipy_stats.binom.ppf(1 - alpha, n, q))
    if scipy_stats.binom.cdf(first - 1, n, q) > alpha:
        first -= 1
    return Estimate(value, float(x[max(first - 1, 0)]), float(x[min(last, n - 1)]), n)


def trend(at: Sequence[float], values: Sequence[float], level: float = LEVEL) -> Estimate:
    """How much the values rise from `at` 0 to 1: the median of all slopes between two (Theil 1950, Sen 1968)."""
    if len(values) < LEAST_FOR_TREND:
        return _nothing(len(values), f"a trend needs {LEAST_FOR_TREND} stretches of time with answers")
    found = scipy_stats.theilslopes(values, at, level)
    return Estimate(float(found.slope), float(found.low_slope), float(found.high_slope), len(values))


def difference(
    new: Sequence[float] | Floats, old: Sequence[float] | Floats, rng: np.random.Generator, level: float = LEVEL
) -> Estimate:
    """Mean of `new - old` over the same prompts in the same order; bias-corrected bootstrap over prompts (BCa).

    The bootstrap is too sure of itself where few prompts differ at all: scores of 0 and 1 then also get the interval
    that exact McNemar stands for, and the wider end of the two counts.
    """
    d = np.asarray(new, dtype=float) - np.asarray(old, dtype=float)
    n = int(d.size)
    if n < 2:
        return _nothing(n, "too few pairs")
    value = float(d.mean())
    if float(d.std()) == 0.0:
        # Not one pair differs. The rule of three: a share of 3/n of the pairs may still differ by as much as 1.
        reach = min(1.0, -math.log((1 - level) / 2) / n) if value == 0.0 else 0.0
        return Estimate(value, value - reach, value + reach, n)
    if n < 10:
        return mean(d, level)
    result = scipy_stats.bootstrap(
        (d,), np.mean, confidence_level=level, n_resamples=RESAMPLES, method="BCa", rng=rng, vectorized=True
    )
    low, high = float(result.confidence_interval.low), float(result.confidence_interval.high)
    if math.isnan(low) or math.isnan(high):
        return mean(d, level)
    differing = int(np.count_nonzero(d))
    if differing < FEW and bool(np.isin(d, (-1.0, 0.0, 1.0)).all()):
        least, most = _few(int((d > 0).sum()), differing, n, level)
        low, high = min(low, least), max(high, most)
    return Estimate(value, low, high, n)


FEW = 25
"""Prompts on which two targets differ, below which the bootstrap alone is not believed."""


def _few(won: int, differing: int, n: int, level: float) -> tuple[float, float]:
    """(2 t - 1) D, with t the share won of the prompts that differ (Clopper-Pearson) and D their share (Wilson)."""
    t = scipy_stats.binomtest(won, differing).proportion_ci(level, method="exact")
    share_of = scipy_stats.binomtest(differing, n).proportion_ci(level, method="wilson")
    ends = (float(share_of.low), float(share_of.high))
    low, high = 2 * float(t.low) - 1, 2 * float(t.high) - 1
    return min(low * end for end in ends), max(high * end for end in ends)


class Discordant(NamedTuple):
    """Prompts on which exactly one of two targets succeeded."""

    new_only: int
    old_only: int
    p: float
    """Exact McNemar, two-sided."""


def discordant(new: Sequence[float] | Floats, old: Sequence[float] | Floats) -> Discordant:
    """For scores of 0 and 1 on the same prompts."""
    a, b = np.asarray(new, dtype=float) > 0.5, np.asarray(old, dtype=float) > 0.5
    only_new, only_old = int(np.sum(a & ~b)), int(np.sum(~a & b))
    if only_new + only_old == 0:
        return Discordant(0, 0, 1.0)
    both, neither = int(np.sum(a & b)), int(np.sum(~a & ~b))
    table = [[both, only_new], [only_old, neither]]
    return Discordant(only_new, only_old, float(mcnemar(table, exact=True).pvalue))


def sign_flip(new: Sequence[float] | Floats, old: Sequence[float] | Floats, rng: np.random.Generator) -> float:
    """Two-sided p of the mean difference on the same prompts: permutation of signs, for scores that are not 0 or 1."""
    d = np.asarray(new, dtype=float) - np.asarray(old, dtype=float)
    if d.size < 2 or not np.any(d):
        return 1.0
    result = scipy_stats.permutation_test(
        (d,), np.mean, permutation_type="samples", n_resamples=RESAMPLES * 2, rng=rng, vectorized=True
    )
    return float(result.pvalue)


def holm(ps: Sequence[float]) -> list[float]:
    """p values adjusted for asking several questions at once (Holm 1979)."""
    return [float(p) for p in multipletests(ps, method="holm")[1]] if ps else []


def detectable(n: int, differing: float) -> float:
    """The least true difference in success that `n` prompts find with 80 % power at 5 %, paired.

    `differing`: the share of prompts on which the two targets differ. From n = 7.85 (D - d^2) / d^2 solved for d.
    """
    return min(1.0, math.sqrt(7.85 * differing / (n + 7.85))) if n > 0 else 1.0


def needed(effect: float, differing: float) -> int:
    """Prompts for which `detectable` is `effect`."""
    return math.ceil(7.85 * max(differing - effect**2, 0.0) / effect**2)


def ratio(
    top: Sequence[float] | Floats, bottom: Sequence[float] | Floats, rng: np.random.Generator, level: float = LEVEL
) -> Estimate:
    """Sum over sum, both by prompt (say spend over successes): percentile bootstrap over prompts."""
    a, b = np.asarray(top, dtype=float), np.asarray(bottom, dtype=float)
    n = int(a.size)
    total = float(b.sum())
    if n == 0 or total <= 0:
        return _nothing(n, "nothing to divide by")
    value = float(a.sum()) / total
    if n < 10:
        return Estimate(value, None, None, n, "n too small: 10 needed")
    drawn = rng.integers(0, n, size=(RESAMPLES, n))
    bottoms = b[drawn].sum(axis=1)
    with np.errstate(divide="ignore"):
        ratios = np.where(bottoms > 0, a[drawn].sum(axis=1) / bottoms, np.inf)
    low, high = np.quantile(ratios, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    return Estimate(value, float(low), float(high), n)


def kappa(one: Sequence[float], other: Sequence[float], rng: np.random.Generator, level: float = LEVEL) -> Estimate:
    """Cohen's kappa of two raters: agreement beyond what their habits alone would give; items are drawn again."""
    a, b = np.asarray(one, dtype=float), np.asarray(other, dtype=float)
    n = int(a.size)
    if n < 10:
        return _nothing(n, "n too small: 10 needed")

    def of(index: NDArray[np.int64]) -> float:
        x, y = a[index], b[index]
        chance = sum(float(np.mean(x == value) * np.mean(y == value)) for value in np.union1d(x, y))
        return float("nan") if chance == 1.0 else (float(np.mean(x == y)) - chance) / (1.0 - chance)

    value = of(np.arange(n))
    if math.isnan(value):
        return _nothing(n, "both always say the same: there is nothing to tell apart")
    drawn = [of(rng.integers(0, n, n)) for _ in range(RESAMPLES)]
    low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high), n)


class Ranked(NamedTuple):
    score: Estimate
    best: float
    """Share of the resamples in which this target had the highest score."""
    drawn: Floats
    """Its score in each resample; the same resample has the same place for every target."""


def ranking(
    strata: Sequence[int],
    score: Callable[[NDArray[np.int64]], Floats],
    count: int,
    rng: np.random.Generator,
    level: float = LEVEL,
    resamples: int = 1000,
) -> list[Ranked]:
    """Several targets judged on the same prompts by any score of them: prompts are drawn jointly, within each stratum.

    `strata`: number of prompts in each task, laid end to end. `score(index)` gives every target's score on these
    prompts; `count` targets.
    """
    n = sum(strata)
    whole = score(np.arange(n))
    drawn = np.empty((resamples, count))
    for row in range(resamples):
        start, parts = 0, []
        for size in strata:
            parts.append(rng.integers(start, start + size, size=size))
            start += size
        drawn[row] = score(np.concatenate(parts))
    ends = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    found = [Estimate(float(whole[i]), float(ends[0, i]), float(ends[1, i]), n) for i in range(count)]
    if n < 10 or min(strata) < 2:  # a stratum of one prompt is the same in every resample
        note = "n too small: 10 prompts needed, and 2 of each task"
        found = [Estimate(one.value, None, None, n, note) for one in found]
    return [Ranked(one, best, drawn[:, i]) for i, (one, best) in enumerate(zip(found, wins(drawn), strict=True))]


def wins(drawn: Floats) -> list[float]:
    """Share of the resamples (rows) in which each target (column) is the highest; ties are shared out."""
    winners = drawn == drawn.max(axis=1, keepdims=True)
    return [float(one) for one in (winners / winners.sum(axis=1, keepdims=True)).mean(axis=0)]
