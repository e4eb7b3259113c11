"""Intervals against scipy, and against the truth they promise to cover."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy

from proxy.measure import stats
from proxy.measure.stats import Estimate, Sums


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_shares_are_wilsons(pair: tuple[int, int]) -> None:
    k, n = pair
    found = stats.share(k, n)
    expected = scipy.binomtest(k, n).proportion_ci(method="wilson")
    assert found.value == k / n
    assert (found.low, found.high) == (pytest.approx(expected.low, abs=1e-9), pytest.approx(expected.high, abs=1e-9))


@pytest.mark.parametrize("q", [0.5, 0.9, 0.95, 0.99, 0.999])
def test_the_least_sample_is_where_both_ranks_exist(q: float) -> None:
    n = stats.least(q)
    assert stats.ranks(n - 1, q) is None
    assert stats.ranks(n, q) is not None
    assert [stats.least(one) for one in (0.5, 0.95, 0.99, 0.999)] == [6, 72, 368, 3688]


@pytest.mark.parametrize("q", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("n", [6, 72, 100, 368, 1000, 9999, 200_000])
def test_ranks_are_the_binomials(n: int, q: float) -> None:
    found = stats.ranks(n, q)
    if n < stats.least(q):
        assert found is None
        return
    low, high = int(scipy.binom.ppf(0.025, n, q)), int(scipy.binom.ppf(0.975, n, q)) + 1
    assert found == (low, high)
    assert scipy.binom.cdf(high - 1, n, q) - scipy.binom.cdf(low - 1, n, q) >= 0.95


def test_intervals_of_p95_cover_the_truth() -> None:
    """Of 200 intervals of 95 %, at least 179 hold the true value (5 sigma would be fewer)."""
    rng = Random(11)
    truth = math.exp(6 + 0.8 * 1.6448536269514722)
    held = 0
    for _ in range(200):
        found = stats.quantile(sorted(rng.lognormvariate(6, 0.8) for _ in range(300)), 0.95)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= truth <= found.high
    assert held >= 179


def test_quantiles_are_numpys_and_a_small_sample_has_none() -> None:
    ordered = [float(value) for value in range(1, 101)]
    assert stats.quantile(ordered, 0.5).value == pytest.approx(50.5)
    assert stats.quantile(ordered, 0.95).value == pytest.approx(95.05)
    assert stats.quantile(ordered, 0.99) == Estimate(None, None, None, 100, "n too small: needs 368")
    assert stats.quantile([], 0.5).n == 0


def test_what_never_came_makes_a_quantile_infinite_and_not_better() -> None:
    ordered = [1.0] * 94 + [math.inf] * 6
    found = stats.quantile(ordered, 0.95)
    assert found.value == math.inf
    assert stats.quantile(ordered, 0.5).value == 1.0
    assert stats.quantile([1.0] * 95 + [math.inf] * 5, 0.5).high == 1.0


def test_a_mean_and_a_ratio() -> None:
    sums, rng = Sums(), Random(3)
    sample = [(rng.random(), float(rng.random() < 0.8)) for _ in range(500)]
    for x, y in sample:
        sums.add(x, y)
    ratio = sum(x for x, _ in sample) / sum(y for _, y in sample)
    found = sums.ratio()
    assert found.value == pytest.approx(ratio)
    assert found.low is not None
    assert found.high is not None
    assert found.low < ratio < found.high
    mean = Sums()
    for x, _ in sample:
        mean.add(x)
    expected = scipy.norm.interval(0.95, loc=mean.x / 500, scale=scipy.sem([x for x, _ in sample]))
    assert mean.ratio()[1:3] == (pytest.approx(expected[0]), pytest.approx(expected[1]))


def test_too_few_for_an_interval() -> None:
    few = Sums()
    few.add(1.0)
    assert few.ratio() == Estimate(1.0, None, None, 1, "n too small for an interval: needs 30")
    assert Sums().ratio().value is None
    assert stats.share(0, 0).value is None


def test_estimates_differ_only_where_their_intervals_do_not_touch() -> None:
    one, near, far = Estimate(1, 0.5, 1.5, 9), Estimate(2, 1.4, 2.5, 9), Estimate(3, 2, 4, 9)
    assert (stats.apart(one, near), stats.apart(one, far), stats.apart(far, one)) == (False, True, True)
    assert stats.apart(one, Estimate(3, None, None, 1)) is None
