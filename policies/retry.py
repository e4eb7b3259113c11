"""What to do after a failed attempt: another target, the same again after a pause, or give up.

The limits are per target and per request, over retries and failovers together, so that no combination multiplies. A
fresh target is always preferred and asked at once; a target is tried again only when no fresh one is left, after a
pause with full jitter (delays drawn from U(0, min(8 s, base * 2^n)), base 0.1 s, or 1 s when it was throttling).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from policies.verdict import VERDICTS, Failover, Kind

PATIENCE = 5.0
"""Longest Retry-After, in seconds, that is waited for while the client waits too."""
QUEUE = 20.0
"""Longest wait, in seconds, for room under a rate limit that was foreseen."""
LONGEST = 8.0
TRANSIENT = 0.1
THROTTLED = 1.0


@dataclass(frozen=True, slots=True)
class Limits:
    """How often one target, and one request over all targets, may be tried."""

    per_target: int = 2
    per_request: int = 4


@dataclass(frozen=True, slots=True)
class FailoverOn:
    """Which of the client's own faults are worth another target."""

    context_length: bool = True
    content_filter: bool = False
    bad_request: bool = False


class Budget:
    """How many further tries one target may get, beside fresh requests, while it is in trouble.

    Every fresh request earns 0.2, up to 50; a further try costs 1, or 2 after a timeout (that one has been paid for
    already), given back when it is answered. Ten at once are always allowed, so that little traffic is not left
    without: a storm is made of more.
    """

    __slots__ = ("level", "under_way")

    CAP = 50.0
    EARNED = 0.2
    ALWAYS = 10

    def __init__(self) -> None:
        self.level = self.CAP
        self.under_way = 0
        """Further tries that have not ended."""

    def earn(self) -> None:
        if self.level < self.CAP:
            self.level = min(self.CAP, self.level + self.EARNED)

    def affords(self, cost: int) -> bool:
        return self.level >= cost or self.under_way < self.ALWAYS

    def regain(self) -> None:
        """A further try was answered: it was no burden."""
        self.level = min(self.CAP, self.level + 1.0)

    def spend(self, cost: int) -> None:
        self.level = max(0.0, self.level - cost)


class Step(NamedTuple):
    """Try `target` (its place in the plan) after `delay` seconds."""

    target: int
    delay: float


class Tries:
    """The tries of one request so far. `windows` are the targets' context sizes in tokens, None where unknown."""

    __slots__ = ("_counts", "_failover", "_last", "_limits", "_total", "_waits", "_windows")

    def __init__(self, windows: Sequence[int | None], limits: Limits, failover: FailoverOn) -> None:
        self._windows = windows
        self._limits = limits
        self._failover = failover
        self._counts = [0] * len(windows)
        self._last: list[Kind | None] = [None] * len(windows)
        self._waits: list[float | None] = [None] * len(windows)
        self._total = 0

    def more(self, windows: Sequence[int | None]) -> None:
        """Further targets, behind the others."""
        count = len(windows)
        self._windows = [*self._windows, *windows]
        self._counts += [0] * count
        self._last += [None] * count
        self._waits += [None] * count

    @property
    def fresh(self) -> int:
        """Targets not tried yet that the limit per request still leaves room for."""
        return min(self.untouched, self.left)

    @property
    def untouched(self) -> int:
        """Targets not tried yet."""
        return self._counts.count(0)

    @property
    def left(self) -> int:
        """Tries that the limit per request leaves."""
        return self._limits.per_request - self._total

    def untried(self, target: int) -> bool:
        return self._counts[target] == 0

    def may_replay(self, target: int) -> bool:
        """Whether the limits leave room for two tries at `target`: a request that is sent again counts twice."""
        limits = self._limits
        return self._counts[target] + 2 <= limits.per_target and self._total + 2 <= limits.per_request

    def begun(self, target: int, tries: int = 1) -> None:
        """`tries` went to `target`: 2 where the transport had to send again on a new connection."""
        self._counts[target] += tries
        self._total += tries

    def next(
        self,
        target: int,
        kind: Kind,
        retry_after: float | None,
        remaining: float,
        rng: Random,
        avoid: Collection[int] = (),
    ) -> Step | None:
        """After `target` failed with `kind`. `remaining` and `retry_after` in seconds; None means: give up.

        `avoid`: places that must not be asked now, for their own state's sake.
        """
        self._last[target] = kind
        self._waits[target] = retry_after
        if self.left <= 0 or remaining <= 0:
            return None
        if self._may_leave(kind):
            for other, count in enumerate(self._counts):
                if count == 0 and other not in avoid and self._suits(other, target, kind):
                    return Step(other, 0.0)
        elif not VERDICTS[kind].again:
            return None
        return self._again(remaining, rng, avoid)

    def _may_leave(self, kind: Kind) -> bool:
        rule = VERDICTS[kind].failover
        allowed = self._failover
        return (
            rule is Failover.YES
            or (rule is Failover.LARGER and allowed.context_length)
            or (rule is Failover.FILTER and allowed.content_filter)
            or (rule is Failover.REQUEST and allowed.bad_request)
        )

    def _suits(self, other: int, target: int, kind: Kind) -> bool:
        if VERDICTS[kind].failover is not Failover.LARGER:
            return True
        here, there = self._windows[target], self._windows[other]
        return here is None or there is None or there > here

    def _again(self, remaining: float, rng: Random, avoid: Collection[int]) -> Step | None:
        """The retryable target tried least, the earliest in the plan among equals."""
        best = None
        for target, kind in enumerate(self._last):
            if kind is None or self._counts[target] >= self._limits.per_target or target in avoid:
                continue
            if self._counts[target] > VERDICTS[kind].again or (self._waits[target] or 0.0) > PATIENCE:
                continue
            if best is None or self._counts[target] < self._counts[best]:
                best = target
        if best is None:
            return None
        wait = self._waits[best]
        base = THROTTLED if self._last[best] is Kind.RATE_LIMIT else TRANSIENT
        delay = rng.uniform(0.0, min(LONGEST, base * 2.0 ** (self._counts[best] - 1)))
        if wait is not None:
            delay = wait + min(delay, 0.1)
        return Step(best, delay) if delay < remaining else None
