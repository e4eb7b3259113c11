"""Several targets ill at once: no client is told of a failure while one that was well had not been asked."""

from __future__ import annotations

from random import Random

import pytest

from policies.retry import Budget
from proxy.bench.simulate import Fault, Figures, Result, Traffic
from tests.simulator.cluster import run

RATE = 14.0
"""Requests a second: some twenty under way."""


def ills(rng: Random, until: float) -> tuple[Fault, ...]:
    """Faults one after the other that meet a third or half of the requests."""
    faults, at = [], rng.uniform(2.0, 15.0)
    while at < until - 10.0:
        end = at + rng.uniform(2.0, 20.0)
        kind = rng.choice(["fail", "refuse", "hang", "throttle"])
        rate, wait = rng.choice([0.3, 0.5]), rng.choice([1.0, 2.0, 5.0])
        faults.append(Fault(kind, at, end, rate=rate, retry_after=wait))  # type: ignore[arg-type]
        at = end + rng.uniform(0.0, 15.0)
    return tuple(faults)


def needless(result: Result) -> int:
    """Failures of requests during all of which some target was well and had not asked for a pause."""
    return sum(
        not row.ok
        and any(
            all(
                fault.end + (fault.retry_after or 0.0) < row.at or fault.begin > row.end
                for fault in target.figures.faults
            )
            for target in result.targets.values()
        )
        for row in result.rows
    )


@pytest.mark.parametrize("seed", [7, 8])
def test_no_failure_is_needless(seed: int) -> None:
    rng = Random(seed)
    world = {name: Figures(slots=200, faults=ills(rng, 60.0)) for name in "abcd"}
    result = run(world, Traffic(((60.0, RATE),)), "timeouts: {ttft: 2s}", seed=seed)
    assert needless(result) == 0
    assert result.success > 0.97
    assert result.tries < 1.5


def test_what_was_passed_over_is_asked_before_the_last_tries_are_spent() -> None:
    """c came first and failed until 15 s; its breaker is still open when the two others begin to fail at 16 s."""
    world = {"c": Figures(slots=200, faults=(Fault("fail", 5.0, 15.0),))}
    world |= {name: Figures(slots=200, faults=(Fault("fail", 16.0, 40.0),)) for name in "ab"}
    assert run(world, Traffic(((45.0, RATE),))).between(16.0, 45.0).success == 1.0


def test_who_asked_for_a_pause_is_not_asked_while_the_other_may_be_tried_again() -> None:
    world = {
        "b": Figures(slots=200, faults=(Fault("throttle", 2.0, 2.6, retry_after=200.0),)),
        "a": Figures(slots=200, faults=(Fault("fail", 3.0, 60.0, rate=0.1),)),
    }
    result = run(world, Traffic(((60.0, RATE),)), "retries: {per_request: 2}\nbreaker: false")
    assert not [one for one in result.attempts("b") if one.begun > 3.0]
    assert result.success > 0.97


def test_one_that_hung_once_and_is_well_again_is_asked_after_a_timeout() -> None:
    world = {
        "a": Figures(slots=200, faults=(Fault("hang", 5.0, 15.0), Fault("hang", 40.0, 50.0))),
        "b": Figures(slots=200, faults=(Fault("hang", 15.0, 33.0),)),
    }
    result = run(world, Traffic(((55.0, RATE),)), "timeouts: {ttft: 2s}")
    assert result.between(34.0, 55.0).success > 0.99  # the rest is what the budget of b keeps from it


def test_what_half_works_is_tried_again_as_often_as_the_limits_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of four tries of which each fails by a chance of one half, all fail in 6 % of the cases."""

    def failed() -> float:
        kinds = ("hang", "fail", "refuse")
        world = {kind: Figures(slots=200, faults=(Fault(kind, 0.0, 99.0, rate=0.5),)) for kind in kinds}  # type: ignore[arg-type]
        return 1.0 - run(world, Traffic(((60.0, RATE),)), "timeouts: {ttft: 2s}").success

    assert failed() < 0.09
    monkeypatch.setattr(Budget, "ALWAYS", 3)
    assert failed() > 0.11, "with a smaller floor the budget is spent"
