"""Money of one experiment: the worst that a call may cost is reserved before it is sent, its real cost booked after."""

from __future__ import annotations

from typing import NamedTuple

from proxy.prices.assumed import ASSUMED_INPUT, ASSUMED_OUTPUT
from proxy.upstreams import Target

ASSUMED_ANSWER = 4096
"""Tokens of an answer whose request names no limit."""
BYTES_PER_TOKEN = 2
"""Of a request; text has about 4, so that twice the usual is reserved."""


class Spent(NamedTuple):
    """USD of one pair: reserved beforehand or paid."""

    calls: float
    """Of the candidate, and of the primary asked again."""
    judge: float = 0.0
    similarity: float = 0.0

    @property
    def total(self) -> float:
        return self.calls + self.judge + self.similarity

    def plus(self, other: Spent) -> Spent:
        return Spent(self.calls + other.calls, self.judge + other.judge, self.similarity + other.similarity)


class Budget:
    """`per_day` and `total` in USD; days are given as text, as in the records."""

    __slots__ = ("_day", "_reserved", "per_day", "spent", "spent_today", "total")

    def __init__(self, per_day: float, total: float, *, day: str, spent: float = 0.0, spent_today: float = 0.0) -> None:
        self.per_day = per_day
        self.total = total
        self._day = day
        self.spent = spent
        self.spent_today = spent_today
        self._reserved = 0.0

    def limit(self, per_day: float, total: float) -> None:
        """Other limits from now on; what is spent stays spent."""
        self.per_day, self.total = per_day, total

    def reserve(self, usd: float, day: str) -> str | None:
        """Takes the amount out; or says which limit leaves no room for it: `day` or `total`."""
        if day != self._day:
            self._day, self.spent_today = day, 0.0
        if self.spent + self._reserved + usd > self.total:
            # What is reserved may come back; only what is spent is gone.
            return "total" if self.spent + usd > self.total else "day"
        if self.spent_today + self._reserved + usd > self.per_day:
            return "day"
        self._reserved += usd
        return None

    def settle(self, reserved: float, usd: float) -> None:
        self._reserved = max(0.0, self._reserved - reserved)
        self.spent += usd
        self.spent_today += usd


class Purse:
    """An experiment's budget, and the parts of it that the judge and the comparison of meanings may have."""

    __slots__ = ("judge", "similarity", "whole")

    def __init__(self, whole: Budget, judge: Budget, similarity: Budget) -> None:
        self.whole = whole
        self.judge = judge
        self.similarity = similarity

    def limit(self, other: Purse) -> None:
        """The limits of another from now on; what is spent stays spent."""
        for mine, its in ((self.whole, other.whole), (self.judge, other.judge), (self.similarity, other.similarity)):
            mine.limit(its.per_day, its.total)

    def restate(self, spent: Spent, today: Spent) -> None:
        """What was spent by whomever; reservations stay."""
        for mine, all_time, so_far in (
            (self.whole, spent.total, today.total),
            (self.judge, spent.judge, today.judge),
            (self.similarity, spent.similarity, today.similarity),
        ):
            mine.spent, mine.spent_today = all_time, so_far

    def reserve(self, worst: Spent, day: str) -> Spent | str:
        """What was taken out: without the comparison where that has no money left. Else the limit that was met."""
        if worst.similarity and self.similarity.reserve(worst.similarity, day) is not None:
            worst = worst._replace(similarity=0.0)
        refused = self.judge.reserve(worst.judge, day) if worst.judge else None
        if refused is not None:
            self.similarity.settle(worst.similarity, 0.0)
            return refused
        refused = self.whole.reserve(worst.total, day)
        if refused is not None:
            self.similarity.settle(worst.similarity, 0.0)
            self.judge.settle(worst.judge, 0.0)
            return refused
        return worst

    def settle(self, reserved: Spent, spent: Spent) -> None:
        self.whole.settle(reserved.total, spent.total)
        self.judge.settle(reserved.judge, spent.judge)
        self.similarity.settle(reserved.similarity, spent.similarity)


def worst_usd(target: Target, request_bytes: int, answer_tokens: int) -> float:
    """The most that one call may cost; `answer_tokens`: the most that the answer may have, all choices together."""
    fresh, written = _rates(target)
    return request_bytes / BYTES_PER_TOKEN * fresh + answer_tokens * written


def is_priced(target: Target) -> bool:
    return target.price is not None and target.price.tariff is not None


def _rates(target: Target) -> tuple[float, float]:
    """USD for a token in and out, the dearest of each."""
    tariff = target.price.tariff if target.price is not None else None
    if tariff is None:
        return ASSUMED_INPUT, ASSUMED_OUTPUT
    steps = [step for one in (tariff, *tariff.tiers.values()) for step in (one.rates, *(r for _, r in one.steps))]
    fresh = max(max(rates.input, rates.cache_write, rates.cache_write_1h, rates.image_input) for rates in steps)
    return fresh, max(max(rates.output, rates.reasoning) for rates in steps)
