"""`weighbridge store`: what it prints and writes, against what was put in."""

from __future__ import annotations

import csv
import json
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from proxy.cli import main
from proxy.measure.store import writer
from tests.measure.store.test_upkeep import START, insert, made

pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "some.db"
    with closing(writer.connect(path)) as connection:
        insert(connection, [made(number, START + number, Random(number)) for number in range(30)])
    return path


def test_stats_before_and_after_upkeep(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["store", "stats", "--storage", str(store), "--format", "json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["exchanges"], found["attempts"], found["to_roll_up"], found["days"]) == (30, 33, 30, 0)
    assert main(["store", "vacuum", "--storage", str(store)]) == 0
    assert "bytes before" in capsys.readouterr().out
    assert main(["store", "stats", "--storage", str(store)]) == 0
    told = dict(
        line.split(maxsplit=1)
        for line in capsys.readouterr().out.splitlines()
        if line.count(" ") and "roll" not in line
    )
    assert (told["exchanges"], told["days"]) == ("1", "3")  # the newest of 30 old ones; one sum for each target


@pytest.mark.parametrize("format", ["csv", "jsonl", "parquet"])
def test_export_holds_every_row_and_column(store: Path, tmp_path: Path, format: str) -> None:
    out = tmp_path / f"out.{format}"
    args = ["store", "export", "--storage", str(store), "--format", format, "--out", str(out), "--since", "2026-09-21"]
    assert main(args) == 0
    if format == "csv":
        with open(out, encoding="utf-8", newline="") as file:
            rows = [{name: value or None for name, value in row.items()} for row in csv.DictReader(file)]
    elif format == "jsonl":
        rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    else:
        rows = pq.read_table(out).to_pylist()
    assert [row["id"] for row in rows] == [f"req_{number}" for number in range(30)]
    assert [float(row["cost_usd"]) for row in rows] == [pytest.approx(0.001 * (number % 7)) for number in range(30)]
    assert all("ttft_ms" in row and "trace_id" in row for row in rows)


def test_a_span_of_time(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from proxy.measure.store.upkeep import iso

    span = ["--since", iso(START + 10), "--until", iso(START + 20)]
    assert main(["store", "export", "--storage", str(store), *span]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 10


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["store", "stats", "--storage", "nowhere/x.db"], "does not exist"),
        (["store", "vacuum", "--storage", "nowhere.db"], "no such file"),
        (["store", "export", "--storage", "{store}", "--view", "exchanges"], "no such view"),
        (["store", "export", "--storage", "{store}", "--format", "parquet"], "--out"),
        (["store", "stats", "--storage", "postgres://x"], "sqlite:///"),
    ],
)
def test_mistakes_get_one_line(store: Path, capsys: pytest.CaptureFixture[str], args: list[str], said: str) -> None:
    assert main([arg.replace("{store}", str(store)) for arg in args]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_a_config_whose_keys_are_elsewhere_still_names_the_store(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At 3 a.m., in a shell that has no secrets: what is in the records can be read all the same."""
    config = tmp_path / "w.yaml"
    config.write_text(
        f"storage: sqlite:///{store}\nretention: {{raw: 1d}}\nproviders: {{openai: {{api_key: env:NOT_HERE}}}}\n"
        "routes: {chat: {targets: [openai/m], policy: {kind: 'not_here:Mine'}}}\n"
    )
    assert main(["check", "--config", str(config)]) == 2
    for command in (["store", "stats"], ["store", "vacuum"], ["report", "--since", "2020-01-01"], ["keys", "list"]):
        assert main([*command, "--config", str(config)]) == 0, command
    capsys.readouterr()
    config.write_text(f"storage: mysql://u:secret@h/{store}\n")
    assert main(["store", "stats", "--config", str(config)]) == 2
    told = capsys.readouterr().err
    assert "w.yaml:1: storage: not a store" in told
    assert "secret" not in told
