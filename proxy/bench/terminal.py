"""Reports and comparisons in a terminal: rich where there is one, plain lines elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING
from xml.sax.saxutils import quoteattr

import orjson

from proxy.bench import loadreport
from proxy.bench.compare import ABSOLUTE, INVALID, PASS, REGRESSION, Compared, Gated
from proxy.bench.loadreport import LoadReport
from proxy.bench.report import (
    GAPS_HEAD,
    HEAD,
    PARTS,
    TRAFFIC_HEAD,
    Report,
    group_lines,
    lines,
    perplexities,
    shown,
    traffic_lines,
    verdicts,
)  # fmt: skip

if TYPE_CHECKING:
    from rich.console import Console

_WORDS = {PASS: "no worse", REGRESSION: "REGRESSION", 3: "inconclusive", INVALID: "not comparable"}


def show(made: Report) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    fancy = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    console = Console(no_color=not fancy, highlight=False, width=None if fancy else 160, soft_wrap=False)
    for reason in made.invalid:
        console.print(Text(f"INVALID RUN: {reason}", style="bold red"))
    uses = Table(box=None, show_header=True, pad_edge=False, header_style="dim")
    for column in ("use", "target", "because"):
        uses.add_column(column, overflow="fold")
    for use, target, why in verdicts(made):
        uses.add_row(use, Text(target, style="bold"), Text("; ".join(why)))
    console.print(uses)
    console.print()
    for part in PARTS:
        _table(console, HEAD, lines(made), part, {0})
    for head, rows in (
        (["perplexity", *(one.target for one in made.figures)], perplexities(made)),
        (GAPS_HEAD, group_lines(made)),
        (["not of this suite:", *TRAFFIC_HEAD[1:]], traffic_lines(made)),
    ):
        if rows:
            more = Table(box=None, pad_edge=False, header_style="dim")
            for column in head:
                more.add_column(column, overflow="fold")
            for row in rows:
                more.add_row(*map(Text, row))
            console.print()
            console.print(more)
    for remark in made.remarks:
        console.print(Text(f"- {remark}", style="dim"))


def show_load(made: LoadReport) -> None:
    from rich.console import Console
    from rich.text import Text

    fancy = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    console = Console(no_color=not fancy, highlight=False, width=None if fancy else 200)
    for one in made.targets:
        console.print(Text(one.target, style="bold"))
        for words in loadreport.said(made, one):
            console.print(Text(f"- {words}", style="bold red" if words.startswith("INVALID") else ""))
        for part in loadreport.PARTS:
            _table(console, loadreport.HEAD, loadreport.lines(made, one), part, loadreport.WORDS)


def _table(
    console: Console,
    head: Sequence[str],
    rows: Sequence[Sequence[str]],
    columns: Sequence[int],
    words: AbstractSet[int],
) -> None:
    """The given columns, by place; those in `words` hold no numbers."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim")
    for at in columns:
        table.add_column(head[at], justify="left" if at in words else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(row[at]) for at in columns))
    console.print(table)
    console.print()


def gates_table(made: Compared, old: str, new: str) -> str:
    out = [f"{new} against {old}: {_WORDS[made.code]}"]
    out += [f"  {reason}" for reason in made.reasons]
    rows = [["TARGET", "METRIC", "DIFFERENCE", "MARGIN", "VERDICT"]]
    rows += [[gate.target, gate.metric, _difference(gate), _margin(gate), _verdict(gate)] for gate in made.gates]
    if made.gates:
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        out += ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(out)


def _difference(gate: Gated) -> str:
    if gate.metric in ABSOLUTE:
        return shown(gate.difference, lambda value: f"{100 * value:+.1f} pts")
    return shown(gate.difference, lambda value: f"{100 * value:+.1f}%")


def _margin(gate: Gated) -> str:
    return f"{100 * gate.margin:g} pts" if gate.metric in ABSOLUTE else f"{100 * gate.margin:g}%"


def _verdict(gate: Gated) -> str:
    more = f" (about {gate.needed:,} prompts needed)" if gate.needed else ""
    return f"{gate.verdict}{more}"


def gates_json(made: Compared, old: str, new: str) -> str:
    whole = {
        "base": old,
        "new": new,
        "code": made.code,
        "verdict": _WORDS[made.code].lower(),
        "reasons": made.reasons,
        "gates": [{**gate._asdict(), "difference": gate.difference._asdict()} for gate in made.gates],
    }
    return orjson.dumps(whole, option=orjson.OPT_INDENT_2).decode()


def gates_junit(made: Compared, old: str, new: str) -> str:
    """One test case for each gate: a regression is a failure, everything that is not shown an error or skipped."""
    cases = []
    for gate in made.gates:
        told = quoteattr(f"{_difference(gate)}, margin {_margin(gate)}: {_verdict(gate)}")
        inner = {
            "pass": "",
            "regression": f"<failure message={told}/>",
            "inconclusive": f"<error message={told}/>",
        }.get(gate.verdict, f"<skipped message={told}/>")
        cases.append(f"  <testcase classname={quoteattr(gate.target)} name={quoteattr(gate.metric)}>{inner}</testcase>")
    if made.code == INVALID:
        told = quoteattr("; ".join(made.reasons) or "nothing could be measured")
        cases.append(f'  <testcase classname="runs" name="comparable"><error message={told}/></testcase>')
    failures = sum(gate.verdict == "regression" for gate in made.gates)
    errors = sum(gate.verdict == "inconclusive" for gate in made.gates) + (made.code == INVALID)
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuite name={quoteattr(f"{new} against {old}")} '
        f'tests="{len(cases)}" failures="{failures}" errors="{errors}">\n' + "\n".join(cases) + "\n</testsuite>"
    )
