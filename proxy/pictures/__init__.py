"""Reports as one self-contained HTML file: tables and hand-drawn SVG, no script, no address of anything elsewhere.

Pure: numbers in, text out. Whatever is shown is escaped. Colours belong to a name's place in the order given, so that
one target has one colour throughout a report.
"""

from __future__ import annotations

from proxy.pictures.charts import Bar, Interval, Line, Point, bars, intervals, lines, points
from proxy.pictures.page import escape, note, page, section, table, tiles

__all__ = [
    "Bar",
    "Interval",
    "Line",
    "Point",
    "bars",
    "escape",
    "intervals",
    "lines",
    "note",
    "page",
    "points",
    "section",
    "table",
    "tiles",
]
