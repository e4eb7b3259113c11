"""One experiment under way: who takes part, what it has found, what it may still spend."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from math import inf
from typing import Any

import orjson

from policies.base import Ask, drawn
from policies.trial import Judgement, State
from proxy.config.shadow import Candidate, Only, Shadow
from proxy.measure.shadow_metrics import Standing
from proxy.measure.store.ledger import Batch, Event, Restored, Sums
from proxy.router import Plan
from proxy.scoring import Arm
from proxy.shadow.budget import Budget, Purse, Spent
from proxy.shadow.standing import Score, Tally, judged, tally_of
from proxy.shadow.terms import Part, Terms

COMPLETED, FAILED = "completed", "failed"
DROPPED = (
    "queue", "budget", "paused", "busy", "limit", "incompatible", "client_left", "not_served", "too_large", "stopped",
    "fault", "restart",
)  # fmt: skip
"""Why a sampled request was not sent to the candidate. A closed set: they are labels of a metric."""
RESULTS = (COMPLETED, FAILED, *(f"dropped.{reason}" for reason in DROPPED))
_CLOSED = (State.PROMOTE, State.REJECT, State.INCONCLUSIVE, State.BUDGET_EXHAUSTED)


class Experiment:
    def __init__(
        self,
        terms: Terms,
        candidate: Candidate,
        section: Shadow,
        plans: Mapping[str, Plan],
        *,
        judge: Plan | None,
        embeds: Plan | None,
        primaries: Mapping[str, Plan],
        own: dict[str, Arm],
        room: Callable[[], float],
        day: str,
    ) -> None:
        """`plans` (by route), `judge`, `embeds` and `primaries` (by target name) lead to targets of the background.

        `room`: the share that is left of the tightest rate limit of live targets that use a key of these, 0 to 1.
        """
        self.terms = terms
        self.candidate = candidate
        self.section = section
        self.plans = plans
        self.judge = judge
        self.embeds = embeds
        self.primaries = primaries
        self.own = own
        self.room = room
        self.tally = Tally()
        self.purse = _purse(terms, day, Sums(), Sums())
        self.counts: dict[str, int] = {}
        """Since the experiment began: eligible, sampled, unsampled, completed, failed, dropped.REASON."""
        self.seen: set[str] = set()
        """Units that have their score."""
        self.state = State.RUNNING
        self.why = ""
        self.label: str | None = None
        self.paused = False
        self.stopped = False
        self._since = _moment(section.only.since)
        self._until = _moment(section.only.until)

    # -- who takes part

    def is_open(self, at: float) -> bool:
        """`at`: seconds since the epoch."""
        if self.state in _CLOSED or self.stopped:
            return False
        return (self._since is None or at >= self._since) and (self._until is None or at < self._until)

    def over(self, at: float) -> str | None:
        """Why no further units will come, if so."""
        if self.stopped:
            return "it was stopped"
        return "its time is over" if self._until is not None and at >= self._until else None

    def takes(self, ask: Ask) -> bool:
        """The filters."""
        only: Only = self.section.only
        return (
            (not only.tags or not ask.tags.isdisjoint(only.tags))
            and (not only.keys or ask.key in only.keys)
            and (only.stream is None or ask.stream == only.stream)
            and (only.min_bytes is None or ask.size >= only.min_bytes)
            and (only.max_bytes is None or ask.size <= only.max_bytes)
            and (only.tools is None or ask.tools == only.tools)
            and (only.min_tokens is None or ask.tokens >= only.min_tokens)
            and (only.max_tokens is None or ask.tokens <= only.max_tokens)
        )

    def samples(self, unit: str) -> bool:
        """Always the same for a unit, and a higher rate keeps every unit of a lower one."""
        return drawn(self.terms.salt, unit) < self.terms.rate

    def unit_name(self, unit: str) -> str:
        """What is stored in its place: nothing of the client's can be read from it."""
        return hashlib.blake2b(f"{self.terms.salt}\x1f{unit}".encode("utf-8", "replace"), digest_size=8).hexdigest()

    def asks_again(self, unit: str) -> bool:
        """Whether the primary is asked a second time, to see how much it differs from itself."""
        return self.terms.noise > 0 and drawn(self.terms.salt, "again", unit) < self.terms.noise

    # -- what is known

    def count(self, what: str, more: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + more

    @property
    def under_way(self) -> int:
        """Sampled, and neither sent to its end nor dropped."""
        done = sum(n for what, n in self.counts.items() if what in (COMPLETED, FAILED) or what.startswith("dropped."))
        return self.counts.get("sampled", 0) - done

    @property
    def budget(self) -> Budget:
        """All its money."""
        return self.purse.whole

    def standing(self) -> Standing:
        """For the metrics, from another thread."""
        pairs = {result: self.counts.get(result, 0) for result in RESULTS}
        return Standing(self.terms.name, self.state.value, self.tally.units, pairs, self.budget.spent)

    def is_due(self) -> bool:
        """Whether to look for a verdict now: after each of the first units, then with every fiftieth more."""
        units = self.tally.units
        return units % max(1, units // 50) == 0 or units >= self.terms.max_units

    def look(self, at: float, *, out_of_budget: bool = False) -> Judgement | None:
        """The verdict, if it has just been reached; it stays what it was from then on."""
        if self.state in _CLOSED:
            return None
        ended = self.over(at)
        found = judged(self.terms, self.tally, ended=ended, out_of_budget=out_of_budget, interval=False)
        if found.state is State.RUNNING:
            self.why = found.why
            return None
        final = judged(self.terms, self.tally, ended=ended, out_of_budget=out_of_budget)
        self.state, self.why, self.label = final.state, final.why, final.label
        return final

    def restore(self, known: Restored, day: str) -> None:
        """Everything as it was before the process ended."""
        terms = self.terms
        self.seen.update(known.units)
        self.tally = tally_of(known)
        self.counts = dict(known.counts)
        self.purse = _purse(terms, day, known.spent, known.spent_today)
        self.heed([event for event in known.events if event.version in (terms.version, "")])

    def merge(self, known: Restored, pending: Batch, day: str) -> None:
        """What several processes found together: all that is stored, and `pending`, which this one has yet to store."""
        tally, counts = tally_of(known), dict(known.counts)
        spent, today = (Spent(one.total - one.judge - one.similarity, one.judge, one.similarity)
                        for one in (known.spent, known.spent_today))  # fmt: skip
        for pair, scores in pending.pairs:
            if (pair.experiment, pair.version) == (self.terms.name, self.terms.version):
                cost = Spent(pair.spent_usd - pair.judge_usd - pair.similarity_usd, pair.judge_usd, pair.similarity_usd)
                spent = spent.plus(cost)
                today = today.plus(cost) if pair.at >= day else today
                if pair.scored:
                    tally.add([Score(*score) for score in scores])
        for (name, version, _, what), more in pending.counts.items():
            if (name, version) == (self.terms.name, self.terms.version):
                counts[what] = counts.get(what, 0) + more
        self.seen.update(known.units)
        self.tally, self.counts = tally, counts
        self.purse.restate(spent, today)

    def reopen(self) -> None:
        """Other terms (more money, more units) under which it goes on; what was decided stays decided."""
        self.stopped = False
        if self.state in (State.INCONCLUSIVE, State.BUDGET_EXHAUSTED):
            self.state, self.why = State.RUNNING, ""

    def heed(self, events: Sequence[Event]) -> None:
        """What was done to the experiment, by whom ever."""
        for event in events:
            if event.event == "paused":
                self.paused = True
            elif event.event == "resumed":
                self.paused = False
            elif event.event == "stopped":
                self.stopped = True
            elif event.event == "started":
                self.reopen()
            elif event.event == "verdict":
                detail: dict[str, Any] = orjson.loads(event.detail)
                self.state, self.why, self.label = State(detail["state"]), detail["why"], detail.get("label")


def _purse(terms: Terms, day: str, spent: Sums, today: Sums) -> Purse:
    limits = (Part(terms.per_day, terms.total), terms.judging, terms.comparing)
    made = [
        Budget(
            inf if limit.per_day is None else limit.per_day,
            inf if limit.total is None else limit.total,
            day=day,
            spent=so_far,
            spent_today=so_far_today,
        )
        for limit, so_far, so_far_today in zip(limits, spent, today, strict=True)
    ]
    return Purse(*made)


def _moment(text: str | None) -> float | None:
    if text is None:
        return None
    return datetime.fromisoformat(text if text.endswith("Z") or "+" in text else f"{text}Z").timestamp()
