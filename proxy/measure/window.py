"""A window of recent time as the document that `GET /api/stats` answers with. Runs off the event loop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from proxy.measure import recent, sketch
from proxy.measure.recent import Cell, Window
from proxy.wire.usage import CLASSES

QS = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
_Z = 1.959964  # two-sided 95 % of the normal distribution

Json = dict[str, Any]


def report(window: Window, started_ns: int, wall: float) -> Json:
    """`started_ns`: when counting began, as `window.now_ns`; `wall`: that same `now_ns` in seconds since the epoch."""
    now = window.now_ns / 1e9
    steps = max(1, math.ceil((now - window.first) / window.step))
    points: list[dict[str, Cell]] = [{} for _ in range(steps)]
    whole: dict[str, Cell] = {label: Cell() for label in window.labels}
    for second, cells in window.buckets:
        for label, packed in cells.items():
            point = points[min((second - window.first) // window.step, steps - 1)]
            for into in (point, whole):
                recent.add(into.setdefault(label, Cell()), packed)
    covered = max(now - max(window.first, started_ns / 1e9), 1.0)
    everything = Cell()
    for cell in whole.values():
        recent.add(everything, recent.pack(cell))
    shared = sum(cell.numbers[recent.REQUESTS] for label, cell in whole.items() if label != recent.NONE)
    return {
        "now": round(wall, 3),
        "window_s": window.step * steps,
        "covered_s": round(covered, 1),
        "step_s": window.step,
        "totals": _cell(everything, covered),
        "targets": [
            {
                "target": label,
                "share": cell.numbers[recent.REQUESTS] / shared if shared and label != recent.NONE else None,
                **_cell(cell, covered),
            }
            for label, cell in whole.items()
        ],
        "series": {
            "at": [round(wall - now + window.first + place * window.step, 3) for place in range(steps)],
            "targets": {label: _series([point.get(label) for point in points]) for label in whole},
        },
    }


def _cell(cell: Cell, covered: float) -> Json:
    numbers = cell.numbers
    cost = numbers[recent.COST_NANO] / 1e9 if numbers[recent.PRICED] else None
    return {
        "requests": numbers[recent.REQUESTS],
        "attempts": numbers[recent.ATTEMPTS],
        "errors_before_failover": _rate(numbers[recent.ATTEMPTS_FAILED], numbers[recent.ATTEMPTS]),
        "errors_after_failover": _rate(numbers[recent.REQUESTS_FAILED], numbers[recent.REQUESTS]),
        "error_kinds": {kind.value: count for kind, count in sorted(cell.kinds.items())},
        "failovers": numbers[recent.FAILOVERS],
        "retries": numbers[recent.RETRIES],
        "ttft_ms": _quantiles(cell.ttft),
        "e2e_ms": _quantiles(cell.e2e),
        "streams": numbers[recent.STREAMS],
        "stalled_streams": numbers[recent.STALLED],
        "tokens": dict(zip(CLASSES, numbers[recent.TOKENS :], strict=True)),
        "cost_usd": cost,
        "cost_per_hour_usd": None if cost is None else cost / covered * 3600,
        "unpriced_attempts": numbers[recent.UNPRICED],
    }


def _rate(failed: int, of: int) -> Json:
    """With Wilson's 95 % interval; nothing was asked: no rate."""
    if not of:
        return {"failed": 0, "n": 0, "rate": None, "low": None, "high": None}
    share, z2 = failed / of, _Z * _Z
    centre = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = _Z * math.sqrt(share * (1 - share) / of + z2 / (4 * of * of)) / (1 + z2 / of)
    return {
        "failed": failed,
        "n": of,
        "rate": share,
        "low": max(0.0, centre - half) if failed else 0.0,
        "high": min(1.0, centre + half) if failed < of else 1.0,
    }


def _quantiles(counts: Mapping[int, int]) -> Json:
    found = sketch.quantiles(counts, QS.values())
    return {
        "n": sketch.total(counts),
        **{
            name: {"value": _ms(one.value), "low": _ms(one.low), "high": _ms(one.high)}
            for name, one in zip(QS, found, strict=True)
        },
    }


def _series(cells: list[Cell | None]) -> Json:
    """One number a step: counts, and quantiles by nearest rank (of few samples, the largest; `n` stands beside)."""

    def counts(field: int) -> list[int]:
        return [cell.numbers[field] if cell else 0 for cell in cells]

    def times(samples: list[sketch.Counts]) -> Json:
        return {
            "n": [sketch.total(counts) for counts in samples],
            **{name: [_ms(sketch.nearest(counts, q)) for counts in samples] for name, q in QS.items()},
        }

    return {
        "requests": counts(recent.REQUESTS),
        "requests_failed": counts(recent.REQUESTS_FAILED),
        "attempts": counts(recent.ATTEMPTS),
        "attempts_failed": counts(recent.ATTEMPTS_FAILED),
        "cost_usd": [nano / 1e9 for nano in counts(recent.COST_NANO)],
        "ttft_ms": times([cell.ttft if cell else {} for cell in cells]),
        "e2e_ms": times([cell.e2e if cell else {} for cell in cells]),
    }


def _ms(ns: float | None) -> float | None:
    return None if ns is None else round(ns / 1e6, 3)
