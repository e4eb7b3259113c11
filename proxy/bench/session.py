"""The engine that benchmarks run on: the same class as behind the proxy, with the config's targets and an origin of its
own, in this process. What it does is in the store like everything else, as origin `bench`."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from random import Random
from typing import Any, NamedTuple, Self

import orjson

from policies.verdict import Kind
from proxy import config as settings
from proxy.assemble import front
from proxy.bench.arrivals import recorded
from proxy.bench.asking import ASKING, answered, request
from proxy.bench.data import Case
from proxy.bench.plain import plain
from proxy.bench.runner import spent
from proxy.bench.suite import Recorded, Suite, Target
from proxy.call import Called, call
from proxy.clock import RealClock
from proxy.config.load import parse
from proxy.config.problems import ConfigError, Problem
from proxy.engine import Engine
from proxy.errors import Refusal
from proxy.measure.bus import Bus
from proxy.measure.store.reads import Reads
from proxy.measure.store.writer import StoreSink
from proxy.record import Exchange, Origin, Sink
from proxy.router import Route, Router
from proxy.transport.choose import Transports
from proxy.wire.answer import answer_of
from proxy.wire.chat import ChatRequest

Json = dict[str, Any]


class Way(NamedTuple):
    """How a target of the suite is reached."""

    model: str
    """What is asked for: a route, or provider/model."""
    route: Route
    providers: tuple[str, ...]
    """Whose servers may answer."""
    params: Json


class Session:
    """Use it as an async context manager."""

    def __init__(self, config: settings.Config, suite: Suite, as_it_is: bool = False) -> None:
        """`as_it_is`: no retry, failover, breaker or cool-down stands between a request and its target.

        Raises `ConfigError` if a target of the suite is not to be had.
        """
        self._config = config
        self._suite = suite
        self._as_it_is = as_it_is
        self._whole = _with_addresses(config, suite)
        self._transports = Transports()
        self._rng = Random()  # noqa: S311  (chance, not secrets)
        self.clock = RealClock()
        self.billed: Callable[[float | None], None] = lambda usd: None
        """Told what each call of `words` cost; None where that is not known."""
        self.store: StoreSink | None = None
        self.engine: Engine
        self.batch_engine: Engine
        self.bus: Bus
        self.router: Router = front(self._whole, self._transports.for_provider, self._rng).router
        self.ways = {target.label: self._way(target) for target in suite.targets}

    async def __aenter__(self) -> Self:
        sinks: dict[str, Sink] = {}
        if self._config.storage is not None:
            self.store = sinks["store"] = StoreSink.open(self._config.storage)
        self.bus = Bus(sinks)
        self.engine = Engine(self.clock, self.bus, self._rng, Origin.BENCH)
        self.batch_engine = Engine(self.clock, self.bus, self._rng, Origin.BATCH)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._transports.aclose()
        if self.store is not None:
            await asyncio.to_thread(self.store.close)

    def dearest(self, label: str) -> tuple[float, float] | None:
        """USD for a token of input and of output at the dearest target that may answer; None where one has no price."""
        prices = [target.price for target in self.ways[label].route.targets]
        tariffs = [price.tariff if price is not None else None for price in prices]
        rates = [rate for one in tariffs if one is not None for rate in (one.rates, *(step for _, step in one.steps))]
        if None in tariffs or not rates:
            return None
        return max(rate.input for rate in rates), max(rate.output for rate in rates)

    def made_of(self) -> Json:
        """For a run's manifest: a hash of how its targets are reached, and which prices hold for them."""
        reached, prices = [], {}
        for label, way in self.ways.items():
            for target in way.route.targets:
                to = target.endpoint
                reached.append([label, way.route.policy_name, target.name, to.base_url, to.model, to.params, to.force])
            known = [target.price.tariff if target.price is not None else None for target in way.route.targets]
            prices[label] = sorted({str(one.version) if one is not None else "none" for one in known})
        whole = hashlib.sha256(orjson.dumps(reached)).hexdigest()
        return {"config": whole, "prices": prices}

    async def ask(
        self, label: str, body: Json, *, how: str = "chat", due_ns: int = 0, patience: float | None = None
    ) -> Called:
        """One request of the suite to one of its targets; `body` without `model`. `how`: a row of `ASKING`."""
        way = self.ways[label]
        ask = ASKING[how].parse(orjson.dumps({"model": way.model, **body, **way.params}))
        return await call(self.engine, ask, self.router.plan(way.route, ask), due_ns=due_ns, patience=patience)

    async def check(self, cases: Sequence[Case]) -> None:
        """Asks every target for a first text of each task of texts. Raises `ConfigError` for those that cannot tell.

        A target that gives no probabilities of a text would otherwise be a target with a score of 0.
        """
        problems: list[Problem] = []
        texts = {case.task: case for case in reversed(cases) if self._suite.tasks[case.task].ask == "text"}
        for case in texts.values():
            for label in self.ways:
                called = await self.ask(label, request(self._suite, case), how="text")
                kind, answer = called.exchange.kind, answered(self._suite, case, called.data, False)
                if kind is Kind.OK and answer.logprobs:
                    continue
                why = "its answer holds none" if kind is Kind.OK else _why(called.exchange)
                problems.append(
                    Problem(
                        self._suite.name,
                        f"tasks.{case.task}",
                        f"{label} does not tell the probabilities of a text (completions with `echo` and `logprobs`):"
                        f" {why}",
                        "leave it out of `targets`; or ask for a chat with `logprobs`, which weighs its own answer",
                    )
                )
        if problems:
            raise ConfigError(problems)

    async def words(self, model: str, body: Json) -> str:
        """The text that any route or provider/model of the config answers; empty where it failed. For judges."""
        ask = ChatRequest.parse(orjson.dumps({"model": model, **body}))
        called = await call(self.engine, ask, self.router.plan(self.router.find(model, True), ask))
        self.billed(spent(called.exchange))
        return answer_of(called.data, stream=False).text

    async def arrivals(self, wanted: Recorded) -> list[float]:
        """When the live requests of a route arrived, in seconds from the first, by the store."""
        if self.store is None:
            raise ConfigError([Problem(self._suite.name, "load.recorded", "there is no store: `storage` is none")])
        since = datetime.fromtimestamp(self.clock.wall() - wanted.since, UTC).isoformat(timespec="milliseconds")
        times = await Reads(self.store).arrivals(wanted.route, since.replace("+00:00", "Z"))
        if not times:
            where = f"no live request of the route {wanted.route!r} in this time is in the store"
            raise ConfigError([Problem(self._suite.name, "load.recorded", where)])
        return recorded(times, wanted.speed)

    def _way(self, target: Target) -> Way:
        model = target.target or f"{address_name(target)}/{target.model}"
        try:
            route = self.router.find(model, True)
        except Refusal as refusal:
            raise ConfigError(
                [Problem(self._suite.name, f"targets.{target.label}", refusal.message, "weighbridge check lists all")]
            ) from None
        if self._as_it_is:
            route = plain(route, self._rng)
        providers = tuple(sorted({one.endpoint.provider for one in route.targets}))
        return Way(model, route, providers, dict(target.params))


def _why(exchange: Exchange) -> str:
    told = [attempt.detail for attempt in exchange.attempts if attempt.detail]
    return told[-1] if told else f"{exchange.kind} (has it completions at all?)"


def address_name(target: Target) -> str:
    """The provider name under which a target's own `url` is known in this session."""
    return "suite-" + re.sub(r"[^A-Za-z0-9._-]", "-", target.label)


def _with_addresses(config: settings.Config, suite: Suite) -> settings.Config:
    """The config with a provider for every `url` that the suite names."""
    extra = {
        address_name(target): {
            "dialect": "openai",
            "base_url": target.url,
            "api_key": target.api_key.reveal() if target.api_key is not None else None,
        }
        for target in suite.targets
        if target.url is not None
    }
    if not extra:
        return config
    made = parse(orjson.dumps({"providers": extra}).decode(), source=suite.name, format="json")
    return config.model_copy(update={"providers": {**config.providers, **made.providers}})
