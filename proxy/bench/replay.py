"""Asks a stored slice of live traffic again, of a candidate, with its arrival times, and sets the two side by side.

Captured requests can be asked again, or those of a file. The candidate sees the history as it was served: one step off
the path, no conversation of its own. Tools are offered and never called. The table looks once at a fixed slice, so its
intervals are ordinary ones; the report (`replayed`) pairs and judges as a shadow experiment does.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
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
from proxy.call import Called
from proxy.config.problems import ConfigError, Problem
from proxy.measure.store import offline
from proxy.measure.store.upkeep import iso
from proxy.wire.answer import Answer, answer_of

Json = dict[str, Any]

_CAPTURED = (
    "SELECT e.id, e.at, julianday(e.at) * 86400.0 AS seconds, e.target, e.stream, e.outcome, e.ttft_ms, e.e2e_ms,"
    " e.cost_usd, e.winner_no, e.key, b.request, b.answer, a.target AS first_target, a.error_kind AS first_error,"
    " a.ttft_ms AS first_ttft_ms, a.e2e_ms AS first_e2e_ms, a.cost_usd AS first_cost_usd,"
    " a.output_tokens AS first_output_tokens FROM bodies b JOIN v_exchanges e ON e.id = b.id"
    " LEFT JOIN v_attempts a ON a.exchange_id = e.id AND a.attempt_no = 1"
    " WHERE b.expires > :now AND e.origin = 'live' AND e.at >= :since AND e.route = :route"
    " AND e.outcome NOT IN ('client_error', 'client_closed') ORDER BY e.at LIMIT :most"
)
_OWN = ("model", "models", "provider", "fallbacks", "stream_options", "store")
"""Members of a request that belong to its own routing, or leave something behind upstream."""


class First(NamedTuple):
    """The first try of a request: what a single try of a candidate is to be compared with."""

    target: str
    error_kind: str | None
    ttft_ms: float | None
    e2e_ms: float | None
    cost_usd: float | None
    served: bool
    """Its answer is the one that was served."""


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
    first: First | None
    """None where nobody was asked."""
    when: str
    """ISO 8601, UTC."""
    key: str
    """Name of the client's key, empty without one."""
    said: str
    """The served answer as it was sent."""


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
            _first(row),
            row["at"],
            row["key"] or "",
            row["answer"] or "",
        )
        for offset, (row, body) in zip(sorted(offsets), kept, strict=True)
    ]


def _first(row: Mapping[str, Any]) -> First | None:
    names = ("target", "error", "ttft_ms", "e2e_ms", "cost_usd")
    target, error, ttft, e2e, usd = (row[f"first_{name}"] for name in names)
    return None if target is None else First(target, error, ttft, e2e, usd, served=row["winner_no"] == 1)


def supplied(path: Path, speed: float, most: int) -> list[Slice]:
    """From a file of lines {"at", "request", "response"}, and perhaps "target", "ttft_ms", "e2e_ms", "cost_usd".

    `at` is in seconds or ISO 8601. Raises `ConfigError` with the line that is none.
    """
    found = []
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([Problem(str(path), "", f"cannot be read: {error}")]) from None
    for number, line in enumerate(lines, 1):
        if line.strip():
            found.append(_supplied(f"{path}:{number}", number, line))
    if not found:
        raise ConfigError([Problem(str(path), "", "holds no request")])
    kept = sorted(found, key=lambda one: one.at)[:most]
    offsets = recorded([one.at for one in kept], speed)
    return [one._replace(at=offset) for one, offset in zip(kept, sorted(offsets), strict=True)]


_LINE = 'each line is {"at": seconds or ISO 8601, "request": {...a chat}, "response": {...its answer}}'


def _supplied(where: str, number: int, line: str) -> Slice:
    try:
        told = orjson.loads(line)
        at = told["at"]
        moment = datetime.fromisoformat(at) if isinstance(at, str) else datetime.fromtimestamp(at, UTC)
        request, response = told["request"], told["response"]
        body = _chat(orjson.dumps(request).decode())
        if body is None:
            raise ValueError("request is no chat")
        said = response if isinstance(response, str) else orjson.dumps(response).decode()
        ttft, e2e, usd = (None if (value := told.get(name)) is None else float(value) for name in _TIMES)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, OverflowError, OSError) as error:
        raise ConfigError([Problem(where, "", f"no request to be replayed: {error!r}", _LINE)]) from None
    stream = isinstance(response, str)
    target = str(told.get("target") or "supplied")
    answer = answer_of(said.encode(), stream=stream)
    ok = answer.finish_reason is not None
    first = First(target, None if ok else "malformed", ttft, e2e, usd, served=True)
    id, when = str(told.get("id") or f"line {number}"), iso(moment.timestamp())
    return Slice(
        id, moment.timestamp(), body, stream, target, answer, ok, ttft, e2e, usd, first, when, key="", said=said
    )


_TIMES = ("ttft_ms", "e2e_ms", "cost_usd")


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
    session: Session,
    label: str,
    asked: Sequence[Slice],
    most: int,
    tell: Callable[[int, int], None],
    pair: Callable[[Slice, Called], None] = lambda part, called: None,
) -> list[Json]:
    """A row for each request. Open arrivals: nobody waits for the one before; at most `most` are under way.

    `pair` is given each request with what the candidate said.
    """
    began, began_ns = time.monotonic(), time.perf_counter_ns()
    room = asyncio.Semaphore(most)
    rows: list[Json] = []

    async def one(part: Slice) -> None:
        body = {**part.body, **({"stream": True, "stream_options": {"include_usage": True}} if part.stream else {})}
        async with room:
            called = await session.ask(label, body, due_ns=began_ns + round(part.at * 1e9))
        answer = answer_of(called.data, stream=part.stream)
        rows.append(_row(part, answer, measured(called.exchange)))
        pair(part, called)
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


_WORDS = {
    "errors": "without an error", "refusal": "not refused", "truncation": "not cut off", "validity": "valid",
}  # fmt: skip
"""What a share of 100 % of such a score means: scores are good when high, whatever they are called."""


def told(rows: Sequence[Json]) -> list[str]:
    from proxy.bench.report import ms, percent, shown, usd

    forms = {"share": percent, "ms": ms, "usd": usd}
    signed = {"share": lambda v: f"{100 * v:+.1f} pts", "ms": lambda v: f"{v:+,.0f}", "usd": lambda v: f"{v:+.6f}"}
    table = [["METRIC", "SERVED", "CANDIDATE", "DIFFERENCE", "N"]]
    for one in compared(rows):
        form = forms[one.unit]
        gap = shown(one.difference, signed[one.unit]) if one.difference.value is not None else "–"
        n = str(max(one.served.n, one.candidate.n))
        table.append([_WORDS.get(one.metric, one.metric), shown(one.served, form), shown(one.candidate, form), gap, n])
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
