"""Figures of a load: by phase, with intervals; the knee, the time to recover, and whether the generator kept up."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from proxy.bench import stats
from proxy.bench.load import met
from proxy.bench.saturation import LATE_MS, saturated
from proxy.bench.stats import Estimate
from proxy.bench.suite import Suite

Json = dict[str, Any]

ENOUGH = 0.95
"""Share of requests within the service levels that a phase must reach to count as carried."""
FALLEN = 0.9
"""Share of an earlier phase's goodput below which a phase of more load is past the knee, whatever its requests met."""
SLICES = 40
"""Parts of a phase whose medians show a trend."""
_LEAST_IN_SLICE = 5
_Z = 1.96


class PhaseFigures(NamedTuple):
    label: str
    users: int | None
    rate: float | None
    seconds: float
    """Of the stretch that rates are of."""
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
    tpot: dict[str, Estimate]
    """Milliseconds from one output token to the next, by answer; failures have none."""
    tokens: float
    """Output tokens a second, of whole answers."""
    stalled: Estimate
    kinds: dict[str, int]
    """Failures by kind: rate_limit, timeout, stall, truncated, not_sent, ..."""
    attempts: float
    """Tries at upstreams per request."""
    failed_tries: dict[str, int]
    """Tries at upstreams that failed, by kind."""
    hidden: dict[str, int]
    """Those of them behind requests that were answered all the same."""
    trend: Estimate
    """By how many ms the median answer takes longer at the phase's end than at its beginning; what a soak is for."""


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
    """Mean score of the answers by each target to the questions that were diverted; the unit is the question."""
    cost_usd: dict[str, float | None]
    """Mean cost of an answer by each target to these questions."""


class LoadFigures(NamedTuple):
    target: str
    closed: bool
    phases: list[PhaseFigures]
    knee: PhaseFigures | None
    """The last phase before one that was not carried, or that had fewer good answers a second for all its load."""
    beyond: PhaseFigures | None
    """The phase after the knee."""
    recovery: Recovery | None
    lag: Estimate
    """p99 of how late requests were sent, ms."""
    generator: list[Json]
    """What the load generator itself had left in each phase: `late_ms`, `busy`."""
    invalid: list[str]


def figures(suite: Suite, target: str, rows: Sequence[Json]) -> LoadFigures:
    requests = [row for row in rows if row["kind"] == "request" and row["target"] == target]
    counted = [row for row in requests if row["measured"]]
    labels = list(dict.fromkeys(row["phase"] for row in counted))
    readings = [row for row in rows if row["kind"] == "generator" and row["target"] == target and row["measured"]]
    spans = {row["phase"]: (row["at_s"], row["seconds"]) for row in readings}
    phases = [_phase(suite, label, [row for row in counted if row["phase"] == label], spans) for label in labels]
    closed = any(row["users"] is not None for row in counted)
    lag = stats.quantile([row["lag_ms"] for row in counted], 0.99)
    notes = [row for row in rows if row["kind"] == "note" and row["target"] == target]
    last = _knee(phases)
    knee, beyond = (None, None) if last is None else (phases[last], phases[last + 1])
    invalid = _invalid(counted, lag, readings)
    return LoadFigures(target, closed, phases, knee, beyond, _recovery(requests, notes), lag, readings, invalid)


def _phase(suite: Suite, label: str, rows: list[Json], spans: Mapping[str, tuple[float, float]]) -> PhaseFigures:
    good = [met(suite, row) for row in rows]
    begun, ended = _steady(rows, spans.get(label))
    seconds = max(ended - begun, 1e-9)
    within = [begun < _end(row) <= ended for row in rows]
    streams = [row for row in rows if row["stalls"] is not None]
    return PhaseFigures(
        label,
        rows[0]["users"],
        rows[0]["rate"],
        seconds,
        len(rows),
        sum(row["outcome"] == "ok" for row, counts in zip(rows, within, strict=True) if counts) / seconds,
        sum(one for one, counts in zip(good, within, strict=True) if counts) / seconds,
        stats.share([float(one) for one in good]),
        stats.share([float(row["outcome"] != "ok") for row in rows]),
        _quantiles(rows, "ttft_ms"),
        _quantiles(rows, "e2e_ms"),
        _quantiles([row for row in rows if row["outcome"] == "ok"], "tpot_ms"),
        sum(
            row["output_tokens"] or 0
            for row, counts in zip(rows, within, strict=True)
            if counts and row["outcome"] == "ok"
        )
        / seconds,
        stats.share([float(bool(row["stalls"])) for row in streams]),
        dict(Counter(row["error_kind"] for row in rows if row["error_kind"] is not None)),
        sum(row["attempts"] for row in rows) / len(rows),
        _tries(rows),
        _tries([row for row in rows if row["outcome"] == "ok"]),
        _trend(rows, begun, ended),
    )


