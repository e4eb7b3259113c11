"""Runs a suite: every case, to every target, as often as asked; each result is written down as it comes.

All targets run side by side, each with its own `concurrency` workers, so that the time of day favours none. A repeat
has one order of cases, the same for every target. The first request to a target goes alone and is marked cold. A
request that is refused for its rate is asked again when the target says so, and that is counted apart; every other
failure is a result.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any, NamedTuple, Protocol

import orjson

from policies.verdict import Kind
from proxy.bench.asking import answered, request
from proxy.bench.data import Case
from proxy.bench.parameters import altered, effective
from proxy.bench.results import Run, done
from proxy.bench.saturation import late
from proxy.bench.suite import Suite
from proxy.call import Called
from proxy.measure import timing
from proxy.record import Attempt, Exchange
from proxy.wire.answer import Answer
from proxy.wire.request import fingerprint

Json = dict[str, Any]

THROTTLED_TRIES = 6
"""How often one request is asked again after a rate limit before that is its result."""
LONGEST_WAIT = 60.0

Score = Callable[[Case, Answer, Exchange], Awaitable[dict[str, float | None]]]


class Asks(Protocol):
    """What a runner needs of a session."""

    async def ask(
        self, label: str, body: Json, *, how: str = "chat", due_ns: int = 0, patience: float | None = None
    ) -> Called: ...


class Progress(NamedTuple):
    """How far a run is."""

    done: int
    total: int
    failed: int
    spent_usd: float
    unpriced: int
    running: int


class Spend:
    """Holds a run to its budget: the worst case of every request is set aside before it is sent."""

    def __init__(self, budget: float | None, worst_case: Callable[[str, Json], float | None]) -> None:
        """`worst_case(target, body)` in USD; None where no price is known."""
        self.budget = budget
        self.spent = 0.0
        self.unpriced = 0
        self.exhausted = False
        self._worst_case = worst_case
        self._reserved = 0.0

    def reserve(self, label: str, body: Json) -> float | None:
        """What was set aside; None means that the budget does not allow the request."""
        amount = self._worst_case(label, body) or 0.0
        if self.budget is not None and self.spent + self._reserved + amount > self.budget:
            self.exhausted = True
            return None
        self._reserved += amount
        return amount

    def billed(self, cost: float | None) -> None:
        """What was spent without being set aside before: a judge's call."""
        self.settle(0.0, cost)
        if self.budget is not None and self.spent >= self.budget:
            self.exhausted = True

    def settle(self, reserved: float, cost: float | None) -> None:
        self._reserved -= reserved
        if cost is None:
            self.unpriced += 1
        else:
            self.spent += cost


