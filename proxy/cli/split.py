"""`weighbridge shadow split`: which requests the candidate of an experiment may have for less, by their length."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from math import isinf
from typing import TYPE_CHECKING, Any

from proxy.cli.columns import table

if TYPE_CHECKING:
    from policies.split import Point, Rule, Split
    from proxy.measure.store.ledger import Ledger
    from proxy.shadow.terms import Terms

_PAIRS = (
    "SELECT coalesce(e.input_tokens, e.request_bytes / 4.0) AS tokens, p.unit, s.difference, p.primary_usd,"
    " p.candidate_usd, p.primary_target FROM (SELECT *, primary_cost_usd AS primary_usd,"
    " candidate_cost_usd AS candidate_usd FROM v_shadow_pairs WHERE experiment = ? AND version = ?) p"
    " JOIN v_shadow_scores s ON s.pair_no = p.pair_no AND s.metric = ? AND s.bin IS NOT NULL"
    " JOIN v_exchanges e ON e.id = p.live_id"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--margin", type=float, default=0.02, metavar="M", help="quality that may be lost; default: 0.02"
    )
    parser.add_argument("--metric", metavar="NAME", help="the score that quality is (default: the primary metric)")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        "example:\n  weighbridge shadow split haiku-for-chat --margin 0.01\n\n"
        "It rests on the experiment's pairs, in which both models answered the same request. A length is chosen on"
        " one\nhalf of the conversations and judged on the other.\n\n"
        "Exit status: 0 a rule holds, 1 none does, 2 it cannot be told."
    )


def run(args: argparse.Namespace, ledger: Ledger, terms: Terms) -> int:
    from policies.counterfactual import Unsupported
    from policies.split import Pair, split

    known = [gauge.name for gauge in terms.gauges if not gauge.is_ratio]
    metric = args.metric or (terms.primary.name if terms.primary is not None else None)
    if metric not in known:
        return _wrong(f"no score to go by: name one with --metric ({', '.join(known) or 'the experiment has none'})")
    if not 0 <= args.margin < 1:
        return _wrong(f"--margin {args.margin:g} is no share: write 0.02 for two points in a hundred")
    rows = [*ledger.rows(_PAIRS, (terms.name, terms.version, metric))]
    priced = [row for row in rows if row["primary_usd"] is not None and row["candidate_usd"] is not None]
    if rows and not priced:
        return _wrong("no pair has a cost on both sides: give the targets' prices (`prices`), and let it run on")
    pairs = [
        Pair(row["tokens"], row["unit"], row["difference"], row["primary_usd"], row["candidate_usd"]) for row in priced
    ]
    try:
        found = split(pairs, args.margin)
    except Unsupported as why:
        return _wrong(f"the pairs cannot tell: {why}")
    if args.format == "json":
        print(json.dumps(_as_json(terms, metric, args.margin, found, len(rows) - len(priced)), indent=1))
    else:
        primaries = sorted({row["primary_target"] for row in priced})
        for line in _lines(terms, metric, args.margin, found, len(rows) - len(priced), primaries):
            print(line)
    return 0 if found.verified is not None and found.verified.holds(args.margin) else 1


def _wrong(text: str) -> int:
    print(text, file=sys.stderr)
    return 2


def _lines(
    terms: Terms, metric: str, margin: float, found: Split, unpriced: int, primaries: list[str]
) -> Iterator[str]:
    yield f"{terms.candidate} in place of {', '.join(primaries)}, by the length of the prompt; quality is {metric}"
    if unpriced:
        yield f"{unpriced} pairs are left out: what they cost is not known on both sides"
    yield ""
    yield from table([_HEAD, *(_row("chosen" if one is found.chosen else "", one) for one in found.curve)])
    yield ""
    if found.chosen is None or found.verified is None:
        yield f"No rule saves money and keeps quality within {margin:g}: leave the route as it is, or let it run on."
        return
    yield "On the other half of the conversations, which had no part in the choice:"
    yield from table([_HEAD, _row("", found.verified)])
    yield ""
    if not found.verified.holds(margin):
        yield f"There it is not shown that money is saved and quality falls by {margin:g} at most: let it run on."
    elif isinf(found.verified.rule.limit):
        yield f"All requests may go to the candidate: `weighbridge shadow promote {terms.name}` hands them over."
    else:
        yield "It holds. The rule for the route (docs/policies.md#conditional); tokens are estimated there:"
        yield from _rule(found.verified.rule, terms, primaries)
    yield ""
    yield "in brackets: 95 % intervals, by conversation"


_HEAD = ["", "TO THE CANDIDATE", "SHARE", "QUALITY", "SAVED", "PAIRS", "CONVERSATIONS"]


def _row(mark: str, one: Point) -> list[str]:
    money = [value / one.primary_usd if one.primary_usd else 0.0 for value in one.saved_usd]
    return [
        mark,
        _words(one.rule),
        f"{one.share:.0%}",
        f"{one.quality.value:+.3f} [{one.quality.low:+.3f}, {one.quality.high:+.3f}]",
        f"{money[0]:.1%} [{money[1]:.1%}, {money[2]:.1%}]",
        str(one.n),
        str(one.units),
    ]


def _words(rule: Rule) -> str:
    if isinf(rule.limit):
        return "all"
    return f"tokens {'<=' if rule.shorter else '>'}{rule.limit:.0f}"


def _rule(rule: Rule, terms: Terms, primaries: list[str]) -> Iterator[str]:
    """With the other as the fallback on either side."""
    yield "policy:"
    yield "  kind: conditional"
    yield "  rules:"
    limit = f"{'<=' if rule.shorter else '>'}{rule.limit:.0f}"
    yield f'    - {{when: {{tokens: "{limit}"}}, use: [{", ".join([terms.candidate, *primaries])}]}}'
    yield f"    - {{use: [{', '.join([*primaries, terms.candidate])}]}}"


def _as_json(terms: Terms, metric: str, margin: float, found: Split, unpriced: int) -> dict[str, Any]:
    def point(one: Point | None) -> dict[str, Any] | None:
        if one is None:
            return None
        limit = None if isinf(one.rule.limit) else one.rule.limit
        told = one._asdict() | {"quality": one.quality._asdict(), "saved_usd": one.saved_usd._asdict()}
        return told | {"rule": {"tokens": limit, "shorter": one.rule.shorter}, "holds": one.holds(margin)}

    return {
        "experiment": terms.name,
        "metric": metric,
        "margin": margin,
        "without_a_cost": unpriced,
        "curve": [point(one) for one in found.curve],
        "chosen": point(found.chosen),
        "verified": point(found.verified),
    }
