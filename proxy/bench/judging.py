"""A judge over a finished run: which of two targets' answers to the same case is better; and is the judge any good?

Every pair is shown in both orders, and only what is said in both counts as more than a tie. The unit is the case:
repeats are averaged first. How often the two orders agree is the judge's own reliability; how often it says what people
said, beyond chance (Cohen's kappa), is what its verdicts are worth.
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from proxy.bench import stats
from proxy.bench.data import Case
from proxy.bench.stats import Estimate
from proxy.config.problems import ConfigError, Problem
from proxy.scoring.judge import Asking, Judge, together
from proxy.wire.answer import Answer, ToolCall

Json = dict[str, Any]
Key = tuple[str, str, str, int]
"""Target, task, case, repeat."""

ABREAST = 8
"""Pairs that are judged at once."""
HUMAN: Mapping[str, float] = {"a": 1.0, "b": 0.0, "tie": 0.5}


class Pair(NamedTuple):
    """Two answers to one request; `a` is the target's, or the first in a file of people's verdicts."""

    key: Key
    cluster: str
    request: Json
    a: Answer | None
    """None where there was no answer: that arm loses without being shown."""
    b: Answer | None


def pairs(cases: Sequence[Case], rows: Sequence[Json], baseline: str) -> Iterator[Pair]:
    """Every target's kept answers against the baseline's, case by case and repeat by repeat."""
    by_key = {(row["target"], row["task"], row["case"], row["repeat"]): row for row in rows}
    known = {(case.task, case.id): case for case in cases}
    for key, row in by_key.items():
        target, task, id, repeat = key
        other = by_key.get((baseline, task, id, repeat))
        case = known.get((task, id))
        if target != baseline and other is not None and case is not None:
            yield Pair(key, case.cluster, {"messages": case.messages}, _answer(row), _answer(other))


def _answer(row: Json) -> Answer | None:
    if row["outcome"] != "ok":
        return None
    calls = tuple(ToolCall(**call) for call in row.get("tool_calls") or ())
    return Answer(row["text"], tool_calls=calls, finish_reason=row["finish_reason"])


def people(rows: Sequence[Json], source: str) -> tuple[list[Pair], list[float]]:
    """Pairs that people judged (`prompt` or `messages`, `a`, `b`, `human`: a, b or tie), and what they said."""
    found, said = [], []
    for number, row in enumerate(rows, 1):
        human = HUMAN.get(str(row.get("human")).lower())
        asked = row.get("messages") or [{"role": "user", "content": row.get("prompt")}]
        if human is None or not isinstance(row.get("a"), str) or not isinstance(row.get("b"), str):
            hint = '{"prompt": "...", "a": "one answer", "b": "another", "human": "a"}; `human` is a, b or tie'
            raise ConfigError([Problem(f"{source}:{number}", "", "is no pair that somebody judged", hint)])
        a, b = Answer(row["a"], finish_reason="stop"), Answer(row["b"], finish_reason="stop")
        found.append(Pair(("people", source, str(number), 0), str(number), {"messages": asked}, a, b))
        said.append(human)
    return found, said


async def judged(
    judge: Judge, ask: Asking, wanted: Sequence[Pair], write: Callable[[Json], None], have: frozenset[Key] = frozenset()
) -> None:
    """Judges what is not in `have`; each verdict is written as it comes."""
    left = iter([pair for pair in wanted if pair.key not in have])

    async def worker() -> None:
        for pair in left:
            first, second = await _both(judge, ask, pair)
            about = dict(zip(("target", "task", "case", "repeat"), pair.key, strict=True))
            verdict = {"first": first, "second": second, "score": together(first, second)}
            write(about | {"cluster": pair.cluster, "shown": None not in (pair.a, pair.b)} | verdict)

    async with asyncio.TaskGroup() as group:
        for _ in range(ABREAST):
            group.create_task(worker())


async def _both(judge: Judge, ask: Asking, pair: Pair) -> tuple[float | None, float | None]:
    if pair.a is None or pair.b is None:
        score = 0.5 if pair.a is pair.b else float(pair.a is not None)
        return score, score
    return await judge.both(ask, pair.request, pair.a, pair.b)


class Preference(NamedTuple):
    """One target against the baseline."""

    target: str
    pairs: int
    unjudged: int
    """Where the judge's words said nothing."""
    wins: int
    ties: int
    losses: int
    score: Estimate
    """Mean of win 1, tie 1/2, loss 0 over cases; 0.5 is as good as the baseline."""
    p: float
    """Of 0.5: signs permuted over cases, with Holm's correction over the targets."""

    @property
    def words(self) -> str:
        if self.score.value is None or not self.score.known:
            return "too little to say"
        if self.p >= 0.05:
            return "not distinguishable"
        return "preferred" if self.score.value > 0.5 else "less preferred"


