"""Against simulated records whose truth is known: the intervals cover it, and what has no support is refused."""

from __future__ import annotations

from random import Random

import pytest

from policies.counterfactual import Logged, Unsupported, estimate

TRUTH = {"a": 1.0, "b": 2.0, "c": 5.0}
SHARES = {"a": 0.2, "b": 0.5, "c": 0.3}


def records(rng: Random, n: int, *, difficult: bool = False) -> list[Logged]:
    """Requests are easy or hard, and, if `difficult`, hard ones went to `a` more often: a plain mean would be wrong."""
    logged = []
    for _ in range(n):
        hard = rng.random() < 0.5
        chances = {"a": 0.8, "b": 0.1, "c": 0.1} if hard or not difficult else {"a": 0.3, "b": 0.4, "c": 0.3}
        target = rng.choices(list(chances), list(chances.values()))[0]
        value = TRUTH[target] + (2.0 if hard else 0.0) + rng.gauss(0, 1)
        logged.append(Logged(target, chances[target], value))
    return logged


@pytest.mark.parametrize("difficult", [False, True])
def test_the_intervals_cover_the_truth(difficult: bool) -> None:
    rng = Random(71)
    truth = sum(SHARES[name] * TRUTH[name] for name in SHARES) + 1.0
    runs, covered = 200, {"self_normalised": 0, "doubly_robust": 0}
    for _ in range(runs):
        found = estimate(records(rng, 1500, difficult=difficult), SHARES)
        for name in covered:
            _, low, high = getattr(found, name)
            covered[name] += low <= truth <= high
    # The binomial quantile of 200 at 95 %, five in a million out.
    assert all(count >= 173 for count in covered.values()), covered


def test_a_plain_mean_by_target_is_wrong_where_routing_was_not_blind() -> None:
    rng = Random(72)
    logged = records(rng, 20_000, difficult=True)
    plain = sum(
        share * sum(values) / len(values)
        for name, share in SHARES.items()
        if (values := [one.value for one in logged if one.target == name])
    )
    truth = sum(SHARES[name] * TRUTH[name] for name in SHARES) + 1.0
    assert abs(plain - truth) > 0.2
    assert abs(estimate(logged, SHARES).self_normalised.value - truth) < 0.1


def test_the_same_shares_give_what_was_served() -> None:
    rng = Random(73)
    logged = records(rng, 2000)
    found = estimate(logged, {"a": 0.8, "b": 0.1, "c": 0.1})
    assert found.effective == pytest.approx(2000)
    assert found.self_normalised.value == pytest.approx(found.as_served)
    assert found.doubly_robust.value == pytest.approx(found.as_served, abs=0.05)


def test_what_has_no_support_is_refused() -> None:
    logged = [Logged("a", 0.99, 1.0)] * 500 + [Logged("b", 0.01, 1.0)] * 5
    with pytest.raises(Unsupported, match="no request ever went to c"):
        estimate(logged, {"c": 1.0})
    with pytest.raises(Unsupported, match="worth only 5"):
        estimate(logged, {"b": 1.0})
    with pytest.raises(Unsupported, match="no fair sample"):
        estimate([Logged("a", 1.0, 1.0)] * 500 + [Logged("b", 1.0, 1.0)] * 500, {"a": 0.5, "b": 0.5})
