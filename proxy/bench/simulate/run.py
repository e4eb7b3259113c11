"""Plays traffic through the real engine against simulated targets, and keeps every exchange.

A client here waits for its answer, or gives up after `patience`; it never tries again by itself.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from random import Random
from typing import NamedTuple

import orjson

from policies.base import Policy
from policies.verdict import Kind, Outcome
from proxy import config as settings
from proxy.assemble import front
from proxy.bench.simulate.target import Figures, SimulatedTarget, SimulatedTransport
from proxy.bench.simulate.virtual import run_virtually
from proxy.call import call
from proxy.clock import LoopClock
from proxy.engine import Engine
from proxy.learned import Learners
from proxy.measure.bus import Bus
from proxy.record import Exchange, Sink
from proxy.router import Caller, Route, Router
from proxy.upstreams import Upstreams
from proxy.wire.chat import ChatRequest

_NS = 1e9


class Traffic(NamedTuple):
    """Requests that arrive by chance, whatever became of those before."""

    phases: tuple[tuple[float, float], ...]
    """(seconds, requests a second) one after the other; arrivals are a Poisson process."""
    route: str = "chat"
    stream: float = 1.0
    """Share of the requests that are streamed."""
    input: float = 300.0
    """Median tokens of a prompt."""
    output: float = 100.0
    """Median tokens of an answer."""
    spread: float = 0.5
    """Sigma of the logarithm of both."""
    patience: float | None = None
    """Seconds after which a client goes away; None: it waits as long as the proxy does."""
    max_tokens: bool = False
    """Whether requests state `max_tokens` (twice of what they will use)."""
    units: int = 0
    """Number of conversations that the requests belong to; 0: each stands alone."""


class Tried(NamedTuple):
    """One attempt; times in seconds since the simulation began, 0 where the moment never came."""

    target: str
    kind: Kind
    begun: float
    first: float
    end: float


class Row(NamedTuple):
    """One exchange."""

    at: float
    first: float
    end: float
    outcome: Outcome
    kind: Kind
    status: int
    tries: tuple[Tried, ...]

    @property
    def ok(self) -> bool:
        return self.outcome is Outcome.OK

    @property
    def ttft(self) -> float:
        return self.first - self.at


class Result:
    """Every exchange of a run, in the order in which they ended."""

    def __init__(self, rows: Sequence[Row], targets: Mapping[str, SimulatedTarget]) -> None:
        self.rows = rows
        self.targets = targets

    def between(self, begin: float, end: float) -> Result:
        """The exchanges that arrived in that time."""
        return Result([row for row in self.rows if begin <= row.at < end], self.targets)

    @property
    def n(self) -> int:
        return len(self.rows)

    @property
    def success(self) -> float:
        """Share of the exchanges that ended well."""
        return sum(row.ok for row in self.rows) / len(self.rows)

    @property
    def tries(self) -> float:
        """Attempts per exchange."""
        return sum(len(row.tries) for row in self.rows) / len(self.rows)

    def ttft(self, q: float) -> float:
        """Quantile of the time to first content of the exchanges that ended well, in seconds."""
        return quantile([row.ttft for row in self.rows if row.ok and row.first], q)

    def per_1000(self, kind: Kind) -> float:
        """Attempts that ended so, per 1,000 exchanges."""
        return 1000.0 * sum(one.kind is kind for row in self.rows for one in row.tries) / len(self.rows)

    def refused_per_1000(self, status: int) -> float:
        return 1000.0 * sum(row.status == status for row in self.rows) / len(self.rows)

    def goodput(self, begin: float, end: float) -> float:
        """Answers completed a second, by when they ended."""
        return sum(row.ok and begin <= row.end < end for row in self.rows) / (end - begin)

    def share(self, target: str) -> float:
        """Share of the exchanges whose first attempt went to the target."""
        return sum(row.tries[0].target == target for row in self.rows if row.tries) / len(self.rows)

    def attempts(self, target: str) -> list[Tried]:
        """Everything that was tried at one target, in order of time."""
        found = [one for row in self.rows for one in row.tries if one.target == target]
        return sorted(found, key=lambda one: one.begun)

    def trace(self) -> str:
        """The whole run as text, one line an exchange; the same for the same seed."""
        lines = []
        for row in self.rows:
            tries = " ".join(f"{one.target}:{one.kind}:{one.begun:.6f}:{one.end:.6f}" for one in row.tries)
            lines.append(f"{row.at:.6f} {row.first:.6f} {row.end:.6f} {row.outcome} {row.status} {tries}\n")
        return "".join(lines)

    def digest(self) -> str:
        return hashlib.sha256(self.trace().encode()).hexdigest()


def quantile(values: Sequence[float], q: float) -> float:
    """The smallest value that at least a share `q` does not exceed; NaN of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(q * len(ordered)))] if ordered else float("nan")


