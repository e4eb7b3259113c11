"""`weighbridge report`: three forms of the same figures, and the comparison with an invoice."""

from __future__ import annotations

import json
import re
import time
from contextlib import closing
from pathlib import Path
from random import Random

import pytest

from proxy.cli import main
from proxy.measure.store import writer
from tests.measure.records import TARGETS
from tests.measure.store.test_upkeep import insert, made

COUNT = 400


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "some.db"
    begun, rng = time.time() - 3600, Random(4)
    with closing(writer.connect(path)) as connection:
        insert(connection, [made(number, begun + number, rng) for number in range(COUNT)])
    return path


def test_json_holds_every_figure_with_its_interval(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--storage", str(store), "--format", "json", "--compare", "48h"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["total"]["requests"] == COUNT
    assert sum(group["requests"] for group in found["groups"].values()) == COUNT
    assert set(found["groups"]) == set(TARGETS)
    p95 = found["total"]["ttft_ms"]["p95"]
    assert p95["low"] < p95["value"] < p95["high"]
    assert p95["n"] == COUNT
    assert found["total"]["ttft_ms"]["p99"]["value"] is not None
    one = next(iter(found["groups"].values()))
    assert one["ttft_ms"]["p99"] == {
        "value": None, "low": None, "high": None, "n": one["requests"], "note": "n too small: needs 368",
    }  # fmt: skip
    assert found["total"]["cost_usd"] == pytest.approx(sum(0.001 * (number % 7) for number in range(COUNT)))
    assert found["before"]["total"]["requests"] == 0


def test_the_table_says_the_same(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--storage", str(store), "--slo-ttft", "1s"]) == 0
    out = capsys.readouterr().out
    assert re.search(rf"REQUESTS +{COUNT}\b", out)
    for heading in ("ERRORS", "TTFT p99", "A SUCCESS", "UNPRICED", "WITHIN LEVELS", "GOODPUT", *TARGETS):
        assert heading in out
    assert "too small" in out
    assert "\x1b" not in out


def test_the_page_stands_alone(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.html"
    assert main(["report", "--storage", str(store), "--format", "html", "--by", "key", "--out", str(out)]) == 0
    text = out.read_text("utf-8")
    assert text.count("<svg") == 8
    assert "http" not in text.replace("http-equiv", "")
    assert "<script" not in text


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--since", "1h", "--until", "2h"], "empty"),
        (["--storage", "nowhere/at/all.db"], "does not exist"),
        (["reconcile"], "INVOICE.csv"),
        (["--slo-ttft", "soon"], "not a duration"),
    ],
)
def test_mistakes_get_one_line(store: Path, capsys: pytest.CaptureFixture[str], args: list[str], said: str) -> None:
    assert main(["report", "--storage", str(store), *args]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def reconciled(store: Path, invoice: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    args = ["report", "reconcile", str(invoice), "--provider", "openai", "--storage", str(store), *more]
    assert main(args) == 0
    return capsys.readouterr().out


def test_an_invoice_is_compared_by_day_and_model(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from proxy.measure.store.offline import reading

    with reading(store) as connection:
        query = "SELECT substr(at, 1, 10), model, sum(cost_usd) FROM v_attempts WHERE provider = 'openai' GROUP BY 1, 2"
        spent = [tuple(row) for row in connection.execute(query)]
    path = tmp_path / "invoice.csv"
    lines = [f'{day},{model.upper()},"${cost * 2:.6f}"' for day, model, cost in spent]
    path.write_text("\n".join(["Date,Model,Cost (USD)", *lines, "2020-01-01,gpt,5"]) + "\n", "utf-8")
    found = json.loads(reconciled(store, path, capsys, "--format", "json"))
    assert found["invoice_usd"] == pytest.approx(2 * found["store_usd"], rel=1e-5)
    assert [row["store_usd"] for row in found["rows"]] == [pytest.approx(cost) for _, _, cost in sorted(spent)]
    out = reconciled(store, path, capsys)
    assert "the store has 50.00% of what invoice.csv bills" in out


def test_an_invoice_without_models_and_one_that_is_none(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "invoice.csv"
    path.write_text("day,amount\n2020-01-01,1\n", "utf-8")
    assert "total" in reconciled(store, path, capsys)
    path.write_text("when,how much\n1,2\n", "utf-8")
    args = ["report", "reconcile", str(path), "--provider", "openai", "--storage", str(store)]
    assert main(args) == 2
    assert "no column for the day" in capsys.readouterr().err
