"""A canary's rollout: its errors are bounded, its steps counted, its state kept."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from random import Random

import pytest

from policies.rollout import SEEN, Rollout, Status, Terms

STEPS = (0.01, 0.05, 0.25, 0.5, 1.0)
TERMS = Terms(STEPS, {"quality": 0.05, "success": 0.03}, hold=0.0, patience=4000.0)


def played(seed: int, *, quality: float = 0.0, errors: float = 0.0, terms: Terms = TERMS) -> Rollout:
    """One pair a second, so that the share plays no role: 80 % of the answers are good, 1 % fail."""
    rng, rollout, now = Random(seed), Rollout(terms, 0.0), 0.0
    while rollout.status is Status.RUNNING:
        now += 1.0
        for canary in (False, True):
            ok = rng.random() >= 0.01 + (errors if canary else 0.0)
            good = ok and rng.random() < 0.8 + (quality if canary else 0.0)
            rollout.unit(f"{now} {canary}", canary, {"quality": float(good), "success": float(ok)}, now)
    return rollout


def test_the_same_is_promoted_and_much_worse_is_rolled_back() -> None:
    assert Counter(played(seed).status for seed in range(12))[Status.PROMOTED] >= 11
    assert {played(seed, quality=-0.2).status for seed in range(6)} == {Status.HARM}
    assert {played(seed, errors=0.2).status for seed in range(6)} == {Status.HARM}


def test_worse_than_the_margin_hardly_ever_reaches_the_end() -> None:
    ends = Counter(played(seed, quality=-0.06).status for seed in range(40))
    assert ends[Status.PROMOTED] <= 3, "2.5 % of 40, and two and a half standard deviations"


def test_the_check_can_fail() -> None:
    careless = Terms(STEPS, {"quality": 0.05}, alpha=2.0, units=10, hold=0.0, patience=4000.0)
    ends = Counter(played(seed, quality=-0.06, terms=careless).status for seed in range(40))
    assert ends[Status.PROMOTED] > 3


def test_steps_wait_for_units_and_time_and_margins_narrow() -> None:
    rollout = Rollout(Terms(STEPS, {"success": 0.05}, units=100, hold=60.0), 0.0)
    widths, events = [], []
    for at in range(4000):
        for canary in (True, False):
            event = rollout.unit(f"{at} {canary}", canary, {"success": 1.0}, at * 0.5)
            if event is not None:
                events.append(event)
        if not widths or widths[-1] != rollout.wider():
            widths.append(rollout.wider())
        if rollout.status is not Status.RUNNING:
            break
    assert widths == [4.0, 3.0, 2.0, 1.0]
    assert [(event.event, event.share) for event in events] == [
        ("advanced", 0.05),
        ("advanced", 0.25),
        ("advanced", 0.5),
        ("promoted", 1.0),
    ]
    assert all(later.at - sooner.at >= 60.0 for sooner, later in pairwise(events))
    assert all(later.units - sooner.units >= 100 for sooner, later in pairwise(events))


def test_a_step_that_shows_nothing_times_out_and_that_is_no_harm() -> None:
    rollout = Rollout(Terms(STEPS, {"success": 0.05}, patience=100.0), 0.0)
    assert rollout.tick(99.0) is None
    event = rollout.tick(100.0)
    assert event is not None
    assert (event.event, event.share, rollout.status) == ("timed_out", 0.0, Status.TIMED_OUT)
    assert rollout.tick(200.0) is None


def test_a_unit_counts_once() -> None:
    rollout = Rollout(Terms(STEPS, {"success": 0.05}), 0.0)
    for _ in range(50):
        rollout.unit("u", True, {"success": 0.0}, 1.0)
        rollout.unit("v", False, {"success": 1.0}, 1.0)
    assert rollout.units == 1
    for at in range(SEEN + 1):
        rollout.unit(f"x{at}", True, {"success": 1.0}, 1.0)
    rollout.unit("u", False, {"success": 1.0}, 1.0)
    assert rollout.units == 2, "forgotten by then"


def test_a_metric_that_says_nothing_holds_nobody_up_but_the_first_must_speak() -> None:
    silent = Rollout(Terms(STEPS, {"success": 0.05, "fast": 0.05}, hold=0.0), 0.0)
    mute = Rollout(Terms(STEPS, {"fast": 0.05, "success": 0.05}, hold=0.0), 0.0)
    for at in range(1500):
        for canary in (True, False):
            silent.unit(f"{at} {canary}", canary, {"success": 1.0}, float(at))
            mute.unit(f"{at} {canary}", canary, {"success": 1.0}, float(at))
    assert silent.status is Status.PROMOTED
    assert (mute.status, mute.step) == (Status.RUNNING, 0)


@pytest.mark.parametrize("quality", [0.0, -0.3])
def test_what_is_kept_goes_on_where_it_was(quality: float) -> None:
    rng, whole, now = Random(1), Rollout(TERMS, 0.0), 0.0
    for _ in range(300):
        now += 1.0
        for canary in (False, True):
            good = rng.random() < 0.8 + (quality if canary else 0.0)
            whole.unit(f"{now} {canary}", canary, {"quality": float(good), "success": 1.0}, now)
    again = Rollout.restored(TERMS, whole.shown())
    assert again.shown() == whole.shown()
    assert again.share == whole.share
