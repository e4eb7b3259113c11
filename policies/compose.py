"""From a route's candidates to the order in which they are tried: filter, priority, the policy's pick, fallbacks.

    fit for the request?  ->  may be asked now?  ->  lowest priority number  ->  policy  ->  the other priorities

Every candidate that is not in the order gets a reason. What is barred (an open breaker, a cool-down, a limit) is left
out unless everything is: a doubtful target is better than none. What cannot answer at all is always left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import NamedTuple

from policies.base import Ask, Candidate, Choice, Passed, Policy

SURELY = 1.25
"""A prompt is too long for a window if its estimate exceeds it by this factor; nearer ones are left to the target."""


class Arranged(NamedTuple):
    order: Sequence[Choice]
    """Places in the candidates given, first choice first. Empty if no candidate can answer."""
    passed_over: tuple[tuple[int, str], ...] = ()
    """(place, reason code) of all others."""


def arrange(policy: Policy, ask: Ask, candidates: Sequence[Candidate], rng: Random, explore: float = 0.0) -> Arranged:
    """`explore`: share of the requests whose first choice is drawn evenly, so that all are seen."""
    first_priority = candidates[0].priority
    for candidate in candidates:
        if candidate.barred or candidate.lacks or candidate.context_window or candidate.priority != first_priority:
            return _filtered(policy, ask, candidates, rng, explore)
    if not explore:
        order = policy.plan(ask, candidates, rng)
        if len(order) == len(candidates):
            return Arranged(order)
        return _named(order, range(len(candidates)))
    return _arranged(policy, ask, candidates, range(len(candidates)), rng, explore)


def unfit(ask: Ask, candidate: Candidate) -> str:
    """Why this target cannot answer this request, whatever its state; empty if it may."""
    if candidate.lacks and not candidate.lacks.isdisjoint(ask.needs):
        return Passed.LACKS
    window = candidate.context_window
    # A token has a byte at least, so that short requests need no estimate.
    if window is not None and ask.size > window and ask.tokens > window * SURELY:
        return Passed.WINDOW
    return ""


def _filtered(policy: Policy, ask: Ask, candidates: Sequence[Candidate], rng: Random, explore: float) -> Arranged:
    passed: list[tuple[int, str]] = []
    barred: list[int] = []
    levels: dict[int, list[int]] = {}
    for place, candidate in enumerate(candidates):
        reason = unfit(ask, candidate)
        if reason:
            passed.append((place, reason))
        elif candidate.barred:
            barred.append(place)
        else:
            levels.setdefault(candidate.priority, []).append(place)
    order = _by_level(policy, ask, candidates, levels, rng, explore)
    if order:
        barred_out = barred
    else:
        levels = {}
        for place in barred:
            levels.setdefault(candidates[place].priority, []).append(place)
        order, barred_out = _by_level(policy, ask, candidates, levels, rng, explore), []
    passed += [(place, candidates[place].barred) for place in barred_out]
    kept = {choice.candidate for choice in order} | {place for place, _ in passed}
    passed += [(place, Passed.POLICY) for place in range(len(candidates)) if place not in kept]
    return Arranged(order, tuple(passed))


def _by_level(
    policy: Policy,
    ask: Ask,
    candidates: Sequence[Candidate],
    levels: Mapping[int, Sequence[int]],
    rng: Random,
    explore: float,
) -> list[Choice]:
    """The policy's order of each priority's places, one after the other."""
    order: list[Choice] = []
    for level in sorted(levels):
        places = levels[level]
        found = _arranged(policy, ask, [candidates[place] for place in places], places, rng, explore).order
        order += found if not order else [choice._replace(propensity=0.0) for choice in found]
    return order


def _arranged(
    policy: Policy, ask: Ask, candidates: Sequence[Candidate], places: Sequence[int], rng: Random, explore: float
) -> Arranged:
    """The policy's order of `candidates`, in terms of their `places` in the whole."""
    choices = policy.plan(ask, candidates, rng)
    if explore and choices:
        choices = _explored(choices, rng, explore)
    return _named([Choice(places[one.candidate], one.propensity, one.score, one.why) for one in choices], places)


def _named(order: Sequence[Choice], places: Sequence[int]) -> Arranged:
    """With a reason for each of the places that the policy left out."""
    if len(order) == len(places):
        return Arranged(order)
    kept = {choice.candidate for choice in order}
    return Arranged(order, tuple([(place, Passed.POLICY) for place in places if place not in kept]))


def _explored(choices: Sequence[Choice], rng: Random, explore: float) -> Sequence[Choice]:
    """Now and then one drawn evenly comes first; every propensity says so."""
    even = explore / len(choices)
    mixed = [choice._replace(propensity=(1.0 - explore) * choice.propensity + even) for choice in choices]
    if rng.random() < explore:
        mixed.insert(0, mixed.pop(rng.randrange(len(mixed)))._replace(why="explored"))
    return mixed
