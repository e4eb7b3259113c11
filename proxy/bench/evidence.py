"""What live and shadow traffic say of the suite's targets, from the same store, to be shown beside what the suite says.

It is other evidence: other prompts, other hours, nobody judged the answers. So it never enters a decision.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from proxy.bench import stats
from proxy.bench.stats import Estimate
from proxy.measure.store import offline

Json = dict[str, Any]

MOST = 50_000
"""Latest requests of a target that are looked at."""
_OURS = ("client_error", "client_closed")
"""Outcomes that say nothing of the target."""
_TRAFFIC = (
    "SELECT at, outcome, e2e_ms, cost_usd FROM v_exchanges"
    " WHERE origin = ? AND (target = ? OR route = ?) ORDER BY record_no DESC LIMIT ?"
)


class Traffic(NamedTuple):
    target: str
    origin: str
    """`live` or `shadow`."""
    since: str
    until: str
    requests: int
    errors: Estimate
    p50: Estimate
    p95: Estimate
    """Last byte of the request to last byte of the answer, ms; a failed request is infinitely slow."""
    cost_usd: float | None
    """Mean of the requests whose price is known."""
    priced: int
    verdict: str
    """Of a shadow experiment with this candidate; empty where there is none."""


def gathered(database: Path | None, labels: Sequence[str], verdicts: Mapping[str, str]) -> list[Traffic]:
    """Every target that had traffic, live before shadow. `verdicts`: by candidate, in words."""
    if database is None or not database.exists():
        return []
    found = []
    with offline.reading(database) as connection:
        for label in labels:
            for origin in ("live", "shadow"):
                rows = connection.execute(_TRAFFIC, (origin, label, label, MOST)).fetchall()
                if rows:
                    found.append(_traffic(label, origin, rows, verdicts.get(label, "") if origin == "shadow" else ""))
    return found


def _traffic(label: str, origin: str, rows: Sequence[Any], verdict: str) -> Traffic:
    counted = [row for row in rows if row["outcome"] not in _OURS]
    waits = [row["e2e_ms"] if row["outcome"] == "ok" and row["e2e_ms"] is not None else math.inf for row in counted]
    costs = [row["cost_usd"] for row in rows if row["cost_usd"] is not None]
    return Traffic(
        label,
        origin,
        min(row["at"] for row in rows),
        max(row["at"] for row in rows),
        len(rows),
        stats.share([float(row["outcome"] != "ok") for row in counted]),
        stats.quantile(waits, 0.5),
        stats.quantile(waits, 0.95),
        math.fsum(costs) / len(costs) if costs else None,
        len(costs),
        verdict,
    )


def told(traffic: Sequence[Traffic]) -> list[Json]:
    """As a manifest keeps it."""
    return [
        {name: _kept(value) if isinstance(value, Estimate) else value for name, value in one._asdict().items()}
        for one in traffic
    ]


def _kept(one: Estimate) -> list[Any]:
    return ["inf" if value == math.inf else value for value in one]


def read_back(kept: Sequence[Json]) -> list[Traffic]:
    """What `told` gave, after JSON, which has no infinity."""
    return [
        Traffic._make([_estimate(one[name]) if isinstance(one[name], list) else one[name] for name in Traffic._fields])
        for one in kept
    ]


def _estimate(kept: Sequence[Any]) -> Estimate:
    *figures, n, note = kept
    value, low, high = (math.inf if one == "inf" else one for one in figures)
    return Estimate(value, low, high, n, note)
