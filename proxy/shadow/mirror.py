"""Mirrors live exchanges to candidates, without the live side noticing.

A request is drawn when it comes in and mirrored when its answer is over. What waits is bounded, in number and in bytes,
and the newest is dropped; so is everything while the live side is busy. The candidate is asked by an engine of its own
(its own connections, limits and health), once, never again, and never for more money than the budget has left.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence

import orjson

from policies.base import Ask
from policies.trial import State
from proxy.asked import Asked
from proxy.carry import Carry, Taker
from proxy.engine import Engine
from proxy.measure.shadow_metrics import Standing
from proxy.measure.store.ledger import Batch, Ledger
from proxy.measure.store.rows import Timestamps
from proxy.measure.store.schema import SchemaError
from proxy.record import Exchange
from proxy.shadow.budget import Spent
from proxy.shadow.experiment import COMPLETED, FAILED, Experiment
from proxy.shadow.isolation import Pressure, Queue
from proxy.shadow.pair import Job, Paired, carried_out
from proxy.shadow.request import Incompatible
from proxy.shadow.sharing import Sharing, newly_rated
from proxy.wire.controls import Controls
from proxy.wire.request import Headers, Request

log = logging.getLogger(__name__)

KEEP_SECONDS = 1.0
"""How often what was found is committed, and what others did is looked at."""
UNWRITTEN = 5_000
"""Pairs that wait for a store that fails; then the newest are lost, and counted."""


Keep = Callable[[Exchange, Request, str | None, str, bytes], None]
"""The candidate's exchange, what it was asked, the route, the client's key, the answer."""


class Mirror:
    """An `Onlooker`. Everything but `_keep`'s writes happens on the event loop."""

    def __init__(self, engine: Engine, ledger: Ledger | None, live_in_flight: Callable[[], int]) -> None:
        """`engine`: the background one. `ledger` None remembers nothing beyond the process."""
        self._engine = engine
        self._ledger = ledger
        self._pressure = Pressure(engine.clock, live_in_flight)
        self._queue = Queue(self._carry_out)
        self._by_route: dict[str | None, list[Experiment]] = {}
        self._never: frozenset[str] = frozenset()
        self._batch = Batch()
        self._lost = 0
        self._heard = 0
        self._created: dict[str, str] = {}
        self._keeper: asyncio.Task[None] | None = None
        self._closing = False
        self._sharing = Sharing(ledger) if ledger is not None else None
        self._liked = True
        """There may be feedback that is not counted yet."""
        self._at = Timestamps()
        self.experiments: dict[str, Experiment] = {}
        self.keep: Keep | None = None
        """Takes what a candidate was asked and said, where texts are kept."""

    # -- what it is told

    def load(self, experiments: Sequence[Experiment], never: frozenset[str]) -> None:
        """These from now on. One that is known already, and still means the same, goes on where it was.

        `never`: names of the keys whose requests are not to be mirrored.
        """
        self._never = never
        known, self.experiments, self._by_route = self.experiments, {}, {}
        for experiment in experiments:
            terms = experiment.terms
            before = known.get(terms.name)
            if before is not None and before.terms.version == terms.version:
                _carry_on(before, experiment)
                if before.terms != terms:
                    self._open(experiment)
            else:
                self._begin(experiment)
            self.experiments[terms.name] = experiment
            for route in terms.routes:
                self._by_route.setdefault(route, []).append(experiment)

    def start(self) -> None:
        """From within the running loop."""
        self._pressure.start()
        self._keeper = asyncio.create_task(self._keep())

    async def aclose(self) -> None:
        """Nothing new is sent; what is under way is given up and counted, and everything found is written."""
        self._closing = True
        self._pressure.stop()
        for job in self._queue.emptied():
            self._drop(job.experiment, "stopped")
        self._engine.drain()
        await self._queue.finished(5.0)
        if self._keeper is not None:
            self._keeper.cancel()
        await self._write()

    def created(self) -> dict[str, str]:
        """Experiments that were made over the API, by name, each as the config would have it in JSON."""
        if self._ledger is not None and not self._created:
            try:
                self._created = self._ledger.created()
            except (sqlite3.Error, OSError, SchemaError) as error:
                log.error("experiments made over the API are left out, since the store cannot be read: %s", error)
        return self._created

    def create(self, name: str, told: object) -> None:
        """Remembers a checked experiment; the next `load` begins it."""
        self._created = {**self.created(), name: orjson.dumps(told).decode()}
        if self._ledger is not None:
            self._batch.events.append((self._now(), name, "", "created", self._created[name]))

    def tell(self, name: str, event: str, detail: Mapping[str, object] | None = None) -> None:
        """`paused`, `resumed`, `stopped` or `promoted`, from the API. Raises KeyError."""
        experiment = self.experiments[name]
        self._note(experiment, event, detail or {})
        if event == "paused":
            experiment.paused = True
        elif event == "resumed":
            experiment.paused = False
        elif event == "stopped":
            experiment.stopped = True
            self._look(experiment)

    def liked(self) -> None:
        """Somebody said how an answer was liked; the store has it."""
        self._liked = True

    # -- the live side: these two run within requests

    def wants(self, ask: Request, route: str | None, key: str, headers: Headers, controls: Controls) -> Taker | None:
        here = self._by_route.get(route)
        if here is None or key in self._never or controls.no_shadow:
            return None
        at = self._engine.clock.wall()
        asked = Asked(ask, at, key, headers, controls.unit, controls.tags)
        drawn = [experiment for experiment in here if self._draws(experiment, asked, at)]
        return functools.partial(self._take, drawn, asked.unit) if drawn else None

    def _draws(self, experiment: Experiment, asked: Ask, at: float) -> bool:
        if not experiment.is_open(at) or not experiment.takes(asked):
            return False
        sampled = experiment.samples(asked.unit)
        self._count(experiment, "eligible")
        self._count(experiment, "sampled" if sampled else "unsampled")
        return sampled

    def _take(self, drawn: Sequence[Experiment], unit: str, exchange: Exchange, carry: Carry) -> None:
        answer = carry.answer
        for experiment in drawn:
            reason = self._obstacle(experiment, exchange, answer)
            if reason is not None:
                self._drop(experiment, reason)
                continue
            if not self._queue.put(Job(experiment, exchange, carry.ask, carry.key, answer or b"", unit)):
                self._drop(experiment, "queue")

    def _obstacle(self, experiment: Experiment, exchange: Exchange, answer: bytes | None) -> str | None:
        if self._closing or experiment.stopped or experiment.state is not State.RUNNING:
            return "stopped"
        if experiment.paused:
            return "paused"
        if exchange.status == 0 or exchange.outcome == "client_closed":
            return "client_left"
        if not exchange.attempts:
            return "not_served"
        if exchange.attempts[0].hurried:
            return "client_left"
        if answer is None:
            return "too_large"
        return self._pressed(experiment)

    def _pressed(self, experiment: Experiment) -> str | None:
        """Why the live side is to be left alone for now."""
        section = experiment.section
        if self._pressure.too_high(section):
            return "busy"
        return "limit" if experiment.room() < section.leave else None

    # -- the background

    async def _carry_out(self, job: Job) -> None:
        experiment = job.experiment
        if experiment.state is not State.RUNNING or experiment.stopped:
            self._drop(experiment, "stopped")
            return
        pressed = self._pressed(experiment)  # it may have waited
        if pressed is not None:
            self._drop(experiment, pressed)
            return
        reserved = Spent(0.0)
        try:
            prepared = job.prepare()
            taken = experiment.purse.reserve(prepared.worst, self.day())
            if isinstance(taken, str):
                self._drop(experiment, "budget")
                if taken == "total":
                    self._look(experiment, out_of_budget=True)
                return
            reserved = taken
            paired = await carried_out(self._engine, prepared._replace(worst=taken))
        except Incompatible as why:
            log.debug("request %s is not mirrored to %s: %s", job.exchange.id, experiment.terms.candidate, why)
            self._drop(experiment, "incompatible")
            return
        except Exception:
            log.exception("request %s was not mirrored by a fault of the proxy", job.exchange.id)
            experiment.purse.settle(reserved, reserved)
            self._drop(experiment, "fault")
            return
        experiment.purse.settle(reserved, paired.spent)
        if self.keep is not None:
            self.keep(paired.called.exchange, prepared.ask, job.exchange.route, job.key, paired.called.data)
        self._settle(self._present(experiment), paired)

    def _present(self, experiment: Experiment) -> Experiment:
        """The same experiment as it is now: the config may have been loaded anew meanwhile."""
        now = self.experiments.get(experiment.terms.name)
        return now if now is not None and now.terms.version == experiment.terms.version else experiment

    def _settle(self, experiment: Experiment, paired: Paired) -> None:
        unit = paired.pair.unit
        if paired.given_up and self._closing:
            self._drop(experiment, "stopped")
            return
        scored = unit not in experiment.seen
        self._count(experiment, FAILED if paired.failed else COMPLETED)
        if scored:
            experiment.seen.add(unit)
            experiment.tally.add(paired.scores)
        if self._ledger is not None:
            if len(self._batch.pairs) < UNWRITTEN:
                pair = paired.pair._replace(scored=scored, at=self._now())
                self._batch.pairs.append((pair, paired.scores if scored else ()))
            else:
                self._lost += 1
        if scored and experiment.is_due():
            self._look(experiment)

    def _look(self, experiment: Experiment, *, out_of_budget: bool = False) -> None:
        found = experiment.look(self._engine.clock.wall(), out_of_budget=out_of_budget)
        if found is not None:
            detail = {
                "state": found.state,
                "label": found.label,
                "why": found.why,
                "units": experiment.tally.units,
                "spent_usd": experiment.budget.spent,
            }
            self._note(experiment, "verdict", detail)
            log.warning(
                "shadow %s: %s after %d units (%s)",
                experiment.terms.name,
                found.state,
                experiment.tally.units,
                found.why,
            )

    # -- remembering

    def _begin(self, experiment: Experiment) -> None:
        terms = experiment.terms
        if self._ledger is not None:
            try:
                known = self._ledger.restore(terms.name, terms.version, self.day())
            except (sqlite3.Error, OSError, SchemaError) as error:
                log.error("the shadow experiment %s begins anew, since the store cannot be read: %s", terms.name, error)
            else:
                experiment.restore(known, self.day())
                self._heard = max([self._heard, *[event.n for event in known.events]])
                if experiment.under_way:
                    self._count(experiment, "dropped.restart", experiment.under_way)
                begun = [event.detail for event in known.events if event.event == "started"]
                if begun[-1:] == [terms.dumped()]:
                    return
        self._open(experiment)

    def _open(self, experiment: Experiment) -> None:
        self._note(experiment, "started", experiment.terms.dumped())
        experiment.reopen()

    def _note(self, experiment: Experiment, event: str, detail: Mapping[str, object] | str) -> None:
        if self._ledger is not None:
            text = detail if isinstance(detail, str) else orjson.dumps(detail).decode()
            terms = experiment.terms
            self._batch.events.append((self._now(), terms.name, terms.version, event, text))

    def _count(self, experiment: Experiment, what: str, more: int = 1) -> None:
        experiment.count(what, more)
        if self._ledger is not None:
            self._batch.count(experiment.terms.name, experiment.terms.version, self.day(), what, more)

    def _drop(self, experiment: Experiment, reason: str) -> None:
        self._count(experiment, f"dropped.{reason}")

    async def _keep(self) -> None:
        while True:
            await asyncio.sleep(KEEP_SECONDS)
            self._pressure.take()
            at = self._engine.clock.wall()
            for experiment in self.experiments.values():
                if experiment.over(at) is not None:
                    self._look(experiment)
            self._liked = self._liked or bool(self._batch.pairs)
            await self._write()
            await self._hear()
            if self._liked:
                await self._rate()
            await self._merge()

    async def _write(self) -> None:
        batch = self._batch
        if self._ledger is None or not batch:
            return
        self._batch = Batch()
        try:
            await asyncio.shield(asyncio.to_thread(self._ledger.commit, batch))
            if self._sharing is not None:
                self._sharing.stored(len(batch.pairs))
        except (sqlite3.Error, OSError, SchemaError) as error:
            log.warning("shadow pairs wait, since the store cannot be written: %s", error)
            self._batch.pairs[:0], self._batch.events[:0] = batch.pairs, batch.events
            for key, more in batch.counts.items():
                self._batch.count(*key, more)

    async def _hear(self) -> None:
        """What the command line, or another process, did to the experiments."""
        if self._ledger is None or not self.experiments:
            return
        try:
            events = await asyncio.to_thread(self._ledger.events, self._heard)
        except (sqlite3.Error, OSError, SchemaError):
            return  # `_write` tells
        for event in events:
            self._heard = event.n
            experiment = self.experiments.get(event.experiment)
            if experiment is not None and event.version in (experiment.terms.version, "") and event.event != "started":
                experiment.heed([event])
                if event.event == "stopped":
                    self._look(experiment)

    async def _merge(self) -> None:
        """Takes in what other processes found: a verdict is about all that is in the store, and so is the money."""
        if self._ledger is None or self._sharing is None or not self.experiments:
            return
        try:
            if not await self._sharing.with_others():
                return
            for experiment in [*self.experiments.values()]:
                terms = experiment.terms
                known = await asyncio.to_thread(self._ledger.restore, terms.name, terms.version, self.day())
                # From here on nothing is awaited: what is not stored by now waits in the batch.
                present = self._present(experiment)
                present.merge(known, self._batch, self.day())
                if present.under_way < 0:  # another's, which were taken for lost when this process began
                    self._count(present, "dropped.restart", present.under_way)
                self._look(present)
        except (sqlite3.Error, OSError, SchemaError):
            return  # `_write` tells

    async def _rate(self) -> None:
        """Counts what people said of both answers of a pair, which they do when they like."""
        self._liked = False
        if self._ledger is None:
            return
        for experiment in [*self.experiments.values()]:
            try:
                for gauge in experiment.terms.gauges:
                    found = await asyncio.to_thread(newly_rated, self._ledger, experiment.terms, gauge)
                    experiment.tally.rate(found)
                    if found:
                        self._look(self._present(experiment))
            except (sqlite3.Error, OSError, SchemaError) as error:
                log.warning("feedback waits, since the store cannot be written: %s", error)
                self._liked = True

    # -- what can be asked

    @property
    def lost(self) -> int:
        """Pairs that could not be stored."""
        return self._lost

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def standings(self) -> list[Standing]:
        """For the metrics, from another thread."""
        return [one.standing() for one in [*self.experiments.values()]]

    def _now(self) -> str:
        return self._at.text(self._engine.clock.wall())

    def day(self) -> str:
        """Today in UTC, as text."""
        return time.strftime("%Y-%m-%d", time.gmtime(self._engine.clock.wall()))


def _carry_on(before: Experiment, after: Experiment) -> None:
    after.tally, after.counts, after.seen = before.tally, before.counts, before.seen
    after.state, after.why, after.label = before.state, before.why, before.label
    after.paused, after.stopped = before.paused, before.stopped
    limits, after.purse = after.purse, before.purse
    after.purse.limit(limits)
