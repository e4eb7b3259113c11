"""Markdown tables from results. A figure is `median (lowest–highest)` over the rounds; ratios are made within a round.

A ratio is the median of the ratios of each round, since neighbours on the machine disturb both sides of one round
alike and two rounds differently.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from field import Row
from measures import Result, Section

START_MARK, END_MARK = "<!-- results:start -->", "<!-- results:end -->"
_FULL = 0.9
"""A target that kept its core less busy than this was not what limited the rate."""

Entry = dict[str, Any]
"""One run of one measure as it stands in the results file (see `run.entry`)."""


def figures(rows: Sequence[Row], key: str, digits: int) -> str:
    values = [row[key] for row in rows if row.get(key) is not None]
    if not values:
        return "-"
    middle = f"{statistics.median(values):,.{digits}f}"
    return f"{middle} ({min(values):,.{digits}f}–{max(values):,.{digits}f})" if len(values) > 1 else middle


def paired(section: Section, name: str, base: str, key: str, combine: Callable[[float, float], float]) -> list[Row]:
    """Of each round that both targets finished, their two figures combined."""
    ours, theirs = section.get(name), section.get(base)
    if not isinstance(ours, list) or not isinstance(theirs, list):
        return []
    return [{key: combine(a[key], b[key])} for a, b in zip(ours, theirs, strict=False)]


def ratio(section: Section, name: str, base: str, key: str, digits: int = 2) -> str:
    rows = paired(section, name, base, key, lambda a, b: a / b if b else float("nan"))
    return f"{statistics.median(row[key] for row in rows):.{digits}f}" if rows else "-"


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---", *["---:"] * (len(head) - 1)], *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _total(rows: Sequence[Row], key: str) -> str:
    return f"{sum(row[key] for row in rows):,}"


def _without(section: Section) -> str:
    """The targets that have no figures, with the reason."""
    reasons = [f"- {name}: {_short(why)}" for name, why in section.items() if isinstance(why, str)]
    return "\n".join(["", "", *reasons]) if reasons else ""


def _short(why: str) -> str:
    """Both ends of it on one line: what happened first, and the last words of a log."""
    line = re.sub(r"\s+", " ", why).replace("|", "/")
    return line if len(line) < 240 else f"{line[:100]} … {line[-130:]}"


def _with_rows(section: Section) -> list[tuple[str, list[Row]]]:
    return [(name, rows) for name, rows in section.items() if isinstance(rows, list) and rows]


def _limited(rows: Sequence[Row], name: str) -> str:
    return "" if name == "direct" or statistics.median(row["busy"] for row in rows) >= _FULL else " ¹"


def _records(result: Result) -> str:
    lines = [
        f"{name}: {row['stored']:,} exchanges stored, {row['upstream']:,} requests seen by its upstream"
        for name, rows in _with_rows(result.get("records", {}))
        for row in rows
    ]
    return "\n\n" + "; ".join(lines) + "." if lines else ""


def chat(entry: Entry) -> str:
    section = entry["result"]["chat"]
    head = [
        "target",
        "requests/s",
        "of direct",
        "p50 ms",
        "p99 ms",
        "CPU ms/request",
        "x nginx",
        "n",
        "bad",
        "others' CPU",
    ]
    lines = []
    for name, rows in _with_rows(section):
        cpu = name != "direct"
        lines.append(
            [
                name,
                figures(rows, "rps", 0) + _limited(rows, name),
                ratio(section, name, "direct", "rps"),
                figures(rows, "p50_ms", 2),
                figures(rows, "p99_ms", 1),
                figures(rows, "cpu_ms", 3) if cpu else "-",
                ratio(section, name, "nginx", "cpu_ms", 1) if cpu else "-",
                _total(rows, "n"),
                _total(rows, "bad"),
                f"{statistics.median(row['other'] for row in rows):.0%}",
            ]
        )
    title = f"**Chat, not streamed, {entry['connections']} connections**\n\n"
    return title + markdown(head, lines) + _without(section) + _records(entry["result"])


def stream(entry: Entry) -> str:
    parts = []
    head = [
        "target",
        "streams/s",
        "of direct",
        "CPU ms/stream",
        "x nginx",
        "p50 ms",
        "p99 ms",
        "n",
        "bad",
        "others' CPU",
    ]
    labels = {
        "burst": "**Streams of 20 chunks in a burst, 32 connections**",
        "paced": "**Streams of 20 chunks, 5 ms between events, 96 connections**",
    }
    for key, label in labels.items():
        section = entry["result"][key]
        lines = []
        for name, rows in _with_rows(section):
            cpu = name != "direct"
            lines.append(
                [
                    name,
                    figures(rows, "rps", 0) + _limited(rows, name),
                    ratio(section, name, "direct", "rps"),
                    figures(rows, "cpu_ms", 3) if cpu else "-",
                    ratio(section, name, "nginx", "cpu_ms", 1) if cpu else "-",
                    figures(rows, "p50_ms", 1),
                    figures(rows, "p99_ms", 1),
                    _total(rows, "n"),
                    _total(rows, "bad"),
                    f"{statistics.median(row['other'] for row in rows):.0%}",
                ]
            )
        parts.append(f"{label}\n\n{markdown(head, lines)}{_without(section)}")
    return "\n\n".join(parts) + _records(entry["result"])


def _added(section: Section, name: str, keys: tuple[str, str]) -> list[str]:
    """What the target adds to `direct` in the same round; for `direct` itself its own figures, in brackets."""
    if name == "direct":
        rows = section[name]
        assert isinstance(rows, list)
        return [f"[{statistics.median(row[key] for row in rows):,.0f}]" for key in keys]
    return [figures(paired(section, name, "direct", key, lambda a, b: a - b), key, 0) for key in keys]


def latency(entry: Entry) -> str:
    alone, first = entry["result"]["alone"], entry["result"]["first_token"]
    lines = [[name, *_added(alone, name, ("p50_us", "p99_us")), _total(rows, "n")] for name, rows in _with_rows(alone)]
    text = "**Latency added at one request at a time (direct: the whole of it), microseconds**\n\n"
    text += markdown(["target", "p50 added", "p99 added", "n"], lines) + _without(alone)
    lines = [
        [
            name,
            *_added(first, name, ("first_p50_us", "first_p99_us")),
            figures(rows, "streams_per_s", 0),
            _total(rows, "n"),
        ]
        for name, rows in _with_rows(first)
    ]
    text += "\n\n**Time to first content added while 32 other clients read paced streams, microseconds**\n\n"
    text += markdown(["target", "p50 added", "p99 added", "streams/s beside", "n"], lines)
    return text + _without(first)


def start(entry: Entry) -> str:
    section = entry["result"]["start"]
    lines = [
        [
            name,
            figures(rows, "cold_s", 2),
            str(len(rows)),
            figures(rows, "idle_mb", 0),
            figures(rows, "after_mb", 0),
            figures(rows, "peak_mb", 0),
        ]
        for name, rows in _with_rows(section)
    ]
    head = ["target", "start to first answer s", "starts", "MB at rest", "MB after load", "MB peak"]
    return "**Cold start and resident memory**\n\n" + markdown(head, lines) + _without(section)


def memory(entry: Entry) -> str:
    section = entry["result"]["memory"]
    lines = []
    for name, rows in _with_rows(section):
        row = rows[0]
        slopes = [(row["kb_per_1000"], row["half"])]
        if "late_half" in row:
            slopes.append((row["late_kb_per_1000"], row["late_half"]))
        told = [f"{grown:.2f} ({grown - half:.2f} to {grown + half:.2f})" for grown, half in slopes]
        lines.append(
            [
                name,
                f"{row['requests']:,}",
                f"{row['first_mb']:.1f}",
                f"{row['last_mb']:.1f}",
                told[0],
                told[-1] if len(told) > 1 else "-",
                f"{row['bad']:,}",
            ]
        )
    head = [
        "target",
        "requests",
        "MB first",
        "MB last",
        "slope, kB per 1,000 requests (95 %)",
        "of the second half",
        "bad",
    ]
    text = "**Resident memory over many requests**\n\n" + markdown(head, lines) + _without(section)
    return text + _records(entry["result"])


def cancel(entry: Entry) -> str:
    result = entry["result"]
    lines = [
        [
            name,
            label,
            *(figures(rows, key, 1) for key in ("p50_ms", "p95_ms", "max_ms")),
            _total(rows, "n"),
            _total(rows, "unseen"),
        ]
        for label, section in result.items()
        if label != "records"
        for name, rows in _with_rows(section)
    ]
    head = ["target", "the client left", "p50 ms", "p95 ms", "max ms", "n", "never cancelled"]
    without = "".join(_without(section) for label, section in result.items() if label != "records")
    title = "**From the client's leaving to the upstream's connection closed**\n\n"
    return title + markdown(head, lines) + without + _records(result)


TABLES: dict[str, Callable[[Entry], str]] = {
    "chat": chat,
    "stream": stream,
    "latency": latency,
    "start": start,
    "memory": memory,
    "cancel": cancel,
}
NOTE = (
    "¹ the target was less than 90 % busy: not it but the load, the mock or a neighbour on the machine set this rate."
)


def report(entries: Sequence[Entry]) -> str:
    """The newest entry of each measure, in the order of `TABLES`."""
    newest = {entry["measure"]: entry for entry in entries}
    parts = []
    for measure, table in TABLES.items():
        if measure in newest:
            entry = newest[measure]
            parts.append(table(entry) + "\n\n" + source(entry))
    text = "\n\n".join(parts)
    return f"{text}\n\n{NOTE}" if "¹" in text else text


def source(entry: Entry) -> str:
    """One line on where figures come from."""
    shown = {name for section in entry["result"].values() for name in section}
    versions = ", ".join(f"{name} {v}" for name, v in entry["versions"].items() if v and name in shown)
    return f"*{entry['at'][:10]}, {entry['machine']}; {entry['rounds']} rounds; load: {entry['load']}; {versions}.*"


def write_block(readme: Path, text: str) -> None:
    """Puts `text` between the two marks. Raises ValueError if they are not there."""
    before, start_mark, rest = readme.read_text().partition(START_MARK)
    _, end_mark, after = rest.partition(END_MARK)
    if not start_mark or not end_mark:
        raise ValueError(f"{readme} has no {START_MARK} … {END_MARK}")
    readme.write_text(f"{before}{START_MARK}\n\n{text}\n\n{END_MARK}{after}")
