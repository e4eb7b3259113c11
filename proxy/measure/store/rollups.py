"""Records by the minute and by the day: sums, and histograms that can be added up, for after the records are gone.

Each exchange is counted once, in the order in which it was committed; a watermark says up to which. A minute that gets
a late record (a long request) is added to. Synchronous; the writer's thread calls it.
"""

from __future__ import annotations

import calendar
import sqlite3
import time
from array import array
from collections import Counter
from collections.abc import Iterator
from sys import byteorder
from typing import Any

import orjson

from proxy.measure import sketch
from proxy.measure.report import CLIENTS_DOING
from proxy.measure.spending import ASSUMED_SQL

SPANS = {"minute": 16, "day": 10}
"""Span -> how much of the ISO text of a moment names it."""
WATERMARK = "rolled_up"

_FIRST_SUMS = (
    "uncached_input_tokens", "cache_read_tokens", "cache_write_tokens", "output_text_tokens", "reasoning_tokens",
    "cost_usd", "unpriced",
)  # fmt: skip
"""Those that the first rollups had."""
_SUMS = (*_FIRST_SUMS, "assumed_usd")
_LATER = (
    "attempts", "answered", "priced", "priced_ok", "judged_streams", "answered_streams", "ok_cost_usd", "squared_usd",
)  # fmt: skip
"""What reports need beside: NULL where a sum holds records of before there was such a column."""
_OF_EXCHANGES = ("requests", "failovers", "streams", "stalled", "stall_ns", "overhead_ns")
_OF_ATTEMPTS = ("attempts", "failed")
_EXCHANGE_SUMS, _ATTEMPT_SUMS = (*_OF_EXCHANGES, *_SUMS, *_LATER), (*_OF_ATTEMPTS, *_SUMS)
_HISTOGRAMS = ("ttft", "e2e")


_FIRST_PLACE = ("span", "at", "origin", "route", "key", "target")
_PLACE = (*_FIRST_PLACE, "operation")
PLACE = ", ".join(_PLACE)
"""What a row is about; the text is empty where there is none."""


def _table(name: str, place: tuple[str, ...], sums: tuple[str, ...], histograms: tuple[str, ...]) -> str:
    kinds = {name: "REAL" if name.endswith("_usd") else "INTEGER" for name in sums}
    columns = [f"{name} TEXT NOT NULL" for name in place]
    columns += [f"{name} {kind} NOT NULL" for name, kind in kinds.items()]
    columns += ["outcomes TEXT NOT NULL", *(f"{name} BLOB NOT NULL" for name in histograms)]
    return f"CREATE TABLE {name} ({', '.join(columns)}, PRIMARY KEY ({', '.join(place)})) WITHOUT ROWID"


TABLES = (
    _table("rollups", _FIRST_PLACE, (*_OF_EXCHANGES, *_FIRST_SUMS), _HISTOGRAMS),
    _table("attempt_rollups", _FIRST_PLACE, (*_OF_ATTEMPTS, *_FIRST_SUMS), ()),
    "CREATE TABLE marks (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID",
)
"""As they were first made."""


def _anew(name: str, own: tuple[str, ...], histograms: tuple[str, ...]) -> tuple[str, ...]:
    """The table once more, with the operation in its key: SQLite cannot change a key."""
    old = ", ".join((*_FIRST_PLACE, *own, *_FIRST_SUMS, "outcomes", *histograms))
    return (
        f"ALTER TABLE {name} RENAME TO former",
        _table(name, _PLACE, (*own, *_FIRST_SUMS, "assumed_usd"), histograms),
        f"INSERT INTO {name} ({old}, operation, assumed_usd) SELECT {old}, '', 0.0 FROM former",  # noqa: S608
        "DROP TABLE former",
    )


BY_OPERATION = (
    "DROP VIEW IF EXISTS v_rollups",
    "DROP VIEW IF EXISTS v_attempt_rollups",
    *_anew("rollups", _OF_EXCHANGES, _HISTOGRAMS),
    *_anew("attempt_rollups", _OF_ATTEMPTS, ()),
)

FOR_REPORTS = tuple(
    f"ALTER TABLE rollups ADD COLUMN {name} {'REAL' if name.endswith('_usd') else 'INTEGER'}" for name in _LATER
)

_SHOWN = ", ".join(("span, at, origin", *(f"nullif({name}, '') AS {name}" for name in _PLACE[3:])))
VIEWS = (
    "DROP VIEW IF EXISTS v_rollups",
    "DROP VIEW IF EXISTS v_attempt_rollups",
    f"""
CREATE VIEW v_rollups AS SELECT {_SHOWN}, requests, outcomes, failovers, streams, stalled AS stalled_streams,
  stall_ns / 1e6 AS stall_ms, overhead_ns / 1e6 AS overhead_ms, {", ".join((*_SUMS, *_LATER))}, ttft, e2e
FROM rollups""",  # noqa: S608
    f"""
CREATE VIEW v_attempt_rollups AS SELECT {_SHOWN}, attempts, failed, outcomes, {", ".join(_SUMS)}
FROM attempt_rollups""",  # noqa: S608
)

