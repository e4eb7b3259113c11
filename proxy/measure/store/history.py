"""A window of the store for a report: single records as far as they are kept, sums by the minute and day before that.

No record is read twice: sums are read up to a moment, records from there on, and beside them those older ones that
were not added up yet. The window begins earlier than asked for where only sums of a whole minute or day hold its begin.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from proxy.measure.report import COLUMNS, Source
from proxy.measure.store import rollups
from proxy.measure.store.upkeep import DAY, iso

MINUTE = 60.0


class Window(NamedTuple):
    since: float
    """Seconds since the epoch, as all."""
    days_until: float
    """Up to here by the day, ..."""
    minutes_until: float
    """... up to here by the minute, and from here on single records."""
    until: float
    counted: int
    """Up to which record the sums go."""

    @property
    def summed(self) -> bool:
        return self.minutes_until > self.since

    @property
    def sources(self) -> list[Source]:
        edges = (
            ("day", self.since, self.days_until),
            ("minute", self.days_until, self.minutes_until),
            ("records", self.minutes_until, self.until),
        )
        return [Source(kind, iso(begin) + "Z", iso(end) + "Z") for kind, begin, end in edges if end > begin]


def window(connection: sqlite3.Connection, since: float, until: float) -> Window:
    """Of what the window [since, until) is made. Read in the transaction in which the rows are read."""
    records = _up(kept_since(connection), MINUTE)
    minutes = min(_up(rollups.gone(connection, rollups.MINUTES_GONE), DAY), records)
    counted = rollups.watermark(connection)
    if since >= records:
        return Window(since, since, since, until, counted)
    days_until = minutes
    if since < minutes:
        since = _down(since, DAY)
        days_until = min(minutes, _up(until, DAY))
    else:
        since = _down(since, MINUTE)
        days_until = since
    minutes_until = max(days_until, min(records, _up(until, MINUTE)))
    return Window(since, days_until, minutes_until, max(until, minutes_until), counted)


def records(connection: sqlite3.Connection, of: Window, only: Mapping[str, str]) -> Iterator[Mapping[str, Any]]:
    """`only`: columns of ours with the value that they must have."""
    where = "".join(f" AND {name} = ?" for name in only)
    late = "record_no > ? AND at >= ? AND at < ? OR " if of.summed else ""
    bounds: list[Any] = [of.counted, iso(of.since), iso(of.minutes_until)] if of.summed else []
    query = f"SELECT {', '.join(COLUMNS)} FROM v_exchanges WHERE ({late}at >= ? AND at < ?){where}"  # noqa: S608
    bounds += [iso(of.minutes_until if of.summed else of.since), iso(of.until)]
    yield from connection.execute(query, (*bounds, *only.values()))


def sums(connection: sqlite3.Connection, of: Window, only: Mapping[str, str]) -> Iterator[Mapping[str, Any]]:
    for span, begin, end in (("day", of.since, of.days_until), ("minute", of.days_until, of.minutes_until)):
        length = rollups.SPANS[span]
        for row in rollups.read(connection, span, iso(begin)[:length], iso(end)[:length]):
            if all(row[name] == value for name, value in only.items()):
                yield row


def kept_since(connection: sqlite3.Connection) -> float:
    """No single record of after that moment is gone; seconds since the epoch, 0 where none is gone at all."""
    return rollups.gone(connection, rollups.RECORDS_GONE) or _oldest(connection)


def _oldest(connection: sqlite3.Connection) -> float:
    """Where the store does not tell what is gone: its oldest record; 0 if there are no older sums."""
    query = "SELECT (julianday(min(at)) - 2440587.5) * 86400.0, min(at) FROM exchanges"
    seconds, oldest = connection.execute(query).fetchone()
    ((first,),) = connection.execute("SELECT min(at) FROM rollups WHERE span = 'day'").fetchall()
    return 0.0 if first is None or (oldest is not None and first >= oldest[:10]) else float(seconds or 0.0)


def _up(at: float, step: float) -> float:
    return math.ceil(at / step) * step


def _down(at: float, step: float) -> float:
    return math.floor(at / step) * step
