"""Live metrics: plain integers on the hot path, shown through prometheus_client when somebody scrapes.

Every exchange costs a few dictionary and list operations here (the library's own counters and histograms cost ten
times that). Labels come from the config or from closed enumerations, so the number of series is bounded by the config:
a target named directly by a client (`provider/model`) is counted as `provider/*`. Only live traffic is counted; what
shadow and bench do is in the store.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import add
from typing import Any, Protocol

from prometheus_client.core import CollectorRegistry, CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar, Timestamp

from policies.allowance import Limit
from policies.base import Passed
from policies.breaker import State
from policies.verdict import Kind, Outcome
from proxy.measure import shadow_metrics, timing
from proxy.record import Attempt, Decision, Exchange, Origin
from proxy.wire.usage import CLASSES

# Ten bounds a decade: the quantile that Prometheus estimates is within one bucket (26 %), typically 3 %. Written out,
# because `le` is text. 30 is added for service levels that name it.
SECONDS: Sequence[float] = (
    *(0.01, 0.0125, 0.016, 0.02, 0.025, 0.032, 0.04, 0.05, 0.063, 0.08),
    *(0.1, 0.125, 0.16, 0.2, 0.25, 0.32, 0.4, 0.5, 0.63, 0.8),
    *(1.0, 1.25, 1.6, 2.0, 2.5, 3.2, 4.0, 5.0, 6.3, 8.0),
    *(10.0, 12.5, 16.0, 20.0, 25.0, 30.0, 32.0, 40.0, 50.0, 63.0, 80.0, 100.0, 120.0),
)
TOKEN_SECONDS: Sequence[float] = (
    *(0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.075),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5),
)
OVERHEAD_SECONDS: Sequence[float] = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)

TOKEN_TYPES = CLASSES

# Counted from 0 for every configured route and target, so that `rate()` and alerts see the first one.
_REQUEST_OUTCOMES = (Outcome.OK, Outcome.UPSTREAM_ERROR, Outcome.TIMEOUT, Outcome.RATE_LIMITED, Outcome.TRUNCATED)
_BREAKER = {State.CLOSED: 0, State.HALF_OPEN: 1, State.OPEN: 2}
_ATTEMPT_KINDS = (
    (Outcome.OK, Kind.OK),
    (Outcome.UPSTREAM_ERROR, Kind.CONNECT),
    (Outcome.UPSTREAM_ERROR, Kind.SERVER_ERROR),
    (Outcome.TIMEOUT, Kind.TIMEOUT),
    (Outcome.RATE_LIMITED, Kind.RATE_LIMIT),
)


class Written(Protocol):
    """What is shown of the store."""

    @property
    def written(self) -> int: ...
    @property
    def pending(self) -> int: ...
    @property
    def degraded(self) -> str | None: ...


class Histogram:
    """Bounds in nanoseconds, so that the sum is exact."""

    __slots__ = ("_bounds", "counts", "exemplars", "sum_ns")

    def __init__(self, bounds_ns: list[int]) -> None:
        self._bounds = bounds_ns
        self.counts = [0] * (len(bounds_ns) + 1)
        self.sum_ns = 0
        self.exemplars: dict[int, Exemplar] = {}
        """The last one in a trace, by place among the buckets."""

    def observe(self, ns: int) -> None:
        self.counts[bisect_left(self._bounds, ns)] += 1
        self.sum_ns += ns

    def exemplify(self, ns: int, trace_id: str, at: float) -> None:
        """What was just observed is an example. `at`: seconds since the epoch."""
        self.exemplars[bisect_left(self._bounds, ns)] = Exemplar({"trace_id": trace_id}, ns / 1e9, Timestamp(at, 0))


def _ns(bounds: Sequence[float]) -> list[int]:
    return [round(bound * 1e9) for bound in bounds]


_SECONDS_NS, _TOKEN_SECONDS_NS, _OVERHEAD_NS = _ns(SECONDS), _ns(TOKEN_SECONDS), _ns(OVERHEAD_SECONDS)


class _Target:
    """Everything that is counted by target alone."""

    __slots__ = (
        "attempt", "by_client", "by_proxy", "by_upstream", "cost_usd", "duration", "label", "stall_ns", "stalled",
        "tokens", "tpot", "ttft", "without_price", "without_usage",
    )  # fmt: skip

    def __init__(self, label: str) -> None:
        self.label = label
        self.duration = Histogram(_SECONDS_NS)
        self.ttft = Histogram(_SECONDS_NS)
        self.tpot = Histogram(_TOKEN_SECONDS_NS)
        self.attempt = Histogram(_SECONDS_NS)
        self.tokens = [0] * len(TOKEN_TYPES)
        self.by_client = 0
        self.by_upstream = 0
        self.by_proxy = 0
        self.cost_usd = 0.0
        self.without_price = 0
        self.without_usage = 0
        self.stalled = 0
        self.stall_ns = 0


class Metrics:
    """A sink, and the collector of its own registry."""

    def __init__(
        self,
        targets: Iterable[str],
        routes: Mapping[str, Sequence[str]],
        *,
        version: str,
        started: float | None = None,
    ) -> None:
        """`routes`: the targets of each route; `targets`: further ones; `started`: seconds since the epoch."""
        self._version = version
        self._started = time.time() if started is None else started
        self._routes: dict[str | None, str] = {}
        self._targets: dict[str, _Target] = {}
        self._direct: dict[str, _Target] = {}
        self._none = _Target("none")
        self._overhead = Histogram(_OVERHEAD_NS)
        self._requests: dict[tuple[str, str, str], int] = {}
        self._attempts: dict[tuple[str, str, str, str], int] = {}
        self._failovers: dict[tuple[str, str, str], int] = {}
        self._retries: dict[tuple[str, str], int] = {}
        self._decisions: dict[tuple[str, str], int] = {}
        self._operations: dict[tuple[str, str], int] = {("chat", Outcome.OK): 0}
        self._loaded = self._started
        self._inflight: Callable[[], int] = lambda: 0
        self._lag: Callable[[], float] = lambda: 0.0
        self._losses: Callable[[], Mapping[tuple[str, str], int]] = dict
        self._refused: Callable[[], Mapping[str, int]] = lambda: dict.fromkeys(Limit, 0)
        self._store: Written | None = None
        self._conditions: Callable[[], Sequence[Mapping[str, Any]]] = list
        self._experiments: Callable[[], Sequence[shadow_metrics.Standing]] = list
        self.allow(targets, routes)
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def allow(self, targets: Iterable[str], routes: Mapping[str, Sequence[str]]) -> None:
        """These names may be labels from now on (a config was loaded); nothing counted before is lost."""
        self._loaded = time.time()
        for target in (*targets, *(target for several in routes.values() for target in several)):
            self._targets.setdefault(target, _Target(target))
        for route, several in routes.items():
            self._routes[route] = route
            for target in several:
                for outcome in _REQUEST_OUTCOMES:
                    self._requests.setdefault((route, target, outcome), 0)
                for outcome, kind in _ATTEMPT_KINDS:
                    self._attempts.setdefault((route, target, outcome, kind), 0)
            self._requests.setdefault((route, "none", Outcome.NO_TARGET), 0)

    def watch(
        self,
        *,
        inflight: Callable[[], int],
        losses: Callable[[], Mapping[tuple[str, str], int]],
        store: Written | None,
        lag: Callable[[], float],
        targets: Callable[[], Sequence[Mapping[str, Any]]] = list,
        shadow: Callable[[], Sequence[shadow_metrics.Standing]] = list,
        refused: Callable[[], Mapping[str, int]] = lambda: dict.fromkeys(Limit, 0),
    ) -> None:
        """What is read at the moment of a scrape: requests under way, records lost by (sink, reason), the store,
        the worst lateness of the event loop in seconds since the last call, how the targets are
        (`Upstreams.snapshot`), how the shadow experiments are, and
        requests that keys' limits refused. All are called from another thread.
        """
        self._conditions = targets
        self._experiments = shadow
        self._refused = refused
        self._inflight, self._losses, self._store, self._lag = inflight, losses, store, lag

    def render(self, accept: str) -> tuple[bytes, str]:
        """The exposition and its content type for an `Accept` header. Slow: call it off the event loop."""
        encode, content_type = choose_encoder(accept)
        return encode(self._registry), content_type

    # -- the hot path

    def accept(self, exchange: Exchange) -> None:
        if exchange.origin is not Origin.LIVE:
            return
        attempts = exchange.attempts
        route = self._routes.get(exchange.route) or _no_route(exchange)
        last = self._none
        previous: Attempt | None = None
        for attempt in attempts:
            target = self._targets.get(attempt.target) or self._direct_target(attempt.provider)
            if previous is not None and Kind.SUPERSEDED not in (previous.kind, attempt.kind):
                self._count_step(previous, last, attempt, target)
            self._count_attempt(route, target, attempt)
            previous, last = attempt, target
        winner = exchange.winner
        if winner is not None and winner is not previous:
            last = self._targets.get(winner.target) or self._direct_target(winner.provider)
        requests, key = self._requests, (route, last.label, exchange.outcome)
        requests[key] = requests.get(key, 0) + 1
        operations, which = self._operations, (exchange.operation, exchange.outcome)
        operations[which] = operations.get(which, 0) + 1
        marks = exchange.marks
        if marks.received and marks.end:
            duration = marks.end - marks.received
            last.duration.observe(duration)
            if exchange.trace is not None:
                last.duration.exemplify(duration, exchange.trace.trace_id, exchange.at + duration / 1e9)
        if exchange.decision is not None:
            self._count_decision(exchange.decision)
        overhead = timing.overhead(exchange)
        if overhead is not None:
            self._overhead.observe(overhead)
        if exchange.stream and winner is not None:
            self._count_stream(exchange, winner, last)

    def _count_attempt(self, route: str, target: _Target, attempt: Attempt) -> None:
        counts, key = self._attempts, (route, target.label, attempt.outcome, attempt.kind)
        counts[key] = counts.get(key, 0) + 1
        marks = attempt.marks
        if marks.received and marks.end:
            target.attempt.observe(marks.end - marks.received)
        usage = attempt.usage
        if usage is not None:
            target.tokens = [*map(add, target.tokens, usage)]  # `Usage.parts` is one too many
        if attempt.cost_usd is not None:
            target.cost_usd += attempt.cost_usd
        elif usage is not None:
            target.without_price += 1
        elif attempt.kind is Kind.OK or marks.first_content:
            target.without_usage += 1

    def _count_step(self, failed: Attempt, from_target: _Target, again: Attempt, to_target: _Target) -> None:
        """`reason` is the outcome of what failed; its error kind is in the attempts."""
        if failed.target == again.target:
            retry = (from_target.label, failed.outcome)
            self._retries[retry] = self._retries.get(retry, 0) + 1
        else:
            step = (from_target.label, to_target.label, failed.outcome)
            self._failovers[step] = self._failovers.get(step, 0) + 1

    def _count_stream(self, exchange: Exchange, winner: Attempt, target: _Target) -> None:
        ttft = timing.exchange_ttft(exchange)
        if ttft is not None:
            target.ttft.observe(ttft)
            if exchange.trace is not None:
                target.ttft.exemplify(ttft, exchange.trace.trace_id, exchange.at + ttft / 1e9)
        if winner.gaps is not None and winner.gaps.long:
            count, length = timing.stalls(winner.gaps)
            target.stalled += count > 0
            target.stall_ns += length
        tpot = timing.tpot(winner)
        if tpot is not None:
            target.tpot.observe(tpot)
        if exchange.outcome is Outcome.CLIENT_CLOSED:
            target.by_client += 1
        elif exchange.outcome is Outcome.INTERNAL_ERROR:
            target.by_proxy += 1
        elif exchange.outcome is not Outcome.OK:
            target.by_upstream += 1

    def _count_decision(self, decision: Decision) -> None:
        if decision.candidates:
            first = decision.candidates[0]
            target = self._targets.get(first) or self._direct_target(first.partition("/")[0])
            key = (decision.policy, target.label)
            self._decisions[key] = self._decisions.get(key, 0) + 1

    def _direct_target(self, provider: str) -> _Target:
        target = self._direct.get(provider)
        if target is None:
            target = self._direct[provider] = _Target(f"{provider}/*")
        return target

    # -- the scrape, in another thread: dictionaries are copied (one uninterrupted step) before they are walked

    def collect(self) -> Iterator[Metric]:
        yield from self._counters()
        targets = [*self._targets.copy().values(), *self._direct.copy().values()]
        yield from _by_target(targets, self._none)
        overhead = HistogramMetricFamily(
            "weighbridge_overhead_seconds", "Time that the proxy itself added to a request.", labels=()
        )
        _add_histogram(overhead, (), self._overhead, OVERHEAD_SECONDS)
        yield overhead
        yield from self._health()
        yield from shadow_metrics.families(self._experiments())
        yield from self._state()

    def _health(self) -> Iterator[Metric]:
        """By target; of several credentials the worst counts. Targets that clients named directly are left out."""
        breaker = GaugeMetricFamily(
            "weighbridge_breaker_state", "0: closed, 1: half open, 2: open.", labels=("target",)
        )
        barred = GaugeMetricFamily(
            "weighbridge_target_barred", "1 while it is left alone, by why.", labels=("target", "reason")
        )
        opened = _counter("breaker_opened", "Times that the breaker opened.", "target")
        worst: dict[str, tuple[int, int]] = {}
        reasons: dict[tuple[str, str], int] = {}
        for one in self._conditions():
            if one["target"] not in self._targets:
                continue
            target = one["target"].partition("#")[0]
            state, times = worst.get(target, (0, 0))
            worst[target] = (max(state, _BREAKER[one["breaker"]]), times + one["opened"])
            for reason in Passed:
                key = (target, str(reason))
                reasons[key] = max(reasons.get(key, 0), int(one["barred"] == reason))
        for target, (state, times) in worst.items():
            breaker.add_metric((target,), state)
            opened.add_metric((target,), times)
        for labels, count in reasons.items():
            if count:
                barred.add_metric(labels, count)
        yield from (breaker, barred, opened)

    def _counters(self) -> Iterator[Metric]:
        requests = _counter("requests", "Requests answered, by how they ended.", "route", "target", "outcome")
        for labels, count in self._requests.copy().items():
            requests.add_metric(labels, count)
        yield requests
        operations = _counter("operations", "Requests answered, by what was asked for.", "operation", "outcome")
        for pair, count in self._operations.copy().items():
            operations.add_metric(pair, count)
        yield operations
        attempts = _counter(
            "attempts", "Tries at one target, by how they ended.", "route", "target", "outcome", "error_kind"
        )
        for (route, target, outcome, kind), count in self._attempts.copy().items():
            attempts.add_metric((route, target, outcome, "none" if kind == Kind.OK else kind), count)
        yield attempts
        failovers = _counter("failovers", "Changes to another target.", "from_target", "to_target", "reason")
        for labels, count in self._failovers.copy().items():
            failovers.add_metric(labels, count)
        yield failovers
        retries = _counter("retries", "Further tries at the same target.", "target", "reason")
        for pair, count in self._retries.copy().items():
            retries.add_metric(pair, count)
        yield retries
        decisions = _counter("routing_decisions", "Plans, by the target that they put first.", "policy", "target")
        for pair, count in self._decisions.copy().items():
            decisions.add_metric(pair, count)
        yield decisions

    def _state(self) -> Iterator[Metric]:
        dropped = _counter("records_dropped", "Records lost before they were kept.", "sink", "reason")
        for labels, count in self._losses().items():
            dropped.add_metric(labels, count)
        yield dropped
        refused = _counter("over_limit_requests", "Requests refused by the limits of the client's key.", "limit")
        for limit, count in self._refused().items():
            refused.add_metric((limit,), count)
        yield refused
        store = self._store
        yield _single(_counter("records_written", "Exchanges committed to the store."), store.written if store else 0)
        gauges = (
            ("record_queue_depth", "Exchanges that wait to be stored.", store.pending if store else 0),
            ("store_degraded", "1 while records cannot be stored.", int(store is not None and bool(store.degraded))),
            ("inflight_requests", "Requests under way.", self._inflight()),
            ("event_loop_lag_seconds", "Worst lateness of the event loop since the last scrape.", self._lag()),
            ("policy_last_reload_timestamp_seconds", "When the config was last loaded, since the epoch.", self._loaded),
            ("process_start_time_seconds", "When the proxy started, seconds since the epoch.", self._started),
        )
        for name, text, value in gauges:
            yield _single(GaugeMetricFamily(f"weighbridge_{name}", text, labels=()), value)
        build = GaugeMetricFamily("weighbridge_build_info", "Always 1; the version is a label.", labels=("version",))
        build.add_metric((self._version,), 1)
        yield build


def _no_route(exchange: Exchange) -> str:
    """The label of an exchange whose route is not among the configured ones."""
    if exchange.route is not None:
        return "other"
    return "direct" if exchange.attempts or exchange.decision is not None else "none"


def _by_target(targets: Sequence[_Target], none: _Target) -> Iterator[Metric]:
    duration = _histogram("request_duration", "From a request's last byte to its answer's last byte.")
    ttft = _histogram("time_to_first_token", "From a request's last byte to the first content of its stream.")
    tpot = _histogram("time_per_output_token", "(Last - first content) / (output tokens - 1) of a stream.")
    attempt = _histogram("attempt_duration", "From an attempt's begin to the end of the upstream's part.")
    tokens = _counter("tokens", "Tokens that providers reported, in disjoint classes.", "target", "type")
    aborts = _counter("stream_aborts", "Streams that ended early after their first content.", "target", "by")
    cost = _counter("cost_usd", "US dollars that attempts cost, as far as their price is known.", "target")
    unpriced = _counter("unpriced_attempts", "Attempts whose cost is not known.", "target", "reason")
    stalled = _counter("stalled_streams", "Streams with at least one stall.", "target")
    stalls = _counter("stall_seconds", "Length of all stalls.", "target")
    for target in targets:
        labels = (target.label,)
        cost.add_metric(labels, target.cost_usd)
        unpriced.add_metric((target.label, "no_price"), target.without_price)
        unpriced.add_metric((target.label, "no_usage"), target.without_usage)
        stalled.add_metric(labels, target.stalled)
        stalls.add_metric(labels, target.stall_ns / 1e9)
        _add_histogram(duration, labels, target.duration, SECONDS)
        _add_histogram(attempt, labels, target.attempt, SECONDS)
        _add_histogram(ttft, labels, target.ttft, SECONDS)
        _add_histogram(tpot, labels, target.tpot, TOKEN_SECONDS)
        for kind, count in zip(TOKEN_TYPES, target.tokens, strict=True):
            tokens.add_metric((target.label, kind), count)
        aborts.add_metric((target.label, "client"), target.by_client)
        aborts.add_metric((target.label, "upstream"), target.by_upstream)
        aborts.add_metric((target.label, "proxy"), target.by_proxy)
    _add_histogram(duration, (none.label,), none.duration, SECONDS)
    yield from (duration, ttft, tpot, attempt, tokens, aborts, cost, unpriced, stalled, stalls)


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(f"weighbridge_{name}", text, labels=labels)


def _histogram(name: str, text: str) -> HistogramMetricFamily:
    return HistogramMetricFamily(f"weighbridge_{name}_seconds", text, labels=("target",))


def _single(family: CounterMetricFamily | GaugeMetricFamily, value: float) -> Metric:
    family.add_metric((), value)
    return family


def _add_histogram(
    family: HistogramMetricFamily, labels: Sequence[str], histogram: Histogram, bounds: Sequence[float]
) -> None:
    counts = histogram.counts.copy()
    sum_ns = histogram.sum_ns
    exemplars = histogram.exemplars.copy()
    buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
    total = 0
    for place, count in enumerate(counts):
        total += count
        bound = str(bounds[place]) if place < len(bounds) else "+Inf"
        exemplar = exemplars.get(place)
        buckets.append((bound, total) if exemplar is None else (bound, total, exemplar))
    family.add_metric(labels, buckets, sum_value=sum_ns / 1e9)
