"""Clusters and loads that several scenarios share."""

from __future__ import annotations

from typing import Any

from policies.base import Policy
from proxy import config
from proxy.bench.simulate import Fault, Figures, Result, Traffic, simulate
from proxy.bench.simulate.run import text_of

SERVICE = 1.55
"""Seconds that a slot is busy with one request of the default figures and traffic, on average."""
PATIENT = "timeouts: {total: 600s, ttft: 600s}"


def capacity(count: int, slots: int = 16) -> float:
    """Requests a second that `count` targets can serve."""
    return count * slots / SERVICE


def run(world: dict[str, Figures], traffic: Traffic, route: str = "", seed: int = 1, **more: Any) -> Result:
    text = text_of(world, route, more.pop("keys", 1), more.pop("each", ""))
    loaded = config.parse(text, source="simulated", format="yaml", env={})
    return simulate(loaded, world, traffic, seed, **more)


def three(*faults: Fault, **figures: Any) -> dict[str, Figures]:
    """Three equal targets; the faults are the first one's."""
    return {name: Figures(faults=faults if name == "a" else (), **figures) for name in "abc"}


def slow_one(policy: Policy, seconds: float, **more: Any) -> Result:
    """One of three is four times slower for the middle third, at 60 % of what all could serve."""
    world = three(Fault("slow", seconds / 3, seconds * 2 / 3))
    return run(world, Traffic(((seconds, 0.6 * capacity(3)),)), PATIENT, policy=policy, **more)


def trap(policy: Policy | None, seconds: float, route: str, **more: Any) -> Result:
    """One of three fails within 50 ms for the middle third: the fastest of all, and the least loaded."""
    world = three(Fault("fail", seconds / 3, seconds * 2 / 3))
    return run(world, Traffic(((seconds, 0.6 * capacity(3)),)), route, policy=policy, **more)


def burst(*, notices: bool, route: str, seconds: float = 60.0, tail: float = 60.0, **more: Any) -> Result:
    """Four targets at 60 %, then at 150 % for `seconds`, then at 60 % again."""
    world = {name: Figures(slots=8, notices=notices) for name in "abcd"}
    full = capacity(4, 8)
    phases = ((20.0, 0.6 * full), (seconds, 1.5 * full), (tail, 0.6 * full))
    return run(world, Traffic(phases), route, **more)


def two_keys(*, tells: bool, seconds: float = 840.0, seed: int = 1, **more: Any) -> Result:
    """Two keys of one provider with 30,000 tokens a minute each, at 80 % of both: bursts of 1.5 times, and lulls.

    `tells=False`: the provider says nothing of its limits, so they cannot be foreseen.
    """
    world = {"a": Figures(slots=200, tpm=30_000.0, tells=tells)}
    full = 2 * 30_000 / 60 / 453  # requests a second; 453 tokens each, on average
    phases = tuple((140.0, full * (0.1 if number % 2 else 1.5)) for number in range(round(seconds / 140)))
    return run(world, Traffic(phases), seed=seed, keys=2, **more)
