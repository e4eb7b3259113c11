"""What not to do: the policies that the simulator must show to fail. They guard the harness, not the program."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from policies.base import Ask, Candidate, Choice
from proxy.record import Exchange


def order(first: int, count: int) -> list[Choice]:
    places = [first, *(place for place in range(count) if place != first)]
    return [Choice(place, 1.0 if place == first else 0.0) for place in places]


class RoundRobin:
    """Each target in turn, whatever it does."""

    def __init__(self) -> None:
        self._turn = -1

    def plan(self, ask: Ask, candidates: Sequence[Candidate], rng: Random) -> Sequence[Choice]:
        self._turn = (self._turn + 1) % len(candidates)
        return order(self._turn, len(candidates))


class Scattered:
    """Each turn of a conversation at a target that chance names."""

    def plan(self, ask: Ask, candidates: Sequence[Candidate], rng: Random) -> Sequence[Choice]:
        assert ask.unit  # read, so that the record has it
        return order(rng.randrange(len(candidates)), len(candidates))


class LeastLoaded:
    """The fewest requests under way, whatever the reason."""

    def plan(self, ask: Ask, candidates: Sequence[Candidate], rng: Random) -> Sequence[Choice]:
        fewest = min(candidate.in_flight for candidate in candidates)
        ties = [place for place, candidate in enumerate(candidates) if candidate.in_flight == fewest]
        return order(rng.choice(ties), len(candidates))


class TwoChoices:
    """The less loaded of two that are drawn."""

    def plan(self, ask: Ask, candidates: Sequence[Candidate], rng: Random) -> Sequence[Choice]:
        one, other = rng.sample(range(len(candidates)), 2) if len(candidates) > 1 else (0, 0)
        return order(one if candidates[one].in_flight <= candidates[other].in_flight else other, len(candidates))


class Greedy:
    """The target whose answers came fastest lately: everybody runs to it, until it is the slowest."""

    def __init__(self) -> None:
        self._seen: dict[str, float] = {}

    def plan(self, ask: Ask, candidates: Sequence[Candidate], rng: Random) -> Sequence[Choice]:
        places = range(len(candidates))
        return order(min(places, key=lambda place: self._seen.get(candidates[place].name, 0.0)), len(candidates))

    def accept(self, exchange: Exchange) -> None:
        for attempt in exchange.attempts:
            if attempt.marks.first_content:
                took = (attempt.marks.first_content - attempt.marks.received) / 1e9
                self._seen[attempt.target] = took * 0.3 + self._seen.get(attempt.target, took) * 0.7
