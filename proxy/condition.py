"""How a target is: health, load, speed and limits of one model behind one credential, learned from what happens there.

Shared by every route that leads there, and kept over reloads. The rules are in `policies`; here are the state and the
clock. Times inside are seconds of the monotonic clock.
"""

from __future__ import annotations

import logging
from random import Random
from typing import Any, NamedTuple
from weakref import WeakSet

from policies.base import Passed
from policies.breaker import Breaker, State
from policies.limits import NEAR, Limits, Need, Reservation
from policies.recent import Peak, Recent
from policies.retry import PATIENCE, Budget
from policies.verdict import Health, Kind
from proxy.clock import Clock
from proxy.providers.allowances import allowances
from proxy.record import Attempt
from proxy.transport.base import Headers
from proxy.turns import Turns
from proxy.wire.request import Request, answer_limit

log = logging.getLogger(__name__)

PARKED = 300.0
"""Seconds for which a credential without money or rights is left alone, and a model that is said not to exist."""
LONGEST_COOLING = 300.0
"""The longest Retry-After that is believed."""
_COOLING = 1.0
"""Seconds after a 429 that names no time; doubles with each in a row, up to 30."""
_PATIENT = 10
"""429s in a row from which on it is asked ever more seldom whether they are over."""
_SLOW = 10.0
_THROTTLED = 5.0
"""As how slow an answer a failure, or a 429, is counted when targets are compared."""
_LARGE = 16_000.0
"""Bytes of a request that double the time to first content that is to be expected (4,000 tokens)."""
_WELL = 0.95
"""Share of successes from which on a closed target takes failovers without charge."""


class Hold(NamedTuple):
    """Why a request that has nowhere else to go may not be sent yet, and for how many seconds."""

    reason: Passed
    seconds: float


class Begun(NamedTuple):
    """What an attempt holds while it is under way."""

    tokens: int
    probe: bool
    """It decides whether the breaker closes."""
    place: Reservation | None


class Credential:
    """One key at one provider: what is wrong with it stops every model behind it."""

    __slots__ = ("__weakref__", "conditions", "parked_at", "until")

    def __init__(self) -> None:
        self.until = 0.0
        self.parked_at = 0.0
        self.conditions: WeakSet[Condition] = WeakSet()

    def park(self, now: float) -> None:
        self.parked_at, self.until = now, now + PARKED
        for condition in self.conditions:
            condition.quiet = False


