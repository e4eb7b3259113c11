"""Writes the dashboards:  python grafana/generate.py  (the JSON beside it is what Grafana reads; a test compares both).

What a panel asks for stands here once, in PromQL; ids, places and the long rest of Grafana's format are filled in.
`$__rate_interval` everywhere, no fixed windows; colours of errors fixed, those of targets by name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "dashboards"
SLO = 0.99
"""Share of requests that must not fail: what the error budget and the alerts' burn rates are counted from."""

Json = dict[str, Any]

# Outcomes that are somebody's fault but the client's.
FAILED = 'outcome=~"upstream_error|timeout|truncated|no_target|internal_error|rate_limited",target=~"$target"'
OWN = 'outcome!~"client_error|client_closed"'
C = 'route=~"$route",target=~"$target"'
H = 'target=~"$target"'
SOURCE = {"type": "prometheus", "uid": "${datasource}"}

BEFORE = (
    f'sum(rate(weighbridge_attempts_total{{route=~"$route",{FAILED}}}[$__rate_interval]))'
    f" / sum(rate(weighbridge_attempts_total{{{C},{OWN}}}[$__rate_interval]))"
)
AFTER = (
    f'sum(rate(weighbridge_requests_total{{route=~"$route",{FAILED}}}[$__rate_interval]))'
    f" / sum(rate(weighbridge_requests_total{{{C},{OWN}}}[$__rate_interval]))"
)
BUDGET = (
    f'1 - (sum(increase(weighbridge_requests_total{{route=~"$route",{FAILED}}}[$__range]))'
    f" / sum(increase(weighbridge_requests_total{{{C},{OWN}}}[$__range]))) / {round(1 - SLO, 6)}"
)
ESTIMATE = " Estimated from buckets: within one bucket (26 %), typically 3 %."


def quantile(q: float, metric: str, by: str = "target", labels: str = f'{H},target!="none"') -> str:
    grouped = f"le, {by}" if by else "le"
    chosen = f"{{{labels}}}" if labels else ""
    return f"histogram_quantile({q}, sum by ({grouped}) (rate(weighbridge_{metric}_bucket{chosen}[$__rate_interval])))"


def rate(metric: str, by: str, labels: str = C) -> str:
    chosen = f"{{{labels}}}" if labels else ""
    return f"sum by ({by}) (rate(weighbridge_{metric}{chosen}[$__rate_interval]))"


def target(expr: str, legend: str, **more: Any) -> Json:
    return {"datasource": SOURCE, "expr": expr, "legendFormat": legend, "editorMode": "code", "range": True, **more}


def panel(kind: str, title: str, about: str, size: tuple[int, int], targets: Sequence[Json], **more: Any) -> Json:
    for number, one in enumerate(targets):
        one["refId"] = chr(ord("A") + number)
    return {
        "type": kind,
        "title": title,
        "description": about,
        "datasource": SOURCE,
        "gridPos": {"w": size[0], "h": size[1], "x": 0, "y": 0},
        "targets": [*targets],
        **more,
    }


def lines(
    title: str,
    about: str,
    unit: str,
    *targets: Json,
    width: int = 8,
    height: int = 8,
    stack: str = "none",
    overrides: Sequence[Json] = (),
    most: float | None = None,
    decimals: int | None = None,
) -> Json:
    defaults: Json = {
        "unit": unit,
        "min": 0,
        "color": {"mode": "palette-classic-by-name"},
        "custom": {
            "drawStyle": "line",
            "lineWidth": 1 if stack != "none" else 2,
            "fillOpacity": 60 if stack != "none" else 0,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": stack, "group": "A"},
        },
    }
    if most is not None:
        defaults["max"] = most
    if decimals is not None:
        defaults["decimals"] = decimals
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    return panel(
        "timeseries", title, about, (width, height), targets,
        fieldConfig={"defaults": defaults, "overrides": [*overrides]}, options=options,
    )  # fmt: skip


