"""What a report says of stored pairs: where it drifts, whether the judge can be trusted, what was asked differently."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from proxy.measure.store.ledger import Ledger
from proxy.shadow.page import as_html, as_lines
from proxy.shadow.report import report
from tests.shadow.stored import Scored, store, terms

TERMS = terms()


def told_of(ledger: Ledger) -> dict[str, Any]:
    told = report(ledger, "x", "2026-11-30")
    assert told is not None
    return told


def seen(told: dict[str, Any]) -> str:
    return html.unescape(as_html(told).decode())


def judged(bin: int) -> Scored:
    return ("judge", 0.5, 0.5, bin)


def test_a_drift_is_seen_and_told(tmp_path: Path) -> None:
    """Half a tie more on the first day, half a tie less on the second; and none where days differ by chance alone."""
    for name, second in (("drifts", 50), ("steady", 150)):
        days = [
            ({"at": f"2026-11-0{1 + (number >= 60)}T12:00:00.000Z"}, [judged(150 if number < 60 else second)])
            for number in range(120)
        ]
        (tmp_path / name).mkdir()
        told = told_of(store(tmp_path / name, TERMS, days))
        assert [(day["day"], day["n"]) for day in told["days"]] == [("2026-11-01", 60), ("2026-11-02", 60)]
        for day in told["days"]:
            assert day["low"] < day["mean"] < day["high"]
        assert any("not the same on all days" in one for one in told["warnings"]) == (name == "drifts")
        assert "2026-11-02" in seen(told)


def test_a_judge_that_is_not_centred_is_told(tmp_path: Path) -> None:
    for name, bins, warned in (("honest", [50, 150], False), ("biased", [150, 100], True)):
        (tmp_path / name).mkdir()
        rows = [({}, [judged(100), ("judge_again", 0.5, 0.5, bins[number % 2])]) for number in range(300)]
        told = told_of(store(tmp_path / name, TERMS, rows))
        assert told["judge_centre"]["n"] == 300
        assert any("two answers of the primary" in one for one in told["warnings"]) == warned
        assert TERMS.primary is not None
        assert TERMS.primary.judge is not None
        assert told["judge"]["hash"] == TERMS.primary.judge.hash
        assert TERMS.primary.judge.hash in seen(told)


def test_what_was_asked_differently_is_told(tmp_path: Path) -> None:
    rows = [({"differences": '["temperature: 1 -> 0"]' if number else "[]"}, [judged(100)]) for number in range(3)]
    told = told_of(store(tmp_path, TERMS, rows))
    assert told["asked_differently"] == [{"difference": "temperature: 1 -> 0", "pairs": 2}]
    assert "asked differently in 2 of 3 pairs: temperature: 1 -> 0" in [*as_lines(told)]
    assert "temperature: 1 -> 0" in seen(told)
