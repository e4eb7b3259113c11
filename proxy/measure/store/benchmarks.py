"""What `weighbridge bench` asked and how each answer was judged, beside the records of the same requests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from typing import Any

import orjson

from proxy.measure.store.writer import connect, store_path

COLUMNS = (
    "run", "suite", "tag", "at", "task", "case_id", "target", "repeat", "phase", "exchange_id", "served_by", "provider",
    "outcome", "error_kind", "status", "attempts", "ttft_ms", "tpot_ms", "e2e_ms", "max_gap_ms", "stalls",
    "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "cost_usd", "finish_reason", "score",
    "success", "scores",
)  # fmt: skip


def save(storage: str, run: Mapping[str, Any], results: Iterable[Mapping[str, Any]]) -> None:
    """In place of what there was of this run. `run`: its `id`, `suite_name` and `tag`.

    Raises `sqlite3.Error`, `OSError`, `SchemaError`.
    """
    insert = f"INSERT INTO bench_results ({', '.join(COLUMNS)}) VALUES ({', '.join('?' * len(COLUMNS))})"  # noqa: S608
    whose = {"run": run["id"], "suite": run["suite_name"], "tag": run.get("tag")}
    began = {"at": run["started"]}
    with closing(connect(store_path(storage))) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM bench_results WHERE run = ?", (run["id"],))
        connection.executemany(insert, [_row({**began, **one, **whose, "case_id": one.get("case")}) for one in results])
        connection.execute("COMMIT")


def _row(result: Mapping[str, Any]) -> list[Any]:
    scores = result.get("scores")
    told = {**result, "scores": orjson.dumps(scores).decode() if scores is not None else None}
    return [told.get(name) for name in COLUMNS]
