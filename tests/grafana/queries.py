"""What a dashboard asks of Prometheus: every panel's, variable's and annotation's query, asked of a real one."""

from __future__ import annotations

import json
import math
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

Json = dict[str, Any]


class Query(NamedTuple):
    where: str
    expr: str
    instant: bool


class Span(NamedTuple):
    """Of time, in seconds since the epoch; `rate` is what `$__rate_interval` stands for, as PromQL writes it."""

    start: float
    end: float
    step: int
    rate: str


def queries(dashboard: Json) -> Iterator[Query]:
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            yield Query(f"{panel['title']}/{target['refId']}", target["expr"], bool(target.get("instant")))
    for annotation in dashboard["annotations"]["list"]:
        yield Query(f"annotation {annotation['name']}", annotation["expr"], False)


def expand(expr: str, span: Span) -> str:
    """As Grafana does before it asks."""
    values = {
        "$__rate_interval": span.rate,
        "$__interval": f"{span.step}s" if span.step >= 60 else "1m",
        "$__range": f"{round(span.end - span.start)}s",
        "$route": ".*",
        "$target": ".*",
    }
    for name, value in values.items():
        expr = expr.replace(name, value)
    assert "$" not in expr, f"a variable that nobody fills in: {expr}"
    return expr


def ask(base: str, path: str, **parameters: Any) -> Any:
    with urllib.request.urlopen(f"{base}/api/v1/{path}?{urllib.parse.urlencode(parameters)}") as answer:  # noqa: S310
        body = json.load(answer)
    assert body["status"] == "success", body
    return body["data"]


def problems(dashboard: Json, base: str, span: Span) -> list[str]:
    """Each query that fails, or answers nothing, or nothing but NaN."""
    found = []
    for query in queries(dashboard):
        expr = expand(query.expr, span)
        try:
            if query.instant:
                result = ask(base, "query", query=expr, time=span.end)["result"]
            else:
                result = ask(base, "query_range", query=expr, start=span.start, end=span.end, step=span.step)["result"]
        except urllib.error.HTTPError as error:
            found.append(f"{query.where}: {error.read().decode()}")
            continue
        values = [float(value) for series in result for _, value in series.get("values") or [series["value"]]]
        if not values:
            found.append(f"{query.where}: empty")
        elif all(math.isnan(value) for value in values):
            found.append(f"{query.where}: only NaN")
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"])
            assert match is not None, variable["definition"]
            values = ask(
                base, f"label/{match[2]}/values", **{"match[]": match[1], "start": span.start, "end": span.end}
            )
            if not values:
                found.append(f"variable {variable['name']}: empty")
    return found


# -- names and labels

_SELECTOR = re.compile(r"(weighbridge_\w+)(?:\{([^}]*)\})?")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_BY = re.compile(r"\bby \(([^)]*)\)")
_SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? \S+")


def scraped(exposition: str) -> dict[str, set[str]]:
    """Name of each series in a scrape -> the labels that it has."""
    found: dict[str, set[str]] = {}
    for line in exposition.splitlines():
        match = _SAMPLE.match(line)
        if match is not None and not line.startswith("#"):
            found.setdefault(match[1], set()).update(re.findall(r'(\w+)="', match[2] or ""))
    return found


def unknown_names(expr: str, known: Mapping[str, set[str]]) -> list[str]:
    """What an expression names that no scrape has: metrics, and labels in selectors and `by` clauses."""
    found, labels = [], set[str]()
    for name, selector in _SELECTOR.findall(expr):
        if name not in known:
            found.append(name)
            continue
        labels |= known[name]
        found += [f"{name}{{{label}}}" for label in _LABEL.findall(selector) if label not in known[name]]
    named = {label.strip() for clause in _BY.findall(expr) for label in clause.split(",") if label.strip()}
    return found + [f"by ({label})" for label in sorted(named - labels)]
