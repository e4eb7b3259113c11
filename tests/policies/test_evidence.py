"""Exact: the null expectation of every e-value is enumerated, not simulated; a simulation passes with wrong bars."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import evidence as ev

COUNTS = st.dictionaries(st.integers(0, 200), st.integers(1, 200), min_size=1, max_size=12)


def expectation(support: dict[int, float], n: int, log_e: object, null: float) -> float:
    """E[e-value] over all sequences of n units drawn from `support` (bin -> probability)."""
    whole = 0.0
    for draws in product(support, repeat=n):
        chance = math.prod(support[bin] for bin in draws)
        whole += chance * math.exp(log_e(ev.count(draws), null))  # type: ignore[operator]
    return whole


@pytest.mark.parametrize(
    ("support", "null"),
    [
        ({100: 1.0}, 0.0),
        ({0: 0.5, 200: 0.5}, 0.0),
        ({0: 0.1, 100: 0.8, 200: 0.1}, 0.0),
        ({50: 0.3, 100: 0.4, 150: 0.3}, 0.0),
        ({0: 0.05, 100: 0.95}, -0.05),
        ({0: 0.3, 90: 0.2, 120: 0.25, 200: 0.25}, -0.3 - 0.02 + 0.05 + 0.25),
        ({0: 0.99, 200: 0.01}, -0.98),
    ],
)
def test_the_null_expectation_is_exactly_one(support: dict[int, float], null: float) -> None:
    assert sum((bin - 100) / 100 * p for bin, p in support.items()) == pytest.approx(null)
    for n in (1, 2, 5):
        assert expectation(support, n, ev.log_above, null) == pytest.approx(1.0, abs=1e-9)
        assert expectation(support, n, ev.log_below, null) == pytest.approx(1.0, abs=1e-9)


def test_inside_the_null_it_is_below_one_and_outside_above() -> None:
    support = {0: 0.2, 100: 0.8}  # mean -0.2
    assert expectation(support, 4, ev.log_above, -0.1) < 1 < expectation(support, 4, ev.log_above, -0.3)
    assert expectation(support, 4, ev.log_below, -0.3) < 1 < expectation(support, 4, ev.log_below, -0.1)


@pytest.mark.parametrize("n", [1, 7, 40])
def test_the_null_expectation_of_wins_is_exactly_one(n: int) -> None:
    wins = sum(math.comb(n, w) / 2**n * math.exp(ev.log_wins(w, n - w)) for w in range(n + 1))
    assert wins == pytest.approx(1.0)


def test_the_bar_is_that_of_one_side_of_the_test() -> None:
    """A simulation passes with half the bar, too."""
    assert ev.bar(0.05) == pytest.approx(math.log(40))
    assert ev.bar(0.05, 5) == pytest.approx(math.log(200))
    assert ev.bar(0.025) == pytest.approx(math.log(80)), "two candidates share alpha"


def test_the_draw_is_uniform_and_belongs_to_the_id() -> None:
    draws = sorted(ev._draw(f"req_{number}") for number in range(5000))
    worst = max(abs(draw - rank / 5000) for rank, draw in enumerate(draws))
    assert worst < 1.95 / math.sqrt(5000)  # Kolmogorov, p = 0.001
    assert ev.bin_of(0.123, "a") == ev.bin_of(0.123, "a")


@pytest.mark.parametrize("difference", [-1.0, -0.997, -0.5, -0.004, 0.0, 0.333, 0.29, 1.0, 7.0])
def test_binning_keeps_the_mean(difference: float) -> None:
    bins = [ev.bin_of(difference, str(id)) for id in range(4000)]
    assert max(bins) - min(bins) <= 1
    assert sum(bins) / 4000 / 100 - 1 == pytest.approx(min(1.0, difference), abs=0.01 * 5 * 0.5 / math.sqrt(4000))


@given(COUNTS, COUNTS, st.floats(-0.9, 0.9))
def test_parts_are_added(one: dict[int, int], other: dict[int, int], null: float) -> None:
    both = ev.count([bin for part in (one, other) for bin, n in part.items() for _ in range(n)])
    assert ev.merged(one, other) == both
    assert ev.log_above(ev.merged(one, other), null) == pytest.approx(ev.log_above(both, null))


@given(COUNTS, st.floats(-0.99, 0.99), st.floats(0.0, 0.2))
def test_a_stricter_null_is_easier_to_refute(counts: dict[int, int], null: float, step: float) -> None:
    """Monotone, which the bisection of `sequence` rests upon."""
    higher = min(1.0, null + step)
    assert ev.log_above(counts, null) >= ev.log_above(counts, higher) - 1e-9
    assert ev.log_below(counts, null) <= ev.log_below(counts, higher) + 1e-9


@given(COUNTS)
def test_the_sequence_is_where_neither_bet_has_won(counts: dict[int, int]) -> None:
    low, high = ev.sequence(counts, 0.05)
    assert -1 <= low <= ev.mean(counts) + 1e-9
    assert ev.mean(counts) - 1e-9 <= high <= 1
    bar = math.log(2 / 0.05)
    for inside in (low + 1e-4, high - 1e-4):
        if low + 2e-4 < high:
            assert max(ev.log_above(counts, inside), ev.log_below(counts, inside)) < bar + 1e-6
    if low > -1:
        assert ev.log_above(counts, low) >= bar
    if high < 1:
        assert ev.log_below(counts, high) >= bar


def mirror(counts: dict[int, int]) -> dict[int, int]:
    return {200 - bin: n for bin, n in counts.items()}


@given(COUNTS, st.floats(-1, 1))
def test_the_arms_are_treated_alike(counts: dict[int, int], null: float) -> None:
    assert ev.log_above(counts, null) == pytest.approx(ev.log_below(mirror(counts), -null))


def test_mean_and_deviation() -> None:
    counts = {0: 1, 100: 2, 200: 1}
    assert (ev.total(counts), ev.mean(counts)) == (4, 0.0)
    assert ev.deviation(counts) == pytest.approx(math.sqrt(2 / 3))
    assert (ev.mean({}), ev.deviation({100: 1}), ev.sequence({}, 0.05)) == (0.0, 0.0, (-1.0, 1.0))


def test_the_asymptotic_width_shrinks_and_knows_its_formula() -> None:
    rho2 = (-2 * math.log(0.05) + math.log(-2 * math.log(0.05) + 1)) / 200
    room = 500 * rho2 + 1
    assert ev.asymptotic_width(500, 0.05) == pytest.approx(math.sqrt(room / (500**2 * rho2) * math.log(room / 0.05**2)))
    assert ev.asymptotic_width(1, 0.05) == math.inf
    assert ev.asymptotic_width(1000, 0.05) < ev.asymptotic_width(500, 0.05)


def test_a_ratio_of_totals() -> None:
    sums = ev.Ratio()
    for number in range(400):
        price = 1.0 + number % 7
        sums = sums.plus(price * (1.1 + 0.02 * (number % 3)), price)
    low, high = sums.sequence(0.05)
    assert low < sums.value < high  # type: ignore[operator]
    assert 1.1 < low < 1.12 < high < 1.14
    assert ev.Ratio().sequence(0.05) == (0.0, math.inf)
    assert ev.Ratio().value is None
    one, other = ev.Ratio().plus(1, 2), ev.Ratio().plus(3, 4)
    assert one.merged(other) == ev.Ratio().plus(1, 2).plus(3, 4)


def _kept(n: int, p: float, alpha: float) -> Iterator[int]:
    a, b = 20 * p, 20 * (1 - p)
    for k in range(n + 1):
        money = math.lgamma(a + k) + math.lgamma(b + n - k) - math.lgamma(a + b + n)
        money -= math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b) + k * math.log(p) + (n - k) * math.log(1 - p)
        if money < math.log(1 / alpha):
            yield k


@pytest.mark.parametrize(("n", "p"), [(3, 0.5), (50, 0.5), (200, 0.95), (977, 0.99)])
def test_quantile_places_by_trying_every_count(n: int, p: float) -> None:
    kept = list(_kept(n, p, 0.05))
    assert ev.quantile_places(n, p, 0.05) == (kept[0], kept[-1] + 1)


def test_a_quantile_of_few_values_is_open_ended() -> None:
    value, (low, high) = ev.quantile([1.0, 2.0, 3.0], 0.5, 0.05)
    assert (value, low, high) == (2.0, -math.inf, math.inf)


def test_a_plan_in_units_days_and_dollars() -> None:
    plan = ev.plan(0.38, 0.05, units_per_day=500, calls_per_unit=3, usd_per_call=0.002)
    assert (plan.likely, plan.most) == (519, 1038)
    assert (plan.days, plan.usd) == (pytest.approx(1.038), pytest.approx(3.114))
    assert ev.plan(0.38, 0.05, metrics=5).most == 1408
    assert ev.plan(0.0, 0.01) == (590, 1180, None, None)