class Runner:
    def __init__(
        self,
        suite: Suite,
        cases: Sequence[Case],
        session: Asks,
        run: Run,
        score: Score,
        spend: Spend,
        progress: Callable[[Progress], None] = lambda progress: None,
    ) -> None:
        self._suite = suite
        self._cases = {(case.task, case.id): case for case in cases}
        self._own = {target.label: target.params for target in suite.targets}
        self._session = session
        self._run = run
        self._score = score
        self._spend = spend
        self._progress = progress
        self._stopped = asyncio.Event()
        self._finished = 0
        self._failed = 0
        self._running = 0
        self._total = len(cases) * suite.repeats * len(suite.targets)

    def stop(self) -> None:
        """Send nothing more; what is under way comes to its end."""
        self._stopped.set()

    async def run(self) -> bool:
        """Asks what the run does not have yet. True if nothing is left, False if it was stopped or the budget ended.

        An exception of a scorer or of the disk ends the run; what was written stays.
        """
        have = self._run.rows()
        self._finished = len(have)
        self._failed = sum(1 for row in have if row["outcome"] != "ok")
        self._spend.spent += sum(row["cost_usd"] or 0.0 for row in have)
        self._spend.unpriced += sum(1 for row in have if row["cost_usd"] is None)
        already = done(have)
        try:
            async with asyncio.TaskGroup() as group:
                for target in self._suite.targets:
                    left = [
                        place
                        for place in self._order()
                        if (target.label, place[1].task, place[1].id, place[0]) not in already
                    ]
                    if left:
                        group.create_task(self._target(target.label, left))
        finally:
            self._run.close()
        return not self._stopped.is_set() and not self._spend.exhausted

    def _order(self) -> list[tuple[int, Case, int]]:
        """(repeat, case, position): the same for every target."""
        ordered: list[tuple[int, Case, int]] = []
        for repeat in range(self._suite.repeats):
            cases = list(self._cases.values())
            Random(f"{self._suite.seed}/{repeat}").shuffle(cases)  # noqa: S311  (an order, not a secret)
            ordered += [(repeat, case, position) for position, case in enumerate(cases)]
        return ordered

    async def _target(self, label: str, left: list[tuple[int, Case, int]]) -> None:
        places = iter(left)
        await self._one(label, *next(places), cold=True)

        async def worker() -> None:
            for place in places:
                if self._stopped.is_set() or self._spend.exhausted:
                    return
                await self._one(label, *place, cold=False)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._suite.concurrency, len(left) - 1)):
                group.create_task(worker())

    async def _one(self, label: str, repeat: int, case: Case, position: int, *, cold: bool) -> None:
        body = request(self._suite, case)
        reserved = self._spend.reserve(label, body)
        if reserved is None:
            return
        cost: float | None = None
        self._running += 1
        try:
            called, waits = await self._asked(label, case, body)
            answer = answered(self._suite, case, called.data, called.exchange.stream)
            scores = await self._score(case, answer, called.exchange)
            row = self._row(label, repeat, case, position, cold, called.exchange, answer, scores)
            row |= {"throttled": waits, "altered": self._altered(label, body, called.exchange)}
            cost = row["cost_usd"]
            self._run.append(row)
        finally:
            self._running -= 1
            self._spend.settle(reserved, cost)
        self._finished += 1
        self._failed += row["outcome"] != "ok"
        self._progress(
            Progress(self._finished, self._total, self._failed, self._spend.spent, self._spend.unpriced, self._running)
        )

    async def _asked(self, label: str, case: Case, body: Json) -> tuple[Called, int]:
        """The answer, and how often it had to be asked for again because of a rate limit."""
        how = self._suite.tasks[case.task].ask
        for again in range(THROTTLED_TRIES + 1):
            called = await self._session.ask(label, body, how=how, due_ns=time.perf_counter_ns())
            exchange = called.exchange
            if exchange.kind is not Kind.RATE_LIMIT or again == THROTTLED_TRIES or self._stopped.is_set():
                break
            told = [one.retry_after for one in exchange.attempts if one.retry_after is not None]
            await self._pause(min(LONGEST_WAIT, min(told) if told else 2.0**again))
        return called, again

    def _altered(self, label: str, body: Json, exchange: Exchange) -> Json:
        winner = exchange.winner
        return altered({**body, **self._own[label]}, winner.sent) if winner is not None else {}

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        except TimeoutError:
            pass

    def _row(
        self,
        label: str,
        repeat: int,
        case: Case,
        position: int,
        cold: bool,
        exchange: Exchange,
        answer: Answer,
        scores: Mapping[str, float | None],
    ) -> Json:
        task = self._suite.tasks[case.task]
        first = next(iter(scores.values()), None)
        score = 0.0 if exchange.kind is not Kind.OK else first
        row = {
            "task": case.task,
            "case": case.id,
            "cluster": case.cluster,
            "group": case.group,
            "weight": case.weight,
            "target": label,
            "repeat": repeat,
            "position": position,
            "cold": cold,
            "at": datetime.fromtimestamp(exchange.at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            **measured(exchange),
            "prompt": case.digest,
            "answer": _digest(answer),
            "answer_chars": len(answer.text),
            "fingerprint": answer.fingerprint,
            "scores": dict(scores),
            "score": score,
            "success": score is not None and score >= task.success,
        }
        if self._suite.keep_answers:
            row["text"] = answer.text
            row["reasoning"] = answer.reasoning
            row["tool_calls"] = [call._asdict() for call in answer.tool_calls]
        return row


def measured(exchange: Exchange) -> Json:
    """The columns that come from the record. Durations count from when the request was due."""
    marks, winner = exchange.marks, exchange.winner
    due = marks.scheduled or marks.received
    ended = marks.end or due
    last: Attempt | None = winner or (exchange.attempts[-1] if exchange.attempts else None)
    times = timing.attempt_times(winner, stream=exchange.stream) if winner is not None else None
    usage = winner.usage if winner is not None else None
    first = winner.marks.first_content if winner is not None and exchange.stream else 0
    return {
        "lag_ms": (marks.received - due) / 1e6,
        "exchange_id": exchange.id,
        "outcome": str(exchange.outcome),
        "error_kind": None if exchange.kind is Kind.OK else str(exchange.kind),
        "status": exchange.status,
        "attempts": len(exchange.attempts),
        "served_by": winner.target if winner is not None else None,
        "provider": winner.provider if winner is not None else None,
        "ttft_ms": (first - due) / 1e6 if first else None,
        "tpot_ms": times.tpot_ns / 1e6 if times is not None and times.tpot_ns is not None else None,
        "e2e_ms": (ended - due) / 1e6,
        "max_gap_ms": times.max_gap_ns / 1e6 if times is not None and times.max_gap_ns is not None else None,
        "stalls": times.stall_count if times is not None else None,
        "input_tokens": usage.input if usage is not None else None,
        "cached_tokens": usage.cache_read if usage is not None else None,
        "output_tokens": usage.output if usage is not None else None,
        "reasoning_tokens": usage.reasoning if usage is not None else None,
        "cost_usd": spent(exchange),
        "finish_reason": winner.finish_reason if winner is not None else None,
        "response_model": winner.response_model if winner is not None else None,
        "dropped": list(last.dropped) if last is not None else [],
        "wire": fingerprint(winner.sent) if winner is not None else None,
        "parameters": effective(winner.sent) if winner is not None else None,
    }


def spent(exchange: Exchange) -> float | None:
    """USD of all attempts; None where one of them answered or used something at a price that is not known.

    A try that failed, and told of no usage, cost nothing as far as anybody says.
    """
    for one in exchange.attempts:
        if one.cost_usd is None and (one.usage is not None or one.kind is Kind.OK):
            return None
    return math.fsum(one.cost_usd or 0.0 for one in exchange.attempts)


def _digest(answer: Answer) -> str:
    said = [answer.text, [[call.name, call.arguments] for call in answer.tool_calls]]
    return hashlib.sha256(orjson.dumps(said)).hexdigest()[:16]


# -- what makes a run invalid


def invalid(suite: Suite, rows: Sequence[Json], generator: Json) -> list[str]:
    """Why nothing may be concluded from these rows; empty where all is well.

    - Parameters of `sampling` that a target was not sent: then it was not asked the same.
    - Parameters that were sent with another value (`force`, a dialect's bounds).
    - The load generator was late (`saturation`): then its own slowness would be taken for the targets'.
    """
    reasons = []
    dropped: dict[str, set[str]] = {}
    for row in rows:
        missing = set(row["dropped"] or ()) & suite.sampling.keys()
        if missing:
            dropped.setdefault(row["target"], set()).update(missing)
    for target, names in dropped.items():
        listed = ", ".join(sorted(names))
        reasons.append(f"{target} was not sent {listed}: the sampling was not the same (take it out of `sampling`)")
    changed: dict[tuple[str, str], str] = {}
    for row in rows:
        for name, (asked, sent) in (row.get("altered") or {}).items():
            changed.setdefault((row["target"], name), f"{sent!r} instead of {asked!r}")
    for (target, name), what in changed.items():
        reasons.append(f"{target} was sent {name} {what}: look for `force` in the config, or a bound of the provider's")
    if (why := late(generator, LATE_MS)) is not None:
        reasons.append(f"{why} (use less `concurrency` or more CPU)")
    return reasons


LATE_MS = 250.0
"""Lateness from which a suite's latencies are not the targets' own. It measures no rates, and bears more than loads."""
