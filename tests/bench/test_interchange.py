"""Logs of other harnesses, written here as their documentation describes them, become rows; rows become events."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from proxy.bench import compare
from proxy.bench.figures import tables
from proxy.bench.interchange import exported, read, suite_of
from proxy.bench.report import as_html, report
from proxy.bench.suite import parse
from proxy.config import ConfigError

HARNESS = [
    {
        "doc_id": n, "doc": {"question": "?"}, "target": "4", "arguments": [["?", {}]], "resps": [["It is 4"]],
        "filtered_resps": ["4"], "filter": "strict-match", "metrics": ["exact_match"], "exact_match": float(n % 4 > 0),
        "prompt_hash": f"p{n}",
    }
    for n in range(40)
]  # fmt: skip
INSPECT = {
    "version": 2,
    "status": "success",
    "eval": {"task": "arith", "model": "openai/x", "dataset": {"name": "d"}},
    "samples": [
        {
            "id": n, "epoch": epoch, "input": "?", "target": "4", "output": {"completion": f"answer {n}"},
            "scores": {"match": {"value": "C" if n % 5 else "I"}},
            "model_usage": {"openai/x": {"input_tokens": 10, "output_tokens": 3}},
        }
        for n in range(20)
        for epoch in (1, 2)
    ],
}  # fmt: skip


def test_harness_samples(tmp_path: Path) -> None:
    path = tmp_path / "samples_gsm8k_2026-11-26T10-00-00.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in HARNESS))
    rows = read(path, "openai/x")
    assert len(rows) == 40
    assert {row["task"] for row in rows} == {"gsm8k"}
    assert sum(row["success"] for row in rows) == 30
    assert rows[0]["scores"] == {"exact_match/strict-match": 0.0}
    assert rows[0]["e2e_ms"] is None
    with pytest.raises(ConfigError, match="--target"):
        read(path)


def test_inspect_logs_in_both_forms(tmp_path: Path) -> None:
    plain = tmp_path / "log.json"
    plain.write_text(json.dumps(INSPECT))
    packed = tmp_path / "log.eval"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("header.json", json.dumps({k: v for k, v in INSPECT.items() if k != "samples"}))
        for sample in INSPECT["samples"]:  # type: ignore[attr-defined]
            archive.writestr(f"samples/{sample['id']:03}_epoch_{sample['epoch']}.json", json.dumps(sample))
    rows = read(plain)
    assert len(rows) == 40
    assert {row["repeat"] for row in rows} == {0, 1}
    assert rows[0]["input_tokens"] == 10
    key = lambda row: (row["case"], row["repeat"])  # noqa: E731
    assert sorted(rows, key=key) == sorted(read(packed), key=key)


def test_imported_scores_are_reported_and_compared(tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text(json.dumps(INSPECT))
    rows = read(path)
    suite = parse(json.dumps(suite_of("imported", rows)))
    made = report(suite, {"id": "x", "finished": "now", "cases": 20}, rows)
    (one,) = made.figures
    assert one.accuracy.value == 0.8
    assert one.accuracy.n == 20
    assert one.e2e["p95"].value is None
    assert b"80.0%" in as_html(made)
    found = compare.compare(suite, tables(suite, rows), tables(suite, rows))
    assert [gate.verdict for gate in found.gates] == ["inconclusive"]  # 20 prompts show nothing


def test_events_for_others() -> None:
    row = {
        "task": "t", "case": "1", "target": "m", "repeat": 0, "score": 1.0, "success": True, "scores": {"exact": 1.0},
        "at": "2026-11-26T10:00:00.000Z",
    }  # fmt: skip
    lines = [json.loads(line) for line in exported([row, {**row, "score": 0.0, "success": False}], "r")]
    assert [line["data"]["correct"] for line in lines[:2]] == [True, False]
    assert lines[2]["final_report"] == {"target": "m", "accuracy": 0.5, "n": 2}


@pytest.mark.parametrize(
    ("name", "text"), [("x.json", "{}"), ("x.json", "no"), ("x.jsonl", '{"a": 1}'), ("x.eval", "no zip"), ("x.txt", "")]
)
def test_what_is_no_log_is_told(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=r"x\."):
        read(tmp_path / name, "m")
