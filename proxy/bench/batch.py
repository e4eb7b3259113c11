"""The same tasks in real time and through batch APIs: what a batch saves, what it costs in time, and whether it is the
same model that answers.

Each target is asked everything once in real time and once in batches. The saving is the ratio of what a successful task
costs, by prompts drawn again; the delay is a batch's own, so that its sample size is the number of batches, not of
requests; sameness of the model is a paired comparison of successes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson

from proxy.batches.keeper import EMULATE, Keeper
from proxy.batches.lines import ENDPOINT
from proxy.batches.shelf import Shelf
from proxy.bench import stats
from proxy.bench.asking import request
from proxy.bench.data import Case
from proxy.bench.results import Run
from proxy.bench.runner import Score
from proxy.bench.session import Session
from proxy.bench.stats import Discordant, Estimate
from proxy.bench.suite import Suite
from proxy.record import Exchange
from proxy.wire.answer import answer_of

Json = dict[str, Any]

_WHICH = "weighbridge_bench"
_ENDED = ("completed", "failed", "expired", "cancelled")


class Batched:
    """Submits a suite's cases in batches and waits for them. What was submitted is not submitted again."""

    def __init__(self, suite: Suite, cases: Sequence[Case], session: Session, run: Run, score: Score) -> None:
        self._suite = suite
        self._cases = cases
        self._session = session
        self._run = run
        self._score = score
        self._shelf = Shelf(run.folder / "batches")

    async def run(
        self, labels: Sequence[str], count: int, poll: float, emulate: bool, tell: Callable[[str], None]
    ) -> None:
        """`count`: batches for each target. Ends when all of them have."""
        session = self._session
        keeper = Keeper(self._shelf, lambda: session.router, session.batch_engine, session.bus, poll)
        known = self._known()
        task = asyncio.create_task(keeper.run())
        try:
            waiting = []
            for label in labels:
                for place in range(count):
                    cases = self._cases[place::count]
                    if not cases:
                        continue
                    id = known.get((label, place)) or await self._submit(keeper, label, place, cases, emulate)
                    waiting.append((label, place, cases, id))
            have = {(row["target"], row["batch"]) for row in self._run.rows()}
            for label, place, cases, id in waiting:
                if (label, id) not in have:
                    tell(f"{label}: batch {place + 1} of {count}, {len(cases)} requests, {id}")
                    about = await self._ended(keeper, id, poll)
                    await self._written(keeper, label, cases, about)
        finally:
            task.cancel()
            self._run.close()

    def _known(self) -> dict[tuple[str, int], str]:
        """Batches of this run that are there already: each says in its metadata which it is."""
        found = {}
        for about in self._shelf.every("batch"):
            label, _, place = str(about["metadata"].get(_WHICH, "")).rpartition("#")
            if label:
                found[label, int(place)] = about["id"]
        return found

    async def _submit(self, keeper: Keeper, label: str, place: int, cases: Sequence[Case], emulate: bool) -> str:
        way = self._session.ways[label]
        told = []
        for case in cases:
            body = {"model": way.model, **asked(self._suite, case), **way.params}
            told.append({"custom_id": f"{case.task}/{case.id}", "method": "POST", "url": ENDPOINT, "body": body})
        content = b"".join(orjson.dumps(line) + b"\n" for line in told)
        file = await keeper.add_file(content, f"{label.replace('/', '-')}-{place}.jsonl", "batch", None)
        metadata = {_WHICH: f"{label}#{place}"} | ({EMULATE: "true"} if emulate else {})
        wanted = {"input_file_id": file["id"], "metadata": metadata}
        id: str = (await keeper.create(wanted, None, True))["id"]
        return id

    async def _ended(self, keeper: Keeper, id: str, poll: float) -> Json:
        while True:
            about = await keeper.owned("batch", id, None)
            if about["status"] in _ENDED:
                return about
            await asyncio.sleep(min(poll, 1.0))

    async def _written(self, keeper: Keeper, label: str, cases: Sequence[Case], about: Json) -> None:
        lines: dict[str, Json] = {}
        for name in ("output_file_id", "error_file_id"):
            for raw in (keeper.shelf.content(about[name]) or b"").splitlines() if about[name] else ():
                line = orjson.loads(raw)
                lines[line["custom_id"]] = line
        ended = about.get(f"{about['status']}_at") or about["finalizing_at"]
        for case in cases:
            line = lines.get(f"{case.task}/{case.id}") or {"response": None, "error": {"code": "missing"}}
            response = line["response"]
            ok = response is not None and response["status_code"] == 200
            body = response["body"] if ok else {}
            answer = answer_of(orjson.dumps(body), stream=False)
            exchange = Exchange("", 0.0, 0)
            scores = await self._score(case, answer, exchange) if ok else {}
            score = next(iter(scores.values()), None) if ok else 0.0
            self._run.append(
                {
                    "arm": "batch",
                    "target": label,
                    "batch": about["id"],
                    "task": case.task,
                    "case": case.id,
                    "cluster": case.cluster,
                    "weight": case.weight,
                    "ok": ok,
                    "error": None if ok else _why(line),
                    "scores": scores,
                    "score": score,
                    "success": score is not None and score >= self._suite.tasks[case.task].success,
                    "cost_usd": line["weighbridge"]["cost_usd"] if ok else 0.0,
                    "delay_s": ended - about["created_at"],
                }
            )


