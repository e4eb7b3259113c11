"""The report's figures against a small world that is known by heart."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.measure.report import COLUMNS, Levels, changes, report


def row(**changed: Any) -> dict[str, Any]:
    usual = {
        "at": "2026-11-26", "target": "a", "route": "chat", "key": None, "operation": "chat",
        "tags": None, "outcome": "ok", "stream": 1,
        "ttft_ms": 100.0, "e2e_ms": 500.0, "stall_count": 0, "attempts": 1, "failovers": 0, "cost_usd": 0.01,
        "winner_no": 1, "input_tokens": 10, "cached_tokens": 4, "output_tokens": 5, "reasoning_tokens": 1,
    }  # fmt: skip
    assert usual.keys() == set(COLUMNS)
    return {**usual, **changed}


FAILED = {"outcome": "upstream_error", "ttft_ms": None, "e2e_ms": 30.0, "cost_usd": None, "winner_no": None}


def made(rows: list[dict[str, Any]], by: str = "target", levels: Levels | None = None) -> Any:
    return report(rows, by, "a", "b", 10.0, levels or Levels())


def test_a_world_known_by_heart() -> None:
    rows = [row(e2e_ms=float(ms)) for ms in range(1, 91)]
    rows += [row(**FAILED) for _ in range(6)]
    rows += [row(attempts=2, failovers=1, stall_count=2, cost_usd=0.03, e2e_ms=95.0) for _ in range(4)]
    rows += [row(outcome="client_error", e2e_ms=1.0, cost_usd=None, winner_no=None, attempts=0) for _ in range(7)]
    rows += [row(outcome="client_closed", e2e_ms=1.0, cost_usd=None) for _ in range(3)]
    total = made(rows).total
    assert total["requests"] == 110
    assert total["errors"][::3] == (0.06, 100)
    assert total["failovers"][::3] == (pytest.approx(4 / 103), 103)
    assert total["left_by_client"] == 3
    assert total["e2e_ms"]["p50"].value == pytest.approx(50.5)
    assert total["e2e_ms"]["p95"].value == float("inf")
    assert total["e2e_answered_ms"]["p95"].value == pytest.approx(89.35)
    assert total["e2e_ms"]["p99"].value is None
    assert total["stalled_streams"].value == pytest.approx(4 / 104)
    assert total["tokens"] == {"input": 1100, "cached": 440, "output": 550, "reasoning": 110}
    assert total["cost_usd"] == pytest.approx(90 * 0.01 + 4 * 0.03)
    assert total["cost_per_request_usd"].value == pytest.approx(1.02 / 94)
    assert total["cost_per_success_usd"].value == pytest.approx(1.02 / 94)
    assert total["unpriced"][::3] == (pytest.approx(3 / 97), 97)


def test_what_a_failure_cost_is_paid_by_the_successes() -> None:
    rows = [row(cost_usd=0.01)] * 30 + [row(**{**FAILED, "cost_usd": 0.02})] * 10
    total = made(rows).total
    assert total["cost_per_success_usd"].value == pytest.approx((0.3 + 0.2) / 30)
    assert total["cost_per_request_usd"].value == pytest.approx(0.5 / 40)


def test_what_has_no_price_did_not_cost_nothing() -> None:
    assert made([row(cost_usd=None)] * 3).total["cost_usd"] is None
    assert made([row(cost_usd=None), row(cost_usd=0.0)]).total["cost_usd"] == 0.0
    assert made([row(cost_usd=0.0)]).total["cost_usd"] == 0.0
    assert made([]).total["cost_usd"] == 0.0
    assert made([row(cost_usd=None), row(**{**FAILED, "cost_usd": 0.02})]).total["cost_usd"] == 0.02


@pytest.mark.parametrize(
    ("by", "names"),
    [("target", {"a": 2, "b": 1}), ("route", {"chat": 2, "(none)": 1}), ("key", {"app": 1, "(none)": 2}),
     ("tag", {"x": 2, "y": 1, "(none)": 1})],
)  # fmt: skip
def test_groups(by: str, names: dict[str, int]) -> None:
    rows = [row(key="app", tags="x y"), row(tags="x"), row(target="b", route=None)]
    assert {name: one["requests"] for name, one in made(rows, by).groups.items()} == names


def test_goodput_counts_what_met_every_level() -> None:
    rows = [row(), row(ttft_ms=3000.0), row(e2e_ms=9000.0), row(**FAILED), row(stream=0, ttft_ms=None)]
    total = made(rows, levels=Levels(ttft_ms=1000.0, e2e_ms=1000.0)).total
    assert total["within_levels"][::3] == (0.4, 5)
    assert total["goodput_per_s"] == 0.2
    assert "within_levels" not in made(rows).total


def test_a_difference_is_told_only_where_intervals_are_apart() -> None:
    slow = made([row(e2e_ms=1000.0 + ms) for ms in range(100)] + [row(**FAILED)] * 3)
    fast = made([row(e2e_ms=100.0 + ms) for ms in range(100)])
    told = changes(slow, fast)["a"]
    assert told["e2e_ms p50"] == "higher"
    assert changes(fast, slow)["a"]["e2e_ms p50"] == "lower"
    assert told["errors"] == "no difference shown"
    assert told["e2e_ms p99"] == "too little to tell"
    assert changes(made([row()]), made([row(target="b")])) == {}