def stat(title: str, about: str, unit: str, expr: str, steps: Sequence[tuple[float | None, str]], **more: Any) -> Json:
    thresholds = {"mode": "absolute", "steps": [{"value": value, "color": colour} for value, colour in steps]}
    defaults = {"unit": unit, "thresholds": thresholds, "color": {"mode": "thresholds"}, **more}
    return panel(
        "stat", title, about, (4, 4), [target(expr, title)],
        fieldConfig={"defaults": defaults, "overrides": []},
        options={
            "colorMode": "value", "graphMode": "area", "justifyMode": "auto", "textMode": "value", "wideLayout": True,
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        },
    )  # fmt: skip


def heatmap(title: str, about: str, metric: str, width: int = 12) -> Json:
    expr = f"sum by (le) (increase(weighbridge_{metric}_bucket{{{H}}}[$__rate_interval]))"
    return panel(
        "heatmap", title, about, (width, 9), [target(expr, "{{le}}", format="heatmap")],
        fieldConfig={"defaults": {"unit": "s", "custom": {}}, "overrides": []},
        options={
            "calculate": False, "cellGap": 1, "color": {"mode": "scheme", "scheme": "Viridis", "steps": 64},
            "yAxis": {"unit": "s", "axisPlacement": "left"}, "tooltip": {"mode": "single", "yHistogram": True},
            "legend": {"show": True}, "filterValues": {"le": 1e-9}, "rowsFrame": {"layout": "le"},
        },
    )  # fmt: skip


def table(title: str, about: str, width: int, columns: Sequence[tuple[str, str, str]], by: Sequence[str]) -> Json:
    """`columns`: heading, unit, PromQL for the value at the end of the range."""
    targets = [target(expr, name, format="table", instant=True, range=False) for name, _, expr in columns]
    letters = [chr(ord("A") + number) for number in range(len(columns))]
    named = {f"Value #{letter}": name for letter, (name, _, _) in zip(letters, columns, strict=True)}
    if len(columns) == 1:
        named["Value"] = columns[0][0]
    titles = {label: label.replace("_", " ").capitalize() for label in by}
    order = {label: place for place, label in enumerate([*by, *(f"Value #{letter}" for letter in letters), "Value"])}
    return panel(
        "table", title, about, (width, 8), targets,
        fieldConfig={
            "defaults": {"unit": "short", "custom": {"align": "auto", "filterable": False}},
            "overrides": [
                {
                    "matcher": {"id": "byName", "options": name},
                    "properties": [
                        {"id": "unit", "value": unit},
                        *([{"id": "decimals", "value": 0}] if unit == "locale" else []),
                    ],
                }
                for name, unit, _ in columns
            ],
        },
        transformations=[
            {"id": "merge", "options": {}},
            {
                "id": "organize",
                "options": {"excludeByName": {"Time": True}, "indexByName": order, "renameByName": {**titles, **named}},
            },
        ],
        options={"showHeader": True, "cellHeight": "sm", "sortBy": [{"displayName": columns[0][0], "desc": True}]},
    )  # fmt: skip


def timeline(title: str, about: str, width: int, query: Json, states: Sequence[tuple[int, str, str]]) -> Json:
    """`states`: value, word, colour."""
    options = {str(value): {"text": word, "color": colour, "index": value} for value, word, colour in states}
    return panel(
        "state-timeline", title, about, (width, 8), [query],
        fieldConfig={
            "defaults": {
                "unit": "short",
                "color": {"mode": "thresholds"},
                "thresholds": {
                    "mode": "absolute",
                    "steps": [{"value": value or None, "color": colour} for value, _, colour in states],
                },
                "mappings": [{"type": "value", "options": options}],
                "custom": {"fillOpacity": 80, "lineWidth": 0},
            },
            "overrides": [],
        },
        options={
            "mergeValues": True, "showValue": "never", "alignValue": "left", "rowHeight": 0.8,
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "single", "sort": "none"},
        },
    )  # fmt: skip