class Condition:
    __slots__ = (
        "__weakref__",
        "breaker",
        "budget",
        "cooled_until",
        "credential",
        "first",
        "in_flight",
        "kind",
        "limits",
        "missing_until",
        "name",
        "output",
        "outstanding",
        "quiet",
        "recent",
        "refused_at",
        "rng",
        "throttled",
        "tpot",
        "turns",
        "whole",
    )

    def __init__(self, name: str, credential: Credential, rng: Random) -> None:
        self.name = name
        self.credential = credential
        credential.conditions.add(self)
        self.rng = rng
        self.breaker = Breaker()
        self.budget = Budget()
        self.cooled_until = 0.0
        self.missing_until = 0.0
        self.throttled = 0
        """429s in a row, those to requests sent together being one."""
        self.refused_at = 0.0
        """When it last said that it does not have the model, or should not be asked for a while."""
        self.kind = Kind.OK
        """How the last failure ended."""
        self.in_flight = 0
        self.outstanding = 0
        """Tokens of the attempts under way, estimated."""
        self.first = Peak()
        """Seconds to first content of a stream, for a small prompt."""
        self.whole = Peak()
        """Seconds to the end of an answer that is not streamed."""
        self.recent = Recent()
        """Seconds to first content of streams, as they were."""
        self.tpot: float | None = None
        """Seconds per token of output."""
        self.output = 256.0
        """Tokens of an answer, on average."""
        self.limits: Limits | None = None
        """Known from the first answer that tells any."""
        self.turns: Turns | None = None
        """A bound on what is under way, where the config has one."""
        self.quiet = True
        """Nothing stands against asking it, now or soon: the short way for nearly every request."""

    # -- what the router and the engine ask

    def barred(self, now: float, heeds_breaker: bool = True, ask: Request | None = None) -> str:
        """Why it should not be asked now (a `Passed`); empty: it may be. `ask`: this, in particular."""
        if self.quiet:
            return ""
        if now < self.credential.until:
            return Passed.PARKED
        if now < self.missing_until:
            return Passed.MISSING
        if now < self.cooled_until:
            return Passed.COOLING
        if heeds_breaker and self.breaker.blocks(now):
            return Passed.BREAKER
        turns = self.turns
        if turns is not None and turns.full(self.in_flight):
            return Passed.BUSY
        limits = self.limits
        if limits is not None and ask is not None and limits.wait(self._need(limits, ask), now) > 0.0:
            return Passed.LIMIT
        if self.breaker.state is State.CLOSED and self.breaker.ramp(now) >= 1.0:
            self.quiet = limits is None or limits.share(now) > NEAR
        return ""

    def hold(self, now: float, heeds_breaker: bool, ask: Request) -> Hold | None:
        """What keeps a request from being sent here that has nowhere else to go; None: nothing."""
        reason = self.barred(now, heeds_breaker, ask)
        if reason == Passed.BUSY:
            return Hold(Passed.BUSY, self._until_free())
        if reason == Passed.LIMIT and self.limits is not None:
            return Hold(Passed.LIMIT, self.limits.wait(self._need(self.limits, ask), now))
        if reason == Passed.COOLING:
            wait = self.cooled_until - now
            # What it said need not hold for minutes: one request at a time may see.
            asks = wait > PATIENCE and not self.in_flight and self.may_knock(now)
            return None if asks else Hold(Passed.COOLING, wait)
        # One at a time harms no target.
        if reason == Passed.BREAKER and self.in_flight and self.breaker.throttles(now, self.rng):
            return Hold(Passed.BREAKER, max(1.0, self.breaker.reopens(now)))
        return None  # with a parked key or a missing model, asking costs little and tells the truth

    def room(self, now: float) -> float:
        """Share of its tightest rate limit that is left; 0 while it asked for a pause or its key is parked."""
        if now < self.cooled_until or now < self.credential.until:
            return 0.0
        return self.limits.share(now) if self.limits is not None else 1.0

    def may_knock(self, now: float) -> bool:
        """Whether it may be asked before the time that it named, if nothing else is left: ever more seldom."""
        rest = 0.0 if self.throttled < _PATIENT else min(10.0, 0.1 * 2.0 ** (self.throttled - _PATIENT))
        return now >= self.refused_at + rest

    def affords(self, weight: int, failover: bool, now: float) -> bool:
        """Whether a further try may go here: a target that is well takes failovers as it takes any request."""
        return self.budget.affords(weight) or (failover and self._well(weight, now))

    def charge(self, weight: int, failover: bool, now: float) -> None:
        if not (failover and self._well(weight, now)):
            self.budget.spend(weight)

    def ttft(self, now: float) -> float | None:
        found = self.first.value(now)
        return found if found is not None else self.whole.value(now)

    def queue(self, ask: Request, at: float) -> Reservation | None:
        """A place in the queue for room under its limits, to be taken at `at`: who comes later waits longer."""
        return self.limits.reserve(self._need(self.limits, ask), at) if self.limits is not None else None

    def _until_free(self) -> float:
        """Seconds until a request that came now would have its turn, roughly; all that wait go before it."""
        turns = self.turns
        if turns is None:
            return 0.0
        each = self.first.usual + (self.tpot or 0.0) * self.output
        return max(1.0, each * (turns.waiting + 1) / max(1, turns.limit))

    def unqueue(self, place: Reservation | None) -> None:
        if place is not None and self.limits is not None:
            self.limits.drop(place)

    def _need(self, limits: Limits, ask: Request) -> Need:
        return limits.estimate(len(ask.raw), answer_limit(ask.body), self._counted(ask))

    def _counted(self, ask: Request) -> int | None:
        """Tokens of the prompt, counted with care only where a limit is near: that costs more than a plan does."""
        return None if self.quiet else ask.tokens

    # -- what attempts tell

    def begin(self, attempt: Attempt, ask: Request) -> Begun:
        """An attempt is about to be made. What it returns is handed to the calls below."""
        limits, place = self.limits, None
        now = attempt.marks.received / 1e9
        if limits is not None:
            place = limits.reserve(self._need(limits, ask), now, self._counted(ask))
            if self.quiet and limits.share(now) < NEAR:
                self.quiet = False
        tokens = (len(ask.raw) >> 2) + int(self.output)
        self.in_flight += 1
        if self.turns is not None and self.turns.full(self.in_flight):
            self.quiet = False
        self.outstanding += tokens
        if attempt.no == 1:
            self.budget.earn()
        else:
            self.budget.under_way += 1
        return Begun(tokens, not self.quiet and self.breaker.begin(now), place)

    def heard(self, headers: Headers, begun: Begun, clock: Clock) -> None:
        """The head of an answer came: it may tell what is left of the limits."""
        names = b"\n".join(dict(headers))
        if b"ratelimit" not in names and b"tokenlimit" not in names:
            return
        told = allowances(headers, clock.wall())
        if not told:
            return
        now = clock.now() / 1e9
        if self.limits is None:
            self.limits = Limits()
        limits = self.limits
        limits.learn(told, begun.place.sent if begun.place is not None else now, now)
        if limits.share(now) < NEAR:
            self.quiet = False

    def answered(self, attempt: Attempt, stream: bool, probe: bool) -> None:
        """First content is there (or the whole answer): this is where a target is judged to work."""
        marks = attempt.marks
        moment = marks.first_content or marks.first_byte
        now = moment / 1e9
        seconds = (moment - marks.sent) / 1e9
        usual = seconds / (1.0 + attempt.request_bytes / _LARGE)
        if stream:
            self.first.add(usual, now)
            self.recent.add(seconds, now)
            if self.turns is not None:
                self.turns.observe(seconds, self.in_flight)
        else:
            self.whole.add(usual, now)
        self.throttled = 0
        if attempt.no > 1:
            self.budget.regain()
        self.breaker.success(now, probe, marks.sent / 1e9)
        if not self.quiet:
            self._wanted(marks.sent / 1e9)

    def _wanted(self, sent: float) -> None:
        """It answered what was sent at `sent`: what it refused before that holds no longer."""
        if sent > self.refused_at:
            self.cooled_until = self.missing_until = 0.0
        if sent > self.credential.parked_at:
            self.credential.until = 0.0

    def end(self, attempt: Attempt, begun: Begun, answered: bool) -> None:
        tokens, probe, place = begun
        self.in_flight -= 1
        if self.turns is not None:
            self.turns.freed(self.in_flight)
        self.outstanding -= tokens
        if attempt.no > 1:
            self.budget.under_way -= 1
        now = attempt.marks.end / 1e9
        if place is not None and self.limits is not None:
            _settle(self.limits, place, attempt, now)
        if attempt.kind is Kind.OK:
            if probe:
                self.breaker.whole(now, probe)
                log.warning("target %s works again: its breaker is closed", self.name)
            self._measure(attempt)
            return
        judged = attempt.health
        if judged is Health.FAILURE:
            self._failed(attempt, now, probe, answered)
        else:
            self.breaker.neither(probe)
            self._refused(attempt, judged, now)

    def _measure(self, attempt: Attempt) -> None:
        usage = attempt.usage
        if usage is None:
            return
        tokens = usage.output_text + usage.reasoning
        if tokens < 2:
            return
        self.output += (tokens - self.output) * 0.05
        marks = attempt.marks
        begin = marks.first_content if marks.last_content > marks.first_content else marks.sent
        each = (marks.last_content - begin) / 1e9 / (tokens - 1)
        self.tpot = each if self.tpot is None else self.tpot + (each - self.tpot) * 0.05

    def _failed(self, attempt: Attempt, now: float, probe: bool, answered: bool) -> None:
        breaker, before = self.breaker, self.breaker.state
        self.kind = attempt.kind
        breaker.failure(now, self.rng, probe, answered)
        self.first.punish(max(_SLOW, now - attempt.marks.received / 1e9), now)
        self.recent.missed(now)
        if breaker.state is not State.CLOSED:
            self.quiet = False
            if before is State.CLOSED:
                log.warning(
                    "target %s: its breaker opens for %.0f s after %d failures in a row, the last one %s",
                    self.name, breaker.reopens(now), breaker.failures, attempt.kind,
                )  # fmt: skip

    def _refused(self, attempt: Attempt, judged: Health, now: float) -> None:
        if judged is Health.THROTTLE:
            if attempt.marks.received / 1e9 >= self.refused_at:  # those sent together count once
                self.throttled = min(self.throttled + 1, _PATIENT + 10)
            self.refused_at = now
            wait = attempt.retry_after
            if wait is None:
                wait = min(30.0, _COOLING * 2.0 ** (self.throttled - 1))
            self.cooled_until = max(self.cooled_until, now + min(wait, LONGEST_COOLING))
            self.first.punish(_THROTTLED, now)
        elif judged is Health.CREDENTIAL:
            if now >= self.credential.until:
                log.warning("target %s: its credential is left alone for 5 minutes: %s", self.name, attempt.kind)
            self.credential.park(now)
        elif judged is Health.MISSING:
            self.refused_at = now
            self.missing_until = now + PARKED
        else:
            return
        self.kind = attempt.kind
        self.quiet = False

    def _well(self, weight: int, now: float) -> bool:
        """`weight`: of the failure elsewhere; after a timeout, a target that is coming back has shown too little."""
        breaker = self.breaker
        if breaker.state is not State.CLOSED or (weight > 1 and breaker.ramp(now) < 1.0):
            return False
        return breaker.share(now) >= _WELL

    def shown(self, now: float) -> dict[str, Any]:
        """For the page, the API and the metrics. Reads only; may be called from another thread."""
        breaker = self.breaker
        reason = self.barred(now) if not self.quiet else ""
        waits = {
            Passed.PARKED: self.credential.until,
            Passed.MISSING: self.missing_until,
            Passed.COOLING: self.cooled_until,
        }
        seconds = waits[Passed(reason)] - now if reason in waits else breaker.reopens(now)
        return {
            "target": self.name,
            "breaker": str(breaker.state),
            "opened": breaker.opened,
            "barred": str(reason) or None,
            "seconds": round(seconds, 1) if reason else None,
            "last_error": str(self.kind) if self.kind is not Kind.OK else None,
            "in_flight": self.in_flight,
            "ttft": self.ttft(now),
            "retry_budget": round(self.budget.level, 1),
            "concurrency": self.turns.limit if self.turns is not None else None,
            "waiting": self.turns.waiting if self.turns is not None else 0,
            "limits_left": round(self.limits.share(now), 3) if self.limits is not None else None,
        }


def _settle(limits: Limits, place: Reservation, attempt: Attempt, now: float) -> None:
    usage = attempt.usage
    if usage is not None:
        used = Need(usage.uncached_input + usage.cache_read + usage.cache_write, usage.output_text + usage.reasoning)
        limits.settle(place, used, attempt.request_bytes, now)
    elif attempt.status is None or attempt.status >= 400:
        limits.drop(place)
