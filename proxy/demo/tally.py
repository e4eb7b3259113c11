"""The figures of the closing table, straight from the records."""

from __future__ import annotations

import math
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from proxy.demo.processes import LOAD


@dataclass(slots=True)
class Tally:
    """What happened to the exchanges that arrived within one phase."""

    requests: int = 0
    errors: int = 0
    """Exchanges whose client did not get a whole answer."""
    failovers: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    """Failed attempts by error kind."""
    answered: Counter[str] = field(default_factory=Counter)
    """Exchanges by the target whose answer was sent on."""
    ttft_ms: list[float] = field(default_factory=list)
    """Of streams: last byte of the request to first content."""
    e2e_ms: list[float] = field(default_factory=list)


def tallies(store: Path, bounds: Sequence[float]) -> list[Tally]:
    """One for each phase of the load's exchanges, by arrival. `bounds`: between the phases, seconds since the epoch.

    Raises `sqlite3.Error`.
    """
    found = [Tally() for _ in range(len(bounds) + 1)]

    def phase(at: str) -> Tally:
        arrived = datetime.fromisoformat(at).timestamp()
        return found[sum(arrived >= bound for bound in bounds)]

    with closing(sqlite3.connect(f"{store.absolute().as_uri()}?mode=rw", uri=True)) as connection:
        connection.execute("PRAGMA query_only = 1")
        for at, outcome, failovers, target, ttft, e2e in connection.execute(
            "SELECT at, outcome, failovers, target, ttft_ms, e2e_ms FROM v_exchanges"
            " WHERE model = ? AND origin = 'live'",
            (LOAD,),
        ):
            tally = phase(at)
            tally.requests += 1
            tally.failovers += failovers
            if outcome == "ok":
                tally.answered[target] += 1
            else:
                tally.errors += 1
            if ttft is not None:
                tally.ttft_ms.append(ttft)
            if e2e is not None:
                tally.e2e_ms.append(e2e)
        for at, kind in connection.execute(
            "SELECT a.at, a.error_kind FROM v_attempts a JOIN v_exchanges e ON e.record_no = a.record_no"
            " WHERE e.model = ? AND e.origin = 'live' AND a.error_kind IS NOT NULL", (LOAD,)
        ):  # fmt: skip
            phase(at).failed[kind] += 1
    return found


def quantile(samples: Sequence[float], q: float) -> float | None:
    """The smallest sample that at least a share `q` of all do not exceed; None where fewer than one lies beyond it."""
    if len(samples) * (1 - q) < 1 - 1e-9:
        return None
    return sorted(samples)[math.ceil(len(samples) * q - 1e-9) - 1]
