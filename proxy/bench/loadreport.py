"""The report of a load, in a terminal, as Markdown, JSON or a self-contained page."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from proxy import pictures
from proxy.bench.loadfigures import ENOUGH, LoadFigures, PhaseFigures, Recovery, figures
from proxy.bench.report import ms, percent, plain, shown, usd, value_of
from proxy.bench.stats import Estimate
from proxy.bench.suite import Suite

Json = dict[str, Any]

SOAK_SECONDS = 60.0
"""A phase of so long is looked at for a trend."""

HEAD = [
    "load", "requests", "answers/s", "goodput/s", "within SLO", "failed", "p50 ms", "p95 ms", "p99 ms", "stalls",
    "tries", "failures", "failed tries", "TTFT p50 / p99 ms", "TPOT p50 / p99 ms", "output tokens/s",
]  # fmt: skip


PARTS = ((0, 1, 2, 3, 4, 6, 7, 8), (0, 13, 14, 15, 9), (0, 5, 10, 11, 12))
"""Columns of `HEAD` that are shown as one table: all of them would be wider than a page."""
WORDS = frozenset({0, 11, 12})
"""Columns that hold no numbers."""


class LoadReport(NamedTuple):
    suite: Suite
    manifest: Json
    targets: list[LoadFigures]
    rows: list[Json]


def report(suite: Suite, manifest: Json, rows: Sequence[Json]) -> LoadReport:
    names = [target.label for target in suite.targets if any(row["target"] == target.label for row in rows)]
    return LoadReport(suite, manifest, [figures(suite, name, rows) for name in names], list(rows))


def invalid(made: LoadReport) -> list[str]:
    return [f"{one.target}: {reason}" for one in made.targets for reason in one.invalid]


def lines(made: LoadReport, one: LoadFigures) -> list[list[str]]:
    return [_line(made.suite, phase) for phase in one.phases]


def _line(suite: Suite, phase: PhaseFigures) -> list[str]:
    times = getattr(phase, suite.latency.metric)
    return [
        phase.label,
        f"{phase.requests:,}",
        f"{phase.throughput:.1f}",
        f"{phase.goodput:.1f}",
        shown(phase.attainment, percent),
        shown(phase.errors, percent),
        *(shown(times[name], ms) for name in ("p50", "p95", "p99")),
        shown(phase.stalled, percent),
        f"{phase.attempts:.2f}",
        _counted(phase.kinds),
        _counted(phase.failed_tries),
        _both(phase.ttft, ms),
        _both(phase.tpot, lambda value: f"{value:.2f}"),
        f"{phase.tokens:,.0f}",
    ]


def _both(times: Mapping[str, Estimate], form: Callable[[float], str]) -> str:
    """Median and 99th percentile; one without an interval in brackets."""
    return f"{value_of(times['p50'], form)} / {value_of(times['p99'], form)}"


def _counted(kinds: Mapping[str, int]) -> str:
    return ", ".join(f"{kind} {count:,}" for kind, count in sorted(kinds.items())) or "none"


def said(made: LoadReport, one: LoadFigures) -> list[str]:
    """What the figures mean, in sentences."""
    words = [f"INVALID: {reason}" for reason in one.invalid]
    if one.knee is not None and one.beyond is not None:
        words.append(f"carries {one.knee.label}: {one.knee.goodput:.1f} answers a second within the service levels")
        words.append(
            f"does not carry {one.beyond.label}: {one.beyond.goodput:.1f} a second, "
            f"{shown(one.beyond.attainment, percent)} of the requests, p95 {_p95(made, one.beyond)}"
        )
    elif len(one.phases) > 1 and one.phases:
        first = one.phases[0]
        low = (first.attainment.high or 1.0) < ENOUGH
        words.append(
            "carries none of these loads within the service levels" if low else "carries every load that was tried"
        )
    words += [_trend(phase) for phase in one.phases if phase.trend.known and phase.seconds >= SOAK_SECONDS]
    words.append(_log(one.phases))
    if one.recovery is not None:
        words += _recovered(one.recovery)
    if one.generator:
        late = max(reading["late_ms"] for reading in one.generator)
        busy = max(reading["busy"] for reading in one.generator)
        words.append(f"the load generator computed {busy:.0%} of the time at most, and woke {late:.0f} ms late (p99)")
    if one.closed:
        words.append("a closed loop: it asks less when the target is slow; use `rate` or `search` for user-facing load")
    return words


def _p95(made: LoadReport, phase: PhaseFigures) -> str:
    return shown(getattr(phase, made.suite.latency.metric)["p95"], lambda value: f"{ms(value)} ms")


def _trend(phase: PhaseFigures) -> str:
    """Whether the target tires."""
    low, high = phase.trend.low or 0.0, phase.trend.high or 0.0
    way = "grew" if low > 0 else "fell" if high < 0 else "did not change that one could tell"
    return (
        f"{phase.label}: from the beginning to the end of {phase.seconds:.0f} s the median answer {way}: "
        f"{phase.trend.value:+.1f} ms [{low:+.1f}, {high:+.1f}], p50 {shown(phase.e2e['p50'], ms)} ms"
    )


def _log(phases: Sequence[PhaseFigures]) -> str:
    """Every failure that was met, whoever saw it."""
    seen: Counter[str] = Counter()
    tries: Counter[str] = Counter()
    hidden = 0
    for phase in phases:
        seen.update(phase.kinds)
        tries.update(phase.failed_tries)
        hidden += sum(phase.hidden.values())
    asked = sum(phase.requests for phase in phases)
    return (
        f"of {asked:,} requests {sum(seen.values()):,} failed for the client ({_counted(seen)}); "
        f"{sum(tries.values()):,} tries at upstreams failed ({_counted(tries)}), {hidden:,} of them behind answers"
    )


def _recovered(found: Recovery) -> list[str]:
    n, failed = found.requests, found.errors
    words = [f"during the fault {failed} of {n} requests failed"]
    if found.to_failover_s is not None:
        words.append(f"another target answered {found.to_failover_s:.2f} s after the fault began")
    if found.back_s is not None:
        words.append(f"{found.primary} answered again {found.back_s:.2f} s after the fault ended")
    for name, count in found.diverted.items():
        quality = found.quality.get(name)
        cost = found.cost_usd.get(name)
        more = f", mean score {shown(quality, percent)} (n = {quality.n} questions)" if quality is not None else ""
        more += f", {usd(cost)} USD an answer" if cost is not None else ""
        words.append(f"{name} answered {count} diverted requests{more}")
    if found.primary is not None and found.primary in found.quality and found.diverted:
        words.append(
            f"{found.primary} itself on the same questions: mean score {shown(found.quality[found.primary], percent)}"
        )
    return words


def as_json(made: LoadReport) -> bytes:
    whole = {
        "suite": made.suite.name,
        "run": made.manifest,
        "valid": not invalid(made),
        "targets": [plain(one) | {"said": said(made, one)} for one in made.targets],
    }
    return orjson.dumps(whole, option=orjson.OPT_INDENT_2)


def as_markdown(made: LoadReport) -> str:
    out = [f"# {made.suite.name}: load", ""]
    for one in made.targets:
        out += [f"## {one.target}", ""] + [f"- {words}" for words in said(made, one)]
        out += ["", f"| {' | '.join(HEAD)} |", "|" + " --- |" * len(HEAD)]
        out += [f"| {' | '.join(row)} |" for row in lines(made, one)] + [""]
    return "\n".join(out)


def as_html(made: LoadReport) -> bytes:
    metric = made.suite.latency.metric
    parts = [pictures.note(reason, "bad") for reason in invalid(made)]
    parts.append(
        pictures.tiles(
            [
                (
                    one.target,
                    one.knee.label if one.knee else "no knee seen",
                    f"at best {max([phase.goodput for phase in one.phases], default=0.0):.1f} answers/s within them",
                )
                for one in made.targets
            ]
        )
    )
    if any(len(one.phases) > 1 for one in made.targets):
        parts.append(_curves(made))
    for one in made.targets:
        inner = [pictures.note(words, "bad" if words.startswith("INVALID") else "") for words in said(made, one)]
        for columns in PARTS:
            head, rows = [HEAD[at] for at in columns], [[row[at] for at in columns] for row in lines(made, one)]
            numbers = [place for place, at in enumerate(columns) if at not in WORDS]
            inner.append(pictures.table(head, rows, numbers=numbers))
        inner.append(_over_time(made, one.target, metric))
        parts.append(pictures.section(one.target, *inner))
    levels = ", ".join(
        f"{name} {limit:g} s" for name, limit in (("ttft", made.suite.slo.ttft), ("e2e", made.suite.slo.e2e)) if limit
    )
    return pictures.page(
        f"{made.suite.name}: load",
        parts,
        subtitle=f"Service levels: {levels or 'none, only a whole answer'}. Timed from when each request was due; "
        "failures count as infinitely slow. Intervals are 95 %.",
        footer="weighbridge bench load",
    )


def _curves(made: LoadReport) -> str:
    def at(phase: PhaseFigures) -> float:
        return float(phase.users if phase.users is not None else phase.rate or 0.0)

    metric = made.suite.latency.metric
    shown_lines, slow = [], []
    for one in made.targets:
        ordered = sorted(one.phases, key=at)
        shown_lines.append(pictures.Line(one.target, [(at(phase), phase.goodput) for phase in ordered]))
        known = [(at(phase), getattr(phase, metric)["p95"]) for phase in ordered]
        slow.append(
            pictures.Line(
                one.target,
                [(x, y.value) for x, y in known if y.value is not None and math.isfinite(y.value)],
                [(x, y.low, y.high) for x, y in known if y.low is not None and y.high is not None],
            )
        )
    x = "users" if any(one.closed for one in made.targets) else "requests a second"
    return pictures.section(
        "Under rising load",
        pictures.lines(shown_lines, x=x, y="answers a second within the service levels"),
        pictures.lines(slow, x=x, y=f"p95 {metric.upper()}, ms", y_form=ms),
        lead="Where the first curve bends, the target has reached what it can carry.",
    )


def _over_time(made: LoadReport, target: str, metric: str) -> str:
    rows = [row for row in made.rows if row["kind"] == "request" and row["target"] == target]
    if not rows:
        return ""
    width = max(1.0, math.ceil(max(row["due_s"] for row in rows) / 120))
    ok: dict[int, int] = {}
    failed: dict[int, int] = {}
    for row in rows:
        bucket = int(row["due_s"] // width)
        chosen = ok if row["outcome"] == "ok" else failed
        chosen[bucket] = chosen.get(bucket, 0) + 1
    whole = int(max(row["due_s"] for row in rows) // width)  # the last bucket is not, and would look like a fall
    buckets = range(max(whole, 1))
    return pictures.lines(
        [
            pictures.Line("answered", [(b * width, ok.get(b, 0) / width) for b in buckets]),
            pictures.Line("failed", [(b * width, failed.get(b, 0) / width) for b in buckets]),
        ],
        x="seconds since the load began (when requests were due)",
        y="requests a second",
        height=220,
    )
