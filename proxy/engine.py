"""One exchange: attempts until one commits, then its answer to the end, then one record. The same for every caller.

The commit point is here and nowhere else: `Run.commit` returns when the first content (or a whole answer) is in hand.
Before it, any failure worth another target goes to another target, and the client never knows. After it, the
exchange can only finish, or end in an explicit error event without an end marker.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Coroutine
from random import Random
from typing import Any, TypeVar

from policies.base import Passed
from policies.breaker import State
from policies.hedge import LEVEL
from policies.retry import PATIENCE, QUEUE, Tries
from policies.verdict import VERDICTS, Kind, Outcome
from proxy.attempt import DOWNSTREAM, DRAIN, GONE, Gone, Try
from proxy.clock import SECOND, Clock, Deadline, Deadlines
from proxy.errors import Refusal, UpstreamError
from proxy.failover import after, left_nothing
from proxy.failure import broken_off, exhausted, overloaded, unavailable
from proxy.measure.bus import Bus
from proxy.providers.base import Minted
from proxy.race import Race
from proxy.record import Attempt, Exchange, Origin
from proxy.router import Plan
from proxy.transport.base import Headers
from proxy.upstreams import Target
from proxy.wire.chunk import DONE, Chunk
from proxy.wire.render import OPENAI, Form, stream_bytes
from proxy.wire.request import Request

_TOTAL = 600 * SECOND
_KNOWN = 100
"""Answers that must have been seen before a deadline goes by them."""
_ADAPTED = (5.0, 120.0)
"""Bounds of an adaptive deadline for first content, in seconds."""
_OTHERS = 2 * SECOND
"""How long a request waits for another one to find out whether the last target left works again."""
_LOOK = 0.1
"""Seconds between looks."""
T = TypeVar("T")


class Engine:
    """Runs exchanges of one origin. Live and background traffic have an engine each, of this one class."""

    def __init__(self, clock: Clock, bus: Bus, rng: Random, origin: Origin = Origin.LIVE) -> None:
        self.clock = clock
        self.bus = bus
        self.rng = rng
        self.origin = origin
        self._ids = Random(os.urandom(32))  # noqa: S311  (ids are names, not secrets; asking the system costs thrice)
        self.deadlines = Deadlines(clock)
        self.running: set[Run] = set()

    def begin(self, task: asyncio.Task[object]) -> Run:
        """A run for the current task, whose request has just been read whole."""
        now = self.clock.now()
        wall = self.clock.wall()
        # Ids rise with time, so that the store's index on them grows at its end.
        id = f"req_{int(wall * 1000):011x}{self._ids.getrandbits(52):013x}"
        exchange = Exchange(id, wall, now, self.origin)
        run = Run(self, exchange, Deadline(self.deadlines, task, now + _TOTAL))
        self.running.add(run)
        return run

    def span(self) -> int:
        """A new span's number: 64 bits, never 0."""
        return self._ids.getrandbits(64) or 1

    def drain(self) -> None:
        """The time for finishing is over: every exchange still running ends now, and says so."""
        for run in tuple(self.running):
            run.deadline.stop(DRAIN)


