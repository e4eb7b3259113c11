"""Tables of plain text, for what people read in a terminal and what scripts cut apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_WIDEST = 100


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns aligned; a very long cell spills over instead of widening its column for all."""
    from proxy.config.problems import printable

    cleaned = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(cell) if len(cell) <= _WIDEST else 0 for cell in column) for column in zip(*cleaned, strict=True)]
    for row in cleaned:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
