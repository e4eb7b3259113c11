"""Against simulated records whose truth is known: the intervals cover it, and what has no support is refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random

import pytest

from policies.counterfactual import Counterfactual, Logged, Tried, Unsupported, estimate, estimate_tried

TRUTH = {"a": 1.0, "b": 2.0, "c": 5.0}
SHARES = {"a": 0.2, "b": 0.5, "c": 0.3}
Wanted = Callable[[bool], Mapping[str, float]]
"""What the other policy does with a hard request, and with an easy one."""


def alike(hard: bool) -> Mapping[str, float]:
    return SHARES


def by_difficulty(hard: bool) -> Mapping[str, float]:
    """A deterministic rule: no chance in it at all."""
    return {"c": 1.0} if hard else {"a": 1.0}


def truth_of(wanted: Wanted) -> float:
    """Requests are easy or hard, half and half; hard ones are dearer by 2, whoever answers."""
    return (
        sum(
            sum(share * TRUTH[name] for name, share in wanted(hard).items()) + (2.0 if hard else 0.0)
            for hard in (False, True)
        )
        / 2
    )


def records(
    rng: Random, n: int, *, difficult: bool = False, wanted: Wanted = alike, turns: int = 1, told: bool = True
) -> list[Logged]:
    """If `difficult`, hard ones went to `a` more often: a plain mean would be wrong.

    `turns`: requests of a conversation, which all go to the same target and share its luck. `told`: which belong
    together is known.
    """
    logged = []
    for number in range(n // turns):
        hard = rng.random() < 0.5
        chances = {"a": 0.8, "b": 0.1, "c": 0.1} if hard or not difficult else {"a": 0.3, "b": 0.4, "c": 0.3}
        target = rng.choices(list(chances), list(chances.values()))[0]
        luck = rng.gauss(0, 1)
        for _ in range(turns):
            value = TRUTH[target] + (2.0 if hard else 0.0) + luck + rng.gauss(0, 0.2)
            logged.append(Logged(target, chances, wanted(hard), value, str(number) if told else ""))
    return logged


def covered(runs: int, made: Callable[[], Counterfactual], truth: float) -> dict[str, int]:
    counts = {"weighted": 0, "self_normalised": 0, "doubly_robust": 0}
    for _ in range(runs):
        found = made()
        for name in counts:
            _, low, high = getattr(found, name)
            counts[name] += low <= truth <= high
    return counts


@pytest.mark.parametrize(("difficult", "wanted"), [(False, alike), (True, alike), (True, by_difficulty)])
def test_the_intervals_cover_the_truth(difficult: bool, wanted: Wanted) -> None:
    rng = Random(71)
    counts = covered(200, lambda: estimate(records(rng, 1500, difficult=difficult, wanted=wanted)), truth_of(wanted))
    # The binomial quantile: fewer than 179 of 200 intervals of 95 % cover once in 500 times.
    assert all(count >= 179 for count in counts.values()), counts


def test_turns_of_a_conversation_are_no_independent_requests() -> None:
    rng = Random(74)
    truth = truth_of(alike)
    right = covered(200, lambda: estimate(records(rng, 3000, turns=10)), truth)
    assert all(count >= 179 for count in right.values()), right
    wrong = covered(200, lambda: estimate(records(rng, 3000, turns=10, told=False)), truth)
    assert all(count < 150 for count in wrong.values()), wrong


def test_a_plain_mean_by_target_is_wrong_where_routing_was_not_blind() -> None:
    rng = Random(72)
    logged = records(rng, 20_000, difficult=True)
    plain = sum(
        share * sum(values) / len(values)
        for name, share in SHARES.items()
        if (values := [one.value for one in logged if one.target == name])
    )
    found = estimate(logged)
    assert abs(plain - truth_of(alike)) > 0.2
    assert found.self_normalised is not None
    assert abs(found.self_normalised.value - truth_of(alike)) < 0.1


def test_the_same_shares_give_what_was_served() -> None:
    rng = Random(73)
    logged = records(rng, 2000, wanted=lambda hard: {"a": 0.8, "b": 0.1, "c": 0.1})
    found = estimate(logged)
    assert (found.n, found.units) == (2000, 2000)
    assert found.effective == pytest.approx(2000)
    for one in (found.weighted, found.self_normalised):
        assert one is not None
        assert one.value == pytest.approx(found.as_served)
    assert found.doubly_robust is not None
    assert found.doubly_robust.value == pytest.approx(found.as_served, abs=0.05)


def logs(target: str, chances: Mapping[str, float], wanted: Mapping[str, float], times: int) -> list[Logged]:
    return [Logged(target, chances, wanted, 1.0)] * times


@pytest.mark.parametrize(
    ("logged", "why"),
    [
        (logs("a", {"a": 0.9, "b": 0.1}, {"c": 1.0}, 500), "no request ever went to c"),
        (
            logs("a", {"a": 0.99, "b": 0.01}, {"b": 1.0}, 500) + logs("b", {"a": 0.99, "b": 0.01}, {"b": 1.0}, 5),
            "worth only 5",
        ),
        # Both were asked, but each only where nothing else could happen.
        (logs("a", {"a": 1.0}, SHARES, 500) + logs("b", {"b": 1.0}, SHARES, 500) + logs("c", {"c": 1.0}, SHARES, 500),
         "it would choose a, b, c, where that was not possible"),
    ],
)  # fmt: skip
def test_what_has_no_support_is_refused(logged: list[Logged], why: str) -> None:
    with pytest.raises(Unsupported, match=why):
        estimate(logged)


def test_a_trace_of_what_was_never_tried_is_let_be() -> None:
    chances, wanted = {"a": 0.5, "b": 0.5}, {"a": 0.5, "b": 0.5}
    logged = logs("a", chances, wanted, 500) + logs("b", chances, wanted, 500) + logs("a", {"a": 1.0}, wanted, 15)
    assert estimate(logged).n == 1015


def test_what_both_targets_answered_needs_no_weights() -> None:
    rng = Random(75)
    hits, truth = 0, 0.3 * 1.0 + 0.7 * 2.0
    for _ in range(200):
        pairs = []
        for number in range(100):
            luck = rng.gauss(0, 1)
            for _ in range(3):
                values = {"a": 1.0 + luck, "b": 2.0 + luck + rng.gauss(0, 0.1)}
                pairs.append(Tried("a", {"a": 0.3, "b": 0.7}, values, str(number)))
        found = estimate_tried(pairs)
        assert found.both_asked is not None
        hits += found.both_asked.low <= truth <= found.both_asked.high
    assert hits >= 179
    with pytest.raises(Unsupported, match="only 9 conversations"):
        estimate_tried(pairs[:27])
    with pytest.raises(Unsupported, match="no other target"):
        estimate_tried([one._replace(wanted={"c": 1.0}) for one in pairs])


def test_no_failure_seen_is_not_none_at_all() -> None:
    """Wilson's interval of none in 100: 0 to 3.7 %."""
    chances = {"a": 0.5, "b": 0.5}
    logged = [Logged(target, chances, chances, 0.0) for target in "ab" for _ in range(50)]
    found = estimate(logged, share=True)
    for one in (found.weighted, found.self_normalised, found.doubly_robust):
        assert one == pytest.approx((0.0, 0.0, 0.0370), abs=1e-4)
    tried = [Tried("a", chances, {"a": 0.0, "b": 0.0}, str(number)) for number in range(100)]
    assert estimate_tried(tried, share=True).both_asked == pytest.approx((0.0, 0.0, 0.0370), abs=1e-4)
