"""Puts a target under load and writes down every request: closed loops of users, or open arrivals.

Open arrivals have a due time of their own, and everything is timed from it: a target that stalls does not get fewer
requests for it, and the wait of those that came meanwhile is in the figures (no coordinated omission). Users of a
closed loop ask again when they were answered, as a pool of workers does; that load eases off when the target is slow,
which the report says.
"""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from random import Random
from typing import Any, NamedTuple

import orjson

from policies.verdict import Kind
from proxy.bench.arrivals import Phase, Search, constant, poisson, ramp
from proxy.bench.asking import answered, request
from proxy.bench.data import Case
from proxy.bench.results import Run
from proxy.bench.runner import Asks, Score, Spend, measured, spent
from proxy.bench.saturation import Watch
from proxy.bench.suite import Drill, Load, Suite
from proxy.record import Exchange

Json = dict[str, Any]

_NS = 1e9


class Tick(NamedTuple):
    """How a load goes, for a progress bar."""

    phase: str
    seconds: float
    """Since the load began."""
    done: int
    failed: int
    running: int
    spent_usd: float


class Loader:
    """One target under one load."""

    def __init__(
        self,
        suite: Suite,
        load: Load,
        label: str,
        cases: Sequence[Case],
        session: Asks,
        run: Run,
        spend: Spend,
        score: Score | None = None,
        tick: Callable[[Tick], None] = lambda tick: None,
    ) -> None:
        """`score`: judge every answer as well (what a fallback is worth); it costs time on this machine."""
        self._suite = suite
        self._load = load
        self._label = label
        self._bodies = [(case, request(suite, case)) for case in cases]
        self._session = session
        self._run = run
        self._spend = spend
        self._score = score
        self._tick = tick
        self._rng = Random(f"{suite.seed} {label}")  # noqa: S311  (chance, not secrets)
        self._began = 0.0
        self._running = 0
        self._done = 0
        self._failed = 0
        self._stopped = False

    def stop(self) -> None:
        """Begin no further request."""
        self._stopped = True

    async def run(self, recorded: Sequence[float] = ()) -> None:
        """`recorded`: arrivals in seconds, for a load that plays a record."""
        order = self._order()
        self._began = time.monotonic()
        try:
            async with _drilled(self._load.drill, self._began, self._note):
                if self._load.search is not None:
                    await self._searched(order)
                elif self._load.recorded is not None:
                    await self._open(Phase(recorded[-1] if recorded else 0.0, rate=0.0), recorded, order)
                else:
                    for phase in self._phases():
                        await self._phase(phase, order)
        finally:
            self._run.close()

    def _order(self) -> Iterator[tuple[Case, Json]]:
        shuffled = list(self._bodies)
        self._rng.shuffle(shuffled)
        return cycle(shuffled)

    def _phases(self) -> list[Phase]:
        load = self._load
        if load.ramp is not None:
            phases = ramp(*load.ramp, load.steps, load.seconds)
        elif load.users is not None:
            phases = [Phase(load.seconds, users=load.users)]
        else:
            phases = [Phase(load.seconds, rate=load.rate)]
        if load.warmup:
            phases.insert(0, phases[0]._replace(seconds=load.warmup, measured=False))
        return phases

    async def _searched(self, order: Iterator[tuple[Case, Json]]) -> None:
        wanted = self._load.search
        assert wanted is not None  # noqa: S101
        search = Search(1.0, wanted.highest)
        while (rate := search.next) is not None and not self._stopped:
            before = len(self._run.rows())
            await self._phase(Phase(self._load.seconds, rate=rate), order)
            rows = [row for row in self._run.rows()[before:] if row["kind"] == "request"]
            good = sum(met(self._suite, row) for row in rows)
            search.tried(rate, bool(rows) and good / len(rows) >= wanted.share)

    async def _phase(self, phase: Phase, order: Iterator[tuple[Case, Json]]) -> None:
        if self._stopped:
            return
        if phase.users is not None:
            await self._closed(phase, order)
        else:
            rate = phase.rate or 0.0
            if self._load.arrivals == "constant":
                times = list(constant(rate, phase.seconds))
            else:
                times = list(poisson(rate, phase.seconds, self._rng))
            await self._open(phase, times, order)

    async def _closed(self, phase: Phase, order: Iterator[tuple[Case, Json]]) -> None:
        end = time.monotonic() + phase.seconds

        async def user() -> None:
            while time.monotonic() < end and not self._stopped:
                await self._one(phase, *next(order), time.perf_counter_ns())
                if self._load.think:
                    await asyncio.sleep(min(self._load.think, max(0.0, end - time.monotonic())))

        async with self._watched(phase), asyncio.TaskGroup() as group:
            for _ in range(phase.users or 0):
                group.create_task(user())

    async def _open(self, phase: Phase, times: Sequence[float], order: Iterator[tuple[Case, Json]]) -> None:
        async with self._watched(phase):
            await self._arriving(phase, times, order)

    @asynccontextmanager
    async def _watched(self, phase: Phase) -> AsyncIterator[None]:
        """Notes after a phase what the generator itself had left."""
        began = time.monotonic() - self._began
        async with Watch() as watch:
            yield
        lasted = min(phase.seconds, time.monotonic() - self._began - began)
        about = {"kind": "generator", "target": self._label, "phase": phase.label, "measured": phase.measured}
        self._run.append(about | {"at_s": round(began, 6), "seconds": round(lasted, 6)} | watch.told())

    async def _arriving(self, phase: Phase, times: Sequence[float], order: Iterator[tuple[Case, Json]]) -> None:
        began, began_ns = time.monotonic(), time.perf_counter_ns()
        tasks: set[asyncio.Task[None]] = set()
        for at in times:
            if (pause := began + at - time.monotonic()) > 0:
                await asyncio.sleep(pause)
            if self._stopped:
                break
            case, body = next(order)
            due_ns = began_ns + round(at * _NS)
            if len(tasks) >= self._load.most:
                self._not_sent(phase, case, due_ns)
                continue
            task = asyncio.create_task(self._one(phase, case, body, due_ns))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        while tasks:
            await asyncio.gather(*tasks)

    async def _one(self, phase: Phase, case: Case, body: Json, due_ns: int) -> None:
        reserved = self._spend.reserve(self._label, body)
        if reserved is None:
            self._stopped = True
            return
        cost: float | None = None
        self._running += 1
        try:
            called = await self._session.ask(
                self._label,
                body,
                how=self._suite.tasks[case.task].ask,
                due_ns=due_ns,
                patience=self._load.patience,
            )
            cost = spent(called.exchange)
        finally:
            self._running -= 1
            self._spend.settle(reserved, cost)
        row = self._row(phase, case, due_ns) | measured(called.exchange)
        row["stream"] = called.exchange.stream
        row["failed_tries"] = failed_tries(called.exchange)
        if self._score is not None:
            answer = answered(self._suite, case, called.data, called.exchange.stream)
            row["score"] = next(iter((await self._score(case, answer, called.exchange)).values()), None)
        self._finish(row)

    def _not_sent(self, phase: Phase, case: Case, due_ns: int) -> None:
        """More are under way than the load allows: whoever asked gets nothing, and it is counted."""
        self._finish(
            self._row(phase, case, due_ns)
            | dict.fromkeys(("ttft_ms", "tpot_ms", "e2e_ms", "max_gap_ms", "stalls", "cost_usd", "served_by"))
            | {
                "outcome": "not_sent",
                "error_kind": "not_sent",
                "status": 0,
                "attempts": 0,
                "lag_ms": 0.0,
                "failed_tries": {},
            }
        )

    def _row(self, phase: Phase, case: Case, due_ns: int) -> Json:
        due = time.monotonic() - (time.perf_counter_ns() - due_ns) / _NS - self._began
        return {
            "kind": "request",
            "target": self._label,
            "phase": phase.label,
            "users": phase.users,
            "rate": phase.rate,
            "measured": phase.measured,
            "due_s": round(due, 6),
            "task": case.task,
            "case": case.id,
        }

    def _finish(self, row: Json) -> None:
        self._run.append(row)
        self._done += 1
        self._failed += row["outcome"] != "ok"
        now = time.monotonic() - self._began
        self._tick(Tick(row["phase"], now, self._done, self._failed, self._running, self._spend.spent))

    def _note(self, words: str) -> None:
        self._run.append(
            {"kind": "note", "target": self._label, "at_s": round(time.monotonic() - self._began, 6), "note": words}
        )


