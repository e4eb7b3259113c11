"""Asks a stored slice of live traffic again, of a candidate, with its arrival times, and sets the two side by side.

Only captured requests can be asked again. The candidate sees the history as it was served: one step off the path, no
conversation of its own. Tools are offered and never called. A replay is one look at a fixed slice, so its intervals are
ordinary ones and no verdict is drawn; for a decision on live traffic use a shadow experiment.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson

from proxy import scoring
from proxy.bench import stats
from proxy.bench.arrivals import recorded
from proxy.bench.runner import measured
from proxy.bench.session import Session
from proxy.bench.stats import Estimate
from proxy.config.problems import ConfigError, Problem
from proxy.measure.store import offline
from proxy.measure.store.upkeep import iso
from proxy.wire.answer import Answer, answer_of

Json = dict[str, Any]

_CAPTURED = (
    "SELECT e.id, e.at, julianday(e.at) * 86400.0 AS seconds, e.target, e.stream, e.outcome, e.ttft_ms, e.e2e_ms,"
    " e.cost_usd, b.request, b.answer FROM bodies b JOIN v_exchanges e ON e.id = b.id"
    " WHERE b.expires > :now AND e.origin = 'live' AND e.at >= :since AND e.route = :route"
    " AND e.outcome NOT IN ('client_error', 'client_closed') ORDER BY e.at LIMIT :most"
)
_OWN = ("model", "models", "provider", "fallbacks", "stream_options", "store")
"""Members of a request that belong to its own routing, or leave something behind upstream."""


class Slice(NamedTuple):
    """One captured request, as it was served."""

    id: str
    at: float
    """Seconds after the first of the slice, by the wanted speed."""
    body: Json
    stream: bool
    target: str | None
    answer: Answer
    ok: bool
    ttft_ms: float | None
    e2e_ms: float | None
    cost_usd: float | None


def slice_of(database: Path | None, route: str, since: float, speed: float, most: int, now: float) -> list[Slice]:
    """Chats alone; oldest first. Raises `ConfigError` where there are none."""
    if database is None:
        raise ConfigError([Problem("replay", "", "there is no store: `storage` is none")])
    terms = {"now": iso(now), "since": iso(now - since), "route": route, "most": most}
    try:
        with offline.reading(database) as connection:
            rows = connection.execute(_CAPTURED, terms).fetchall()
    except offline.NoStore as error:
        raise ConfigError([Problem("replay", "", str(error))]) from None
    kept = [(row, body) for row in rows if (body := _chat(row["request"])) is not None]
    if not kept:
        hint = "set `capture: redacted` (or full) for the route, and wait for traffic"
        raise ConfigError([Problem("replay", "", f"no captured chat of the route {route!r} is in this time", hint)])
    offsets = recorded([row["seconds"] for row, _ in kept], speed)
    return [
        Slice(
            row["id"],
            offset,
            body,
            bool(row["stream"]),
            row["target"],
            answer_of((row["answer"] or "").encode(), stream=bool(row["stream"])),
            row["outcome"] == "ok",
            row["ttft_ms"],
            row["e2e_ms"],
            row["cost_usd"],
        )
        for offset, (row, body) in zip(sorted(offsets), kept, strict=True)
    ]


def _chat(request: str) -> Json | None:
    """The request without what is its own; None for what is no chat, or holds what redaction has cut out."""
    try:
        body = orjson.loads(request)
    except ValueError:
        return None
    if not isinstance(body, dict) or not isinstance(body.get("messages"), list) or "[data]" in request:
        return None
    return {name: value for name, value in body.items() if name not in _OWN}


async def replay(
    session: Session, label: str, asked: Sequence[Slice], most: int, tell: Callable[[int, int], None]
) -> list[Json]:
    """A row for each request. Open arrivals: nobody waits for the one before; at most `most` are under way."""
    began, began_ns = time.monotonic(), time.perf_counter_ns()
    room = asyncio.Semaphore(most)
    rows: list[Json] = []

    async def one(part: Slice) -> None:
        body = {**part.body, **({"stream": True, "stream_options": {"include_usage": True}} if part.stream else {})}
        async with room:
            called = await session.ask(label, body, due_ns=began_ns + round(part.at * 1e9))
        answer = answer_of(called.data, stream=part.stream)
        rows.append(_row(part, answer, measured(called.exchange)))
        tell(len(rows), len(asked))

    async with asyncio.TaskGroup() as group:
        for part in asked:
            if (pause := began + part.at - time.monotonic()) > 0:
                await asyncio.sleep(pause)
            group.create_task(one(part))
    return sorted(rows, key=lambda row: str(row["id"]))


def _row(part: Slice, answer: Answer, found: Json) -> Json:
    ok = found["outcome"] == "ok"
    served = part.answer if part.ok else scoring.FAILED
    candidate = answer if ok else scoring.FAILED
    both = {name: [arm(part.body, served), arm(part.body, candidate)] for name, arm in scoring.ARMS.items()}
    same = {name: compare(served, candidate) for name, compare in scoring.SAMENESS.items()}
    return {
        "id": part.id,
        "target": part.target,
        "served": {"ok": part.ok, "ttft_ms": part.ttft_ms, "e2e_ms": part.e2e_ms, "cost_usd": part.cost_usd},
        "candidate": {"ok": ok, **{name: found[name] for name in ("ttft_ms", "e2e_ms", "cost_usd", "error_kind")}},
        "exchange_id": found["exchange_id"],
        "scores": both,
        "sameness": same,
    }


# -- side by side


class Compared(NamedTuple):
    metric: str
    served: Estimate
    candidate: Estimate
    difference: Estimate
    """Candidate less served, paired; for latency of the median pair by order statistics."""
    unit: str
    """share, ms or usd."""


def compared(rows: Sequence[Json], seed: int = 0) -> list[Compared]:
    rng = np.random.default_rng(seed)
    found = []
    for name in scoring.ARMS:
        pairs = [row["scores"][name] for row in rows]
        known = [(a, b) for a, b in pairs if a is not None and b is not None]
        if known:
            a, b = ([pair[side] for pair in known] for side in (0, 1))
            found.append(Compared(name, stats.share(a), stats.share(b), stats.difference(b, a, rng), "share"))
    for metric in ("ttft_ms", "e2e_ms"):
        times = [(_waited(row["served"], metric), _waited(row["candidate"], metric)) for row in rows]
        both = [(a, b) for a, b in times if a is not None and b is not None]
        if any(math.isfinite(a) and math.isfinite(b) for a, b in both):
            a, b = ([pair[side] for pair in both] for side in (0, 1))
            apart = [y - x for x, y in both if math.isfinite(x) or math.isfinite(y)]
            for q in (0.5, 0.95):
                label = f"{metric.removesuffix('_ms')} p{100 * q:g}"
                gap = stats.quantile(apart, 0.5) if q == 0.5 else Estimate(None, None, None, len(apart), "")
                found.append(Compared(label, stats.quantile(a, q), stats.quantile(b, q), gap, "ms"))
    priced = [(row["served"]["cost_usd"], row["candidate"]["cost_usd"]) for row in rows]
    costs = [(a, b) for a, b in priced if a is not None and b is not None]
    if costs:
        a, b = ([pair[side] for pair in costs] for side in (0, 1))
        found.append(Compared("cost", stats.mean(a), stats.mean(b), stats.difference(b, a, rng), "usd"))
    return found


def _waited(side: Json, metric: str) -> float | None:
    value: float | None = side[metric]
    return value if side["ok"] else math.inf


def likeness(rows: Sequence[Json]) -> dict[str, Estimate]:
    """How like the served answers the candidate's are. Being different is not being worse."""
    found = {}
    for name in scoring.SAMENESS:
        known = [row["sameness"][name] for row in rows if row["sameness"][name] is not None]
        if known:
            found[name] = stats.share(known)
    return found


