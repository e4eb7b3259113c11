"""The report of a run through batch APIs, as Markdown, JSON or a page of its own; and as evidence for other runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from proxy import pictures
from proxy.bench.batch import Compared
from proxy.bench.choices import InBatches
from proxy.bench.report import percent, plain, shown
from proxy.bench.stats import Estimate
from proxy.bench.suite import Suite

Json = dict[str, Any]

HEAD = [
    "target", "of the real-time price", "median delay", "batches", "success in batches", "in real time", "requests",
    "prompts that differ", "p", "failed lines",
]  # fmt: skip
LEAD = (
    "What a successful task costs through the batch API, of what it costs in real time; prompts are drawn again for "
    "the interval. A delay is a batch's, so its sample size is the number of batches. Prompts that only one of the two "
    "answered rightly tell whether it is the same model (exact McNemar)."
)


def lines(found: Sequence[Compared]) -> list[list[str]]:
    return [
        [
            one.target,
            shown(one.ratio, lambda value: f"{value:.3f}"),
            shown(one.delay, lambda value: f"{value:,.0f} s"),
            str(one.batches),
            shown(one.batch, percent),
            shown(one.real_time, percent),
            f"{one.requests:,}",
            str(one.same.new_only + one.same.old_only),
            f"{one.same.p:.3f}",
            ", ".join(f"{why} {count}" for why, count in sorted(one.failed.items())) or "none",
        ]
        for one in found
    ]


def as_json(suite: Suite, manifest: Json, found: Sequence[Compared]) -> bytes:
    whole = {"suite": suite.name, "run": manifest, "targets": [plain(one) for one in found]}
    return orjson.dumps(whole, option=orjson.OPT_INDENT_2)


def as_markdown(suite: Suite, found: Sequence[Compared]) -> str:
    out = [f"# {suite.name}: in batches", "", f"| {' | '.join(HEAD)} |", "|" + " --- |" * len(HEAD)]
    return "\n".join([*out, *(f"| {' | '.join(row)} |" for row in lines(found)), "", LEAD, ""])


def as_html(suite: Suite, found: Sequence[Compared]) -> bytes:
    rows = lines(found)
    tables = [
        pictures.table(
            [HEAD[at] for at in columns],
            [[row[at] for at in columns] for row in rows],
            numbers=[place for place, at in enumerate(columns) if 0 < at < len(HEAD) - 1],
        )
        for columns in ((0, 1, 2, 3, 6), (0, 4, 5, 7, 8, 9))
    ]
    ratios = [pictures.Interval(one.target, *one.ratio[:3], f"n = {one.ratio.n}") for one in found]
    chart = pictures.intervals(ratios, label="cost of a success in batches, of its real-time price")
    section = pictures.section("In batches and in real time", chart, *tables, lead=LEAD)
    return pictures.page(f"{suite.name}: in batches", [section], footer="weighbridge bench batch")


# -- as evidence in the report of a run that asked the same


def evidence(run: str, found: Sequence[Compared]) -> list[Json]:
    """For another run's manifest."""
    return [
        {"target": one.target, "run": run, "ratio": list(one.ratio), "delay": list(one.delay), "p": one.same.p}
        for one in found
    ]


def read_back(told: Sequence[Json]) -> dict[str, InBatches]:
    return {
        one["target"]: InBatches(one["run"], Estimate(*one["ratio"]), Estimate(*one["delay"]), one["p"]) for one in told
    }