_EXCHANGES = f"""
SELECT e.n, e.at, e.origin, coalesce(e.route, ''), coalesce(e.key, ''), coalesce(w.target, l.target, ''),
  coalesce(e.operation, ''), e.outcome,
  e.ttft_ns, e.e2e_ns, 1, e.failovers > 0, e.stream, coalesce(w.stall_count, 0) > 0, coalesce(w.stall_ns, 0),
  coalesce(e.overhead_ns, 0), coalesce(w.uncached_input_tokens, 0), coalesce(w.cache_read_tokens, 0),
  coalesce(w.cache_write_tokens, 0), coalesce(w.output_text_tokens, 0), coalesce(w.reasoning_tokens, 0),
  coalesce(e.cost_usd, 0.0), w.target IS NOT NULL AND w.cost_usd IS NULL,
  (SELECT coalesce(sum({ASSUMED_SQL}), 0.0) FROM attempts a WHERE a.exchange_n = e.n),
  e.attempts, e.winner_no IS NOT NULL, e.cost_usd IS NOT NULL, e.cost_usd IS NOT NULL AND e.outcome = 'ok',
  e.stream AND e.outcome NOT IN ('client_error', 'client_closed'), e.stream AND e.ttft_ns IS NOT NULL,
  CASE WHEN e.outcome = 'ok' THEN coalesce(e.cost_usd, 0.0) ELSE 0.0 END, coalesce(e.cost_usd * e.cost_usd, 0.0)
FROM exchanges e
LEFT JOIN attempts w ON w.exchange_n = e.n AND w.attempt_no = e.winner_no
LEFT JOIN attempts l ON l.exchange_n = e.n AND l.attempt_no = e.last_no
WHERE e.n > ? ORDER BY e.n LIMIT ?"""  # noqa: S608
_ATTEMPTS = f"""
SELECT e.at, e.origin, coalesce(e.route, ''), coalesce(e.key, ''), a.target, coalesce(e.operation, ''), a.outcome,
  1, a.outcome NOT IN ('ok', 'client_closed', 'client_error'), coalesce(a.uncached_input_tokens, 0),
  coalesce(a.cache_read_tokens, 0), coalesce(a.cache_write_tokens, 0), coalesce(a.output_text_tokens, 0),
  coalesce(a.reasoning_tokens, 0), coalesce(a.cost_usd, 0.0),
  a.cost_usd IS NULL AND (a.uncached_input_tokens IS NOT NULL OR a.outcome = 'ok'), {ASSUMED_SQL}
FROM attempts a JOIN exchanges e ON e.n = a.exchange_n WHERE a.exchange_n > ? AND a.exchange_n <= ?"""  # noqa: S608

Place = tuple[str, ...]


class Cell:
    """What is added up for one place (`PLACE`)."""

    __slots__ = ("e2e", "outcomes", "sums", "ttft")

    def __init__(self, width: int) -> None:
        self.sums: list[float] = [0] * width
        self.outcomes: dict[str, int] = {}
        self.ttft: sketch.Counts = {}
        self.e2e: sketch.Counts = {}

    def add(self, numbers: list[tuple[Any, ...]], outcomes: list[str]) -> None:
        """Records of this place, a row of numbers and an outcome each."""
        self.sums = [so_far + sum(column) for so_far, column in zip(self.sums, zip(*numbers, strict=True), strict=True)]
        for outcome, count in Counter(outcomes).items():
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + count

    def merge(self, other: Cell) -> None:
        self.sums = [mine + more for mine, more in zip(self.sums, other.sums, strict=True)]
        for outcome, count in other.outcomes.items():
            self.outcomes[outcome] = self.outcomes.get(outcome, 0) + count
        for into, counts in ((self.ttft, other.ttft), (self.e2e, other.e2e)):
            for size, count in counts.items():
                into[size] = into.get(size, 0) + count


def packed(counts: sketch.Counts) -> bytes:
    """Class, count, class, count, ... as 32 bit integers, least byte first."""
    made = sketch.pack(counts)
    if byteorder == "big":
        made.byteswap()
    return made.tobytes()


def unpack(into: sketch.Counts, blob: bytes) -> None:
    """Adds what is packed to the counts."""
    held = array("I")
    held.frombytes(blob)
    if byteorder == "big":
        held.byteswap()
    sketch.merge(into, held)


