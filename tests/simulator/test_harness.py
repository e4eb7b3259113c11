"""The simulator itself: it repeats exactly, and in it naive designs fail as they do in the world."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from policies.retry import Budget
from policies.verdict import Kind
from proxy.bench.simulate import Fault, Figures, Traffic
from tests.processes import REPOSITORY
from tests.simulator.cluster import burst, capacity, run, slow_one, three, trap
from tests.simulator.naive import Greedy, LeastLoaded, RoundRobin, TwoChoices


def test_the_same_seed_gives_the_same_trace() -> None:
    world = three(Fault("fail", 5, 10), Fault("slow", 12, 15), tpm=20_000.0)
    traffic = Traffic(((20.0, 10.0),), stream=0.5, patience=4.0)
    first = run(world, traffic)
    assert first.n > 100
    assert {"ok", "client_closed"} <= {row.outcome for row in first.rows}
    assert first.trace() == run(world, traffic).trace()
    assert first.digest() != run(world, traffic, seed=2).digest()


def test_another_process_with_other_hashes_gives_it_too() -> None:
    code = """
from proxy.bench.simulate import Fault, Figures, Traffic
from tests.simulator.cluster import run
world = {name: Figures(slots=50, tail=0.05, faults=(Fault("hang", 5, 9, rate=0.5),)) for name in "abc"}
for policy in ("fastest", "sticky", "bandit"):
    route = f"policy: {policy}\\nhedge: {{after: p95, budget: 5%}}"
    print(run(world, Traffic(((20.0, 10.0),), units=50), route).digest())
"""
    digests = {
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, cwd=REPOSITORY,
            capture_output=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(digests) == 1
    assert len(digests.pop().split()) == 3


def test_a_healthy_cluster_serves_everybody_at_its_own_pace() -> None:
    result = run(three(), Traffic(((30.0, 0.6 * capacity(3)),)), policy=TwoChoices())
    assert (result.success, result.tries) == (1.0, 1.0)
    assert 0.35 < result.ttft(0.5) < 0.45
    assert abs(result.share("a") - 1 / 3) < 0.1


def test_faults_come_and_go_in_their_windows() -> None:
    faults = (
        Fault("refuse", 0, 10),
        Fault("fail", 10, 20),
        Fault("hang", 20, 30),
        Fault("throttle", 30, 40, retry_after=0.05),
        Fault("stall", 40, 50),
    )
    route = "retries: {per_request: 1}\ntimeouts: {ttft: 2s, stall: 2s}\nbreaker: false"
    result = run({"a": Figures(faults=faults)}, Traffic(((60.0, 3.0),)), route)
    seen = [{one.kind for one in result.between(begin + 0.1, begin + 9.9).attempts("a")} for begin in range(0, 60, 10)]
    assert seen == [
        {Kind.CONNECT},
        {Kind.SERVER_ERROR},
        {Kind.TIMEOUT},
        {Kind.RATE_LIMIT},
        {Kind.STALL},
        {Kind.OK},
    ]


def test_limits_refuse_what_is_over_them_and_fill_up_again() -> None:
    world = {"a": Figures(rpm=60.0, tells=False)}
    result = run(world, Traffic(((120.0, 2.0),)), "retries: {per_request: 1}", policy=RoundRobin())
    late = result.between(70.0, 120.0)
    assert 0.25 < late.success < 0.65
    assert {row.status for row in late.rows} == {200, 429}


def test_running_to_the_fastest_makes_it_the_slowest() -> None:
    greedy = Greedy()
    herd = slow_one(greedy, 90.0, watch=greedy).ttft(0.99)
    blind = slow_one(RoundRobin(), 90.0).ttft(0.99)
    sound = slow_one(TwoChoices(), 90.0).ttft(0.99)
    assert herd > 5 * sound
    assert blind > 5 * sound


def test_without_a_breaker_fast_failures_attract_traffic() -> None:
    result = trap(LeastLoaded(), 60.0, "retries: {per_request: 1}\nbreaker: false")
    during = result.between(20.0, 40.0)
    assert during.success < 0.4  # far below the 2/3 that chance alone would give
    assert during.share("a") > 0.6


def test_without_cancelling_an_overload_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Budget, "affords", lambda self, cost: True)
    result = burst(notices=False, route="timeouts: {ttft: 10s}\nbreaker: false", policy=RoundRobin())
    assert result.tries > 2.5
    assert result.goodput(110.0, 140.0) == 0.0