def told(rows: Sequence[Json]) -> list[str]:
    from proxy.bench.report import ms, percent, shown, usd

    forms = {"share": percent, "ms": ms, "usd": usd}
    signed = {"share": lambda v: f"{100 * v:+.1f} pts", "ms": lambda v: f"{v:+,.0f}", "usd": lambda v: f"{v:+.6f}"}
    table = [["METRIC", "SERVED", "CANDIDATE", "DIFFERENCE", "N"]]
    for one in compared(rows):
        form = forms[one.unit]
        gap = shown(one.difference, signed[one.unit]) if one.difference.value is not None else "–"
        n = str(max(one.served.n, one.candidate.n))
        table.append([one.metric, shown(one.served, form), shown(one.candidate, form), gap, n])
    widths = [max(len(row[column]) for row in table) for column in range(5)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    failed: dict[str, int] = {}
    for row in rows:
        if not row["candidate"]["ok"]:
            kind = str(row["candidate"]["error_kind"])
            failed[kind] = failed.get(kind, 0) + 1
    if failed:
        lines.append("candidate failed: " + ", ".join(f"{kind} {count}" for kind, count in sorted(failed.items())))
    same = ", ".join(f"{name} {shown(value, percent)}" for name, value in likeness(rows).items())
    if same:
        lines.append(f"likeness (no measure of quality): {same}")
    return lines
