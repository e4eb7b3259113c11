"""A circuit breaker for one target: what its outcomes say of whether it should be asked.

closed -> open      on 5 failures in a row, or a success share under 0.8 of at least 10 outcomes of the last minute
open -> half-open   after U(1/2, 1) x min(30 s, 5 s x 2^k); k counts the probes that failed
half-open -> closed when its one probe succeeds; its share of the traffic then grows from 10 to 100 % in 30 s
half-open -> open   when the probe fails
open -> closed      after 3 good answers in a row that were asked for since it opened, for want of another target

A target that nobody can take the place of is never blocked: it is throttled at the client's side instead, as Google's
SRE book has it (chapter 21): a request is let through with probability 1 - max(0, (requests - 2 x accepted) /
(requests + 1)). Requests that are refused here count as requests, so what goes through follows what is answered.

Times are seconds of any steady clock.
"""

from __future__ import annotations

from enum import StrEnum
from math import exp
from random import Random

IN_A_ROW = 5
SHARE = 0.8
OUTCOMES = 10.0
WINDOW = 60.0
"""Seconds over which outcomes fade (time constant)."""
SHORTEST, LONGEST = 5.0, 30.0
"""Bounds of the time that it stays open. A minute would leave a target idle for longer after its recovery than the
drills allow, and one probe in half a minute costs nobody anything: its client is served by another target."""
RAMP = 30.0
RAMP_FROM = 0.1
AGAIN = 3
"""Good answers in a row, asked for while it was not closed, that show as much as a probe."""
_FEW = 20.0
"""Under so many outcomes nothing is throttled: sporadic requests harm no target."""


class State(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    __slots__ = (
        "_at",
        "_cuts",
        "_good",
        "_k",
        "_opened_at",
        "_row",
        "_total",
        "_until",
        "closed_at",
        "failures",
        "opened",
        "probing",
        "state",
    )

    def __init__(self) -> None:
        self.state = State.CLOSED
        self.failures = 0
        """Failures in a row."""
        self.opened = 0
        """How often it went from closed to open."""
        self.probing = False
        self.closed_at: float | None = None
        """When it last closed; None if it never was open, or the ramp is over."""
        self._cuts = False
        """The last failure came after content, so that a probe's first content proves nothing."""
        self._k = 0
        self._opened_at = 0.0
        self._row = 0
        self._until = 0.0
        self._good = 0.0
        self._total = 0.0
        self._at = 0.0

    def blocks(self, now: float) -> bool:
        """Whether a request that has other targets should leave this one alone."""
        if self.state is State.CLOSED:
            return False
        return self.probing or now < self._until

    def reopens(self, now: float) -> float:
        """Seconds until the next probe may begin."""
        return max(0.0, self._until - now)

    def ramp(self, now: float) -> float:
        """Share of its traffic that it should have now."""
        if self.state is not State.CLOSED:
            return RAMP_FROM
        if self.closed_at is None:
            return 1.0
        grown = (now - self.closed_at) / RAMP
        if grown >= 1.0:
            self.closed_at = None
            return 1.0
        return RAMP_FROM + (1.0 - RAMP_FROM) * max(0.0, grown)

    def share(self, now: float) -> float:
        """Share of successes lately; 1 of nothing."""
        self._fade(now)
        return self._good / self._total if self._total > 0.01 else 1.0

    def begin(self, now: float) -> bool:
        """A request is about to be sent. True if it is the probe: it must end in one of those below."""
        if self.state is State.CLOSED or self.probing or now < self._until:
            return False
        self.state = State.HALF_OPEN
        self.probing = True
        return True

    def success(self, now: float, probe: bool = False, sent: float = 0.0) -> None:
        """First content came, of a request that was sent at `sent`: before it opened, that shows nothing."""
        self._fade(now)
        self._good += 1.0
        self._total += 1.0
        if self.state is State.CLOSED:
            self.failures = 0
        elif not self._cuts:
            self._row += sent > self._opened_at
            if probe or self._row >= AGAIN:
                self._close(now)

    def whole(self, now: float, probe: bool = False) -> None:
        """The answer came to its end."""
        if probe and self.state is State.HALF_OPEN:
            self._close(now)

    def failure(self, now: float, rng: Random, probe: bool = False, answered: bool = False) -> None:
        """`answered`: after first content, for which it was counted a success too early."""
        self._fade(now)
        if answered:
            self._good = max(0.0, self._good - 1.0)
        else:
            self._total += 1.0
        self._cuts = answered
        self._row = 0
        self.failures += 1
        if probe:
            self.probing = False
            self._k += 1
            self._open(now, rng)
        elif self.state is State.CLOSED and (
            self.failures >= IN_A_ROW or (self._total >= OUTCOMES and self._good < SHARE * self._total)
        ):
            self.opened += 1
            self._open(now, rng)

    def neither(self, probe: bool) -> None:
        """It ended in a way that says nothing of the target: its client left, or asked for the impossible."""
        if probe and self.state is State.HALF_OPEN:
            self.probing = False

    def throttles(self, now: float, rng: Random) -> bool:
        """Whether a request is refused here, for a target that cannot be replaced and has another one under way."""
        self._fade(now)
        refused = max(0.0, (self._total - 2.0 * self._good) / (self._total + 1.0))
        if self._total < _FEW or rng.random() >= refused:
            return False
        self._total += 1.0
        return True

    def _close(self, now: float) -> None:
        self.state = State.CLOSED
        self.probing = False
        self.closed_at = now
        self.failures = self._k = 0
        self._good = self._total = 0.0

    def _open(self, now: float, rng: Random) -> None:
        self.state = State.OPEN
        self.closed_at = None
        self._opened_at = now
        self._row = 0
        self._until = now + rng.uniform(0.5, 1.0) * min(LONGEST, SHORTEST * 2.0**self._k)

    def _fade(self, now: float) -> None:
        elapsed = now - self._at
        if elapsed > 0.0:
            kept = exp(-elapsed / WINDOW)
            self._good *= kept
            self._total *= kept
            self._at = now
