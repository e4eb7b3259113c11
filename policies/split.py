"""Which requests may go to the cheaper model: cost against quality by the length of the prompt. Pure.

From pairs, in which both models answered the same request: for each length, what it saves to send the shorter (or the
longer) prompts to the candidate, and what that costs in quality. The best of many is chosen, and looks better than it
is; so it is chosen on one half of the conversations and judged on the other, of which it knows nothing. The method is
that of quality-cost routers (Ong et al. 2024, RouteLLM), with a rule that anybody can read in place of a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

from policies.counterfactual import Estimate, Unsupported, mean_of

LEAST = 50
"""Conversations that each half must have."""
_LENGTHS = 10


class Pair(NamedTuple):
    """One request that both models answered."""

    tokens: float
    """Of its prompt."""
    unit: str
    """Its conversation."""
    difference: float
    """Quality of the candidate's answer minus that of the primary's, in [-1, 1]."""
    primary_usd: float
    candidate_usd: float


class Rule(NamedTuple):
    """Prompts of this length go to the candidate."""

    limit: float
    """Tokens; `inf`: all of them."""
    shorter: bool
    """Those of at most so many tokens; False: those of more."""

    def moves(self, tokens: float) -> bool:
        return (tokens <= self.limit) is self.shorter


class Point(NamedTuple):
    """What a rule does to a mean request, against sending all to the primary."""

    rule: Rule
    n: int
    units: int
    share: float
    """Of the requests that go to the candidate."""
    quality: Estimate
    """Change, in points of the score's range of 1."""
    saved_usd: Estimate
    primary_usd: float
    """What a mean request costs at the primary."""

    def holds(self, margin: float) -> bool:
        """Quality falls by `margin` at most, and money is saved, both at 97.5 %."""
        return self.quality.low >= -margin and self.saved_usd.low > 0


class Split(NamedTuple):
    curve: list[Point]
    """By the first half, from what moves most to what moves least."""
    chosen: Point | None
    """The one that saves most of those that hold there."""
    verified: Point | None
    """The same rule on the other half: the figures to go by."""


def split(pairs: Sequence[Pair], margin: float) -> Split:
    """Raises `Unsupported` where there are too few conversations."""
    halves: tuple[list[Pair], list[Pair]] = [], []
    for pair in pairs:
        halves[sha256(pair.unit.encode()).digest()[0] & 1].append(pair)
    first, second = halves
    fewest = min(len({pair.unit for pair in half}) for half in halves)
    if fewest < LEAST:
        raise Unsupported(f"half of the conversations are {fewest}; {LEAST} are the least")
    curve = sorted((_point(rule, first) for rule in _rules(first)), key=lambda point: -point.share)
    good = [point for point in curve if point.holds(margin)]
    if not good:
        return Split(curve, None, None)
    chosen = max(good, key=lambda point: point.saved_usd.value)
    return Split(curve, chosen, _point(chosen.rule, second))


def _rules(pairs: Sequence[Pair]) -> list[Rule]:
    """All to the candidate, and on either side of the lengths that cut the requests into tenths."""
    lengths = sorted(pair.tokens for pair in pairs)
    limits = {_round(lengths[len(lengths) * tenth // _LENGTHS]) for tenth in range(1, _LENGTHS)}
    rules = [Rule(limit, shorter) for limit in sorted(limits) for shorter in (True, False)]
    moving = [rule for rule in rules if len({rule.moves(length) for length in lengths}) == 2]
    return [Rule(float("inf"), True), *moving]


def _round(tokens: float) -> float:
    """To two digits: a rule is written by people."""
    return float(f"{tokens:.2g}")


def _point(rule: Rule, pairs: Sequence[Pair]) -> Point:
    moved = [rule.moves(pair.tokens) for pair in pairs]
    units = [pair.unit for pair in pairs]
    change = [pair.difference if go else 0.0 for pair, go in zip(pairs, moved, strict=True)]
    saved = [pair.primary_usd - pair.candidate_usd if go else 0.0 for pair, go in zip(pairs, moved, strict=True)]
    n = len(pairs)
    return Point(
        rule, n, len(set(units)), sum(moved) / n, _quality(units, change), mean_of(units, saved),
        sum([pair.primary_usd for pair in pairs]) / n,
    )  # fmt: skip


def _quality(units: Sequence[str], change: Sequence[float]) -> Estimate:
    """With one conversation more that was lost and one that was won: none lost yet does not mean that none will be."""
    mean = sum(change) / len(change)
    seen = mean_of([*units, "won", "lost"], [*change, 1.0, -1.0])
    return Estimate(mean, mean + seen.low - seen.value, mean + seen.high - seen.value)
