"""A provider's invoice against what the store says that was spent there: by day, or by day and model."""

from __future__ import annotations

import csv
import json
import sqlite3
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

_DAY = ("date", "day", "usage_date", "usage_date_utc", "start_time", "start_time_iso", "usage date", "time")
_MODEL = ("model", "model_id", "model_version", "line_item", "sku", "sku description", "model name")
_COST = ("cost_usd", "cost", "amount_value", "amount", "amount_usd", "total", "total_cost", "usage_cost", "cost (usd)")

Row = tuple[str, str, float, int]
"""Day, model, USD, attempts without a price."""
Spent = dict[tuple[str, str], float]
"""(day, model) -> USD; the model is empty where the invoice names none."""


def invoice(path: str) -> tuple[Spent, bool]:
    """What the file says, and whether it tells models apart. ValueError says what is missing."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        names = {(name or "").strip().lower(): name for name in reader.fieldnames or ()}
        day, model, cost = (_column(names, wanted) for wanted in (_DAY, _MODEL, _COST))
        if day is None or cost is None:
            raise ValueError(
                f"{path}: no column for the {'day' if day is None else 'cost'} is known among"
                f" {', '.join(names) or 'nothing'}; rename one to `date`, `cost_usd` (and `model`)"
            )
        found: Spent = defaultdict(float)
        for number, row in enumerate(reader, 2):
            try:
                amount = float((row[cost] or "0").replace("$", "").replace(",", ""))
            except ValueError:
                raise ValueError(f"{path}, line {number}: not an amount: {row[cost][:40]!r}") from None
            found[(row[day] or "")[:10], _plain(row[model]) if model else ""] += amount
    return dict(found), model is not None


def _column(names: Mapping[str, str], wanted: Sequence[str]) -> str | None:
    return next((names[name] for name in wanted if name in names), None)


def _plain(model: str | None) -> str:
    """A line item such as `gpt-5-mini-2025-08-07, input` names a model and a class of tokens."""
    return (model or "").split(",")[0].strip().lower()


def compared(connection: sqlite3.Connection, path: str, provider: str, since: str, until: str, format: str) -> str:
    """The comparison as text or JSON."""
    theirs, by_model = invoice(path)
    since = since[:10]  # invoices are of whole days
    ours: Spent = defaultdict(float)
    unpriced = 0
    connection.execute("BEGIN")  # all of it is read as it is now
    whole = _first_whole_day(connection)
    for day, model, cost, missing in (
        *_recorded(connection, provider, since, until, whole),
        *_summed(connection, provider, since, min(until, whole)),
    ):
        ours[day, model if by_model else ""] += cost
        unpriced += missing
    theirs = {place: cost for place, cost in theirs.items() if since <= place[0] and f"{place[0]}T00:00:00" < until}
    places = sorted(theirs.keys() | ours.keys())
    rows = [(day, model, theirs.get((day, model), 0.0), ours.get((day, model), 0.0)) for day, model in places]
    totals = (sum(theirs.values(), 0.0), sum(ours.values(), 0.0))
    older = since < whole and any(day < whole for day, _ in ours)
    if format == "json":
        named = [dict(zip(("day", "model", "invoice_usd", "store_usd"), row, strict=True)) for row in rows]
        found = {"provider": provider, "rows": named, "invoice_usd": totals[0], "store_usd": totals[1]}
        found |= {"from_daily_sums_before": whole} if older else {}
        return json.dumps({**found, "unpriced": unpriced}, indent=2) + "\n"
    lines = [f"{'DAY':12}{'MODEL':36}{'INVOICE':>14}{'STORE':>14}{'DIFFERENCE':>14}"]
    lines += [_line(*row) for row in (*rows, ("total", "", *totals))]
    if totals[0]:
        lines.append(f"the store has {totals[1] / totals[0]:.2%} of what {Path(path).name} bills")
    if older:
        lines.append(
            f"days before {whole} are from sums by the day, under the models that were asked for:"
            " their records are gone"
        )
    if unpriced:
        lines.append(f"{unpriced} attempts have no known cost and are missing here: see `unpriced` in the report")
    return "\n".join(lines) + "\n"


def _first_whole_day(connection: sqlite3.Connection) -> str:
    """The first day of which no record is gone."""
    from proxy.measure.store.history import kept_since
    from proxy.measure.store.upkeep import DAY, iso

    return iso(-(-kept_since(connection) // DAY) * DAY)[:10]


def _recorded(connection: sqlite3.Connection, provider: str, since: str, until: str, whole: str) -> Iterator[Row]:
    """Of single attempts, and of older ones that no sum holds yet."""
    from proxy.measure.store import rollups

    query = (
        "SELECT substr(at, 1, 10), lower(coalesce(response_model, model)), coalesce(cost_usd, 0.0),"
        " cost_usd IS NULL AND (usage_source IS NOT NULL OR outcome = 'ok')"
        " FROM v_attempts WHERE provider = ? AND at >= ? AND at < ? AND (at >= ? OR record_no > ?)"
    )
    yield from connection.execute(query, (provider, since, until, whole, rollups.watermark(connection)))


def _summed(connection: sqlite3.Connection, provider: str, since: str, until: str) -> Iterator[Row]:
    """Of whole days whose records are gone. A target of an own name is known by records that are still there."""
    told = connection.execute("SELECT DISTINCT target, provider, lower(model) FROM attempts")
    known = {target: (of, model) for target, of, model in told}
    query = "SELECT at, target, cost_usd, unpriced FROM v_attempt_rollups WHERE span = 'day' AND at >= ? AND at < ?"
    for day, target, cost, missing in connection.execute(query, (since, until[:10])):
        name, _, model = target.partition("#")[0].partition("/")
        of, model = known.get(target, (name, model.lower()))
        if of == provider:
            yield day, model, cost, missing


def _line(day: str, model: str, invoiced: float, spent: float) -> str:
    return f"{day:12}{model[:35]:36}{invoiced:14.4f}{spent:14.4f}{spent - invoiced:+14.4f}"
