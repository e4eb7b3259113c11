"""The report as one self-contained page."""

from __future__ import annotations

import math
from typing import Any

from proxy import pictures
from proxy.cli.report import HEAD, cells, ms, percent, read_from, usd
from proxy.measure.report import Report
from proxy.measure.stats import Estimate


def page(now: Report, before: Report | None, differ: dict[str, dict[str, str]]) -> str:
    total = now.total
    columns = [cells(name, figures)[1:] for name, figures in now.groups.items()]
    sections = [
        pictures.tiles(
            [
                ("requests", f"{total['requests']:,}", f"{total['left_by_client']:,} given up by their clients"),
                _tile("errors that clients saw", total["errors"], percent),
                _tile("requests that failed over", total["failovers"], percent),
                _tile("TTFT p95", total["ttft_ms"]["p95"], ms, total["ttft_answered_ms"]["p95"]),
                _tile("E2E p95", total["e2e_ms"]["p95"], ms, total["e2e_answered_ms"]["p95"]),
                ("cost", usd(total["cost_usd"]), f"unpriced {percent(total['unpriced'].value or 0.0)} of the answers"),
            ]
        ),
        *_latencies(now),
        pictures.section(
            "Errors",
            pictures.intervals(
                [_interval(name, one["errors"]) for name, one in now.groups.items()],
                label="share of requests that failed",
                form=percent,
                zero=True,
            ),
            lead="What clients saw, after every failover. Requests that were wrong themselves are left out.",
        ),
        pictures.section(
            "Cost of a success",
            pictures.intervals(
                [_interval(name, one["cost_per_success_usd"]) for name, one in now.groups.items()],
                label="USD for each answer that ended well, failed attempts included",
                form=usd,
                zero=True,
            ),
        ),
        pictures.section(
            f"By {now.by}",
            pictures.table(
                ["", *now.groups],
                [[_heading(row[0]), *row[1:]] for row in zip(HEAD, *columns, strict=True)],
                numbers=range(1, len(now.groups) + 1),
            ),
        ),
    ]
    if before is not None:
        sections.append(_changes(before, differ))
    footer = (
        "Intervals are 95 %: Wilson's for shares, order statistics for quantiles. What failed counts as infinitely"
        " slow; where too many failed for a quantile, that of the answers alone is drawn, and says so. A quantile of"
        " too few requests is not told: p95 needs 72, p99 needs 368."
    )
    footer = " ".join(f"{line[0].upper()}{line[1:]}." for line in read_from(now)) + " " + footer
    return pictures.page("Weighbridge report", sections, subtitle=f"{now.since} to {now.until}", footer=footer).decode()


def _heading(text: str) -> str:
    """`TTFT p50` stays, `A SUCCESS` is `A success`."""
    return text if text[-2:].isdigit() else text.capitalize()


def _tile(name: str, estimate: Estimate, form: Any, answered: Estimate | None = None) -> tuple[str, str, str]:
    if estimate.value is None:
        return name, "-", f"n={estimate.n}: too small" if estimate.n else "nothing to count"
    if math.isinf(estimate.value) and answered is not None and answered.value is not None:
        return name, form(estimate.value), f"of the answers alone {form(answered.value)}"
    low, high = estimate.low, estimate.high
    return name, form(estimate.value), f"{form(low)} to {form(high)}" if low is not None and high is not None else ""


def _latencies(now: Report) -> list[str]:
    made = []
    for title, member in (("Time to first content", "ttft"), ("Time to the whole answer", "e2e")):
        charts = [
            pictures.intervals(
                [
                    _interval(name, one[f"{member}_ms"][q], one[f"{member}_answered_ms"][q])
                    for name, one in now.groups.items()
                ],
                label=f"{q}, milliseconds",
                form=ms,
                zero=True,
            )
            for q in ("p50", "p95", "p99")
        ]
        made.append(pictures.section(title, *charts))
    return made


def _interval(label: str, estimate: Estimate, answered: Estimate | None = None) -> pictures.Interval:
    """What is infinite cannot be drawn; `answered`, that of the answers alone, is drawn instead, and called so."""
    value, low, high, n, note = estimate
    if value is None:
        return pictures.Interval(label, None, note=note or "nothing")
    if math.isinf(value):
        came = answered or Estimate(None, None, None, 0)
        return pictures.Interval(label, came.value, came.low, came.high, "answers alone")
    if high is not None and math.isinf(high):
        return pictures.Interval(label, value, note=f"n={n}; no upper bound")
    return pictures.Interval(label, value, low, high, note or f"n={n}")


def _changes(before: Report, differ: dict[str, dict[str, str]]) -> str:
    rows = [
        [name, figure, word]
        for name, figures in differ.items()
        for figure, word in figures.items()
        if word in ("higher", "lower")
    ]
    inner = (
        pictures.table(["of", "figure", "now"], rows)
        if rows
        else pictures.note("No difference is shown between the two windows: no two intervals are apart.")
    )
    return pictures.section(f"Compared with {before.since} to {before.until}", inner)
