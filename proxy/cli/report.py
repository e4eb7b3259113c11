"""`weighbridge report`: latency, errors, failovers, tokens and cost from the store, with their intervals."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from proxy.cli.since import moment

if TYPE_CHECKING:
    from proxy.measure.report import Report
    from proxy.measure.stats import Estimate


def add_arguments(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    option("what", nargs="?", choices=("usage", "reconcile"), default="usage", help=argparse.SUPPRESS)
    option(
        "invoice", nargs="?", metavar="INVOICE.csv", help="`report reconcile INVOICE.csv`: against a provider's bill"
    )
    option("--since", type=moment, default="24h", metavar="TIME", help="24h, 7d or 2026-11-26; default: 24h")
    option("--until", type=moment, default="0s", metavar="TIME", help="default: now")
    option("--by", choices=("target", "route", "key", "tag", "operation"), default="target")
    option("--format", choices=("table", "json", "html"), default="table")
    option("--out", metavar="FILE", help="write there instead of to standard output")
    option("--compare", type=moment, metavar="TIME", help="also the window of the same length that began then")
    option("--origin", choices=("live", "shadow", "bench", "batch"), default="live")
    option("--route", metavar="NAME", help="only this route")
    option("--operation", metavar="NAME", help="only chat, embeddings, ... (docs/store.md)")
    option("--slo-ttft", metavar="TIME", help="service level of the first content, for attainment and goodput")
    option("--slo-e2e", metavar="TIME", help="service level of the whole answer")
    option("--provider", metavar="NAME", help="reconcile: whose invoice it is")
    option("--config", metavar="FILE", help="config that names the store")
    option("--storage", metavar="URL", help="the store itself: sqlite:///weighbridge.db, or a path")
    parser.epilog = (
        "examples:\n  weighbridge report --since 24h --by target\n"
        "  weighbridge report --since 90d --by operation --compare 180d\n"
        "  weighbridge report --since 24h --compare 48h --slo-ttft 2s\n"
        "  weighbridge report --since 7d --by key --format html --out report.html\n"
        "  weighbridge report reconcile invoice.csv --provider openai --since 2026-11-01 --until 2026-12-01\n\n"
        "Intervals are 95 %. What failed counts as infinitely slow; what clients gave up is counted beside."
    )


def run(args: argparse.Namespace) -> int:
    from proxy.config import ConfigError
    from proxy.config.problems import Wrong
    from proxy.measure.store.offline import NoStore

    try:
        text = _reconciled(args) if args.what == "reconcile" else _made(args)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except (NoStore, ValueError, Wrong) as error:
        print(f"weighbridge report: {error}", file=sys.stderr)
        return 2
    if args.out:
        with open(args.out, "w", encoding="utf-8") as file:
            file.write(text)
        print(f"written: {args.out}", file=sys.stderr)
    else:
        sys.stdout.write(text)
    return 0


def _made(args: argparse.Namespace) -> str:
    from proxy.measure.report import changes

    if args.until <= args.since:
        raise ValueError("the window is empty: --until is not after --since")
    now = _report(args, args.since, args.until)
    before = None
    if args.compare is not None:
        before = _report(args, args.compare, args.compare + args.until - args.since)
    differ = changes(now, before) if before is not None else {}
    if args.format == "json":
        return json.dumps(plain(now, before, differ), indent=2, ensure_ascii=False) + "\n"
    if args.format == "html":
        from proxy.cli.report_page import page

        return page(now, before, differ)
    return _table(now, before, differ)


def _report(args: argparse.Namespace, since: float, until: float) -> Report:
    from proxy.cli.store import path_of
    from proxy.config.values import duration
    from proxy.measure.report import Levels, report
    from proxy.measure.store import history
    from proxy.measure.store.offline import reading
    from proxy.measure.store.upkeep import iso

    levels = Levels(*(duration(slo) * 1e3 if slo else None for slo in (args.slo_ttft, args.slo_e2e)))
    only = {name: getattr(args, name) for name in ("origin", "route", "operation") if getattr(args, name)}
    with reading(path_of(args)) as connection:
        connection.execute("BEGIN")  # all of it is read as it is now
        found = history.window(connection, since, until + 1)
        if found.summed and (args.by == "tag" or levels.asked):
            raise ValueError(
                f"tags and service levels are in single records only, which are kept since {iso(found.minutes_until)}Z:"
                " take a later --since (and --compare)"
            )
        seconds = min(until, time.time()) - found.since
        rows, sums = history.records(connection, found, only), history.sums(connection, found, only)
        sources = found.sources if found.summed else ()
        return report(rows, args.by, iso(found.since) + "Z", iso(found.until - 1) + "Z", seconds, levels, sums, sources)


def _reconciled(args: argparse.Namespace) -> str:
    from proxy.cli.invoice import compared
    from proxy.cli.store import path_of
    from proxy.measure.store.offline import reading
    from proxy.measure.store.upkeep import iso

    if not args.invoice or not args.provider:
        raise ValueError("write: weighbridge report reconcile INVOICE.csv --provider NAME --since 2026-11-01")
    with reading(path_of(args)) as connection:
        return compared(connection, args.invoice, args.provider, iso(args.since), iso(args.until), args.format)


def plain(now: Report, before: Report | None, differ: dict[str, dict[str, str]]) -> dict[str, Any]:
    """As JSON; an infinite latency is null with its reason."""
    shown = {"by": now.by, "since": now.since, "until": now.until, "total": _plain(now.total)}
    if now.sources:
        shown["sources"] = [one._asdict() for one in now.sources]
    shown["groups"] = {name: _plain(figures) for name, figures in now.groups.items()}
    if before is not None:
        shown["before"] = plain(before, None, {})
        shown["changes"] = differ
    return shown


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        found = value._asdict()  # type: ignore[attr-defined]
        if any(isinstance(one, float) and math.isinf(one) for one in value):
            found["note"] = "so many failed that this never came"
        return {name: None if isinstance(one, float) and math.isinf(one) else one for name, one in found.items()}
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return value


# -- words


def ms(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:,.0f} ms" if value >= 10 else f"{value:.1f} ms"


def percent(value: float) -> str:
    return f"{value:.1%}" if value >= 0.001 or not value else f"{value:.2%}"


def usd(value: float | None) -> str:
    """At least two decimals, and three digits that mean something; a dash where nothing has a known price."""
    if value is None:
        return "-"
    return f"${value:,.{max(2, 2 - math.floor(math.log10(value)))}f}" if value else "$0"


def told(estimate: Estimate, form: Any) -> str:
    """`120 ms [110, 130]`, or why there is nothing."""
    if estimate.value is None:
        return f"n={estimate.n}: too small" if estimate.n else "-"
    if estimate.low is None or estimate.high is None:
        return f"{form(estimate.value)} (n={estimate.n})"
    return f"{form(estimate.value)} [{form(estimate.low)}, {form(estimate.high)}]"


def _time(figures: dict[str, Any], name: str, q: str) -> str:
    """Where too many failed for the quantile to have come at all, that of the answers is told as well."""
    whole, answered = figures[f"{name}_ms"][q], figures[f"{name}_answered_ms"][q]
    if whole.value is not None and math.isinf(whole.value) and answered.value is not None:
        return f"never; of the answers {ms(answered.value)}"
    return told(whole, ms)


def read_from(now: Report) -> list[str]:
    """Where the figures come from, if not all from single records."""
    kinds = {"day": "sums by the day", "minute": "sums by the minute", "records": "single records"}
    parts = [f"{kinds[one.kind]} from {one.since} to {one.until}" for one in now.sources]
    if not parts:
        return []
    return [f"read from {'; '.join(parts)}", "quantiles are of histograms: within 1 % of those of the records"]


def cells(name: str, figures: dict[str, Any]) -> list[str]:
    return [
        name,
        f"{figures['requests']:,}",
        told(figures["errors"], percent),
        told(figures["failovers"], percent),
        *(_time(figures, "ttft", q) for q in ("p50", "p95", "p99")),
        *(_time(figures, "e2e", q) for q in ("p50", "p95", "p99")),
        told(figures["stalled_streams"], percent),
        f"{figures['tokens']['input']:,} / {figures['tokens']['output']:,}",
        usd(figures["cost_usd"]),
        told(figures["cost_per_request_usd"], usd),
        told(figures["cost_per_success_usd"], usd),
        told(figures["unpriced"], percent),
    ]


HEAD = (
    "REQUESTS", "ERRORS", "FAILOVERS", "TTFT p50", "TTFT p95", "TTFT p99", "E2E p50", "E2E p95", "E2E p99", "STALLED",
    "TOKENS IN / OUT", "COST", "A REQUEST", "A SUCCESS", "UNPRICED",
)  # fmt: skip


def _table(now: Report, before: Report | None, differ: dict[str, dict[str, str]]) -> str:
    """One block a group: fifteen figures with intervals do not fit side by side in a terminal."""
    import io

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    fancy = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    out = io.StringIO()
    console = Console(file=out, force_terminal=fancy, no_color=not fancy, width=None if fancy else 200, highlight=False)
    columns = {"all": now.total, **now.groups}
    table = Table(box=None, pad_edge=False, header_style="bold" if fancy else "")
    table.add_column(f"{now.since} to {now.until}")
    for name in columns:
        table.add_column(Text(name), justify="right", overflow="fold")
    shown = [cells(name, figures)[1:] for name, figures in columns.items()]
    for place, heading in enumerate(HEAD):
        table.add_row(heading, *(Text(column[place]) for column in shown))
    if "within_levels" in now.total:
        table.add_row("WITHIN LEVELS", *(Text(told(one["within_levels"], percent)) for one in columns.values()))
        table.add_row("GOODPUT", *(Text(f"{one['goodput_per_s']:.2f}/s") for one in columns.values()))
    console.print(table)
    for line in read_from(now):
        console.print(line)
    left = now.total["left_by_client"]
    if left:
        console.print(f"{left} requests were given up by their clients and are not in the latencies")
    if before is not None:
        console.print(f"\ncompared with {before.since} to {before.until}:")
        for name, figures in differ.items():
            words = [f"{figure} {word}" for figure, word in figures.items() if word in ("higher", "lower")]
            console.print(f"  {name}: {', '.join(words) or 'no difference shown'}")
        if not differ:
            console.print("  none of these had requests then")
    return out.getvalue()
