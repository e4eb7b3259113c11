"""Three hours of metrics with a brown-out, as OpenMetrics text with timestamps for `promtool tsdb create-blocks-from`.

Made by the proxy's own metrics sink from simulated exchanges, so a renamed metric or label is renamed here too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

from policies.verdict import Kind, Outcome
from proxy.measure.prometheus import Metrics
from proxy.measure.shadow_metrics import Standing
from proxy.record import Decision, Exchange
from tests.measure.records import MS, ROUTES, TARGETS, attempt, exchange, streamed, used

STEP = 30
HOURS = 3
_SICK = (0.45, 0.58)
"""The part of the time in which the first target fails half of its attempts."""
_RESTARTED = 0.2
_KINDS = (Kind.SERVER_ERROR, Kind.TIMEOUT, Kind.RATE_LIMIT)


def write(path: Path, end: int) -> tuple[int, int]:
    """Until `end` (seconds since the epoch); gives the first and the last moment."""
    steps = HOURS * 3600 // STEP
    start = end - steps * STEP
    with path.open("w") as file:
        for moment, exposition in _scrapes(start, steps):
            for line in exposition.splitlines():
                if not line.startswith("#"):
                    file.write(f"{line} {moment}\n")
        file.write("# EOF\n")
    return start, end


def _scrapes(start: int, steps: int) -> Iterator[tuple[int, str]]:
    rng = Random(1)
    metrics, lag, opened = _metrics(start), 0.002, 0
    for step in range(steps):
        moment = start + step * STEP
        if step == int(steps * _RESTARTED):
            metrics = _metrics(moment)
        sick = _SICK[0] <= step / steps < _SICK[1]
        load = 12 + 4 * math.sin(step / steps * 6.28)
        for _ in range(round(load + rng.uniform(-2, 2))):
            metrics.accept(_exchange(rng, sick))
        lag = rng.lognormvariate(math.log(0.002), 0.4)
        opened += sick and step % 10 == 0
        metrics.watch(
            inflight=lambda: 5,
            losses=lambda: {("store", "disk"): 0},
            store=None,
            lag=lambda: lag,  # noqa: B023
            shadow=lambda: [_trial(step)],  # noqa: B023
            targets=lambda: _conditions(opened, sick and step % 10 < 6),  # noqa: B023
        )
        body, _ = metrics.render("text/plain")
        yield moment, body.decode()


def _trial(step: int) -> Standing:
    pairs = {"completed": 2 * step, "failed": step // 9, "dropped.queue": step // 7}
    return Standing("trial", "running", step, pairs, step / 100)


def _conditions(opened: int, is_open: bool) -> list[dict[str, Any]]:
    """As `Upstreams.snapshot` tells of the targets; the first one's breaker opens and closes."""
    closed = {"breaker": "closed", "opened": 0, "barred": None}
    first = {"breaker": "open", "barred": "breaker_open"} if is_open else {}
    return [
        {"target": name, **closed, **({"opened": opened, **first} if name == TARGETS[0] else {})} for name in TARGETS
    ]


def _metrics(started: int) -> Metrics:
    return Metrics(TARGETS, ROUTES, version="0.1.0", started=float(started))


def _exchange(rng: Random, sick: bool) -> Exchange:
    """Fails over from the first to the second target, and from there to the third, until one answers."""
    tried, begun = [], 0.1
    for no, target in enumerate(TARGETS, 1):
        failing = rng.random() < (0.5 if sick and no == 1 else 0.02)
        took = rng.lognormvariate(math.log(900 * no * (4 if sick and no == 1 else 1)), 0.5)
        kind = (
            rng.choice((Kind.SERVER_ERROR, Kind.TIMEOUT, Kind.RATE_LIMIT)) if failing and no < len(TARGETS) else Kind.OK
        )
        one = attempt(target, kind, no, begun_ms=begun, end_ms=begun + took)
        tried.append(one)
        begun += took
        if kind is Kind.OK:
            pause = 800.0 if rng.random() < 0.03 else took * 0.01
            used(streamed(one, first_ms=begun - took * 0.8, gaps_ms=(*[took * 0.01] * 10, pause)))
            one.cost_usd, one.cost_source = 0.0004 * no, "table"
            break
        if rng.random() < 0.1:  # once more, the same
            tried.append(attempt(target, kind, no, begun_ms=begun, end_ms=begun + 5))
    made = exchange(
        *tried, route="code" if rng.random() < 0.2 and len(tried) == 1 else "chat", stream=rng.random() < 0.8
    )
    made.decision = Decision("ordered", 1.0, TARGETS)
    made.operation = rng.choices(("chat", "messages", "embeddings"), (6, 3, 1))[0]
    made.marks.end = max(one.marks.end for one in tried) + MS
    if rng.random() < 0.01:
        made.outcome, made.kind = Outcome.CLIENT_CLOSED, Kind.DOWNSTREAM_CLOSED
    return made
