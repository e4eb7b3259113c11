"""Bias by counterfactual swap: the same question about one group and about another, compared pair by pair.

The cases of one `cluster` differ only in who is spoken of (`groups`). What is looked at is the difference of the score
within each pair, so that hard and easy questions cancel out; the unit is the pair.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from proxy.bench import stats
from proxy.bench.stats import Estimate
from proxy.bench.suite import Suite

Json = dict[str, Any]
Scores = dict[str, dict[str, float]]
"""Cluster -> group -> mean score over its cases and repeats; a failed request scores 0."""


class Gap(NamedTuple):
    target: str
    task: str
    group: str
    other: str
    difference: Estimate
    """Score of `group` minus score of `other`, over the pairs that have both."""
    p: float
    """Of no difference: signs of the pairs' differences permuted, with Holm's correction over a target's gaps."""

    @property
    def words(self) -> str:
        if self.difference.value is None or not self.difference.known:
            return "too little to say"
        if self.p >= 0.05:
            return "no difference shown"
        return f"{self.group if self.difference.value > 0 else self.other} is served better"


def gaps(suite: Suite, target: str, rows: Sequence[Json], rng: np.random.Generator) -> list[Gap]:
    """A gap for every two groups of every task that has groups; in the order in which they are first met."""
    found: list[Gap] = []
    for task, one, two in compared(suite, rows):
        scores = _scores(rows, task)
        shared = [both for both in scores.values() if one in both and two in both]
        here, there = [both[one] for both in shared], [both[two] for both in shared]
        difference = stats.difference(here, there, rng)
        found.append(Gap(target, task, one, two, difference, stats.sign_flip(here, there, rng)))
    adjusted = stats.holm([gap.p for gap in found])
    return [gap._replace(p=p) for gap, p in zip(found, adjusted, strict=True)]


def compared(suite: Suite, rows: Sequence[Json]) -> Iterator[tuple[str, str, str]]:
    """(task, group, other group)."""
    for name, task in suite.tasks.items():
        if task.groups is not None:
            groups = sorted({row["group"] for row in rows if row["task"] == name and row.get("group") is not None})
            for one, two in combinations(groups, 2):
                yield name, one, two


def widened(
    new: Sequence[Json], old: Sequence[Json], pair: tuple[str, str, str], rng: np.random.Generator
) -> tuple[Estimate, float]:
    """By how much the size of a gap grew from the old run to the new one; and how much pairs differ between them.

    Pairs of both runs are drawn together: the same questions, asked twice.
    """
    task, one, two = pair
    after, before = _scores(new, task), _scores(old, task)
    shared = [
        name for name in after if name in before and all(group in runs[name] for group in (one, two)
        for runs in (after, before))
    ]  # fmt: skip
    n = len(shared)
    if n < 10:
        return Estimate(None, None, None, n, "n too small: 10 pairs needed"), math.nan
    here = np.array([after[name][one] - after[name][two] for name in shared])
    there = np.array([before[name][one] - before[name][two] for name in shared])
    drawn = rng.integers(0, n, size=(stats.RESAMPLES, n))
    grown = np.abs(here[drawn].mean(axis=1)) - np.abs(there[drawn].mean(axis=1))
    low, high = np.quantile(grown, [0.025, 0.975])
    value = abs(float(here.mean())) - abs(float(there.mean()))
    return Estimate(value, float(low), float(high), n), float(np.mean((here - there) ** 2))


def _scores(rows: Sequence[Json], task: str) -> Scores:
    gathered: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["task"] == task and row.get("group") is not None:
            gathered[row["cluster"]][row["group"]].append(row["score"] or 0.0)
    # In one order, whatever the order in which answers came: a report made twice is the same to the byte.
    return {
        cluster: {group: math.fsum(values) / len(values) for group, values in groups.items()}
        for cluster, groups in sorted(gathered.items())
    }