class _Kept(Sink):
    def __init__(self, began: int) -> None:
        self.rows: list[Row] = []
        self._began = began

    def accept(self, exchange: Exchange) -> None:
        marks = exchange.marks
        tries = tuple(
            Tried(
                one.target,
                one.kind,
                self._since(one.marks.received),
                self._since(one.marks.first_content),
                self._since(one.marks.end),
            )
            for one in exchange.attempts
        )
        self.rows.append(
            Row(
                self._since(marks.received),
                self._since(marks.first_content),
                self._since(marks.end),
                exchange.outcome,
                exchange.kind,
                exchange.status,
                tries,
            )
        )

    def _since(self, mark: int) -> float:
        return (mark - self._began) / _NS if mark else 0.0


def simulate(
    config: settings.Config,
    world: Mapping[str, Figures],
    traffic: Traffic,
    seed: int = 1,
    *,
    policy: Policy | None = None,
    watch: Sink | None = None,
) -> Result:
    """Runs `traffic` through the routes of `config`; `world` tells by provider name what each upstream can do.

    Providers need the dialect `openai` and an address whose host is their name (`text_of` writes such a config).
    `policy` takes the place of the route's own. `watch` is told of each exchange as it ends.
    """
    return run_virtually(_play(config, world, traffic, seed, policy, watch))


def text_of(world: Mapping[str, Figures], route: str = "", keys: int = 1, each: str = "") -> str:
    """A config (YAML) with a provider for each simulated target.

    `route` holds more settings of the route `chat`, one a line; `each` more of every target, as in `, queue: 5`.
    """
    listed = ", ".join(f"sim-key-{number}" for number in range(keys)) if keys > 1 else ""
    key = f"api_keys: [{listed}]" if listed else "api_key: null"
    providers = "\n".join(f"  {name}: {{dialect: openai, base_url: http://{name}/v1, {key}}}" for name in world)
    targets = ", ".join(f"{{target: {name}/sim, name: {name}{each}}}" for name in world)
    more = "".join(f"    {line}\n" for line in route.splitlines())
    return f"storage: none\nproviders:\n{providers}\nroutes:\n  chat:\n    targets: [{targets}]\n{more}"


async def _play(
    config: settings.Config,
    world: Mapping[str, Figures],
    traffic: Traffic,
    seed: int,
    policy: Policy | None,
    watch: Sink | None,
) -> Result:
    loop = asyncio.get_running_loop()
    clock = LoopClock(loop)
    targets = {
        name: SimulatedTarget(name, figures, loop, Random(f"{seed} {name}"))  # noqa: S311  (chance, not secrets)
        for name, figures in world.items()
    }
    transport = SimulatedTransport(targets, clock.now)
    rng = Random(seed)  # noqa: S311
    learners = Learners()
    upstreams = Upstreams(clock, rng)
    made = front(config, lambda provider: transport, rng, upstreams=upstreams, learners=learners)
    router: Router = made.router
    kept = _Kept(clock.now())
    sinks: dict[str, Sink] = {"kept": kept, "learners": learners}
    if watch is not None:
        sinks["watch"] = watch
    engine = Engine(clock, Bus(sinks), rng)
    route = router.find(traffic.route, False)
    if policy is not None:
        route = route._replace(policy=policy, learner=learners.learner(traffic.route, policy))
    began = loop.time()
    async with asyncio.TaskGroup() as group:  # a fault of the program ends the simulation, and is raised
        for at, ask in _requests(traffic, Random(f"{seed} traffic")):  # noqa: S311
            if (pause := began + at - loop.time()) > 0:
                await asyncio.sleep(pause)
            group.create_task(_one(engine, router, route, ask, traffic.patience))
    return Result(kept.rows, targets)


def _requests(traffic: Traffic, rng: Random) -> Sequence[tuple[float, ChatRequest]]:
    found, at, begin = [], 0.0, 0.0
    for seconds, rate in traffic.phases:
        at, end = begin, begin + seconds
        while rate > 0 and (at := at + rng.expovariate(rate)) < end:
            found.append((at, _request(traffic, rng)))
        begin = end
    return found


def _request(traffic: Traffic, rng: Random) -> ChatRequest:
    size_in = max(1, round(traffic.input * rng.lognormvariate(0.0, traffic.spread)))
    size_out = max(1, round(traffic.output * rng.lognormvariate(0.0, traffic.spread)))
    body: dict[str, object] = {
        "model": traffic.route,
        "stream": rng.random() < traffic.stream,
        "user": f"sim {size_in} {size_out}",
    }
    if traffic.max_tokens:
        body["max_tokens"] = 2 * size_out
    if traffic.units:
        body["metadata"] = {"conversation_id": f"unit-{rng.randrange(traffic.units)}"}
    # Four characters a token, as English prose has it.
    body["messages"] = [{"role": "user", "content": "word" * size_in}]
    return ChatRequest.parse(orjson.dumps(body))


async def _one(engine: Engine, router: Router, route: Route, ask: ChatRequest, patience: float | None) -> None:
    plan = router.plan(route, ask, Caller(at=engine.clock.wall()))
    await call(engine, ask, plan, patience=patience, keep=False)