class Reliability(NamedTuple):
    agree: Estimate
    """Share of the pairs on which both orders said the same."""
    first: Estimate
    """Where they did not: share in which what was shown first fared better. 0.5 is no habit."""


def preferences(rows: Sequence[Json], rng: np.random.Generator) -> list[Preference]:
    found = []
    for target in dict.fromkeys(row["target"] for row in rows):
        mine = [row for row in rows if row["target"] == target]
        known = [row["score"] for row in mine if row["score"] is not None]
        units = _units(mine)
        half = [0.5] * len(units)
        found.append(
            Preference(
                target, len(mine), len(mine) - len(known), known.count(1.0), known.count(0.5), known.count(0.0),
                stats.share(units), stats.sign_flip(units, half, rng),
            )
        )  # fmt: skip
    adjusted = stats.holm([one.p for one in found])
    return [one._replace(p=p) for one, p in zip(found, adjusted, strict=True)]


def _units(rows: Sequence[Json]) -> list[float]:
    """Mean score of each cluster of cases."""
    gathered: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row in rows:
        if row["score"] is not None:
            gathered[row["task"], row["cluster"]].append(row["score"])
    return [math.fsum(scores) / len(scores) for _, scores in sorted(gathered.items())]  # whatever came first


def reliability(rows: Sequence[Json]) -> Reliability:
    shown = [row for row in rows if row["shown"] and row["first"] is not None and row["second"] is not None]
    differ = [row for row in shown if row["first"] != row["second"]]
    return Reliability(
        stats.share([float(row["first"] == row["second"]) for row in shown]),
        stats.share([float(row["first"] > row["second"]) for row in differ]),
    )


class Agreement(NamedTuple):
    """A judge held against people."""

    same: Estimate
    kappa: Estimate
    reliability: Reliability


def agreement(rows: Sequence[Json], said: Sequence[float], rng: np.random.Generator) -> Agreement:
    """`rows` of `judged` over the pairs of `people`; what the judge says nothing of is left out and seen in n."""
    by_number = {int(row["case"]): row["score"] for row in rows if row["score"] is not None}
    both = [(by_number[number], human) for number, human in enumerate(said, 1) if number in by_number]
    judge, human = [one for one, _ in both], [one for _, one in both]
    same = stats.share([float(one == other) for one, other in both])
    return Agreement(same, stats.kappa(judge, human, rng), reliability(rows))


def told(found: Sequence[Preference], reliable: Reliability, baseline: str) -> list[str]:
    from proxy.bench.report import percent, shown

    lines = [
        f"{one.target} against {baseline}: {one.words}; {shown(one.score, percent)} of the verdicts "
        f"(a tie is half of one; n = {one.score.n} cases), p = {one.p:.3f}\n"
        f"  {one.wins} won, {one.ties} tied, {one.losses} lost"
        + (f", {one.unjudged} without a verdict" if one.unjudged else "")
        for one in found
    ]
    return lines + _reliable(reliable)


def told_of_people(found: Agreement) -> list[str]:
    from proxy.bench.report import percent, shown

    return [
        f"says what people said of {shown(found.same, percent)}, n = {found.same.n}",
        f"  beyond chance (Cohen's kappa): {shown(found.kappa, lambda value: f'{value:.2f}')}",
        *_reliable(found.reliability),
    ]


def _reliable(found: Reliability) -> list[str]:
    from proxy.bench.report import percent, shown

    lines = [f"  in both orders the same verdict: {shown(found.agree, percent)}, n = {found.agree.n}"]
    if found.first.n:
        lines.append(f"  where not, the answer shown first fared better in {shown(found.first, percent)}")
    return lines
