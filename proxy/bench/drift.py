"""Did a model change without saying so? The same prompts, asked in run after run, held against the first.

For each prompt the answers of a later run are compared with those of the baseline, and the baseline's own repeats with
each other: d = how often a later answer is the very same text as a baseline answer, less how often two repeats of the
baseline are. An unchanged model has d = 0 on average; one that answers otherwise falls below. The e-value against
"d is no less than minus the margin" may be looked at after every run (see `policies.evidence`). Differences of all runs
count together; the margin takes up what the baseline's few repeats leave uncertain.

What providers do say (the model that answered, its fingerprint) is listed besides, and the length of the answers.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from policies import evidence
from proxy.bench import stats
from proxy.bench.stats import Estimate

Json = dict[str, Any]

MARGIN = 0.05
ALPHA = 0.05


class Look(NamedTuple):
    """One later run."""

    run: str
    started: str
    n: int
    same: float
    """Mean of d over its prompts."""
    e: float
    """The e-value over all runs up to this one; 20 or more is evidence of a change."""
    length: Estimate
    """Mean of ln(length / baseline length): 0.1 is a tenth longer."""
    said: list[str]
    """What the provider said differently: model, fingerprint."""


class Drift(NamedTuple):
    target: str
    baseline: str
    repeats: int
    """Of the baseline; with fewer than 2 its own variation is not known and taken as none."""
    looks: list[Look]

    @property
    def changed(self) -> bool:
        return any(look.e >= 1 / ALPHA for look in self.looks)


def drift(target: str, runs: Sequence[tuple[str, str, Sequence[Json]]], margin: float = MARGIN) -> Drift | None:
    """`runs`: (id, started, rows) in order of time, the baseline first. None if the baseline lacks the target."""
    id, _, rows = runs[0]
    base = _by_case(target, rows)
    if not base:
        return None
    own = {case: _agreement(one["answer"] for one in found) for case, found in base.items()}
    looks: list[Look] = []
    counts: dict[int, int] = {}
    for later, started, later_rows in runs[1:]:
        new = _by_case(target, later_rows)
        differences = []
        lengths = []
        for case in sorted(base.keys() & new.keys()):
            pairs = [a["answer"] == b["answer"] for a in new[case] for b in base[case]]
            d = sum(pairs) / len(pairs) - own[case]
            differences.append(d)
            bin = evidence.bin_of(d, f"{later}/{target}/{case}")
            counts[bin] = counts.get(bin, 0) + 1
            before = sum(one["answer_chars"] for one in base[case]) / len(base[case])
            after = sum(one["answer_chars"] for one in new[case]) / len(new[case])
            if before > 0 and after > 0:
                lengths.append(math.log(after / before))
        if differences:
            e = math.exp(min(700.0, evidence.log_below(counts, -margin)))
            said = _said(base, new)
            mean = math.fsum(differences) / len(differences)
            looks.append(Look(later, started, len(differences), mean, e, stats.mean(lengths), said))
    return Drift(target, id, max(len(found) for found in base.values()), looks)


def _by_case(target: str, rows: Sequence[Json]) -> dict[tuple[str, str], list[Json]]:
    found: dict[tuple[str, str], list[Json]] = defaultdict(list)
    for row in rows:
        if row["target"] == target and row["outcome"] == "ok":
            found[row["task"], row["case"]].append(row)
    return dict(found)


def _agreement(answers: Any) -> float:
    pairs = [a == b for a, b in combinations(list(answers), 2)]
    return sum(pairs) / len(pairs) if pairs else 1.0


def _said(base: Mapping[Any, Sequence[Json]], new: Mapping[Any, Sequence[Json]]) -> list[str]:
    words = []
    for column, name in (("response_model", "model"), ("fingerprint", "fingerprint")):
        before = {row[column] for found in base.values() for row in found if row.get(column)}
        after = {row[column] for found in new.values() for row in found if row.get(column)}
        if before and after and after != before:
            words.append(f"{name}: {', '.join(sorted(before))} -> {', '.join(sorted(after))}")
    return words


def told(found: Drift) -> list[str]:
    """For a terminal: a verdict, then a line for each run."""
    if not found.looks:
        return [f"{found.target}: no later run asked the same prompts"]
    last = found.looks[-1]
    verdict = "CHANGED" if found.changed else "no change seen"
    lines = [f"{found.target}: {verdict} since {found.baseline} (e = {last.e:.3g}, 20 is evidence)"]
    if found.repeats < 2:
        lines.append("  the baseline asked once: its own variation is taken as none; use `repeats` of 2 or more")
    for look in found.looks:
        longer = "" if look.length.value is None else f", answers {100 * math.expm1(look.length.value):+.0f}% long"
        more = f"; {'; '.join(look.said)}" if look.said else ""
        lines.append(f"  {look.run}  n = {look.n}, as often the same {look.same:+.3f}, e = {look.e:.3g}{longer}{more}")
    return lines