def failed_tries(exchange: Exchange) -> dict[str, int]:
    """Tries at upstreams that failed, by kind, whether or not a later one succeeded."""
    kinds = (attempt.kind for attempt in exchange.attempts)
    return dict(Counter(str(kind) for kind in kinds if kind not in (Kind.OK, Kind.SUPERSEDED)))


def met(suite: Suite, row: Json) -> bool:
    """The request was answered whole and within every service level that the suite names."""
    if row["outcome"] != "ok":
        return False
    for limit, metric in ((suite.slo.ttft, "ttft_ms"), (suite.slo.e2e, "e2e_ms")):
        if limit is not None and row[metric] is not None and row[metric] > limit * 1000:
            return False
    return True


@asynccontextmanager
async def _drilled(drill: Drill | None, began: float, note: Callable[[str], None]) -> AsyncIterator[None]:
    """The fault is put in at its time and always taken out again."""
    if drill is None:
        yield
        return
    before = (await _control(drill.control))["faults"]

    async def play() -> None:
        await asyncio.sleep(max(0.0, began + drill.at - time.monotonic()))
        fault = f"{drill.fault}={drill.seconds:g}s" if drill.fault == "refuse" else drill.fault
        await _control(drill.control, {"faults": [fault]})
        note("fault begins")
        await asyncio.sleep(drill.seconds)
        await end()
        note("fault ends")

    async def end() -> None:
        if drill.fault != "refuse":  # a closed port opens by itself
            await _control(drill.control, {"faults": before})

    task = asyncio.create_task(play())
    try:
        yield
    finally:
        if task.done():
            task.result()
        else:
            task.cancel()
            await end()


async def _control(address: str, settings: Json | None = None) -> Json:
    """What a simulated upstream's /control says, after `settings` were changed."""

    def ask() -> Json:
        body = orjson.dumps(settings) if settings is not None else None
        asked = urllib.request.Request(address, body)  # noqa: S310  (http on this machine: `Drill` sees to it)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(asked, timeout=10) as answer:
            told: Json = orjson.loads(answer.read())
        return told

    return await asyncio.to_thread(ask)