def asked(suite: Suite, case: Case) -> Json:
    """What both arms are asked: the suite's request without a stream, since a batch has none."""
    body = request(suite, case)
    return {name: value for name, value in body.items() if name not in ("stream", "stream_options")}


def _why(line: Mapping[str, Any]) -> str:
    if line["response"] is not None:
        return f"status {line['response']['status_code']}"
    return str((line["error"] or {}).get("code") or "unanswered")


# -- what it means


class Compared(NamedTuple):
    target: str
    requests: int
    batches: int
    failed: dict[str, int]
    """Unanswered or failed lines of the batches, by why."""
    ratio: Estimate
    """Batch cost of a success over its real-time cost: 0.5 halves the price."""
    delay: Estimate
    """Median seconds from submission to the end of a batch; n is the number of batches."""
    real_time: Estimate
    batch: Estimate
    """Mean success by prompt of each arm."""
    same: Discordant
    """Is it the same model? Prompts on which one arm alone succeeded, with exact McNemar."""


def compare(suite: Suite, live: Sequence[Json], batched: Sequence[Json], seed: int = 0) -> list[Compared]:
    """`live`: rows of `bench run` with one repeat; `batched`: rows that `Batched` wrote."""
    rng = np.random.default_rng(seed)
    found = []
    for target in suite.targets:
        label = target.label
        one = {(row["task"], row["case"]): row for row in live if row["target"] == label and row["repeat"] == 0}
        two = {(row["task"], row["case"]): row for row in batched if row["target"] == label}
        shared = sorted(one.keys() & two.keys())
        if not shared:
            continue
        a, b = [one[key] for key in shared], [two[key] for key in shared]
        won_a, won_b = [float(row["success"]) for row in a], [float(row["success"]) for row in b]
        delays = {row["batch"]: float(row["delay_s"]) for row in b}
        failed: dict[str, int] = {}
        for row in b:
            if not row["ok"]:
                failed[row["error"]] = failed.get(row["error"], 0) + 1
        found.append(
            Compared(
                label,
                len(shared),
                len(delays),
                failed,
                _ratio(a, b, won_a, won_b, rng),
                stats.quantile(list(delays.values()), 0.5),
                stats.share(won_a),
                stats.share(won_b),
                stats.discordant(won_b, won_a),
            )
        )
    return found


def _ratio(
    a: Sequence[Json], b: Sequence[Json], won_a: Sequence[float], won_b: Sequence[float], rng: np.random.Generator
) -> Estimate:
    n = len(a)
    if any(row["cost_usd"] is None for row in (*a, *b)):
        return Estimate(None, None, None, n, "no price")
    spent_a, spent_b = (np.array([row["cost_usd"] for row in rows]) for rows in (a, b))
    wins_a, wins_b = np.array(won_a), np.array(won_b)
    if not (wins_a.sum() and wins_b.sum() and spent_a.sum()):
        return Estimate(None, None, None, n, "nothing to divide by")
    value = float((spent_b.sum() / wins_b.sum()) / (spent_a.sum() / wins_a.sum()))
    if n < 10:
        return Estimate(value, None, None, n, "n too small: 10 needed")
    drawn = rng.integers(0, n, size=(stats.RESAMPLES, n))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = (spent_b[drawn].sum(1) / wins_b[drawn].sum(1)) / (spent_a[drawn].sum(1) / wins_a[drawn].sum(1))
    low, high = np.nanquantile(ratios, [0.025, 0.975])
    return Estimate(value, float(low), float(high), n)


def told(found: Compared) -> list[str]:
    from proxy.bench.report import percent, shown

    lines = [
        f"{found.target}: a success costs {shown(found.ratio, lambda v: f'{v:.3f}')} of its real-time price",
        f"  delay, median: {shown(found.delay, lambda v: f'{v:.0f} s')}, n = {found.batches} batches",
        f"  success: {shown(found.batch, percent)} in batches, {shown(found.real_time, percent)} in real time, "
        f"n = {found.requests}",
    ]
    differ = found.same.new_only + found.same.old_only
    if found.same.p < 0.05:
        lines.append(f"  NOT the same model, it seems: {differ} prompts differ, p = {found.same.p:.3f}")
    else:
        lines.append(f"  no sign of another model: {differ} prompts differ, p = {found.same.p:.2f}")
    if found.failed:
        lines.append("  failed lines: " + ", ".join(f"{why} {count}" for why, count in sorted(found.failed.items())))
    return lines
