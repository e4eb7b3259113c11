"""What each client's key has spent so far, as the store knows it."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from proxy.measure.spending import ASSUMED_SQL
from proxy.measure.store import rollups

_QUERY = f"""
SELECT key, at, sum(cost_usd + assumed_usd) FROM rollups WHERE span = 'day' AND key <> '' GROUP BY 1, 2
UNION ALL
SELECT e.key, substr(e.at, 1, 10),
  sum(coalesce(e.cost_usd, 0.0) + (SELECT coalesce(sum({ASSUMED_SQL}), 0.0) FROM attempts a WHERE a.exchange_n = e.n))
FROM exchanges e WHERE e.n > ? AND e.key IS NOT NULL GROUP BY 1, 2"""  # noqa: S608


def spent(path: Path) -> Mapping[str, Sequence[tuple[str, float]]]:
    """Key's name -> (day, USD), days in no order; a day may come twice. Raises `sqlite3.Error`."""
    found: dict[str, list[tuple[str, float]]] = {}
    with closing(sqlite3.connect(path, timeout=5.0)) as connection:
        for key, day, usd in connection.execute(_QUERY, (rollups.watermark(connection),)):
            found.setdefault(key, []).append((day, usd))
    return found