class Run:
    """One exchange under way. `seal` must be called once, whatever happened."""

    __slots__ = (
        "_engine",
        "_form",
        "_hurries",
        "_relayed_ns",
        "_sending_ns",
        "_try",
        "_wants_usage",
        "deadline",
        "ended",
        "exchange",
        "most_ns",
        "rank",
        "unrecorded",
        "upstream_ns",
    )

    def __init__(self, engine: Engine, exchange: Exchange, deadline: Deadline) -> None:
        self._engine = engine
        self.exchange = exchange
        self.deadline = deadline
        self._try: Try | None = None
        self._wants_usage = False
        self._form: Form = OPENAI
        self._hurries = False
        """The client gives it less time than the route does."""
        self._sending_ns = 0
        """Since when the client is waited for; 0 if it is not."""
        self._relayed_ns = 0
        """When the last content that was handed on had been read."""
        self.ended = False
        """The answer is over: `next` has nothing more."""
        self.rank = 0
        """Who goes first where there is a queue: the lower."""
        self.most_ns = _TOTAL
        """How long the client gives it; `commit` takes the route's limit where that is shorter."""
        self.unrecorded = False
        """Nothing was asked and nothing is to be remembered."""
        self.upstream_ns = 0
        """Time spent waiting for upstreams or in deliberate pauses, up to the commit point."""

    def admit(self, most: int) -> None:
        """Raises `Refusal` (503) where more than `most` requests are in hand; of low priority, four fifths of that."""
        if len(self._engine.running) > (most if self.rank <= 1 else most * 0.8):
            self._fail(Kind.BUSY)
            raise overloaded(1.0)

    def over_limit(self) -> None:
        """The client's own limits leave no room for the request."""
        self._fail(Kind.OVER_LIMIT)

    async def commit(self, ask: Request, plan: Plan) -> bytes:
        """Tries targets until one answers; the first bytes for the client (all of them, if not streamed).

        Raises `Refusal` when every target failed, `Gone` when the client left.
        """
        exchange, engine = self.exchange, self._engine
        exchange.route = plan.route.name
        exchange.decision = plan.decision
        self._wants_usage = ask.wants_usage
        self._form = ask.form
        received = exchange.marks.received
        total = plan.targets[0].timeouts.total
        self._hurries = self.most_ns < total
        self.deadline.total(received + min(total, self.most_ns))
        place, wait_ns, tries = 0, 0, None
        if not plan.targets[0].condition.quiet:
            place, wait_ns = await self._enter(plan, ask)
        while True:
            now = engine.clock.now() if exchange.attempts or wait_ns else received
            attempt = self._begin_attempt(plan.targets[place], now, wait_ns)
            limits = plan.route.limits
            replay = min(limits.per_target, limits.per_request) >= 2 if tries is None else tries.may_replay(place)
            replay = replay and ask.repeatable
            one = Try(
                plan.targets[place], ask, attempt, engine.clock, self.deadline, self._minted(), replay, self._tells,
                self._hurries,
            )  # fmt: skip
            left = len(plan.targets) if tries is None else max(1, tries.fresh)
            first_ns = _first(plan.targets[place], ask, self.deadline.remaining(now) // left)
            race = None
            try:
                if plan.route.hedges is not None and tries is None and ask.stream and len(plan.targets) > 1:
                    race = self._race(plan, ask, place, first_ns)
                chunks = await one.open(first_ns) if race is None else await self._raced(race, one, first_ns)
            except UpstreamError as error:
                self._count(attempt)
                if tries is None:
                    tries = Tries(
                        [target.context_window for target in plan.targets], plan.route.limits, plan.route.failover_on
                    )
                tries.begun(place, 2 if attempt.replayed else 1)
                if race is not None and race.second is not None:
                    tries.begun(race.place)
                now = engine.clock.now()
                plan, step = after(error, plan, ask, place, tries, self.deadline.remaining(now), now, engine.rng)
                if step is None or self.deadline.stopped or not (ask.repeatable or left_nothing(error)):
                    raise self._exhausted(error) from None
                weight = VERDICTS[error.kind].weight
                plan.targets[step.target].condition.charge(weight, step.target != place, now / SECOND)
                place = step.target
                wait_ns = await self._pause(step.delay) if step.delay else 0
                continue
            if race is not None and race.won is not None and race.second is not None:
                one = race.second
            self._try = one
            exchange.winner = one.attempt
            self._count(one.attempt)
            return self._head(ask, chunks)

    async def next(self) -> bytes:
        """The next bytes of a committed stream; `b""` when it is over. Raises `Gone`."""
        one = self._try
        assert one is not None  # noqa: S101  (next() follows commit())
        blocked = 0
        if self._sending_ns:
            blocked, self._sending_ns = self._engine.clock.now() - self._sending_ns, 0
        while True:
            try:
                chunks = await one.more(blocked)
            except UpstreamError as error:
                self.ended = True
                self._fail(error.kind)
                told = broken_off(error, one.writer or self._form)
                if not told:
                    raise Gone("the answer is cut, since its form has no words for that") from None
                return told
            data = self._render(chunks)
            if data or self.ended:
                return data
            blocked = 0

    def leave(self) -> None:
        """The client left: whatever is waited for is stopped."""
        self.deadline.stop(GONE)

    def refuse(self, refusal: Refusal) -> None:
        """No upstream was asked, or every one failed: the client gets an error."""
        exchange = self.exchange
        exchange.status = refusal.status
        if exchange.kind is Kind.OK:
            exchange.outcome = _refused_as(refusal.status)
            exchange.kind = Kind.INTERNAL if refusal.status >= 500 else Kind.BAD_REQUEST

    def gone(self) -> None:
        """The client left before it had its answer."""
        if self._try is not None:
            self._try.abandon(Kind.DOWNSTREAM_CLOSED, "the client closed the connection")
        self._fail(Kind.DOWNSTREAM_CLOSED)

    def fault(self) -> None:
        """The proxy itself failed."""
        if self._try is not None:
            self._try.abandon(Kind.INTERNAL, "a fault of the proxy")
        self._fail(Kind.INTERNAL)

    def sending(self, may_wait: bool = False) -> None:
        """The client is about to be sent something; if it may not take it at once, it is the one to be waited for."""
        one = self._try
        assert one is not None  # noqa: S101
        exchange, now = self.exchange, self._engine.clock.now()
        read = one.attempt.marks.last_content
        if read != self._relayed_ns:
            self._relayed_ns = read
            exchange.relay_ns += now - read
            exchange.relays += 1
        if may_wait:
            self._sending_ns = now
            self.deadline.limit(DOWNSTREAM, now + one.target.timeouts.downstream)

    def trace_headers(self) -> Headers:
        """For the client: its trace, and the span of the attempt that answers it."""
        attempts = self.exchange.attempts
        return [pair for pair in (attempts[-1].trace_headers if attempts else ()) if pair[0] == b"traceparent"]

    def upstream_headers(self) -> Headers:
        """The headers of the answer that is being handed on."""
        return self._try.headers if self._try is not None else ()

    def spent_ms(self) -> tuple[float, float]:
        """Milliseconds so far: in the proxy itself, and waiting for upstreams."""
        so_far = self._engine.clock.now() - self.exchange.marks.received
        return max(0, so_far - self.upstream_ns) / 1e6, self.upstream_ns / 1e6

    def spent_usd(self) -> float | None:
        """What all attempts cost so far; None where that of the answer itself is not known."""
        one = self._try
        if one is None:
            return None
        cost = one.attempt.cost_usd if one.attempt.marks.end else one.cost()
        if cost is None:
            return None
        return cost + sum([other.cost_usd or 0.0 for other in self.exchange.attempts if other is not one.attempt])

    def seal(self) -> None:
        """Closes what is open and hands the record to the bus."""
        exchange = self.exchange
        self.deadline.close()
        self._engine.running.discard(self)
        if self._try is not None:
            self._try.abandon(Kind.INTERNAL, "the proxy did not finish the exchange")
        marks = exchange.marks
        marks.end = self._engine.clock.now()
        if exchange.attempts:
            marks.sent = exchange.attempts[0].marks.sent
        if exchange.winner is not None:
            won = exchange.winner.marks
            marks.headers, marks.first_byte = won.headers, won.first_byte
            marks.first_content, marks.last_content = won.first_content, won.last_content
            marks.first_answer = won.first_answer
        if not self.unrecorded:
            self._engine.bus.publish(exchange)

    @property
    def _tells(self) -> bool:
        """Whether the client said how long it waits, which upstreams are then told too."""
        return self.most_ns < _TOTAL

    def _minted(self) -> Minted:
        """For providers that send no id and no time; the same for every attempt."""
        return Minted("chatcmpl-" + self.exchange.id[4:], int(self.exchange.at))

    def _begin_attempt(self, target: Target, now: int, wait_ns: int) -> Attempt:
        endpoint = target.endpoint
        attempt = Attempt(len(self.exchange.attempts) + 1, target.name, endpoint.provider, endpoint.model, now)
        attempt.wait_ns = wait_ns
        if self.exchange.trace is not None:
            attempt.trace_headers = self.exchange.trace.headers(self._engine.span())
        self.exchange.attempts.append(attempt)
        return attempt

    def _head(self, ask: Request, chunks: list[Chunk]) -> bytes:
        self.exchange.status = 200
        if ask.stream:
            return self._render(chunks)
        assert self._try is not None  # noqa: S101
        self._try.finish()
        self.ended = True
        writer = self._try.writer
        return chunks[0].raw if writer is None else writer.whole(chunks[0])

    def _render(self, chunks: list[Chunk]) -> bytes:
        if not chunks:
            self.ended = True
            return b""
        one = self._try
        assert one is not None  # noqa: S101
        if chunks[-1].kind == DONE:
            one.finish()
            self.ended = True
        if one.writer is not None:
            return one.writer.stream(chunks)
        return stream_bytes(chunks, self._wants_usage, self.spent_usd)

    def _count(self, attempt: Attempt) -> None:
        marks = attempt.marks
        until = marks.end or marks.first_content or self._engine.clock.now()
        self.upstream_ns += until - (marks.sent or marks.received) + attempt.wait_ns

    def _race(self, plan: Plan, ask: Request, place: int, first_ns: int) -> Race | None:
        """A second attempt, should this one be late; None where there may be none."""
        hedges, first = plan.route.hedges, plan.targets[place].condition
        assert hedges is not None  # noqa: S101
        delay = hedges.delay(first.recent, len(ask.raw))
        other = next((at for at in range(len(plan.targets)) if at != place), None)
        if delay is None or other is None or not ask.repeatable or plan.route.limits.per_request < 2:
            return None
        target = plan.targets[other]

        def make(task: asyncio.Task[object]) -> Deadline:
            now = self._engine.clock.now()
            return Deadline(self._engine.deadlines, task, now + self.deadline.remaining(now))

        def begin(deadline: Deadline) -> Try | None:
            now = self._engine.clock.now()
            well = first.breaker.state is State.CLOSED and target.condition.breaker.state is State.CLOSED
            limits = target.condition.limits
            room = limits is None or limits.share(now / SECOND) > LEVEL
            if not (well and room) or target.barred(now / SECOND, ask) or not hedges.spend():
                return None
            attempt = self._begin_attempt(target, now, 0)
            return Try(
                target, ask, attempt, self._engine.clock, deadline, self._minted(), False, self._tells, self._hurries
            )

        return Race(other, delay, min(_first(target, ask, first_ns), first_ns), self.deadline, make, begin)

    async def _raced(self, race: Race, one: Try, first_ns: int) -> list[Chunk]:
        """First content of whichever has it first. The other is closed, and its attempt sealed, when this returns."""
        try:
            return await one.open(first_ns)
        except UpstreamError:
            _, won = await self._wait(race.result())
            if won is None:
                raise
            return won
        finally:
            await race.close()

    async def _enter(self, plan: Plan, ask: Request) -> tuple[int, int]:
        """The place to begin at, and the ns waited for it, where the first choice is in trouble.

        A plan holds what should not be asked only where nothing else is left. Raises as `_pause` does.
        """
        now = self._engine.clock.now()
        best, held = 0, None
        for place, target in enumerate(plan.targets):
            hold = target.condition.hold(now / SECOND, target.heeds_breaker, ask)
            if hold is None:
                return place, 0
            if held is None or hold.seconds < held.seconds:
                best, held = place, hold
        assert held is not None  # noqa: S101  (a plan is never empty)
        condition = plan.targets[best].condition
        if held.reason is Passed.BUSY:
            return best, await self._turn(plan, best, held.seconds)
        longest = {Passed.COOLING: PATIENCE, Passed.LIMIT: QUEUE}.get(held.reason, 0.0)
        if held.seconds <= min(longest, self.deadline.remaining(now) / SECOND):
            room = condition.queue(ask, now / SECOND + held.seconds)
            try:
                return best, await self._pause(held.seconds)
            finally:
                condition.unqueue(room)  # the attempt that follows reserves for itself
        waited = 0
        while condition.in_flight and waited < _OTHERS and held.reason in (Passed.COOLING, Passed.BREAKER):
            # Another request is finding out whether it works again.
            waited += await self._pause(_LOOK)
            seconds = self._engine.clock.now() / SECOND
            if plan.targets[best].barred(seconds, ask) and (condition.in_flight or condition.hold(seconds, True, ask)):
                continue
            return best, waited
        self._fail(condition.kind if held.reason is Passed.BREAKER else Kind.RATE_LIMIT)
        if held.reason is Passed.BREAKER:
            self.exchange.outcome = Outcome.NO_TARGET
        raise unavailable(held.reason, held.seconds, [target.name for target in plan.targets])

    async def _pause(self, seconds: float) -> int:
        """Waits before a further try; gives the time waited, in ns. Raises `Gone`, or `Refusal` at the end of time."""
        return (await self._wait(asyncio.sleep(seconds)))[0]

    async def _turn(self, plan: Plan, place: int, seconds: float) -> int:
        """Waits for a turn at a target that is as busy as it may be; `seconds`: how long that will take, roughly."""
        condition = plan.targets[place].condition
        turns = condition.turns
        assert turns is not None  # noqa: S101  (else it is not busy)
        if turns.waiting < turns.queue:
            waited, came = await self._wait(turns.wait(self.rank, min(QUEUE, self._seconds_left())))
            if came:
                turns.taken()
                return waited
        self._fail(Kind.BUSY)
        raise unavailable(Passed.BUSY, seconds, [target.name for target in plan.targets])

    def _seconds_left(self) -> float:
        return max(0.0, self.deadline.remaining(self._engine.clock.now()) / SECOND)

    async def _wait(self, what: Coroutine[Any, Any, T]) -> tuple[int, T]:
        """The ns waited, and what came. Raises `Gone`, or `Refusal` at the end of time."""
        begun = self._engine.clock.now()
        self.deadline.limit("total", begun + _TOTAL)
        try:
            came = await what
        except asyncio.CancelledError:
            reason = self.deadline.taken()
            if reason is None:
                raise
            if reason == DRAIN:
                raise self._exhausted(UpstreamError(Kind.INTERNAL, DRAIN, "the proxy is shutting down")) from None
            if reason == "total":
                raise self._exhausted(UpstreamError(Kind.TIMEOUT, "deadline", reason)) from None
            raise Gone(reason) from None
        return self._engine.clock.now() - begun, came

    def _exhausted(self, error: UpstreamError) -> Refusal:
        self._fail(error.kind)
        return exhausted(error, self.exchange.attempts)

    def _fail(self, kind: Kind) -> None:
        if self.exchange.kind is Kind.OK:
            self.exchange.kind = kind
            self.exchange.outcome = VERDICTS[kind].outcome


def _first(target: Target, ask: Request, share_ns: int) -> int:
    """How long this try may take to its first content (or byte): its own deadline, or its share of what is left."""
    timeouts = target.timeouts
    if not ask.stream:
        return min(timeouts.answer, share_ns)
    fixed = timeouts.ttft_reasoning if ask.reasons else timeouts.ttft
    if timeouts.adaptive:
        late = target.condition.recent.quantile(0.99, _KNOWN)
        if late is not None:
            fixed = round(min(_ADAPTED[1], max(_ADAPTED[0], 3.0 * late)) * SECOND)
    return min(fixed, share_ns)


def _refused_as(status: int) -> Outcome:
    if status == 429:
        return Outcome.RATE_LIMITED
    if status == 503:
        return Outcome.NO_TARGET
    return Outcome.CLIENT_ERROR if status < 500 else Outcome.INTERNAL_ERROR
