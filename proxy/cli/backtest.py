"""`weighbridge backtest`: what another policy would have done to a route's cost, latency, errors and feedback."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from policies.counterfactual import Counterfactual, Estimate
    from proxy.cli.logged import Row, Wanted
    from proxy.config import Config

_QUERY = (
    "SELECT {columns}, a.target, e.outcome, e.cost_usd, e.e2e_ms, e.ttft_ms,"
    " (SELECT f.score FROM feedback f WHERE f.request_id = e.id ORDER BY f.n LIMIT 1) AS feedback"
    " FROM v_exchanges e JOIN v_attempts a ON a.record_no = e.record_no AND a.attempt_no = 1"
    " WHERE e.origin = 'live' AND e.route = ? AND e.at >= ? AND e.decision IS NOT NULL"
    " AND e.outcome NOT IN ('client_closed', 'client_error')"
)
_PAIRS = (
    "SELECT {columns}, p.live_id, p.unit, p.primary_target, p.candidate_target, p.primary_outcome, p.candidate_outcome,"
    " p.primary_cost_usd, p.candidate_cost_usd, p.primary_e2e_ms, p.candidate_e2e_ms, p.primary_ttft_ms,"
    " p.candidate_ttft_ms FROM v_shadow_pairs p JOIN v_exchanges e ON e.id = p.live_id"
    " WHERE p.route = ? AND p.at >= ? AND e.decision IS NOT NULL"
)
_FIGURES = (
    ("errors", "{:.2%}"),
    ("cost_usd", "${:.6f}"),
    ("e2e_ms", "{:,.0f} ms"),
    ("ttft_ms", "{:,.0f} ms"),
    ("feedback", "{:.3f}"),
)
_ESTIMATES = ("self_normalised", "doubly_robust", "weighted", "both_asked")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--route", required=True, metavar="R", help="the route")
    other = parser.add_mutually_exclusive_group()
    other.add_argument(
        "--policy",
        metavar="P",
        help="a policy, by its kind or as the config writes it (default: the route's)",
    )
    other.add_argument("--shares", metavar="T=S,...", help="or target=share, ...: the targets' names, in any unit")
    parser.add_argument("--since", default="7d", metavar="TIME", help="how far back (default: 7d)")
    parser.add_argument("--config", metavar="FILE", help="config file (default: weighbridge.yaml)")
    parser.add_argument("--store", metavar="FILE", help="the records (default: `storage` of the config)")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    parser.epilog = (
        "examples:\n  weighbridge backtest --route chat --shares openai/gpt-5-mini=50,anthropic/claude-haiku-4-5=50\n"
        "  weighbridge backtest --route chat --policy cheapest\n"
        '  weighbridge backtest --route chat --policy \'{kind: conditional, rules: [{when: {tokens: ">2000"},'
        " use: [openai/gpt-5]}]}'\n\n"
        "It rests on the recorded probabilities: the route must have drawn among the targets, by weights or with\n"
        "`explore: 1%`; or shadow experiments must have asked them. Where the records cannot tell, it says so and\n"
        "gives no number. Exit status: 0, or 2."
    )


def run(args: argparse.Namespace) -> int:
    from policies.counterfactual import Unsupported
    from proxy.cli.logged import COLUMNS, read
    from proxy.config import ConfigError, find
    from proxy.config.problems import Wrong
    from proxy.config.values import duration
    from proxy.measure.store.ledger import Ledger
    from proxy.measure.store.rows import Timestamps

    config = None
    try:
        since = Timestamps().text(time.time() - duration(args.since))
        if args.store is None or args.shares is None or args.config is not None:
            config = find(args.config)
        path = Path(args.store) if args.store is not None else config.database if config is not None else None
        if path is None or not path.exists():
            return _wrong(f"there is no store {path}: give --store FILE")
        which = (args.route, since)
        ledger = Ledger(path)
        rows = [read(row) for row in ledger.rows(_QUERY.format(columns=COLUMNS), which)]
        if not rows:
            return _wrong(f"the store has no request of the route {args.route!r} since {since}")
        wanted, what = _wanted(args, config, rows)
        try:
            found = _from_records(rows, wanted)
        except Unsupported as why:
            pairs = [read(row) for row in ledger.rows(_PAIRS.format(columns=COLUMNS), which)]
            if not pairs:
                raise
            try:
                found = _from_pairs(pairs, wanted)
            except Unsupported as other:
                raise Unsupported(f"{why}; nor can shadow pairs: {other}") from None
    except Unsupported as why:
        return _wrong(f"the records cannot tell: {why}")
    except (ConfigError, Wrong, ValueError) as error:
        return _wrong(str(error))
    dealt = _dealt(rows, wanted)
    if args.format == "json":
        import json

        figures = {name: one._asdict() for name, one in found.items()}
        print(json.dumps({"route": args.route, "policy": what, "shares": dealt, "figures": figures}, indent=1))
    else:
        for line in _table(args.route, what, dealt, found):
            print(line)
    return 0


def _wrong(text: str) -> int:
    print(text, file=sys.stderr)
    return 2


def _wanted(args: argparse.Namespace, config: Config | None, rows: Sequence[Row]) -> tuple[Wanted, str]:
    """What the other policy would do with a request, and its name. Raises `ConfigError`, ValueError."""
    from proxy.cli import logged
    from proxy.config.policy import policy_from, policy_of

    if args.shares is not None:
        return logged.by_shares(_shares(args.shares), rows), f"shares {args.shares}"
    assert config is not None  # noqa: S101
    if args.route not in config.routes:
        raise ValueError(f"the config has no route {args.route!r}: name its --config FILE, or give --shares")
    section = policy_from(args.policy) if args.policy is not None else config.routes[args.route].policy
    targets = logged.targets_of(config, args.route)
    return logged.by_policy(policy_of(section), section.kind, targets), section.kind


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


def _from_records(rows: Sequence[Row], wanted: Wanted) -> dict[str, Counterfactual]:
    """By figure. Raises `Unsupported`."""
    from policies.counterfactual import LEAST, Logged, Unsupported, estimate
    from proxy.cli.logged import chances_of, unit_of

    made = []
    for row in rows:
        chances = chances_of(row)
        if chances.get(row["target"], 0.0) > 0:
            made.append((row, Logged(row["target"], chances, wanted(row), 0.0, unit_of(row))))
    found = {}
    for name, _ in _FIGURES:
        logged = [one._replace(value=value) for row, one in made if (value := _value(row, name)) is not None]
        if name == "feedback" and len(logged) < LEAST:
            continue  # few say what they think; the other figures do not depend on it
        if logged:
            found[name] = estimate(logged, share=name == "errors")
    if not found:
        raise Unsupported("no request's first target was drawn with a known probability")
    return found


def _from_pairs(rows: Sequence[Row], wanted: Wanted) -> dict[str, Counterfactual]:
    """Where mirrored requests were answered by all targets that are wanted. Raises `Unsupported`."""
    from policies.counterfactual import Tried, estimate_tried

    requests: dict[str, list[Row]] = {}
    for row in rows:
        requests.setdefault(row["live_id"], []).append(row)
    chosen = {id: wanted(pairs[0]) for id, pairs in requests.items()}
    found = {}
    for name, _ in _FIGURES[:-1]:
        tried = []
        for id, pairs in requests.items():
            values: dict[str, float | None] = {pairs[0]["primary_target"]: _arm(pairs[0], "primary", name)}
            values |= {pair["candidate_target"]: _arm(pair, "candidate", name) for pair in pairs}
            if None not in values.values():
                known = {target: value for target, value in values.items() if value is not None}
                tried.append(Tried(pairs[0]["primary_target"], chosen[id], known, pairs[0]["unit"]))
        if tried:
            found[name] = estimate_tried(tried, share=name == "errors")
    return found


def _value(row: Row, name: str) -> float | None:
    if name == "errors":
        return float(row["outcome"] != "ok")
    value = row[name]
    answered = row["outcome"] == "ok" or not name.endswith("_ms")
    return float(value) if value is not None and answered else None


def _arm(row: Row, arm: str, name: str) -> float | None:
    ok = row[f"{arm}_outcome"] == "ok"
    if name == "errors":
        return float(not ok)
    value = row[f"{arm}_{name}"]
    return float(value) if value is not None and (ok or name == "cost_usd") else None


def _dealt(rows: Sequence[Row], wanted: Wanted) -> dict[str, float]:
    """The mean share that each target would have had."""
    sums: dict[str, float] = {}
    for row in rows:
        for name, share in wanted(row).items():
            sums[name] = sums.get(name, 0.0) + share
    return {name: total / len(rows) for name, total in sorted(sums.items(), key=lambda one: -one[1])}


def _table(route: str, what: str, dealt: Mapping[str, float], found: Mapping[str, Counterfactual]) -> Iterator[str]:
    yield f"{route} under {what}: " + ", ".join(f"{name} {share:.1%}" for name, share in dealt.items())
    kinds = [kind for kind in _ESTIMATES if any(getattr(one, kind) is not None for one in found.values())]
    if kinds == ["both_asked"]:
        yield "from shadow pairs, which were answered by all of them: first tries, without failover"
    yield ""
    made = [
        ["", "AS SERVED", *(kind.replace("_", " ").upper() for kind in kinds), "REQUESTS", "CONVERSATIONS", "WORTH"]
    ]
    for name, form in _FIGURES:
        if name in found:
            one = found[name]
            estimates = [_shown(getattr(one, kind), form) for kind in kinds]
            counts = [f"{count:,.0f}" for count in (one.n, one.units, one.effective)]
            made.append([name, form.format(one.as_served), *estimates, *counts])
    widths = [max(map(len, column)) for column in zip(*made, strict=True)]
    for cells in made:
        yield "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()
    yield ""
    yield "in brackets: 95 % intervals, by conversation; WORTH: as many independent conversations as the weighted ones"


def _shown(one: Estimate | None, form: str) -> str:
    return "-" if one is None else f"{form.format(one.value)} [{form.format(one.low)}, {form.format(one.high)}]"
