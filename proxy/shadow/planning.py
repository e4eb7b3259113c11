"""Before the start: how many conversations, days and dollars an experiment is likely to take, from recent traffic."""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta
from typing import NamedTuple

import orjson

from policies import evidence
from proxy.measure.store.ledger import Ledger
from proxy.measure.store.schema import SchemaError
from proxy.shadow.terms import Terms

DAYS = 7
"""Of traffic that are looked at."""
USUAL_DEVIATION = 0.35
"""Of paired differences, before anything is known: judges with ties and yes/no scores lie about there."""
_RARE_DEVIATION = 0.1
"""Of what seldom happens in either arm: one in two hundred fails, refuses or is cut."""
_RARE = ("errors", "refusal", "truncation", "validity")
_JUDGED_BEFORE = 300
"""Tokens of a judge's own instructions."""
_JUDGED_AFTER = 50
"""Tokens of a judge's reply."""

_TRAFFIC = (
    "SELECT count(*) AS calls, count(DISTINCT coalesce(decision ->> '$.unit', id)) AS units,"
    " max(decision ->> '$.unit' IS NOT NULL) AS told, min(at) AS since, avg(input_tokens) AS input_tokens,"
    " avg(output_tokens) AS output_tokens FROM v_exchanges"
    " WHERE origin = 'live' AND at >= ? AND route IN (SELECT value FROM json_each(?))"
)

Rates = tuple[float | None, float | None]
"""USD per million tokens of prompt and answer; None: not known."""


class Traffic(NamedTuple):
    """Of the mirrored routes lately."""

    units_per_day: float
    calls_per_unit: float
    units_known: bool
    """Conversations were told apart; else each request is taken for one of its own."""
    input_tokens: float | None
    """Mean of a request."""
    output_tokens: float | None


def traffic(ledger: Ledger | None, routes: tuple[str, ...], now: datetime) -> Traffic | None:
    """None where there was too little, or no store that can be read. `now` in UTC."""
    since = (now - timedelta(days=DAYS)).strftime("%Y-%m-%dT%H:%M:%S")
    try:
        (row,) = ledger.rows(_TRAFFIC, (since, orjson.dumps(routes).decode())) if ledger is not None else (None,)
    except (sqlite3.Error, OSError, SchemaError):
        return None
    if row is None or row["calls"] < 2:
        return None
    days = (now - datetime.fromisoformat(row["since"])).total_seconds() / 86_400
    if days < 1 / 24:
        return None
    units = row["units"]
    return Traffic(units / days, row["calls"] / units, bool(row["told"]), row["input_tokens"], row["output_tokens"])


def usd_per_call(
    seen: Traffic, candidate: Rates, judge: Rates | None = None, primary: Rates | None = None, noise: float = 0.0
) -> float | None:
    """Mean over the calls of a unit, of which the first is judged. None where something is not known.

    `primary` is asked again for the share `noise` of the units.
    """
    read, written = seen.input_tokens, seen.output_tokens
    if read is None or written is None:
        return None
    each = _usd(candidate, read, written)
    again = _usd(primary, read, written) if noise and primary is not None else 0.0
    judged = _usd(judge, 2 * (read + 2 * written + _JUDGED_BEFORE), 2 * _JUDGED_AFTER) if judge is not None else 0.0
    if each is None or again is None or judged is None:
        return None
    return each + (noise * again + (1.0 + noise) * judged) / seen.calls_per_unit


def _usd(rates: Rates, read: float, written: float) -> float | None:
    fresh, output = rates
    return None if fresh is None or output is None else (read * fresh + written * output) / 1e6


def plan(terms: Terms, seen: Traffic | None = None, usd: float | None = None) -> str:
    """One or two sentences. `usd`: of a call, as `usd_per_call` has it."""
    most = f"at most {terms.per_day:g} USD a day, {terms.total:g} USD in all"
    if terms.primary is None:
        return f"no primary metric: a report without a verdict, {most}"
    found, slowest = _longest(terms)
    short = "" if found.likely <= terms.max_units else f"; more than max_units ({terms.max_units:,})"
    whose = f" ({slowest} takes longest)" if slowest != terms.primary.name else ""
    text = f"about {found.likely:,} conversations to a verdict{whose}, nine in ten within {found.most:,}{short}"
    if seen is None:
        return f"{text}; days and dollars are told once the route has had traffic for an hour; {most}"
    sampled = seen.units_per_day * terms.rate
    pace = f"{seen.units_per_day:,.0f} {'conversations' if seen.units_known else 'requests'} a day"
    if not sampled:
        return f"{text}; {most}; a rate of 0 mirrors nothing"
    days = [found.likely / sampled, found.most / sampled]
    if usd is None:
        return f"{text}; at {pace}: {_span(days)}; {most} (what a call costs is not known: set `prices`)"
    dollars = [units * seen.calls_per_unit * usd for units in (found.likely, found.most)]
    days = [max(by_pace, cost / terms.per_day) for by_pace, cost in zip(days, dollars, strict=True)]
    money = f"{dollars[0]:,.2f} to {dollars[1]:,.2f} USD"
    text = f"{text}; at {pace}: {_span(days)} and {money}; {most}"
    if dollars[0] > terms.total:
        return f"{text}: the money will run out before there is a verdict"
    return text


def _longest(terms: Terms) -> tuple[evidence.Plan, str]:
    """The metric that is likely to be shown last. A ratio of costs is told by a hundred."""
    plans = []
    for gauge in terms.gauges:
        usual = _RARE_DEVIATION if gauge.kind in _RARE and gauge != terms.primary else USUAL_DEVIATION
        deviation = 0.0 if gauge.is_ratio else usual
        plans.append((evidence.plan(deviation, gauge.margin, terms.alpha, len(terms.gauges)), gauge.name))
    return max(plans, key=lambda one: one[0].likely)


def _span(days: list[float]) -> str:
    """From the likely number to that of nine in ten."""
    if days[1] < 2:
        return f"{days[0] * 24:,.1f} to {days[1] * 24:,.1f} hours"
    return f"{days[0]:,.1f} to {days[1]:,.1f} days"
