"""`weighbridge backtest`: what other shares of a route's targets would have done to cost, latency and errors."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from policies.counterfactual import Estimate

_QUERY = (
    "SELECT a.target, e.propensity, e.outcome, e.cost_usd, e.e2e_ms, e.ttft_ms FROM v_exchanges e"
    " JOIN v_attempts a ON a.record_no = e.record_no AND a.attempt_no = 1"
    " WHERE e.origin = 'live' AND e.route = ? AND e.at >= ? AND e.propensity > 0"
    " AND e.outcome NOT IN ('client_closed', 'client_error')"
)
_FIGURES = (("errors", "{:.2%}"), ("cost_usd", "${:.6f}"), ("e2e_ms", "{:,.0f} ms"), ("ttft_ms", "{:,.0f} ms"))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--route", required=True, metavar="R", help="the route")
    parser.add_argument(
        "--shares", required=True, metavar="T=S,...", help="target=share, ...: the targets' names, shares in any unit"
    )
    parser.add_argument("--since", default="7d", metavar="TIME", help="how far back (default: 7d)")
    parser.add_argument("--config", metavar="FILE", help="config file (default: weighbridge.yaml)")
    parser.add_argument("--store", metavar="FILE", help="the records (default: `storage` of the config)")
    parser.epilog = (
        "example:\n  weighbridge backtest --route chat --shares openai/gpt-5-mini=50,anthropic/claude-haiku-4-5=50\n\n"
        "It rests on the recorded probabilities: the route must have drawn among the targets, by weights or with\n"
        "`explore: 1%`. Where the records cannot tell, it says so and gives no number. Exit status: 0, or 2."
    )


def run(args: argparse.Namespace) -> int:
    from policies.counterfactual import Unsupported
    from proxy.config import ConfigError, find
    from proxy.config.problems import Wrong
    from proxy.config.values import duration
    from proxy.measure.store.ledger import Ledger
    from proxy.measure.store.rows import Timestamps

    try:
        shares = _shares(args.shares)
        since = Timestamps().text(time.time() - duration(args.since))
        path = Path(args.store) if args.store is not None else find(args.config).database
    except (ConfigError, Wrong, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    if path is None or not path.exists():
        print(f"there is no store {path}: give --store FILE", file=sys.stderr)
        return 2
    rows = Ledger(path).rows(_QUERY, (args.route, since))
    if not rows:
        print(f"the store has no request of the route {args.route!r} since {since}", file=sys.stderr)
        return 2
    try:
        for line in _told(rows, shares):
            print(line)
    except Unsupported as why:
        print(f"the records cannot tell: {why}", file=sys.stderr)
        return 2
    return 0


def _shares(text: str) -> dict[str, float]:
    """Raises ValueError."""
    found: dict[str, float] = {}
    for part in text.split(","):
        name, equals, share = part.strip().rpartition("=")
        try:
            found[name] = float(share.rstrip("%"))
        except ValueError:
            equals = ""
        if not equals or found[name] < 0:
            raise ValueError(f"not target=share: {part.strip()!r}; write it as in a=80,b=20")
    total = sum(found.values())
    if total <= 0:
        raise ValueError("all shares are 0")
    return {name: share / total for name, share in found.items()}


def _told(rows: Sequence[Mapping[str, Any]], shares: Mapping[str, float]) -> Iterator[str]:
    from policies.counterfactual import Logged, estimate

    made = [["", "AS SERVED", "SELF-NORMALISED", "DOUBLY ROBUST", "REQUESTS", "WORTH"]]
    for name, form in _FIGURES:
        logged = [
            Logged(row["target"], row["propensity"], value) for row in rows if (value := _value(row, name)) is not None
        ]
        if logged:
            found = estimate(logged, shares)
            estimates = [_shown(one, form) for one in (found.self_normalised, found.doubly_robust)]
            made.append([name, form.format(found.as_served), *estimates, f"{found.n:,}", f"{found.effective:,.0f}"])
    widths = [max(map(len, column)) for column in zip(*made, strict=True)]
    for cells in made:
        yield "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _value(row: Mapping[str, Any], name: str) -> float | None:
    if name == "errors":
        return float(row["outcome"] != "ok")
    value = row[name]
    return None if value is None or row["outcome"] != "ok" else float(value)


def _shown(one: Estimate, form: str) -> str:
    return f"{form.format(one.value)} [{form.format(one.low)}, {form.format(one.high)}]"