def row(title: str) -> Json:
    return {
        "type": "row",
        "title": title,
        "collapsed": False,
        "panels": [],
        "gridPos": {"w": 24, "h": 1, "x": 0, "y": 0},
    }


def fixed(name: str, colour: str) -> Json:
    """A colour for the series of that name."""
    return {
        "matcher": {"id": "byName", "options": name},
        "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
    }


def errors(width: int) -> Json:
    return lines(
        "Errors before and after failover",
        "Before: share of attempts that failed, which clients would have seen without failover. After: share of"
        " requests that failed, which is what they saw.",
        "percentunit",
        target(BEFORE, "before (attempts)"),
        target(AFTER, "after (requests)"),
        width=width,
        overrides=[fixed("before (attempts)", "orange"), fixed("after (requests)", "red")],
    )


def quantiles(title: str, about: str, metric: str) -> list[Json]:
    """Three panels: p50, p95, p99 by target."""
    return [
        lines(f"{title} p{q * 100:.0f}", about + ESTIMATE, "s", target(quantile(q, metric), "{{target}}"))
        for q in (0.5, 0.95, 0.99)
    ]


BREAKERS = [(0, "closed", "green"), (1, "half open", "orange"), (2, "open", "red")]


def breakers(width: int) -> Json:
    return timeline("Circuit breakers", "Open: nobody is sent there. Half open: one probe is under way.", width,
                    target(f"max by (target) (weighbridge_breaker_state{{{H}}})", "{{target}}"), BREAKERS)  # fmt: skip


def cost(width: int) -> Json:
    return lines("Cost per hour", "US dollars at the present rate, all attempts included, as far as prices are known.",
                 "currencyUSD", target(rate("cost_usd_total", "target", H) + " * 3600", "{{target}}"), width=width,
                 stack="normal")  # fmt: skip


E2E = "From a request's last byte to its answer's last byte, by the target that answered."
TTFT = "From a request's last byte to the first content of its stream, by the target that answered."


