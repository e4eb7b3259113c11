"""What a policy sees and what it answers. Frozen views only: a policy keeps nothing and asks nobody."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import NamedTuple, Protocol


class Ask(NamedTuple):
    """A request as a policy sees it."""

    model: str
    """The name that the client asked for."""
    stream: bool


class Candidate(NamedTuple):
    """A target as it is now."""

    name: str
    weight: float = 1.0
    in_flight: int = 0
    """Attempts under way at this target, from this process."""
    context_window: int | None = None
    """Tokens, where the config says."""


class Choice(NamedTuple):
    """One place in the preference order."""

    candidate: int
    """Its place among the candidates given."""
    propensity: float
    """Probability, in [0, 1], that this policy puts this candidate first for this request."""


class Policy(Protocol):
    """Orders candidates by preference. The result holds each candidate at most once; failover follows its order."""

    def plan(self, ask: Ask, candidates: Sequence[Candidate], rng: Random) -> Sequence[Choice]: ...
