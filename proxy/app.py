"""The composition root: the only place where all the objects meet."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping, Sequence
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Any

from policies.breaker import State
from proxy import __version__
from proxy import config as settings
from proxy.allowances import Allowances
from proxy.assemble import capture, front, gate, prices, target_names
from proxy.auth import Gate, Key
from proxy.batches.keeper import Keeper
from proxy.batches.shelf import Shelf
from proxy.clock import SECOND, RealClock
from proxy.downstream import Receive, Scope, Send
from proxy.endpoints import DOORS, Doors, Front
from proxy.engine import Engine
from proxy.experiments import checked, experiments
from proxy.learned import Learners
from proxy.listing import Listing
from proxy.measure.bus import Bus
from proxy.measure.looplag import LoopLag
from proxy.measure.prometheus import Metrics
from proxy.measure.recent import Recent
from proxy.measure.store.bodies import Bodies
from proxy.measure.store.keys import stored
from proxy.measure.store.ledger import Ledger
from proxy.measure.store.reads import Reads
from proxy.measure.store.upkeep import Retention
from proxy.measure.store.writer import StoreSink
from proxy.prices.watch import keep_current
from proxy.record import Origin
from proxy.router import Router
from proxy.shadow.mirror import Mirror
from proxy.shadow.unhurried import Unhurried
from proxy.transport.base import Transport
from proxy.transport.choose import Transports
from proxy.upstreams import Upstreams
from proxy.web.site import Site

if TYPE_CHECKING:
    from proxy.measure.spans import Spans

log = logging.getLogger(__name__)

_KEYS_SECONDS = 3.0


class App:
    """The ASGI application. Dispatches the measured endpoints itself and leaves the rest to Starlette."""

    def __init__(self, config: settings.Config) -> None:
        self.config = config
        self._rng = SystemRandom()
        self._transports = Transports()
        self._book = prices(config)
        clock = RealClock()
        self.upstreams = Upstreams(clock, self._rng)
        keep = Retention(config.retention.raw, config.retention.minutes)
        self.store = StoreSink.open(config.storage, retention=keep) if config.storage is not None else None
        file = self.store.path if self.store is not None and self.store.ours else None
        self._bodies = Bodies(self.store.path) if self.store is not None else None
        self.learners = Learners(file)
        self._keys = stored(self.store.path) if self.store is not None else []
        self.allowances = Allowances(clock, file)
        self._front = self._fronted(config)
        targets, routes = target_names(config)
        self.metrics = Metrics(targets, routes, version=__version__)
        self.now_ns, self.started_ns = clock.now, clock.now()
        self.recent = Recent(_in_order(routes))
        store = {"store": self.store} if self.store is not None else {}
        self._spans = _spans(config.otel)
        spans = {"otel": self._spans} if self._spans is not None else {}
        self._charging = False
        self.bus = Bus({"prometheus": self.metrics, "recent": self.recent, "learners": self.learners, **store, **spans})
        self._charge()
        self.engine = Engine(clock, self.bus, self._rng)
        self.doors = Doors(self.engine, self._front)
        self.direct = self.doors.direct()
        """The measured endpoints, by path, for a server that knows how to do without ASGI."""
        # Mirrored requests have connections, limits and health of their own: they take nothing from the live ones.
        self._background = Transports(limit=64)
        self.mirror = Mirror(
            Engine(clock, self.bus, self._rng, Origin.SHADOW),
            Ledger(file) if file is not None else None,
            lambda: len(self.engine.running),
        )
        self._load_shadow(config)
        self._lag = LoopLag()
        self._price_watch: asyncio.Task[None] | None = None
        self._key_watch: asyncio.Task[None] | None = None
        self.metrics.watch(
            inflight=lambda: len(self.engine.running),
            losses=self.losses,
            store=self.store,
            lag=self._lag.take,
            targets=self.upstreams.snapshot,
            shadow=self.mirror.standings,
            refused=self.allowances.refused,
        )
        self._listing = Listing()
        self.keeper = self._batch_keeper(clock)
        self._batch_task: asyncio.Task[None] | None = None
        self._site = Site(self, Reads(self.store) if self.store is not None else None, tuple(DOORS), self.keeper)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if scope["path"] in DOORS and scope["method"] == "POST":
                await self.doors(scope, receive, send)
            else:
                await self._site(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    async def direct_models(self, key: Key | None) -> list[str]:
        """`provider/model` of all that the providers list; none for a caller that may not name them."""
        front = self._front
        if not front.gate.may_go_direct(key):
            return []
        routes = [front.router.find(f"{provider}/models", True) for provider in front.providers]
        return await self._listing.names([route.targets[0] for route in routes if route.name is None])

    def _batch_keeper(self, clock: RealClock) -> Keeper | None:
        """Batches are kept beside the store. Lines that no batch API takes go through an engine of their own."""
        if self.store is None:
            return None
        folder = self.store.path.with_name(self.store.path.name + ".batches")
        engine = Engine(clock, self.bus, self._rng, Origin.BATCH)
        return Keeper(Shelf(folder), lambda: self.router, engine, self.bus, self.config.batches.poll)

    @property
    def gate(self) -> Gate:
        return self._front.gate

    @property
    def router(self) -> Router:
        return self._front.router

    @property
    def draining(self) -> bool:
        return self.doors.draining

    def degraded(self) -> list[str]:
        """What does not work as it should, in words; serving goes on."""
        reasons = []
        if self.store is not None and self.store.degraded is not None:
            reasons.append(self.store.degraded)
        if self.allowances.degraded is not None:
            reasons.append(self.allowances.degraded)
        # Of targets that a client named directly nothing is told: anybody may ask how ready we are.
        configured = {target.name for target in self.router.targets}
        reasons += [
            f"target {one['target']}: {_words(one['barred'] or one['breaker'])}"
            f" (last error: {_words(one['last_error'])})"
            for one in self.upstreams.snapshot()
            if one["target"] in configured and (one["barred"] or one["breaker"] != State.CLOSED)
        ]
        return reasons

    @property
    def in_flight(self) -> int:
        return len(self.engine.running)

    def losses(self) -> Mapping[tuple[str, str], int]:
        kept = self._bodies.losses() if self._bodies is not None else {}
        return {**self.bus.losses(), **{("bodies", reason): count for reason, count in kept.items()}}

    def standings(self) -> Mapping[str, Mapping[str, Any]]:
        """How each target of a route is."""
        now = self.now_ns() / SECOND
        return {target.name: target.condition.shown(now) for target in self.router.targets}

    def load(self, config: settings.Config) -> None:
        """Serve a new config from the next request on; running ones keep the old."""
        self._book = prices(config, self._book)
        self._front = self._fronted(config)
        self._charge()
        self.upstreams.forgive()
        self.doors.front = self._front
        targets, routes = target_names(config)
        self.metrics.allow(targets, routes)
        self.recent.allow(_in_order(routes))
        self._load_shadow(config)
        if self.store is not None:
            self.store.retention = Retention(config.retention.raw, config.retention.minutes)
        self.config = config

    def _fronted(self, config: settings.Config) -> Front:
        transport_for = self._transports.for_provider
        return front(
            config, transport_for, self._rng, self._book, self.upstreams, self.learners, self._keys, self.allowances
        )

    def _charge(self) -> None:
        """Budgets are charged once there is one: until then no request pays for that."""
        if self.allowances.budgeted and not self._charging:
            self._charging = True
            self.bus.add("allowances", self.allowances)

    def create_shadow(self, name: str, told: object) -> None:
        """An experiment beside the config's. Raises ValueError with what is wrong with it."""
        if name in self.config.shadow or any(one.partition(":")[0] == name for one in self.mirror.experiments):
            raise ValueError(f"there is an experiment {name!r} already")
        checked(told, self.config)
        self.mirror.create(name, told)
        self._load_shadow(self.config)

    def _load_shadow(self, config: settings.Config) -> None:
        created = self.mirror.created()
        made = [*experiments(config, created, self._unhurried, self._book, self.upstreams, self.mirror.day())]
        self.mirror.load(made, frozenset(key.name for key in config.keys if key.shadow == "never"))
        kept = capture(config, self._bodies.keep) if self._bodies is not None else None
        self.mirror.keep = kept.mirrored if kept is not None and not kept.idle else None
        self.doors.onlookers = (
            *((self.mirror,) if made else ()),
            *((kept,) if kept is not None and not kept.idle else ()),
        )

    def _unhurried(self, provider: settings.Provider) -> Transport:
        return Unhurried(self._background.for_provider(provider))

    async def _watch_keys(self) -> None:
        """Keys that are made or revoked by command hold from the next request on, a few seconds later."""
        while self.store is not None:
            await asyncio.sleep(_KEYS_SECONDS)
            found = await asyncio.to_thread(stored, self.store.path)
            if found != self._keys and (found or not self._keys):
                self._keys = found
                self._front.gate = gate(self.config, found, self.allowances)
                self._charge()

    async def drain(self, seconds: float) -> None:
        """Take no new requests, let running ones finish for at most `seconds`, then end those that are left.

        Called again, it ends them at once.
        """
        if self.draining:
            seconds = 0.0
        self.doors.draining = True
        until = time.monotonic() + seconds
        while self.engine.running and time.monotonic() < until:  # noqa: ASYNC110  (an event would tax every request)
            await asyncio.sleep(0.02)
        if self.engine.running:
            log.warning("%d requests did not finish within %.0f s and are cut", len(self.engine.running), seconds)
            self.engine.drain()
            await asyncio.sleep(0.1)

    async def aclose(self) -> None:
        """Write what is still to be written and close every connection."""
        self._lag.stop()
        if self._price_watch is not None:
            self._price_watch.cancel()
        if self._batch_task is not None:
            self._batch_task.cancel()
        if self._key_watch is not None:
            self._key_watch.cancel()
        await self.mirror.aclose()
        await self.learners.aclose()
        await self._background.aclose()
        await self._transports.aclose()
        await self._site.aclose()
        if self._spans is not None:
            await asyncio.to_thread(self._spans.close)
        if self._bodies is not None and not await asyncio.to_thread(self._bodies.close):
            log.error("some prompts and answers could not be written before the end")
        if self.store is not None and not await asyncio.to_thread(self.store.close):
            log.error("some records could not be written before the end: %s", self.store.losses())

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        await receive()
        self._lag.start()
        self.mirror.start()
        self.learners.start()
        self._price_watch = asyncio.create_task(keep_current(lambda: self._book))
        if self.keeper is not None:
            self._batch_task = asyncio.create_task(self.keeper.run())
        self._key_watch = asyncio.create_task(self._watch_keys())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.aclose()
        await send({"type": "lifespan.shutdown.complete"})


def _words(code: object) -> str:
    return str(code).replace("_", " ")


def _spans(otel: settings.Otel) -> Spans | None:
    """None where no collector is configured: then nothing of OpenTelemetry is imported."""
    if otel.endpoint is None:
        return None
    from proxy.measure.spans import Spans

    headers = {name: secret.reveal() for name, secret in otel.headers.items()}
    rng = Random(os.urandom(32))  # noqa: S311  (ids are names, not secrets)
    return Spans.to(otel.endpoint, headers, sample=otel.sample, service=otel.service, rng=rng)


def _in_order(routes: Mapping[str, Sequence[str]]) -> list[str]:
    """The targets of all routes, each once, as the config lists them."""
    return [*dict.fromkeys(target for targets in routes.values() for target in targets)]
