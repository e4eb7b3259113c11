"""Captured production requests as cases: drawn by stratum, so that rare kinds are there, and weighed back to the mix.

A stratum is a route, a size of prompt and whether tools are offered. Strata take turns until there are enough cases,
and each case stands for as many requests as its stratum had for each that was drawn.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import orjson

from proxy.bench.suite import Production
from proxy.config.problems import ConfigError, Problem
from proxy.measure.store import offline
from proxy.measure.store.upkeep import iso
from proxy.wire.answer import answer_of

Json = dict[str, Any]
Stratum = tuple[str, str, bool]

_SIZES = (500, 2_000, 8_000)
"""Characters of the messages; a prompt falls below the first that is larger."""
_KEPT = ("tools", "tool_choice", "parallel_tool_calls", "response_format")
"""Parameters without which the request would be another; sampling is the suite's own."""
_MOST = 100_000
_LATER = "9"
"""After every time of the column `at`: the second that runs is not cut off."""

_CAPTURED = (
    "SELECT e.id, e.route, b.request, b.answer FROM bodies b JOIN v_exchanges e ON e.id = b.id"
    " WHERE b.expires > :now AND e.origin = 'live' AND e.outcome = 'ok' AND e.at >= :since AND e.at < :until"
    " AND (:route IS NULL OR e.route = :route) ORDER BY b.n DESC LIMIT :most"
)
_LIVE = (
    "SELECT count(*) FROM v_exchanges WHERE origin = 'live' AND at >= :since AND at < :until"
    " AND (:route IS NULL OR route = :route)"
)


def rows(wanted: Production, database: Path | None, source: str, seed: int, chosen: Mapping[str, float]) -> list[Json]:
    """Rows as of a data file, each with the answer that was served as `served`. Raises `ConfigError`.

    `chosen`: ids and weights of an earlier draw, which is repeated.
    """
    if database is None:
        raise ConfigError([Problem(source, "", "there is no store: `storage` is none")])
    now = time.time()
    terms = {
        "now": iso(now), "since": iso(now - wanted.since), "until": iso(now - wanted.until) if wanted.until else _LATER,
        "route": wanted.route,
        "most": _MOST,
    }  # fmt: skip
    try:
        with offline.reading(database) as connection:
            if chosen:
                terms |= {"since": "", "route": None, "until": _LATER}
            found = {row["id"]: row for one in connection.execute(_CAPTURED, terms) if (row := _row(one, wanted))}
            live = connection.execute(_LIVE, terms).fetchone()[0]
    except offline.NoStore as error:
        raise ConfigError([Problem(source, "", str(error))]) from None
    if chosen:
        gone = [id for id in chosen if id not in found]
        if gone:
            raise ConfigError([Problem(source, "", f"{len(gone)} of the captured requests are forgotten by now")])
        return [{**found[id], "weight": weight} for id, weight in chosen.items()]
    if not found:
        where = f"route {wanted.route!r}" if wanted.route is not None else "any route"
        said = f"no captured chat of {where} in this time is there and fits ({live:,} live requests were served)"
        hint = "set `capture: {bodies: redacted}` for the route, wait for traffic, and see docs/store.md"
        raise ConfigError([Problem(source, "", said, hint)])
    return drawn(list(found.values()), wanted.limit, seed)


def drawn(found: Sequence[Json], limit: int, seed: int) -> list[Json]:
    """At most `limit` rows, strata in turns, with the weights that lead back to the mix of `found`."""
    strata: dict[Stratum, list[Json]] = defaultdict(list)
    for row in sorted(found, key=lambda row: str(row["id"])):
        strata[_stratum(row)].append(row)
    rng = Random(seed)  # noqa: S311  (chance, not secrets)
    for members in strata.values():
        rng.shuffle(members)
    taken: dict[Stratum, int] = dict.fromkeys(strata, 0)
    left = min(limit, len(found))
    while left:
        for stratum, members in strata.items():
            if left and taken[stratum] < len(members):
                taken[stratum] += 1
                left -= 1
    return list(_weighed(strata, taken))


def _weighed(strata: Mapping[Stratum, Sequence[Json]], taken: Mapping[Stratum, int]) -> Iterator[Json]:
    for stratum, members in strata.items():
        for row in members[: taken[stratum]]:
            yield {**row, "weight": len(members) / taken[stratum]}


def _stratum(row: Json) -> Stratum:
    return str(row["route"]), _size(row["characters"]), bool(row["params"].get("tools"))


def _size(characters: int) -> str:
    return next((f"below {size}" for size in _SIZES if characters < size), "longer")


def _row(one: Any, wanted: Production) -> Json | None:
    """None for what is no chat, has no whole answer, was cut apart by redaction, or is not wanted."""
    try:
        body = orjson.loads(one["request"])
    except ValueError:
        return None
    messages = body.get("messages") if isinstance(body, dict) else None
    if not isinstance(messages, list) or not messages or one["answer"] is None or "[data]" in one["request"]:
        return None
    served = answer_of(one["answer"].encode(), stream=bool(body.get("stream")))
    if served.finish_reason is None:
        return None
    params = {name: body[name] for name in _KEPT if body.get(name) is not None}
    characters = len(orjson.dumps(messages).decode())
    if wanted.tools is not None and wanted.tools != bool(params.get("tools")):
        return None
    if not wanted.shortest <= characters <= wanted.longest:
        return None
    return {
        "id": one["id"], "route": one["route"], "messages": messages, "params": params, "characters": characters,
        "served": served.text,
    }  # fmt: skip
