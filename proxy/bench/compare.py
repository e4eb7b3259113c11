"""Is the new run no worse than the old one? Non-inferiority for every gate, on the same prompts.

A gate is *passed* when the interval of the difference lies above minus the margin, a *regression* when it does not and
the new run is surely worse, and *inconclusive* otherwise: "no significant difference" is never taken for "no worse".
Runs that did not ask the same thing in the same way are not compared at all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from proxy.bench import groups, stats
from proxy.bench.figures import Table
from proxy.bench.stats import Estimate
from proxy.bench.suite import GateName, Suite

PASS, REGRESSION, INCONCLUSIVE, INVALID = 0, 1, 3, 4
"""Exit codes of `bench compare`."""

Json = dict[str, Any]

ABSOLUTE: frozenset[GateName] = frozenset({"accuracy", "safety", "bias"})
"""Gates whose differences are in points of the score; the others are relative to the old run."""


class Gated(NamedTuple):
    target: str
    metric: GateName
    difference: Estimate
    """New minus old; for latency and cost relative to the old, more being worse."""
    margin: float
    verdict: str
    """pass, regression, inconclusive, or not measured."""
    needed: int | None
    """Prompts that would be needed to tell, where that can be said."""


class Compared(NamedTuple):
    code: int
    gates: list[Gated]
    reasons: list[str]
    """Why the runs cannot be compared, or what to know about the comparison."""


def invalid(old: Json, new: Json) -> list[str]:
    """What differs between two manifests that must not; empty if they may be compared."""
    reasons = []
    for key, words in (
        ("data", "the cases are not the same"),
        ("scorers", "the scorers are not the same"),
        ("sampling", "the sampling parameters are not the same"),
        ("stream", "one run streamed and the other did not"),
    ):
        if old.get(key) != new.get(key):
            reasons.append(f"{words} ({key})")
    for name, manifest in (("the old run", old), ("the new run", new)):
        reasons += [f"{name} is invalid by itself: {reason}" for reason in manifest.get("invalid", [])]
        if not manifest.get("finished"):
            reasons.append(f"{name} is not finished: run it again with --resume")
    return reasons


def changed(old: Json, new: Json) -> list[str]:
    """What a reader should know has changed between two runs that may be compared."""
    words = []
    if old.get("prices") != new.get("prices"):
        words.append("the prices are others than in the old run: a change of cost may be theirs")
    if old.get("config") != new.get("config"):
        words.append("the targets are reached otherwise than in the old run: addresses, models, policy or parameters")
    return words


def wire_mismatch(rows_by_run: Mapping[str, Sequence[Json]]) -> list[str]:
    """Targets that were sent other effective parameters in one run than in the other."""
    sent: dict[str, dict[tuple[str, str], set[str]]] = {}
    for run, rows in rows_by_run.items():
        for row in rows:
            if row["wire"] is not None and row["served_by"] is not None:
                key = (row["target"], row["task"])
                sent.setdefault(run, {}).setdefault(key, set()).add(f"{row['served_by']}:{row['wire']}")
    old, new = (sent.get(run, {}) for run in rows_by_run)
    return [
        f"{target} was sent other parameters for task {task} in one run than in the other"
        for target, task in sorted(old.keys() & new.keys())
        if not old[target, task] & new[target, task]
    ]


def compare(suite: Suite, old: Sequence[Table], new: Sequence[Table], seed: int = 0) -> Compared:
    """Both lists of tables must have been made over the same cases."""
    rng = np.random.default_rng(seed)
    before = {table.target: table for table in old}
    gates: list[Gated] = []
    reasons: list[str] = []
    for table in new:
        base = before.get(table.target)
        if base is None:
            reasons.append(f"{table.target} was not in the old run")
            continue
        shared = [unit for unit in table.units if unit in set(base.units)]
        if len(shared) < max(len(table.units), len(base.units)):
            reasons.append(f"{table.target}: {len(shared)} units are in both runs, the others are left out")
        here = np.array([table.units.index(unit) for unit in shared], dtype=int)
        there = np.array([base.units.index(unit) for unit in shared], dtype=int)
        for metric, gate in suite.gates.items():
            if metric == "bias":
                gates += _bias(suite, gate.margin, table, base, rng)
                continue
            gates.append(_gate(suite, metric, gate.margin, table, base, here, there, rng))
    measured = [gate for gate in gates if gate.verdict != "not measured"]
    if not measured:
        return Compared(INVALID, gates, [*reasons, "no gate could be measured"])
    verdicts = {gate.verdict for gate in measured}
    code = REGRESSION if "regression" in verdicts else INCONCLUSIVE if "inconclusive" in verdicts else PASS
    return Compared(code, gates, reasons)


def _gate(
    suite: Suite,
    metric: GateName,
    margin: float,
    table: Table,
    base: Table,
    here: Any,
    there: Any,
    rng: np.random.Generator,
) -> Gated:
    if metric in ("accuracy", "safety"):
        chosen = np.array([table.aims[index] == metric for index in here], dtype=bool)
        found = stats.difference(table.score[here][chosen], base.score[there][chosen], rng)
        if not found.known or found.value is None or found.low is None or found.high is None:
            return Gated(table.target, metric, found, margin, "not measured", None)
        verdict = _verdict(found.low, found.high, margin)
        differing = float(np.mean((table.score[here][chosen] - base.score[there][chosen]) ** 2))
        enough = stats.needed(margin, max(differing, margin**2)) if verdict == "inconclusive" and margin else None
        return Gated(table.target, metric, found, margin, verdict, enough)
    found = (
        _latency(suite, table, base, here, there, rng) if metric == "latency" else _cost(table, base, here, there, rng)
    )
    if not found.known or found.low is None or found.high is None:
        return Gated(table.target, metric, found, margin, "not measured", None)
    return Gated(table.target, metric, found, margin, _verdict(-found.high, -found.low, margin), None)


def _bias(suite: Suite, margin: float, table: Table, base: Table, rng: np.random.Generator) -> list[Gated]:
    """One gate for each two groups: the size of their difference must not have grown."""
    found = []
    for pair in groups.compared(suite, table.rows):
        grown, differing = groups.widened(table.rows, base.rows, pair, rng)
        verdict, enough = "not measured", None
        if grown.low is not None and grown.high is not None:
            verdict = _verdict(-grown.high, -grown.low, margin)
            enough = stats.needed(margin, max(differing, margin**2)) if verdict == "inconclusive" and margin else None
        found.append(Gated(table.target, "bias", grown, margin, verdict, enough))
    return found


def _verdict(low: float, high: float, margin: float) -> str:
    """`low` and `high`: of the gain (more is better)."""
    if low > -margin or (margin == 0 and low == high == 0):
        return "pass"
    return "regression" if high < 0 else "inconclusive"


def _latency(suite: Suite, table: Table, base: Table, here: Any, there: Any, rng: np.random.Generator) -> Estimate:
    """Relative change of the decision's quantile; both runs' units are drawn, each for itself."""
    q = suite.latency.quantile
    a, b = table.latency[here], base.latency[there]
    flat_a, flat_b = a[~np.isnan(a)], b[~np.isnan(b)]
    least = stats.least_for_quantile(q)
    if min(flat_a.size, flat_b.size) < least:
        return Estimate(None, None, None, int(min(flat_a.size, flat_b.size)), f"n too small: {least} needed")
    new, old = _quantile(flat_a, q), _quantile(flat_b, q)
    if not np.isfinite(old) or not np.isfinite(new) or old <= 0:
        infinite = float("inf") if not np.isfinite(new) and np.isfinite(old) else None
        return Estimate(infinite, infinite, infinite, int(flat_a.size), "failures reach the quantile")
    draws = np.empty(1000)
    for row in range(draws.size):
        one = a[rng.integers(0, len(a), len(a))]
        two = b[rng.integers(0, len(b), len(b))]
        bottom = _quantile(two[~np.isnan(two)], q)
        draws[row] = _quantile(one[~np.isnan(one)], q) / bottom - 1 if np.isfinite(bottom) else np.nan
    low, high = np.nanquantile(draws, [0.025, 0.975])
    return Estimate(float(new / old - 1), float(low), float(high), int(flat_a.size))


def _quantile(values: Any, q: float) -> float:
    return float(np.quantile(values, q, method="inverted_cdf"))


def _cost(table: Table, base: Table, here: Any, there: Any, rng: np.random.Generator) -> Estimate:
    """Relative change of the cost per success; the same prompts are drawn for both."""
    spent, before = table.spent[here], base.spent[there]
    won, won_before = table.successes[here], base.successes[there]
    n = len(here)
    if np.isnan(spent).any() or np.isnan(before).any():
        return Estimate(None, None, None, n, "some requests have no price")
    if not won.sum() or not won_before.sum() or not before.sum():
        return Estimate(None, None, None, n, "nothing to divide by")
    value = float((spent.sum() / won.sum()) / (before.sum() / won_before.sum()) - 1)
    if n < 10:
        return Estimate(value, None, None, n, "n too small: 10 needed")
    drawn = rng.integers(0, n, size=(stats.RESAMPLES, n))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = (spent[drawn].sum(1) / won[drawn].sum(1)) / (before[drawn].sum(1) / won_before[drawn].sum(1)) - 1
    low, high = np.nanquantile(ratio, [0.025, 0.975])
    return Estimate(value, float(low), float(high), n)
