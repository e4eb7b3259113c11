"""From rows to figures for each target: quality by prompt, latency by request, cost by success; all with intervals."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from proxy.bench import stats
from proxy.bench.groups import Gap, gaps
from proxy.bench.stats import Estimate, Floats
from proxy.bench.suite import Metric, Suite

Json = dict[str, Any]


class Table(NamedTuple):
    """One target's results laid out by unit (cluster of cases), so that units can be drawn again and again."""

    target: str
    rows: list[Json]
    units: list[str]
    """Clusters, in the same order for every target; by task."""
    strata: list[int]
    """Units of each task, in order."""
    aims: list[str]
    """What each unit's task is for: accuracy or safety."""
    weights: Floats
    score: Floats
    """Mean score of each unit over its cases and repeats; a failed request scores 0."""
    successes: Floats
    """Successful requests of each unit."""
    spent: Floats
    """USD of each unit, failed requests included; nan where any of it has no price."""
    latency: Floats
    """Units x requests: ms, `inf` for a failed request, nan where there is none (cold, or padding)."""


class Figures(NamedTuple):
    """Everything that is said of one target."""

    target: str
    requests: int
    cold: int
    accuracy: Estimate
    safety: Estimate
    errors: Estimate
    stalled: Estimate
    """Share of streams with a stall."""
    attainment: Estimate
    """Share of all requests that met every service level; failures did not."""
    ttft: dict[str, Estimate]
    e2e: dict[str, Estimate]
    """`p50`, `p95`, `p99`, in ms."""
    tpot: dict[str, Estimate]
    """Milliseconds from one output token to the next, by answer; failures have none."""
    latency: Estimate
    """The quantile that the decision is about, ms."""
    cost_per_success: Estimate
    accuracy_per_dollar: Estimate
    spent_usd: float | None
    """None where any request has no price."""
    unpriced: int
    input_tokens: int
    output_tokens: int
    retried: int
    """Requests that needed more than one attempt."""
    kinds: dict[str, int]
    """Failed requests by error kind."""
    scorers: dict[str, Estimate]
    """The mean of every scorer, by `task/scorer`."""
    perplexity: dict[str, Estimate]
    """Of the tokens that were weighed, by task: of a text where one was given, else of the answer's own."""
    gaps: list[Gap]
    """Differences of the score between groups of the same cases."""


def tables(suite: Suite, rows: Sequence[Json]) -> list[Table]:
    """A table for each target, with the units that all of them share.

    A case that some target was not asked (a run that was cut short) is left out for all: comparisons are paired.
    """
    by_target: dict[str, list[Json]] = defaultdict(list)
    for row in rows:
        by_target[row["target"]].append(row)
    labels = [target.label for target in suite.targets if by_target.get(target.label)]
    shared: set[tuple[str, str]] | None = None
    for label in labels:
        cases = {(row["task"], row["cluster"]) for row in by_target[label]}
        shared = cases if shared is None else shared & cases
    order = sorted(shared or (), key=lambda one: (list(suite.tasks).index(one[0]), one[1]))
    return [_table(suite, label, by_target[label], order) for label in labels]


def _table(suite: Suite, label: str, rows: list[Json], order: list[tuple[str, str]]) -> Table:
    place = {cluster: index for index, (_, cluster) in enumerate(order)}
    kept = [row for row in rows if row["cluster"] in place]
    count = len(order)
    weights, scores, sizes = np.zeros(count), np.zeros(count), np.zeros(count)
    successes, spent = np.zeros(count), np.zeros(count)
    waits: list[list[float]] = [[] for _ in order]
    metric = f"{suite.latency.metric}_ms"
    for row in kept:
        unit, weight = place[row["cluster"]], row["weight"]
        weights[unit] += weight
        sizes[unit] += weight
        scores[unit] += weight * (row["score"] or 0.0)
        successes[unit] += 1.0 if row["success"] else 0.0
        spent[unit] += math.nan if row["cost_usd"] is None else row["cost_usd"]
        if not row["cold"]:
            value = waited(row, metric)
            if value is not None:
                waits[unit].append(value)
    widest = max([len(wait) for wait in waits], default=0)
    latency = np.full((count, max(widest, 1)), math.nan)
    for unit, wait in enumerate(waits):
        latency[unit, : len(wait)] = wait
    repeats = max(1, len({row["repeat"] for row in kept}))
    strata = Counter(task for task, _ in order)
    return Table(
        label,
        rows,
        [cluster for _, cluster in order],
        [strata[task] for task in suite.tasks if strata[task]],
        [suite.tasks[task].aim for task, _ in order],
        weights / repeats,
        scores / np.maximum(sizes, 1e-12),
        successes,
        spent,
        latency,
    )


def waited(row: Json, metric: str) -> float | None:
    """Milliseconds, `inf` for a request that gave no whole answer; None where there is nothing to measure."""
    if row["outcome"] != "ok":
        return math.inf
    value: float | None = row[metric]
    return value