def overview() -> list[Json]:
    good = [(None, "green")]
    return [
        stat("Requests", "Requests answered a second.", "reqps", rate("requests_total", "").replace(" by ()", ""),
             [(None, "text")]),
        stat("Errors before failover", "Share of attempts that failed.", "percentunit", BEFORE,
             [*good, (0.05, "orange")]),
        stat("Errors after failover", "Share of requests that failed: what clients saw. Red beyond the service level.",
             "percentunit", AFTER, [*good, (round(1 - SLO, 6), "red")]),
        stat("Error budget left", f"Of the {1 - SLO:.0%} of requests that may fail, over the time shown.",
             "percentunit", BUDGET, [(None, "red"), (0, "orange"), (0.5, "green")], max=1),
        stat("TTFT p95, all", TTFT + ESTIMATE, "s", quantile(0.95, "time_to_first_token_seconds", ""),
             [*good, (5, "orange"), (30, "red")]),
        stat("Overhead p99", "Time that the proxy itself added to a request." + ESTIMATE, "s",
             quantile(0.99, "overhead_seconds", "", ""), [*good, (0.01, "orange"), (0.1, "red")]),
        errors(12),
        lines("Traffic share", "Requests by the target that answered, as parts of all.", "percentunit",
              target(rate("requests_total", "target", f'{C},target!="none"'), "{{target}}"), width=12, stack="percent"),
        *quantiles("TTFT", TTFT, "time_to_first_token_seconds"),
        *quantiles("E2E", E2E, "request_duration_seconds"),
        heatmap("E2E, all requests", E2E + " Shows a second mode that quantiles hide.", "request_duration_seconds"),
        lines("Failovers", "Changes from one target to another, by the outcome of the attempt that failed.", "cps",
              target(
                  "sum by (from_target, to_target, reason)"
                  ' (rate(weighbridge_failovers_total{from_target=~"$target"}[$__rate_interval]))',
                  "{{from_target}} → {{to_target}} ({{reason}})"), width=12, height=9),
        breakers(8),
        cost(8),
        lines("Stalled streams",
              "Share of streams with a pause of more than 500 ms and than ten median pauses of the same stream.",
              "percentunit", target(
                  rate("stalled_streams_total", "target", H)
                  + " / " + rate("time_to_first_token_seconds_count", "target", H), "{{target}}")),
        lines("Tokens", "Tokens that providers reported, in disjoint classes, all attempts together.", "short",
              target(rate("tokens_total", "type", H), "{{type}}"), stack="normal"),
        lines("In flight", "Requests under way.", "short", target("sum(weighbridge_inflight_requests)", "in flight")),
        lines("Records", "Exchanges kept in the store, and records lost, a second.", "cps",
              target("sum(rate(weighbridge_records_written_total[$__rate_interval]))", "written"),
              target("sum(rate(weighbridge_records_dropped_total[$__rate_interval]))", "lost"),
              overrides=[fixed("lost", "red"), fixed("written", "blue")]),
        table("Targets", "Over the time shown. Quantiles are estimated from buckets.", 24, [
            ("Requests", "locale",
             f'sum by (target) (increase(weighbridge_requests_total{{{C},target!="none"}}[$__range]))'),
            ("Attempts", "locale", f"sum by (target) (increase(weighbridge_attempts_total{{{C}}}[$__range]))"),
            ("Attempts failed", "percentunit",
             f'sum by (target) (increase(weighbridge_attempts_total{{route=~"$route",{FAILED}}}[$__range]))'
             f" / sum by (target) (increase(weighbridge_attempts_total{{{C},{OWN}}}[$__range]))"),
            ("TTFT p95", "s", "histogram_quantile(0.95, sum by (le, target)"
             f" (increase(weighbridge_time_to_first_token_seconds_bucket{{{H}}}[$__range])))"),
            ("E2E p95", "s", "histogram_quantile(0.95, sum by (le, target)"
             f' (increase(weighbridge_request_duration_seconds_bucket{{{H},target!="none"}}[$__range])))'),
            ("Tokens", "locale", f"sum by (target) (increase(weighbridge_tokens_total{{{H}}}[$__range]))"),
            ("Cost", "currencyUSD", f"sum by (target) (increase(weighbridge_cost_usd_total{{{H}}}[$__range]))"),
        ], ["target"]),
    ]  # fmt: skip