def roll_up(connection: sqlite3.Connection, most: int) -> int:
    """Count up to `most` further exchanges, in one transaction that the caller holds; how many there were."""
    done = watermark(connection)
    found = connection.execute(_EXCHANGES, (done, most)).fetchall()
    if not found:
        return 0
    last = found[-1][0]
    cells: dict[Place, Cell] = {}
    for place, records in _placed([row[1:] for row in found]).items():
        cell = cells[place] = Cell(len(_EXCHANGE_SUMS))
        cell.add([row[9:] for row in records], [row[6] for row in records])
        for row in records:
            outcome, ttft, e2e = row[6:9]
            if ttft is not None and outcome not in CLIENTS_DOING:
                sketch.add(cell.ttft, ttft)
            if e2e is not None and outcome == "ok":
                sketch.add(cell.e2e, e2e)
    _save(connection, "rollups", _in_spans(cells), _EXCHANGE_SUMS, _HISTOGRAMS)
    tries: dict[Place, Cell] = {}
    tried = connection.execute(_ATTEMPTS, (done, last)).fetchall()
    for place, records in _placed(tried).items():
        tries[place] = Cell(len(_ATTEMPT_SUMS))
        tries[place].add([row[7:] for row in records], [row[6] for row in records])
    _save(connection, "attempt_rollups", _in_spans(tries), _ATTEMPT_SUMS, ())
    connection.execute("INSERT OR REPLACE INTO marks VALUES (?, ?)", (WATERMARK, last))
    return len(found)


def watermark(connection: sqlite3.Connection) -> int:
    """The number of the last exchange that was counted."""
    row = connection.execute("SELECT value FROM marks WHERE name = ?", (WATERMARK,)).fetchone()
    return int(row[0]) if row else 0


def _placed(records: list[tuple[Any, ...]]) -> dict[Place, list[tuple[Any, ...]]]:
    """By minute and what follows it in a place. A record begins with its moment and the rest of its place."""
    placed: dict[Place, list[tuple[Any, ...]]] = {}
    for record in records:
        place = (record[0][: SPANS["minute"]], *record[1:6])
        if place in placed:
            placed[place].append(record)
        else:
            placed[place] = [record]
    return placed


def _in_spans(minutes: dict[Place, Cell]) -> dict[Place, Cell]:
    """The cells of every span, from those of the minutes: there are few of them, however many the records."""
    cells: dict[Place, Cell] = {}
    for span, length in SPANS.items():
        for (at, *rest), cell in minutes.items():
            place = (span, at[:length], *rest)
            if place not in cells:
                cells[place] = Cell(len(cell.sums))
            cells[place].merge(cell)
    return cells


def _save(
    connection: sqlite3.Connection,
    table: str,
    cells: dict[Place, Cell],
    sums: tuple[str, ...],
    histograms: tuple[str, ...],
) -> None:
    """Adds the cells to what the table has of them already."""
    columns = (*sums, "outcomes", *histograms)
    place = " AND ".join(f"{name} = ?" for name in _PLACE)
    query = f"SELECT {', '.join(columns)} FROM {table} WHERE {place}"  # noqa: S608
    insert = f"INSERT OR REPLACE INTO {table} ({PLACE}, {', '.join(columns)})"
    insert += f" VALUES ({', '.join('?' * (len(_PLACE) + len(columns)))})"
    for where, cell in cells.items():
        held = connection.execute(query, where).fetchone()
        if held is not None:
            cell.sums = [
                mine + more if more is not None else None  # type: ignore[misc]
                for mine, more in zip(cell.sums, held, strict=False)
            ]
            for outcome, count in orjson.loads(held[len(sums)]).items():
                cell.outcomes[outcome] = cell.outcomes.get(outcome, 0) + count
            for name, blob in zip(histograms, held[len(sums) + 1 :], strict=True):
                unpack(getattr(cell, name), blob)
        blobs = [packed(getattr(cell, name)) for name in histograms]
        connection.execute(insert, (*where, *cell.sums, orjson.dumps(cell.outcomes).decode(), *blobs))


RECORDS_GONE, MINUTES_GONE = "records_gone", "minutes_gone"
"""Marks: records, or sums by the minute, of before that moment (seconds since the epoch) may be gone."""


def note_gone(connection: sqlite3.Connection, what: str, before: str) -> None:
    """`before`: ISO 8601, as in `at`."""
    at = calendar.timegm(time.strptime(before, "%Y-%m-%dT%H:%M:%S"))
    connection.execute(
        "INSERT INTO marks VALUES (?, ?) ON CONFLICT DO UPDATE SET value = max(value, ?)", (what, at, at)
    )


def gone(connection: sqlite3.Connection, what: str) -> int:
    """Seconds since the epoch; 0 where nothing is gone."""
    row = connection.execute("SELECT value FROM marks WHERE name = ?", (what,)).fetchone()
    return int(row[0]) if row else 0


def read(connection: sqlite3.Connection, span: str, since: str, until: str) -> Iterator[dict[str, Any]]:
    """Rows of `v_rollups` with `ttft` and `e2e` as counts by class (`proxy.measure.sketch`).

    `since` and `until` are as long as the span's `at`.
    """
    cursor = connection.execute(
        "SELECT * FROM v_rollups WHERE span = ? AND at >= ? AND at < ? ORDER BY at", (span, since, until)
    )
    names = [column[0] for column in cursor.description]
    for row in cursor:
        shown = dict(zip(names, row, strict=True))
        for name in _HISTOGRAMS:
            counts: sketch.Counts = {}
            unpack(counts, shown[name])
            shown[name] = counts
        shown["outcomes"] = orjson.loads(shown["outcomes"])
        yield shown
