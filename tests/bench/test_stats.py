"""Intervals against known truth and against other libraries. Seeds are fixed; the bound on a count of covering
intervals is the 0.1 % binomial quantile."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.proportion import proportion_confint

from proxy.bench import stats

RUNS = 200
ENOUGH = int(scipy_stats.binom.ppf(0.001, RUNS, 0.95))
assert ENOUGH == 179


def rng(seed: int = 1) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_share_of_yes_and_no_is_wilsons_interval() -> None:
    found = stats.share([1.0] * 360 + [0.0] * 140)
    low, high = proportion_confint(360, 500, method="wilson")
    assert found.low == pytest.approx(low, abs=2e-4)
    assert found.high == pytest.approx(high, abs=2e-4)


@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("n", [30, 62, 70, 1000])
def test_no_failures_among_few_does_not_prove_that_there_are_none(value: float, n: int) -> None:
    found = stats.share([value] * n)
    assert found.value == value
    assert found.low is not None
    assert found.high is not None
    assert found.high - found.low > 3 / n


def test_repeats_of_a_prompt_do_not_count_as_further_prompts() -> None:
    always = [1.0] * 35 + [0.0] * 15  # three repeats of each would agree: the same fifty units
    found = stats.share(always)
    pooled = stats.share(np.repeat(always, 3))
    assert found.high - found.low > 1.5 * (pooled.high - pooled.low)  # type: ignore[operator]


def test_shares_of_averaged_and_weighted_units_cover() -> None:
    draw = rng()
    averaged = weighted = 0
    for _ in range(RUNS):
        p = draw.beta(7, 3, size=120)
        found = stats.share(draw.binomial(3, p) / 3)
        averaged += found.low <= 0.7 <= found.high  # type: ignore[operator]
        heavy = draw.random(200) < 0.5
        units = draw.random(200) < np.where(heavy, 0.9, 0.5)
        found = stats.share(units, np.where(heavy, 1.0, 3.0))  # the real mix: one in four is of the first kind
        weighted += found.low <= 0.6 <= found.high  # type: ignore[operator]
    assert averaged >= ENOUGH
    assert weighted >= ENOUGH


@pytest.mark.parametrize(("q", "least"), [(0.95, 72), (0.99, 368), (0.999, 3688)])
def test_below_its_least_size_a_quantile_has_no_interval(q: float, least: int) -> None:
    assert stats.least_for_quantile(q) == least
    assert not stats.quantile(np.arange(least - 1.0), q).known
    assert str(least) in stats.quantile(np.arange(least - 1.0), q).note
    assert stats.quantile(np.arange(float(least)), q).known


@pytest.mark.parametrize(("q", "n"), [(0.5, 40), (0.95, 100), (0.95, 1000), (0.99, 400)])
def test_quantiles_cover(q: float, n: int) -> None:
    draw = rng()
    truth = float(np.exp(scipy_stats.norm.ppf(q)))
    covered = 0
    for _ in range(RUNS):
        found = stats.quantile(draw.lognormal(size=n), q)
        covered += found.low <= truth <= found.high  # type: ignore[operator]
    assert covered >= ENOUGH


def test_the_interval_of_a_quantile_is_no_wider_than_scipys() -> None:
    x = rng().lognormal(size=500)
    found = stats.quantile(x, 0.95)
    theirs = scipy_stats.quantile_test(x, p=0.95).confidence_interval(0.95)
    assert found.low == pytest.approx(theirs.low, rel=0.05)
    assert found.high == pytest.approx(theirs.high, rel=0.05)


def test_failures_are_the_slowest_requests() -> None:
    fast = [1.0] * 90
    assert stats.quantile(fast + [float("inf")] * 10, 0.95).value == float("inf")
    assert stats.quantile(fast + [float("inf")] * 10, 0.5).value == 1.0


def test_paired_differences_cover_and_are_narrower_than_unpaired() -> None:
    draw = rng()
    covered = 0
    for _ in range(RUNS):
        hard = draw.random(150)
        old, new = hard < 0.6, hard < 0.7
        flipped = draw.random(150) < 0.1
        found = stats.difference(np.where(flipped, ~new, new), old, draw)
        truth = 0.9 * 0.7 + 0.1 * 0.3 - 0.6
        covered += found.low <= truth <= found.high  # type: ignore[operator]
    assert covered >= ENOUGH


def test_five_prompts_that_differ_prove_nothing() -> None:
    new, old = [0.0] * 5 + [1.0] * 45, [1.0] * 50
    assert stats.discordant(new, old).p > 0.05
    found = stats.difference(new, old, rng())
    assert found.low < 0 < found.high  # type: ignore[operator]
    many = stats.difference([0.0] * 8 + [1.0] * 42, old, rng())
    assert many.high < 0  # type: ignore[operator]


def test_pairs_that_are_all_equal_prove_no_more_than_their_number() -> None:
    found = stats.difference([1.0] * 100, [1.0] * 100, rng())
    assert found.value == 0.0
    assert found.low == pytest.approx(-0.0369, abs=1e-3)


def test_72_and_73_per_cent_on_500_prompts_are_not_distinguishable() -> None:
    old = [1.0] * 360 + [0.0] * 140
    new = [1.0] * 300 + [0.0] * 60 + [1.0] * 65 + [0.0] * 75
    assert stats.discordant(new, old).p > 0.5
    found = stats.difference(new, old, rng())
    assert found.low < 0 < found.high  # type: ignore[operator]


def test_the_p_values_of_equal_targets_are_not_too_small() -> None:
    draw = rng()
    exact = flipped = 0
    for _ in range(RUNS):
        a, b = draw.random(80) < 0.7, draw.random(80) < 0.7
        exact += stats.discordant(a, b).p < 0.05
        flipped += stats.sign_flip(draw.random(40), draw.random(40), draw) < 0.05
    most = int(scipy_stats.binom.ppf(0.999, RUNS, 0.05))
    assert exact <= most
    assert flipped <= most


def test_holm() -> None:
    assert stats.holm([]) == []
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_planning_agrees_with_itself() -> None:
    assert stats.needed(0.05, 0.10) == 307
    for n in (100, 307, 5000):
        effect = stats.detectable(n, 0.10)
        assert stats.needed(effect, 0.10) == pytest.approx(n, abs=2)


def test_ratios_cover_and_know_when_there_is_nothing_to_divide_by() -> None:
    draw = rng()
    covered = 0
    for _ in range(RUNS):
        spent = draw.lognormal(-7, 0.6, size=120)
        found = stats.ratio(spent, draw.random(120) < 0.7, draw)
        truth = float(np.exp(-7 + 0.18)) / 0.7
        covered += found.low <= truth <= found.high  # type: ignore[operator]
    assert covered >= ENOUGH
    assert stats.ratio([1.0] * 20, [0.0] * 20, draw).value is None


def test_the_best_of_equals_is_nobody() -> None:
    draw = rng()
    scores = draw.random((3, 200))

    def score(index: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        return scores[:, index].mean(axis=1)

    ranked = stats.ranking([120, 80], score, 3, draw)
    assert sum(one.best for one in ranked) == pytest.approx(1.0)
    assert max(one.best for one in ranked) < 0.95
    scores[1] += 0.3
    assert stats.ranking([200], score, 3, draw)[1].best > 0.99
