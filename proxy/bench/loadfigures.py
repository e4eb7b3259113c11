"""Figures of a load: by phase, with intervals; the knee, the time to recover, and whether the generator kept up."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from proxy.bench import stats
from proxy.bench.load import met
from proxy.bench.stats import Estimate
from proxy.bench.suite import Suite

Json = dict[str, Any]

LATE_MS = 50.0
"""Lateness of one request in a hundred from which the generator, not the target, is what was measured."""
ENOUGH = 0.95
"""Share of requests within the service levels that a phase must reach to count as carried."""


class PhaseFigures(NamedTuple):
    label: str
    users: int | None
    rate: float | None
    seconds: float
    requests: int
    throughput: float
    """Whole answers a second."""
    goodput: float
    """Answers a second that met every service level."""
    attainment: Estimate
    """Share of all requests that did, failures and what was not sent included."""
    errors: Estimate
    ttft: dict[str, Estimate]
    e2e: dict[str, Estimate]
    stalled: Estimate
    kinds: dict[str, int]
    """Failures by kind: rate_limit, timeout, stall, truncated, not_sent, ..."""
    attempts: float
    """Tries at upstreams per request."""
    refused_inside: int
    """Requests that met a rate limit at some upstream and were answered all the same."""


class Recovery(NamedTuple):
    """What a fault in the middle of the load cost."""

    fault_s: float
    ended_s: float | None
    errors: int
    """Failed requests that were due while the fault lasted."""
    requests: int
    to_failover_s: float | None
    """From the fault to the first answer by another target."""
    back_s: float | None
    """From the end of the fault to the first answer by the target that was served from before."""
    primary: str | None
    diverted: dict[str, int]
    """Answers by other targets while the fault lasted."""
    quality: dict[str, Estimate]
    """Mean score of the answers by each target, where answers were judged."""
    cost_usd: dict[str, float | None]
    """Mean cost of an answer by each target."""


class LoadFigures(NamedTuple):
    target: str
    closed: bool
    phases: list[PhaseFigures]
    knee: PhaseFigures | None
    """The last phase that was carried, where a later one was not."""
    recovery: Recovery | None
    lag: Estimate
    """p99 of how late requests were sent, ms."""
    invalid: list[str]


def figures(suite: Suite, target: str, rows: Sequence[Json]) -> LoadFigures:
    requests = [row for row in rows if row["kind"] == "request" and row["target"] == target]
    counted = [row for row in requests if row["measured"]]
    labels = list(dict.fromkeys(row["phase"] for row in counted))
    phases = [_phase(suite, label, [row for row in counted if row["phase"] == label]) for label in labels]
    closed = any(row["users"] is not None for row in counted)
    lag = stats.quantile([row["lag_ms"] for row in counted], 0.99)
    notes = [row for row in rows if row["kind"] == "note" and row["target"] == target]
    return LoadFigures(
        target, closed, phases, _knee(phases), _recovery(requests, notes), lag, _invalid(counted, lag, closed)
    )


def _phase(suite: Suite, label: str, rows: list[Json]) -> PhaseFigures:
    begun = min(row["due_s"] for row in rows)
    ended = max(row["due_s"] + (row["e2e_ms"] or 0.0) / 1000 for row in rows)
    seconds = max(ended - begun, 1e-9)
    good = [met(suite, row) for row in rows]
    streams = [row for row in rows if row["stalls"] is not None]
    return PhaseFigures(
        label,
        rows[0]["users"],
        rows[0]["rate"],
        seconds,
        len(rows),
        sum(row["outcome"] == "ok" for row in rows) / seconds,
        sum(good) / seconds,
        stats.share([float(one) for one in good]),
        stats.share([float(row["outcome"] != "ok") for row in rows]),
        _quantiles(rows, "ttft_ms"),
        _quantiles(rows, "e2e_ms"),
        stats.share([float(bool(row["stalls"])) for row in streams]),
        dict(Counter(row["error_kind"] for row in rows if row["error_kind"] is not None)),
        sum(row["attempts"] for row in rows) / len(rows),
        sum(1 for row in rows if row["outcome"] == "ok" and row["attempts"] > 1),
    )


def _quantiles(rows: Sequence[Json], metric: str) -> dict[str, Estimate]:
    values = []
    for row in rows:
        if row["outcome"] != "ok":
            values.append(math.inf)
        elif row[metric] is not None:
            values.append(row[metric])
    if all(math.isinf(value) for value in values):
        values = values if metric == "e2e_ms" else []
    return {name: stats.quantile(values, q) for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))}


def carried(phase: PhaseFigures) -> bool:
    """Enough requests met their service levels: judged by the upper end, so that a few unlucky ones decide nothing."""
    high = phase.attainment.high if phase.attainment.high is not None else phase.attainment.value
    return high is not None and high >= ENOUGH


def _knee(phases: Sequence[PhaseFigures]) -> PhaseFigures | None:
    if len(phases) < 2 or all(carried(phase) for phase in phases):
        return None
    last = None
    for phase in phases:
        if not carried(phase):
            break
        last = phase
    return last


def _recovery(requests: Sequence[Json], notes: Sequence[Json]) -> Recovery | None:
    at = {note["note"]: note["at_s"] for note in notes}
    begun = at.get("fault begins")
    if begun is None:
        return None
    ended = at.get("fault ends")
    ordered = sorted(requests, key=lambda row: row["due_s"])
    before = Counter(row["served_by"] for row in ordered if row["due_s"] < begun and row["served_by"])
    primary = before.most_common(1)[0][0] if before else None
    during = [row for row in ordered if begun <= row["due_s"] < (ended if ended is not None else math.inf)]
    others = [row for row in during if row["outcome"] == "ok" and row["served_by"] != primary]
    first = min((row["due_s"] + row["e2e_ms"] / 1000 for row in others), default=None)
    back = None
    if ended is not None:
        again = [row for row in ordered if row["served_by"] == primary and row["due_s"] >= ended]
        back = min((row["due_s"] + row["e2e_ms"] / 1000 - ended for row in again), default=None)
    served = [row for row in ordered if row["served_by"]]
    names = list(dict.fromkeys(row["served_by"] for row in served))
    scored = [row for row in served if row.get("score") is not None]
    return Recovery(
        begun,
        ended,
        sum(row["outcome"] != "ok" for row in during),
        len(during),
        None if first is None else first - begun,
        back,
        primary,
        dict(Counter(row["served_by"] for row in others)),
        {
            name: stats.share([row["score"] for row in scored if row["served_by"] == name])
            for name in names
            if any(row["served_by"] == name for row in scored)
        },
        {name: _mean([row["cost_usd"] for row in served if row["served_by"] == name]) for name in names},
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else None


def _invalid(rows: Sequence[Json], lag: Estimate, closed: bool) -> list[str]:
    if not rows:
        return ["nothing was asked"]
    late = lag.value or 0.0
    if late > LATE_MS and not closed:
        return [
            f"the load generator was late: one request in a hundred was sent {late:.0f} ms or more after it was due"
        ]
    return []
