from __future__ import annotations

import math

import pytest

from policies import evidence, trial
from policies.evidence import Ratio
from policies.trial import Label, State

EQUAL = {100: 700, 0: 20, 200: 20}
WORSE = {100: 500, 0: 240}
BETTER = {100: 500, 200: 240}


def read(name: str, counts: dict[int, int], margin: float = 0.05, metrics: int = 2) -> trial.Reading:
    return trial.difference(name, counts, margin, 0.05, metrics)


def judge(primary: trial.Reading | None, *guardrails: trial.Reading, units: int = 740, **more: object) -> object:
    return trial.judge(primary, guardrails, units=units, max_units=10_000, **more)  # type: ignore[arg-type]


def test_the_three_readings() -> None:
    assert (read("v", EQUAL).shown, read("v", EQUAL).harmed) == (True, False)
    assert (read("v", WORSE).shown, read("v", WORSE).harmed) == (False, True)
    assert (read("v", {100: 20}).shown, read("v", {100: 20}).harmed) == (False, False)


def test_promoted_with_a_label() -> None:
    assert judge(read("v", EQUAL), read("errors", EQUAL))[:2] == (State.PROMOTE, Label.EQUIVALENT)
    assert judge(read("v", BETTER))[:2] == (State.PROMOTE, Label.BETTER)
    slightly = {100: 6000, 0: 100}
    assert judge(read("v", slightly))[:2] == (State.PROMOTE, Label.WORSE)


def test_every_guardrail_must_be_shown_and_any_may_reject() -> None:
    assert judge(read("v", EQUAL), read("errors", {100: 20})).state is State.RUNNING  # type: ignore[attr-defined]
    rejected = judge(read("v", EQUAL), read("errors", WORSE))
    assert rejected == (State.REJECT, None, "worse than the margin on errors")


def test_a_guardrail_that_never_applied_is_told_and_does_not_hold_up() -> None:
    state, _, why = judge(read("v", EQUAL), read("ttft", {}))  # type: ignore[misc]
    assert state is State.PROMOTE
    assert "ttft applied to no unit" in why


def test_a_primary_that_cannot_tell_promotes_nothing() -> None:
    """Nothing but garbage scores None everywhere: no units, no promotion, however good the guardrails."""
    assert judge(read("validity", {}), read("errors", EQUAL)).state is State.RUNNING  # type: ignore[attr-defined]
    few = read("validity", {200: 99})
    assert few.shown
    assert judge(few).state is State.RUNNING  # type: ignore[attr-defined]


def test_a_report_has_no_verdict() -> None:
    for counts in (EQUAL, WORSE, BETTER):
        assert judge(None, read("errors", counts)).state is State.RUNNING  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("more", "state"),
    [
        ({"units": 10_000}, State.INCONCLUSIVE),
        ({"ended": "stopped"}, State.INCONCLUSIVE),
        ({"out_of_budget": True}, State.BUDGET_EXHAUSTED),
        ({}, State.RUNNING),
    ],
)
def test_how_it_ends_without_a_verdict(more: dict[str, object], state: State) -> None:
    assert judge(read("v", {100: 100, 0: 6}), **more).state is state  # type: ignore[arg-type,attr-defined]


def test_a_verdict_stands_though_the_budget_is_gone() -> None:
    assert judge(read("v", EQUAL), out_of_budget=True).state is State.PROMOTE  # type: ignore[attr-defined]


def ratio(times: float, units: int) -> Ratio:
    sums = Ratio()
    for number in range(units):
        price = 1 + number % 5
        sums = sums.plus(price * (times + 0.05 * (number % 2)), price)
    return sums


def test_a_cost_ratio() -> None:
    assert trial.ratio("cost", ratio(0.9, 300), 0.1, 0.05, 3).shown
    assert trial.ratio("cost", ratio(2.0, 300), 0.1, 0.05, 3).harmed
    few = trial.ratio("cost", ratio(2.0, 99), 0.1, 0.05, 3)
    assert (few.shown, few.harmed, few.interval.high) == (False, False, math.inf)
    free = trial.ratio("cost", Ratio(200), 0.1, 0.05, 3)
    assert (free.shown, free.harmed, free.estimate) == (True, False, None)


def test_each_side_has_its_own_bar() -> None:
    """Harm is shared by all metrics, so its bar is higher; being shown is not, since all must be."""
    just = next(n for n in range(1, 400) if trial.difference("v", {100: n}, 0.05, 0.05, 1).shown)
    assert evidence.log_above({100: just}, -0.05) >= math.log(40) > evidence.log_above({100: just - 1}, -0.05)
    assert trial.difference("v", {100: just}, 0.05, 0.05, 9).shown
    for metrics in (1, 9):
        worst = next(n for n in range(1, 400) if trial.difference("v", {0: n}, 0.05, 0.05, metrics).harmed)
        assert (
            evidence.log_below({0: worst}, -0.05) >= math.log(40 * metrics) > evidence.log_below({0: worst - 1}, -0.05)
        )