def _trend(rows: Sequence[Json], begun: float, ended: float) -> Estimate:
    """Through the medians of equal slices of time, so that a slow minute does not make a trend."""
    slices: list[list[float]] = [[] for _ in range(SLICES)]
    for row in rows:
        at = (row["due_s"] - begun) / max(ended - begun, 1e-9)
        if row["outcome"] == "ok" and 0 <= at < 1:
            slices[int(at * SLICES)].append(row["e2e_ms"])
    full = [(number / SLICES, one) for number, one in enumerate(slices) if len(one) >= _LEAST_IN_SLICE]
    return stats.trend([at for at, _ in full], [sorted(one)[len(one) // 2] for _, one in full])


def _end(row: Json) -> float:
    due: float = row["due_s"]
    return due + (row["e2e_ms"] or 0.0) / 1000


def _steady(rows: Sequence[Json], span: tuple[float, float] | None) -> tuple[float, float]:
    """The stretch whose answers are counted for rates: from when the first ones have come to when nothing more is sent.

    Neither the time in which a phase fills up nor a last slow answer then lowers a rate. All of it where a phase is too
    short for that.
    """
    took = [row["e2e_ms"] / 1000 for row in rows if row["outcome"] == "ok"]
    usual = sorted(took)[len(took) // 2] if took else 0.0
    if span is None or span[1] <= 2 * usual:
        return min(row["due_s"] for row in rows), max(_end(row) for row in rows)
    return span[0] + usual, span[0] + span[1]


def _tries(rows: Sequence[Json]) -> dict[str, int]:
    kinds: Counter[str] = Counter()
    for row in rows:
        kinds.update(row["failed_tries"])
    return dict(kinds)


def _quantiles(rows: Sequence[Json], metric: str) -> dict[str, Estimate]:
    values = []
    for row in rows:
        if row["outcome"] != "ok":
            values.append(math.inf)
        elif row[metric] is not None:
            values.append(row[metric])
    if values and all(math.isinf(value) for value in values):
        values = values if metric == "e2e_ms" else []
    return {name: stats.quantile(values, q) for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))}


def carried(phase: PhaseFigures) -> bool:
    """Enough requests met their service levels: judged by the upper end, so that a few unlucky ones decide nothing."""
    high = phase.attainment.high if phase.attainment.high is not None else phase.attainment.value
    return high is not None and high >= ENOUGH


def _fallen(phase: PhaseFigures, before: Sequence[PhaseFigures]) -> bool:
    """More load, and yet clearly fewer good answers a second than with less: judged by the upper end, too."""
    best = max((one.goodput for one in before), default=0.0)
    good = phase.goodput * phase.seconds
    high = (good + _Z * math.sqrt(good + 1.0) + 1.0) / phase.seconds
    return high < FALLEN * best


def _knee(phases: Sequence[PhaseFigures]) -> int | None:
    """The place of the last phase that was carried, where a later one was not."""
    for place, phase in enumerate(phases):
        if not carried(phase) or _fallen(phase, phases[:place]):
            return place - 1 if place else None
    return None


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
    diverted = {(row["task"], row["case"]) for row in others}
    served = [row for row in ordered if row["served_by"] and (row["task"], row["case"]) in diverted]
    names = list(dict.fromkeys(row["served_by"] for row in served))
    scores = {name: _by_case([row for row in served if row["served_by"] == name]) for name in names}
    return Recovery(
        begun,
        ended,
        sum(row["outcome"] != "ok" for row in during),
        len(during),
        None if first is None else first - begun,
        back,
        primary,
        dict(Counter(row["served_by"] for row in others)),
        {name: stats.share(known) for name, known in scores.items() if known},
        {name: _mean([row["cost_usd"] for row in served if row["served_by"] == name]) for name in names},
    )


def _by_case(rows: Sequence[Json]) -> list[float]:
    """Mean score of each case: one that was asked a hundred times is still one question."""
    gathered: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row.get("score") is not None:
            gathered.setdefault((row["task"], row["case"]), []).append(row["score"])
    return [math.fsum(scores) / len(scores) for scores in gathered.values()]


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known and len(known) == len(values) else None


def _invalid(rows: Sequence[Json], lag: Estimate, readings: Sequence[Json]) -> list[str]:
    if not rows:
        return ["nothing was asked"]
    found = []
    late = lag.value or 0.0
    if late > LATE_MS:
        found.append(
            f"the load generator was late: one request in a hundred was sent {late:.0f} ms or more after it was due"
        )
    return found + [f"{one['phase']}: {why}" for one in readings if (why := saturated(one)) is not None]
