"""`weighbridge shadow split` on a store whose truth is known: the candidate fails at long prompts."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from proxy.cli import main
from tests.shadow.stored import Scored, store, terms


def filled(folder: Path, priced: bool = True, count: int = 600) -> Path:
    rows: list[tuple[dict[str, Any], list[Scored]]] = []
    for number in range(count):
        lost = number % 3 == 0
        cost = {"primary_cost_usd": 0.01, "candidate_cost_usd": 0.001} if priced else {}
        told = {"route": "chat", "primary_target": "local/a", **cost}
        rows.append((told, [("judge", 1.0 if lost else 0.5, 0.0 if lost else 0.5, 0 if lost else 100)]))
    ledger = store(folder, terms(), rows)
    with sqlite3.connect(ledger.path) as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(exchanges)") if row[3] and not row[5]]
        for number in range(count):
            long = number % 3 == 0
            value = dict.fromkeys(columns, 0) | {
                "id": f"req_{number}", "at": "2026-11-01T00:00:00.000Z",
                "request_bytes": 8000 if long else 400 + number % 7 * 400,
            }  # fmt: skip
            names, marks = ", ".join(value), ", ".join("?" * len(value))
            connection.execute(f"INSERT INTO exchanges ({names}) VALUES ({marks})", [*value.values()])  # noqa: S608
    connection.close()
    return ledger.path


def run(path: Path, *more: str) -> int:
    return main(["shadow", "split", "x", "--store", str(path), *more])


def test_short_prompts_may_go_and_the_rule_is_written_down(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(filled(tmp_path), "--margin", "0.03") == 0
    out = capsys.readouterr().out
    assert 'when: {tokens: "<=700"}, use: [local/b, local/a]' in out
    assert "- {use: [local/a, local/b]}" in out
    assert "chosen  tokens <=700" in out
    told = run(tmp_path / "exchanges.db", "--margin", "0.03", "--format", "json"), capsys.readouterr().out
    verified = json.loads(told[1])["verified"]
    assert told[0] == 0
    assert verified["holds"] is True
    assert verified["quality"]["value"] == 0.0
    assert verified["saved_usd"]["value"] == pytest.approx(0.009 * verified["share"])
    everything = json.loads(told[1])["curve"][0]
    assert everything["share"] == 1.0
    assert everything["quality"]["value"] == pytest.approx(-1 / 3, abs=0.06)


def test_where_it_cannot_be_told_it_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "few").mkdir()
    (tmp_path / "unpriced").mkdir()
    assert run(filled(tmp_path / "few", count=40)) == 2
    assert "50 are the least" in capsys.readouterr().err
    assert run(filled(tmp_path / "unpriced", priced=False)) == 2
    assert "give the targets' prices" in capsys.readouterr().err
    assert run(tmp_path / "few" / "exchanges.db", "--metric", "taste") == 2
    assert "name one with --metric (judge" in capsys.readouterr().err
    assert run(tmp_path / "few" / "exchanges.db", "--margin", "2") == 2
    assert "write 0.02" in capsys.readouterr().err