def detail() -> list[Json]:
    return [
        row("Providers"),
        lines("Attempts by outcome", "Tries at the chosen targets, by how they ended.", "cps",
              target(rate("attempts_total", "outcome"), "{{outcome}}"), stack="normal",
              overrides=[fixed("ok", "green")]),
        lines("Failures by kind", "Attempts that failed, by kind. Choose a target above for its own.", "cps",
              target(rate("attempts_total", "error_kind", f'{C},error_kind!="none"'), "{{error_kind}}"),
              stack="normal"),
        lines("Attempts failed", "Share of each target's attempts that failed by no fault of the client.",
              "percentunit", target(
                  f'sum by (target) (rate(weighbridge_attempts_total{{route=~"$route",{FAILED}}}[$__rate_interval]))'
                  f" / sum by (target) (rate(weighbridge_attempts_total{{{C},{OWN}}}[$__rate_interval]))",
                  "{{target}}")),
        *quantiles("Attempt", "From an attempt's begin to the end of the upstream's part.", "attempt_duration_seconds"),
        *quantiles("Time per output token",
                   "(Last - first content) / (output tokens - 1) of a stream.", "time_per_output_token_seconds"),
        heatmap("TTFT, all streams", TTFT, "time_to_first_token_seconds"),
        heatmap("Attempts, all", "From an attempt's begin to the end of the upstream's part.",
                "attempt_duration_seconds"),
        lines("Streams cut", "Streams that ended early after their first content, by whose doing.", "cps",
              target(rate("stream_aborts_total", "by", H), "by the {{by}}"),
              overrides=[fixed("by the upstream", "red"), fixed("by the client", "blue"),
                         fixed("by the proxy", "orange")]),
        lines("Retries", "Further tries at the same target, by the outcome of the attempt that failed.", "cps",
              target(rate("retries_total", "target, reason", H), "{{target}} ({{reason}})")),
        breakers(8),
        lines("Breakers opened", "Times that a breaker opened, over the interval of a point.", "short",
              target(f"sum by (target) (increase(weighbridge_breaker_opened_total{{{H}}}[$__rate_interval]))",
                     "{{target}}")),
        lines("Stalls", "Seconds of stalls a second, by the target.", "percentunit",
              target(rate("stall_seconds_total", "target", H), "{{target}}")),
        cost(8),
        lines("Without a cost", "Attempts whose cost is not known: no price for the tokens, or no word of the tokens.",
              "cps", target(rate("unpriced_attempts_total", "reason", H), "{{reason}}")),
        lines("Tokens by target", "Tokens that providers reported, all attempts and classes together.", "short",
              target(rate("tokens_total", "target", H), "{{target}}"), stack="normal", width=16),
        row("Routes and policy"),
        lines("Decisions", "Plans, by the policy and the target that it put first.", "cps",
              target(rate("routing_decisions_total", "policy, target", H), "{{policy}}: {{target}}"), stack="normal"),
        lines("Requests by route", "Requests answered a second.", "reqps",
              target(rate("requests_total", "route"), "{{route}}"), stack="normal"),
        lines("Requests by outcome", "What clients got.", "reqps",
              target(rate("requests_total", "outcome"), "{{outcome}}"), stack="normal",
              overrides=[fixed("ok", "green")]),
        lines("Answered by", "Requests by route and by the target that answered.", "reqps",
              target(rate("requests_total", "route, target", f'{C},target!="none"'), "{{route}}: {{target}}"),
              stack="normal", width=12),
        errors(12),
        lines("Requests by operation", "What was asked for: chat, embeddings, ... All routes and targets.", "reqps",
              target(rate("operations_total", "operation", ""), "{{operation}}"), stack="normal", width=12),
        lines("Refused by their key's limits", "429s that the proxy itself gave, by rpm, tpm or budget.", "reqps",
              target(rate("over_limit_requests_total", "limit", ""), "{{limit}}"), stack="normal", width=12),
        table("Failovers over the time shown", "Changes from one target to another.", 24, [
            ("Times", "locale", "sum by (from_target, to_target, reason)"
             ' (increase(weighbridge_failovers_total{from_target=~"$target"}[$__range]))'),
        ], ["from_target", "to_target", "reason"]),
        row("Shadow"),
        timeline("Verdicts", "Of each shadow experiment, as far as it is.", 8,
                 target("max by (experiment) (weighbridge_shadow_verdict)", "{{experiment}}"),
                 [(0, "running", "blue"), (1, "inconclusive", "orange"), (2, "promote", "green"),
                  (3, "reject", "red")]),
        lines("Pairs", "Mirrored requests, by what became of them.", "cps",
              target(rate("shadow_pairs_total", "result", "") + " > 0", "{{result}}"), stack="normal"),
        table("Experiments", "Units that have their score, and what was spent.", 8, [
            ("Units", "locale", "max by (experiment) (max_over_time(weighbridge_shadow_units[$__range]))"),
            ("Spent", "currencyUSD",
             "max by (experiment) (max_over_time(weighbridge_shadow_spent_usd_total[$__range]))"),
        ], ["experiment"]),
        row("The proxy itself"),
        lines("Overhead", "Time that the proxy itself added to a request." + ESTIMATE, "s",
              target(quantile(0.5, "overhead_seconds", "", ""), "p50"),
              target(quantile(0.99, "overhead_seconds", "", ""), "p99")),
        lines("Event loop",
              "Worst lateness of the event loop between two scrapes: whether the proxy itself is the bottleneck.", "s",
              target("max(weighbridge_event_loop_lag_seconds)", "lateness")),
        lines("Store", "Exchanges that wait to be stored; 1 while records cannot be stored.", "short",
              target("sum(weighbridge_record_queue_depth)", "waiting"),
              target("max(weighbridge_store_degraded)", "degraded"), overrides=[fixed("degraded", "red")]),
    ]  # fmt: skip


