"""An experiment's rows, put into a store by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from proxy.config.shadow import Shadow
from proxy.measure.store.ledger import Batch, Ledger, Pair
from proxy.measure.store.schema import migrate
from proxy.measure.store.writer import connect
from proxy.shadow.terms import Terms, terms_of

Scored = tuple[str, float | None, float | None, int | None]


def terms(**more: Any) -> Terms:
    told = {"route": "chat", "candidate": "local/b", "primary": {"kind": "judge", "model": "local/j"}, **more}
    ((made, _),) = terms_of("x", Shadow.model_validate(told))
    return made


def pair(terms: Terms, number: int, **more: Any) -> Pair:
    told: dict[str, Any] = dict.fromkeys(Pair._fields)
    told |= {
        "experiment": terms.name, "version": terms.version, "at": f"2026-11-01T00:00:{number % 60:02}.000Z",
        "unit": f"unit {number}", "scored": True, "live_id": f"req_{number}", "shadow_id": f"shadow_{number}",
        "operation": "chat", "stream": False, "candidate_target": terms.candidate, "candidate_outcome": "ok",
        "primary_outcome": "ok", "served_outcome": "ok", "differences": "[]", "spent_usd": 0.001,
    }  # fmt: skip
    return Pair(**(told | more))


def store(folder: Path, terms: Terms, pairs: Sequence[tuple[Mapping[str, Any], Sequence[Scored]]]) -> Ledger:
    ledger = Ledger(folder / "exchanges.db")
    connection = connect(ledger.path)
    migrate(connection)
    connection.close()
    batch = Batch()
    batch.events.append(("2026-11-01T00:00:00.000Z", terms.name, terms.version, "started", terms.dumped()))
    for number, (more, scores) in enumerate(pairs):
        batch.pairs.append((pair(terms, number, **more), scores))
    ledger.commit(batch)
    return ledger
