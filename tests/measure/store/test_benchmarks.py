"""What a benchmark leaves in the store: once, whole, in place of what the same run left before, until it is too old."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from proxy.measure.store import offline, upkeep, writer
from proxy.measure.store.benchmarks import COLUMNS, save
from proxy.measure.store.upkeep import DAY, Retention

DOCUMENTED = Path(__file__).parents[3] / "docs" / "store.md"
RUN = {"id": "r1", "suite_name": "sums", "tag": "v1", "started": "2026-11-26T08:00:00.000Z"}
ROW = {
    "task": "t", "case": "c1", "target": "a/m", "repeat": 0, "at": "2026-11-26T08:00:01.000Z", "exchange_id": "req_1",
    "outcome": "ok", "error_kind": None, "status": 200, "e2e_ms": 1.5, "score": 0.5, "success": False,
    "scores": {"exact": 0.5, "long": None}, "prompt": "not a column",
}  # fmt: skip


def found(path: Path, query: str = "SELECT * FROM v_bench_results") -> list[dict[str, Any]]:
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(query)]


def test_a_run_is_kept_once(tmp_path: Path) -> None:
    path = tmp_path / "w.db"
    storage = f"sqlite:///{path}"
    load = {"target": "b/m", "phase": "5 users", "case": "c2"}
    save(storage, RUN, [ROW])
    save(storage, RUN, [ROW, load])
    save(storage, {**RUN, "id": "r2", "tag": None}, [ROW])
    rows = found(path)
    assert [(row["run"], row["tag"], row["case_id"], row["phase"]) for row in rows] == [
        ("r1", "v1", "c1", None), ("r1", "v1", "c2", "5 users"), ("r2", None, "c1", None),
    ]  # fmt: skip
    assert {name: rows[0][name] for name in ("suite", "status", "e2e_ms", "score", "success", "scores")} == {
        "suite": "sums", "status": 200, "e2e_ms": 1.5, "score": 0.5, "success": 0,
        "scores": '{"exact":0.5,"long":null}',
    }  # fmt: skip
    assert rows[1]["at"] == RUN["started"]
    with offline.reading(path) as connection:
        head, *told = offline.rows(connection, "v_bench_results", "2026", "2027")
    assert len(told) == 3
    assert list(head) == ["result_no", *COLUMNS] == list(rows[0])


def test_every_column_is_documented() -> None:
    part = DOCUMENTED.read_text("utf-8").partition("## `v_bench_results`")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
    told = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert told == ["result_no", *COLUMNS]


def test_it_goes_with_the_records_of_its_time(tmp_path: Path) -> None:
    path = tmp_path / "w.db"
    save(f"sqlite:///{path}", RUN, [ROW, {**ROW, "at": "2026-11-27T08:00:00.000Z"}])
    now = 1795766400.0  # 2026-11-27T08:00:00Z
    with closing(writer.connect(path)) as connection:
        while upkeep.step(connection, now, Retention(raw=DAY / 2)):
            pass
    assert [row["at"] for row in found(path)] == ["2026-11-27T08:00:00.000Z"]