ANNOTATIONS = [
    ("Start", "The proxy was started.", "changes(weighbridge_process_start_time_seconds[$__interval]) > 0", "blue"),
    (
        "Breaker opened",
        "The breaker of {{target}} opened.",
        "increase(weighbridge_breaker_opened_total[$__interval]) > 0",
        "red",
    ),
    (
        "Config",
        "A config was loaded.",
        "changes(weighbridge_policy_last_reload_timestamp_seconds[$__interval]) > 0",
        "purple",
    ),
]


def dashboard(uid: str, title: str, about: str, panels: Sequence[Json], other: str) -> Json:
    return {
        "uid": uid,
        "title": title,
        "description": about,
        "tags": ["weighbridge"],
        "editable": False,
        "graphTooltip": 1,
        "schemaVersion": 41,
        "version": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "fiscalYearStartMonth": 0,
        "links": [
            {
                "title": other, "type": "link", "url": f"/d/weighbridge-{other.lower()}", "keepTime": True,
                "includeVars": True, "asDropdown": False, "icon": "dashboard", "tags": [], "targetBlank": False,
                "tooltip": "",
            }
        ],
        "templating": {"list": [*variables()]},
        "annotations": {
            "list": [
                {"name": name, "datasource": SOURCE, "enable": True, "hide": False, "iconColor": colour, "expr": expr,
                 "titleFormat": about, "step": "30s"}
                for name, about, expr, colour in ANNOTATIONS
            ]
        },
        "panels": [*placed(panels)],
    }  # fmt: skip


def variables() -> Iterator[Json]:
    yield {"name": "datasource", "type": "datasource", "label": "Data source", "query": "prometheus", "hide": 0,
           "multi": False, "includeAll": False, "refresh": 1, "regex": "",
           "current": {"text": "Prometheus", "value": "weighbridge-prometheus"}, "options": []}  # fmt: skip
    for name, query in (
        ("route", "label_values(weighbridge_requests_total, route)"),
        ("target", "label_values(weighbridge_attempts_total, target)"),
    ):
        yield {"name": name, "type": "query", "label": name.capitalize(), "datasource": SOURCE, "definition": query,
               "query": {"query": query, "refId": name}, "refresh": 2, "sort": 1, "multi": True, "includeAll": True,
               "allValue": ".*", "hide": 0, "regex": "", "current": {"text": ["All"], "value": ["$__all"]},
               "options": []}  # fmt: skip


def placed(panels: Sequence[Json]) -> Iterator[Json]:
    """From left to right and down, in the order given."""
    x = y = height = 0
    for number, one in enumerate(panels, 1):
        grid = one["gridPos"]
        if x + grid["w"] > 24:
            x, y, height = 0, y + height, 0
        yield {"id": number, **one, "gridPos": {**grid, "x": x, "y": y}}
        x, height = x + grid["w"], max(height, grid["h"])


def dashboards() -> dict[str, Json]:
    """File name -> dashboard."""
    return {
        "overview.json": dashboard(
            "weighbridge-overview", "Weighbridge overview", "What clients saw, what it took, and what it cost.",
            overview(), "Detail",
        ),
        "detail.json": dashboard(
            "weighbridge-detail", "Weighbridge detail", "Providers, routes and policy, and the proxy itself.",
            detail(), "Overview",
        ),
    }  # fmt: skip


def text(found: Json) -> str:
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, found in dashboards().items():
        (FOLDER / name).write_text(text(found), "utf-8")
