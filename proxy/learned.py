"""What routes learn from their own records, for policies that choose by it: rewards, latencies, cache hits, a rollout.

A `Learner` belongs to one route, is told of each exchange by the bus, and puts what it knows into the candidates
before the policy sees them. Routes whose policies learn nothing have none, and pay nothing. Times are wall time, so
that what is kept in the store holds after a restart.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from policies.bandit import Bandit
from policies.base import Candidate, Passed, Policy, called
from policies.canary import Canary
from policies.cheapest import Cheapest
from policies.conditional import Conditional
from policies.fastest import Fastest
from policies.recent import Recent
from policies.rollout import Event, Rollout
from policies.verdict import Health
from proxy.measure.store import learned as table
from proxy.record import Attempt, Decision, Exchange, Origin
from proxy.upstreams import Target

log = logging.getLogger(__name__)

QUICK = 30.0
"""Seconds after which a latency counts a third, where a change should be seen within a minute (`fastest`)."""
SLOW = 300.0
"""The same, where a share of slow answers must be known (`cheapest`)."""
_EVERY = 5.0
"""Seconds between two writings."""
_ANSWERS = 10_000
"""Answers that wait for feedback; the oldest goes first."""
_HITS = 50
"""Answers over which the share of cached tokens is averaged."""


def parts_of(policy: Policy) -> Iterator[Policy]:
    """A policy and those within it."""
    yield policy
    if isinstance(policy, Conditional):
        for inner in (*(rule.policy for rule in policy.rules), policy.otherwise):
            if inner is not None:
                yield from parts_of(inner)


def learner_for(route: str, policy: Policy) -> Learner | None:
    """None where nothing in the policy learns."""
    parts = list(parts_of(policy))
    learns = any(
        isinstance(part, Bandit | Canary | Cheapest) or (isinstance(part, Fastest) and part.quantile is not None)
        for part in parts
    )
    return Learner(route, policy, parts) if learns else None


class Audit(NamedTuple):
    """A step of a rollout, to be written down."""

    route: str
    candidate: str
    event: Event


class Learner:
    def __init__(self, route: str, policy: Policy, parts: Sequence[Policy]) -> None:
        self.route = route
        self.policy = policy
        """Whose learner this is: a reload keeps it if the policy stayed the same."""
        self._bandit = next((part for part in parts if isinstance(part, Bandit)), None)
        self._canary = next((part for part in parts if isinstance(part, Canary)), None)
        self._prices = any(isinstance(part, Cheapest) for part in parts)
        quick = any(isinstance(part, Fastest) for part in parts)
        self._times = quick or any(isinstance(part, Cheapest) and part.slo is not None for part in parts)
        self._fade = QUICK if quick else SLOW
        self.rewards: dict[str, tuple[float, float]] = {}
        """Target -> discounted successes and failures."""
        self._answers: OrderedDict[str, str] = OrderedDict()
        """Exchange -> target, of answers that may still be liked or not."""
        self.latencies: dict[str, Recent] = {}
        self.hits: dict[str, float] = {}
        """Target -> share of the prompts' tokens that came from a cache."""
        self.rollout: Rollout | None = None
        self.audits: list[Audit] = []
        """Not written down yet."""
        self.dirty = False
        """Something that should survive a restart has changed."""

    # ---- what policies are shown

    def fill(self, candidates: Sequence[Candidate], targets: Sequence[Target], now: float) -> list[Candidate]:
        """`targets` are the candidates', in their order; `now` is wall time in seconds."""
        return [self._filled(one, target, now) for one, target in zip(candidates, targets, strict=True)]

    def _filled(self, candidate: Candidate, target: Target, now: float) -> Candidate:
        name = candidate.name
        more: dict[str, Any] = {}
        if self._times:
            recent = self.latencies.get(name)
            more["latency"] = recent.as_of(now) if recent is not None else None
        if self._bandit is not None:
            good, bad = self.rewards.get(name, (0.0, 0.0))
            more["posterior"] = (1.0 + good, 1.0 + bad)
        if self._canary is not None and called(name, self._canary.candidate):
            more["share"] = self._rolling(now).share
        if self._prices:
            more["input_price"], more["output_price"] = target.prices(self.hits.get(name, 0.0))
        return candidate._replace(**more)

    def _rolling(self, now: float) -> Rollout:
        if self.rollout is None:
            assert self._canary is not None  # noqa: S101
            self.rollout = Rollout(self._canary.terms(), now)
            self._note(Event(now, "started", self.rollout.share, 0, f"steps {self._canary.steps}"))
        return self.rollout

    # ---- what they learn from

    def accept(self, exchange: Exchange) -> None:
        """An exchange of this route has ended."""
        for attempt in exchange.attempts:
            health = attempt.health
            if health is Health.NEUTRAL:
                continue
            self._learn(attempt, health is Health.SUCCESS, exchange)
        if self._canary is not None:
            self._roll(exchange)

    def _learn(self, attempt: Attempt, well: bool, exchange: Exchange) -> None:
        took = _ttft(attempt)
        if self._times and (took is not None or not well):
            recent = self.latencies.get(attempt.target)
            if recent is None:
                recent = self.latencies[attempt.target] = Recent(self._fade)
            if well and took is not None:
                recent.add(took, exchange.at)
            else:
                recent.missed(exchange.at)
        bandit = self._bandit
        if bandit is not None and bandit.reward == "feedback":
            if well:
                self._answered(exchange.id, attempt.target)
            else:
                self.reward(attempt.target, 0.0)
        elif bandit is not None:
            slo = bandit.slo
            self.reward(attempt.target, float(well and (slo is None or took is None or took <= slo)))
        if self._prices and attempt.usage is not None:
            usage = attempt.usage
            whole = usage.uncached_input + usage.cache_read + usage.cache_write
            if whole:
                before = self.hits.get(attempt.target, usage.cache_read / whole)
                self.hits[attempt.target] = before + (usage.cache_read / whole - before) / _HITS

    def _answered(self, id: str, target: str) -> None:
        self._answers[id] = target
        if len(self._answers) > _ANSWERS:
            self._answers.popitem(last=False)

    def liked(self, id: str, score: float) -> None:
        """What somebody said of an answer; the first word counts."""
        target = self._answers.pop(id, None)
        if target is not None:
            self.reward(target, score)

    def reward(self, target: str, value: float) -> None:
        """`value` in [0, 1]. All rewards fade with each one, so that what is not chosen becomes uncertain again."""
        assert self._bandit is not None  # noqa: S101
        kept = self._bandit.discount
        for name, (good, bad) in self.rewards.items():
            self.rewards[name] = (good * kept, bad * kept)
        good, bad = self.rewards.get(target, (0.0, 0.0))
        self.rewards[target] = (good + value, bad + 1.0 - value)
        self.dirty = True

    def _roll(self, exchange: Exchange) -> None:
        """The first attempt of a unit's first exchange counts for the side that it was dealt to.

        A unit that the candidate would have had, but for its open breaker, is a failure of the candidate's: otherwise
        one that fails would keep its failures out of sight.
        """
        rollout, canary, decision = self._rolling(exchange.at), self._canary, exchange.decision
        assert canary is not None  # noqa: S101
        if decision is None or not exchange.attempts or not decision.unit:
            return
        first = exchange.attempts[0]
        health = first.health
        if health is Health.NEUTRAL or first.target != decision.candidates[0]:
            return
        well, took = health is Health.SUCCESS, _ttft(first)
        on_trial = called(first.target, canary.candidate)
        if not on_trial and _broken(decision, canary) and canary.deals(decision.unit, rollout.share):
            on_trial, well = True, False
        scores = {"success": float(well)}
        if canary.slo is not None and (not well or took is not None):
            scores["fast"] = float(well and took is not None and took <= canary.slo)
        event = rollout.unit(decision.unit, on_trial, scores, exchange.at)
        self.dirty = True
        if event is not None:
            self._note(event)

    def _note(self, event: Event) -> None:
        assert self._canary is not None  # noqa: S101
        candidate = self._canary.candidate
        self.audits.append(Audit(self.route, candidate, event))
        log.warning(
            "route %s: canary %s %s after %d pairs, share now %.0f %% (%s)",
            self.route, candidate, event.event, event.units, event.share * 100.0, event.detail,
        )  # fmt: skip

    def tick(self, now: float) -> None:
        """Time has passed: a step may have had its time."""
        event = self.rollout.tick(now) if self.rollout is not None else None
        if event is not None:
            self.dirty = True
            self._note(event)

    # ---- what survives

    def shown(self) -> dict[str, Any]:
        """For people: the same, with what is measured beside it."""
        state = self.state()
        if self.rollout is not None:
            state["rollout"].pop("counts")
            state["rollout"].pop("step_counts")
        quantiles = {name: one.quantile(0.9) for name, one in self.latencies.items()}
        return {**state, "p90_ttft_s": quantiles, "cache_hits": self.hits}

    def state(self) -> dict[str, Any]:
        return {
            "policy": repr(self.policy),
            "rewards": self.rewards,
            "rollout": self.rollout.shown() if self.rollout is not None else None,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """What was kept for the very same policy; anything else is forgotten."""
        if state.get("policy") != repr(self.policy):
            return
        self.rewards = {name: (float(good), float(bad)) for name, (good, bad) in state["rewards"].items()}
        if state["rollout"] is not None and self._canary is not None:
            self.rollout = Rollout.restored(self._canary.terms(), state["rollout"])


class Learners:
    """The sink: tells each route's learner of the route's live exchanges. Kept over reloads.

    With a store, what was learned is read from it at the start and written to it every few seconds.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.by_route: dict[str, Learner] = {}
        self._path = path
        self._kept = _kept(path) if path is not None else {}
        self._task: asyncio.Task[None] | None = None

    def learner(self, route: str, policy: Policy) -> Learner | None:
        """The one that there is for this route and policy, or a new one."""
        known = self.by_route.get(route)
        if known is not None and known.policy == policy:
            return known
        made = learner_for(route, policy)
        if made is not None:
            made.restore(self._kept.get(route, {}))
            self.by_route[route] = made
        else:
            self.by_route.pop(route, None)
        return made

    def accept(self, exchange: Exchange) -> None:
        if exchange.route is not None and exchange.origin is Origin.LIVE:
            learner = self.by_route.get(exchange.route)
            if learner is not None:
                learner.accept(exchange)

    def liked(self, id: str, score: float) -> None:
        """`POST /api/feedback`: how an answer was liked, from 0 to 1."""
        for learner in self.by_route.values():
            learner.liked(id, score)

    def start(self) -> None:
        if self._path is not None:
            self._task = asyncio.get_running_loop().create_task(self._keep())

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
        await self.write()

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(_EVERY)
            await self.write()

    async def write(self) -> None:
        """What has changed since the last time. A store that fails is tried again the next time."""
        now = time.time()
        for learner in self.by_route.values():
            learner.tick(now)
        changed = {name: learner for name, learner in self.by_route.items() if learner.dirty or learner.audits}
        if not changed or self._path is None:
            return
        states = {name: learner.state() for name, learner in changed.items()}
        audits = [audit for learner in changed.values() for audit in learner.audits]
        steps = [
            table.Step(_text(one.event.at), one.route, one.candidate, one.event.event, *one.event[2:]) for one in audits
        ]
        for learner in changed.values():
            learner.dirty, learner.audits = False, []
        try:
            await asyncio.to_thread(table.keep, self._path, _text(now), states, steps)
        except table.FAULTS as error:
            log.warning("what the routes learned could not be written: %s", error)
            for audit in audits:
                changed[audit.route].audits.append(audit)
            for learner in changed.values():
                learner.dirty = True
        self._kept.update(states)


def _kept(path: Path) -> dict[str, dict[str, Any]]:
    try:
        return table.kept(path)
    except table.FAULTS as error:
        log.warning("what the routes learned before could not be read: %s", error)
        return {}


def _text(at: float) -> str:
    """Seconds since the epoch as ISO 8601 text in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _broken(decision: Decision, canary: Canary) -> bool:
    """The candidate was passed over for its open breaker."""
    return any(reason == Passed.BREAKER and called(name, canary.candidate) for name, reason in decision.passed_over)


def _ttft(attempt: Attempt) -> float | None:
    """Seconds from sending to first content of a stream; of a whole answer, to its end."""
    marks = attempt.marks
    if not marks.sent or not marks.first_content:
        return None
    return (marks.first_content - marks.sent) / 1e9
