"""2,000 simulated experiments each, looked at after every single unit: the error rates that are promised.

Fixed seeds; bounds are quantiles of the binomial that a method which keeps its promise stays below, as far out as 5
sigma. The last tests are guards: a naive test and a naive unit must fail under the same harness.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import binom

from policies import evidence as ev

RUNS, UNITS = 2000, 2000
ALPHA, MARGIN = 0.05, 0.05
Bins = NDArray[np.int16]
Draw = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]


def at_most(rate: float, runs: int = RUNS) -> int:
    """Rejections out of `runs` that a true rate of at most `rate` exceeds once in 3 million times."""
    return int(binom.isf(2.87e-7, runs, rate))


def binned(differences: NDArray[np.float64], rng: np.random.Generator) -> Bins:
    """As `evidence.bin_of`, with numpy's chance."""
    place = (np.clip(differences, -1, 1) + 1) * 100
    below = np.floor(place + 1e-9)
    return (below + (rng.random(place.shape, dtype=np.float32) < place - below - 1e-9)).astype(np.int16)


def crossings(bins: Bins, null: float, bar: float, side: str = "above") -> NDArray[np.int64]:
    """The unit at which each run's e-value first reaches `bar`; 0 where it never does."""
    log_e = ev.log_above if side == "above" else ev.log_below
    table = _gains(null if side == "above" else -null)
    if side == "below":
        bins = (200 - bins).astype(np.int16)
    runs, units = bins.shape
    first = np.zeros(runs, dtype=np.int64)
    for start in range(0, runs, 250):  # in parts that fit the cache
        part = bins[start : start + 250]
        money = np.zeros(part.shape, dtype=np.float32)
        for row in table:
            money += np.exp(np.minimum(np.cumsum(row[part], axis=1), 80))
        money /= len(table)
        hit = money >= bar
        first[start : start + 250] = np.where(hit.any(axis=1), hit.argmax(axis=1) + 1, 0)
        if start == 0:  # the same numbers as the module itself
            for run in range(3):
                seen = part[run] if side == "above" else 200 - part[run]
                for n in (1, units // 2, units):
                    exact = log_e(ev.count(seen[:n].tolist()), null)
                    assert (
                        math.log(max(money[run, n - 1], 1e-30)) == pytest.approx(exact, abs=0.02)
                        or not -60 < exact < 75
                    )
    return first


def _gains(null: float) -> NDArray[np.float32]:
    centre = (1 + null) / 2
    x = np.arange(ev.BINS) / (ev.BINS - 1) - centre
    return np.array([np.log1p(min(bet, 0.99 / centre) * x) for bet in ev.BETS], dtype=np.float32)


def binary(p: float) -> Draw:
    return lambda rng, shape: (rng.random(shape) < p) * 1.0 - (rng.random(shape) < p)


def smooth(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    return rng.beta(8, 3, shape) - rng.beta(8, 3, shape)


def judged(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Both orders of a judge: wins and losses a quarter each, the rest ties."""
    draw = rng.random(shape)
    return np.where(draw < 0.25, -0.5, np.where(draw < 0.5, 0.5, 0.0))


def flaky(rate: float) -> Draw:
    """Equal arms, smooth scores; each fails independently now and then and then scores 0."""

    def draw(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
        one = rng.beta(8, 3, shape) * (rng.random(shape) >= rate)
        return one - rng.beta(8, 3, shape) * (rng.random(shape) >= rate)

    return draw


EQUAL = {
    "binary .5": binary(0.5),
    "binary .9": binary(0.9),
    "binary .99": binary(0.99),
    "smooth": smooth,
    "judge": judged,
    "flaky 1 %": flaky(0.01),
    "flaky 3 %": flaky(0.03),
}


def shifted(draw: Draw, by: float) -> Draw:
    """The same differences, but with chance `by` a unit is lost altogether: the mean moves from 0 to -by exactly."""

    def worse(rng: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float64]:
        return np.where(rng.random(shape) < by, -1.0, draw(rng, shape))

    return worse


@pytest.mark.parametrize("name", EQUAL)
def test_equal_arms_are_hardly_ever_called_harmful(name: str) -> None:
    """Against the null "not worse than the primary" itself, which is stricter than the margin that verdicts use."""
    rng = np.random.default_rng(61)
    bins = binned(EQUAL[name](rng, (RUNS, UNITS)), rng)
    harmed = np.count_nonzero(crossings(bins, 0.0, 2 / ALPHA, "below"))
    assert harmed <= at_most(ALPHA / 2)


def test_a_whole_trial_of_equal_arms_is_hardly_ever_a_reject() -> None:
    """A primary and four guardrails share alpha / 2, and two candidates share alpha: any harm of any counts."""
    rng = np.random.default_rng(70)
    metrics, candidates, runs, units = 5, 2, RUNS, 500
    rejected = np.zeros(runs, dtype=bool)
    for name in ("judge", "flaky 3 %", "binary .9", "binary .99", "smooth"):
        for _ in range(candidates):
            bins = binned(EQUAL[name](rng, (runs, units)), rng)
            rejected |= crossings(bins, 0.0, 2 * metrics * candidates / ALPHA, "below") > 0
    assert np.count_nonzero(rejected) <= at_most(ALPHA / 2)


@pytest.mark.parametrize("empty", [0.1, 1.0])
def test_who_says_nothing_now_and_then_is_hardly_ever_promoted(empty: float) -> None:
    """An empty answer fails (`errors`, 2 points): beside a primary that errs in 1 % and is as good otherwise."""
    rng = np.random.default_rng(71)
    shape = (RUNS, UNITS)
    bins = binned((rng.random(shape) >= empty) * 1.0 - (rng.random(shape) >= 0.01), rng)
    assert np.count_nonzero(crossings(bins, -0.02, 2 / ALPHA, "above")) <= at_most(ALPHA / 2)
    assert np.mean(crossings(bins, -0.02, 10 / ALPHA, "below") > 0) > 0.99, "and found out"


@pytest.mark.parametrize("name", EQUAL)
def test_a_candidate_worse_by_the_margin_is_hardly_ever_promoted(name: str) -> None:
    rng = np.random.default_rng(62)
    bins = binned(shifted(EQUAL[name], MARGIN)(rng, (RUNS, UNITS)), rng)
    assert np.mean(bins) / 100 - 1 == pytest.approx(-MARGIN, abs=0.002)
    promoted = np.count_nonzero(crossings(bins, -MARGIN, 2 / ALPHA, "above"))
    assert promoted <= at_most(ALPHA / 2)


@pytest.mark.parametrize(("name", "mean"), [("binary .9", 0.0), ("flaky 3 %", 0.0), ("judge", -0.05)])
def test_the_sequence_covers_at_all_times(name: str, mean: float) -> None:
    rng = np.random.default_rng(63)
    draw = EQUAL[name] if mean == 0 else shifted(EQUAL[name], -mean)
    bins = binned(draw(rng, (RUNS, 1000)), rng)
    missed = (crossings(bins, mean, 2 / ALPHA, "above") > 0) | (crossings(bins, mean, 2 / ALPHA, "below") > 0)
    assert np.count_nonzero(missed) <= at_most(ALPHA)


def test_verdicts_come_within_the_plan() -> None:
    """Equal arms and arms worse by twice the margin, with four guardrails beside the primary."""
    rng = np.random.default_rng(64)
    bins = binned(binary(0.92)(rng, (RUNS, UNITS)), rng)
    plan = ev.plan(ev.deviation(ev.count(bins[:50].ravel().tolist())), MARGIN, ALPHA, metrics=5)
    equal = crossings(bins, -MARGIN, 2 / ALPHA, "above")
    assert 0.7 * plan.likely < np.median(equal[equal > 0]) < 1.3 * plan.likely
    assert np.mean((equal > 0) & (equal <= plan.most)) > 0.85
    worse = binned(shifted(binary(0.92), 2 * MARGIN)(rng, (RUNS, 2500)), rng)
    spread = ev.deviation(ev.count(worse[:50].ravel().tolist()))
    harmed = crossings(worse, -MARGIN, 10 / ALPHA, "below")
    assert np.mean((harmed > 0) & (harmed <= ev.plan(spread, MARGIN, ALPHA, metrics=5).most)) > 0.85


@pytest.mark.parametrize("sigma", [0.5, 1.0, 1.5])
def test_a_ratio_of_equal_costs_is_hardly_ever_called_different(sigma: float) -> None:
    rng = np.random.default_rng(65)
    size, n = (RUNS, 1000), np.arange(1, 1001)
    c, p = rng.lognormal(0, sigma, size), rng.lognormal(0, sigma, size)
    d = c - p
    centre = np.cumsum(d, axis=1) / n
    spread = np.sqrt(np.maximum(0, np.cumsum(d * d, axis=1) / n - centre**2) * n / np.maximum(1, n - 1))
    width = np.array([math.inf, *(ev.asymptotic_width(k, ALPHA) for k in range(2, 1001))])
    with np.errstate(invalid="ignore"):
        outside = (np.abs(centre) > width * spread)[:, 99:]
    assert np.count_nonzero(outside.any(axis=1)) <= at_most(ALPHA)
    for run in range(5):  # the closed form is that of the contrast
        for k in (100, 1000):
            a, b = c[run, :k], p[run, :k]
            sums = ev.Ratio(k, a.sum(), b.sum(), (a * a).sum(), (a * b).sum(), (b * b).sum())
            low, high = sums.sequence(ALPHA)
            assert (low <= 1 <= high) == (not outside[run, k - 100])


def test_judged_wins_without_ties() -> None:
    rng = np.random.default_rng(66)
    wins = np.cumsum(rng.random((RUNS, 1000)) < 0.5, axis=1)
    lgamma = np.array([0.0, *(math.lgamma(k + 0.5) for k in range(1001))])  # [k + 1] = ln gamma(k + 1/2)
    n = np.arange(1, 1001)
    whole = np.array([math.lgamma(k + 1.0) for k in n])
    log_e = lgamma[wins + 1] + lgamma[n - wins + 1] - whole - 2 * math.lgamma(0.5) + n * math.log(2)
    assert log_e[0, -1] == pytest.approx(ev.log_wins(int(wins[0, -1]), int(1000 - wins[0, -1])))
    assert np.count_nonzero((log_e >= math.log(1 / ALPHA)).any(axis=1)) <= at_most(ALPHA)


def test_quantiles_are_covered_at_all_times() -> None:
    rng = np.random.default_rng(67)
    below = np.cumsum(rng.random((RUNS, 1000)) < 0.95, axis=1)  # values at or below the true p95
    places = [ev.quantile_places(k, 0.95, ALPHA) for k in range(1, 1001)]
    low, high = np.array([low for low, _ in places]), np.array([high for _, high in places])
    missed = (below < low) | (below >= high)
    assert np.count_nonzero(missed.any(axis=1)) <= at_most(ALPHA)


# -- guards: what is wrong must be seen to be wrong under the same harness


def test_a_naive_test_at_every_look_fails() -> None:
    rng = np.random.default_rng(68)
    d, n = binary(0.9)(rng, (RUNS, 1000)), np.arange(1, 1001)
    centre = np.cumsum(d, axis=1) / n
    spread = np.sqrt(np.maximum(1e-12, np.cumsum(d * d, axis=1) / n - centre**2))
    z = np.abs(centre) / spread * np.sqrt(n)
    assert np.mean((z[:, 29:] > 1.96).any(axis=1)) > 0.20


def test_turns_of_a_conversation_are_no_units() -> None:
    """Turns share their conversation's luck: counting each of them finds differences between equal arms."""
    rng = np.random.default_rng(69)
    conversations, turns = 100, 20
    luck = rng.choice([-0.6, 0.0, 0.6], (RUNS, conversations), p=[0.3, 0.4, 0.3])
    by_turn = np.repeat(luck, turns, axis=1) + rng.uniform(-0.2, 0.2, (RUNS, conversations * turns))
    wrong = np.count_nonzero(crossings(binned(by_turn, rng), 0.0, 2 / ALPHA, "below"))
    assert wrong > 3 * at_most(ALPHA / 2)
    right = np.count_nonzero(crossings(binned(by_turn[:, ::turns], rng), 0.0, 2 / ALPHA, "below"))
    assert right <= at_most(ALPHA / 2)