def figures(suite: Suite, table: Table, rng: np.random.Generator) -> Figures:
    rows = table.rows
    warm = [row for row in rows if not row["cold"]]
    failed = [row for row in rows if row["outcome"] != "ok"]
    streams = [row for row in warm if row["stalls"] is not None]
    priced = [row["cost_usd"] for row in rows if row["cost_usd"] is not None]
    known = not np.isnan(table.spent).any()
    return Figures(
        table.target,
        len(rows),
        len(rows) - len(warm),
        _aim(table, "accuracy"),
        _aim(table, "safety"),
        stats.share([1.0 if row["outcome"] != "ok" else 0.0 for row in rows]),
        stats.share([1.0 if row["stalls"] else 0.0 for row in streams]),
        stats.share([1.0 if _met(suite, row) else 0.0 for row in warm]),
        _quantiles(warm, "ttft_ms"),
        _quantiles(warm, "e2e_ms"),
        _quantiles([row for row in warm if row["outcome"] == "ok"], "tpot_ms"),
        stats.quantile(table.latency[~np.isnan(table.latency)], suite.latency.quantile),
        stats.ratio(table.spent, table.successes, rng) if known else _unpriced(len(rows)),
        stats.ratio(table.successes, table.spent, rng) if known else _unpriced(len(rows)),
        math.fsum(priced) if len(priced) == len(rows) else None,
        len(rows) - len(priced),
        sum(row["input_tokens"] or 0 for row in rows),
        sum(row["output_tokens"] or 0 for row in rows),
        sum(1 for row in rows if row["attempts"] > 1),
        dict(Counter(str(row["error_kind"]) for row in failed)),
        _scorers(suite, rows),
        _perplexity(suite, rows, rng),
        gaps(suite, table.target, rows, rng),
    )


def _aim(table: Table, aim: str) -> Estimate:
    chosen = np.array([one == aim for one in table.aims], dtype=bool)
    if not chosen.any():
        return Estimate(None, None, None, 0, f"no task is for {aim}")
    return stats.share(table.score[chosen], table.weights[chosen])


def _met(suite: Suite, row: Json) -> bool:
    if row["outcome"] != "ok":
        return False
    for limit, metric in ((suite.slo.ttft, "ttft_ms"), (suite.slo.e2e, "e2e_ms")):
        if limit is not None and row[metric] is not None and row[metric] > limit * 1000:
            return False
    return True


def _quantiles(rows: Sequence[Json], metric: str) -> dict[str, Estimate]:
    values = [value for row in rows if (value := waited(row, metric)) is not None]
    if metric == "ttft_ms" and not any(row["ttft_ms"] is not None for row in rows):
        values = []
    return {name: stats.quantile(values, q) for name, q in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))}


def _unpriced(n: int) -> Estimate:
    return Estimate(None, None, None, n, "no price")


def _scorers(suite: Suite, rows: Sequence[Json]) -> dict[str, Estimate]:
    gathered: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for kind, value in (row["scores"] or {}).items():
            if value is not None:
                gathered[f"{row['task']}/{kind}"][row["cluster"]].append(value)
    return {
        name: stats.share([math.fsum(values) / len(values) for values in units.values()])
        for name, units in gathered.items()
    }


def _perplexity(suite: Suite, rows: Sequence[Json], rng: np.random.Generator) -> dict[str, Estimate]:
    """exp of the mean surprise of a token, over all tokens of a task; texts are drawn again for the interval."""
    found = {}
    for name, task in suite.tasks.items():
        counted = "input_tokens" if task.ask == "text" else "output_tokens"
        units: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for row in rows:
            probability = (row["scores"] or {}).get("probability")
            if row["task"] == name and row["outcome"] == "ok" and probability and row[counted]:
                units[row["cluster"]][0] -= row[counted] * math.log(probability)
                units[row["cluster"]][1] += row[counted]
        if units:
            texts = [units[cluster] for cluster in sorted(units)]  # in one order, whatever came first
            surprise = stats.ratio([one[0] for one in texts], [one[1] for one in texts], rng)
            value, low, high = (None if x is None else math.exp(x) for x in surprise[:3])
            found[name] = Estimate(value, low, high, surprise.n, surprise.note)
    return found


# -- the weighted score


def normalised(suite: Suite, metric: Metric, value: float) -> float:
    """A metric's value on the scale from 0 (at or beyond `worst`) to 1 (`best`); latency in ms."""
    if metric in ("accuracy", "safety"):
        return min(1.0, max(0.0, value))
    anchor = suite.anchors.latency if metric == "latency" else suite.anchors.cost
    amount = value / 1000 if metric == "latency" else value
    if not math.isfinite(amount):
        return 0.0
    return min(1.0, max(0.0, (anchor.worst - amount) / (anchor.worst - anchor.best)))


def components(suite: Suite, table: Table, index: np.ndarray[Any, Any]) -> dict[Metric, float]:
    """The four metrics of the units at `index`, normalised; nan where the suite or the prices leave one out."""
    found: dict[Metric, float] = {}
    aims = np.array(table.aims, dtype=object)[index]
    for metric in ("accuracy", "safety"):
        chosen = index[aims == metric]
        weights = table.weights[chosen]
        total = float(weights.sum())
        found[metric] = float((weights * table.score[chosen]).sum()) / total if total else math.nan
    waits = table.latency[index]
    waits = np.sort(waits[~np.isnan(waits)])
    found["latency"] = normalised(suite, "latency", _at(waits, suite.latency.quantile)) if waits.size else math.nan
    won, spent = float(table.successes[index].sum()), float(table.spent[index].sum())
    if math.isnan(spent):
        found["cost"] = math.nan
    else:
        found["cost"] = normalised(suite, "cost", spent / won) if won else 0.0
    return found


def _at(ordered: Floats, q: float) -> float:
    """numpy's `linear` quantile of sorted values, also where some are infinite."""
    place = (ordered.size - 1) * q
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    return float(low if low == high else low + (high - low) * (place - math.floor(place)))


def score(weights: Mapping[Metric, float], parts: Mapping[Metric, float]) -> float:
    """The weighted mean of what is known; nan where nothing is."""
    known = [(weights[metric], value) for metric, value in parts.items() if not math.isnan(value)]
    total = math.fsum(weight for weight, _ in known)
    return math.fsum(weight * value for weight, value in known) / total if total else math.nan
