"""What a report says of stored pairs: where it drifts, whether the judge can be trusted, what was asked differently."""

from __future__ import annotations

import html
from pathlib import Path
from typing import Any

from proxy.measure.store.ledger import Batch, Ledger
from proxy.shadow.lines import as_lines
from proxy.shadow.page import as_html
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


def test_the_worst_pairs_say_why(tmp_path: Path) -> None:
    """Without texts: what can be told from the record, and why there is no text."""
    lost: Scored = ("judge", 1.0, 0.0, 50)
    rows: list[tuple[dict[str, Any], list[Scored]]] = [
        ({"candidate_outcome": "timeout", "candidate_error_kind": "timeout"}, [("judge", 1.0, 0.0, 50)]),
        ({"candidate_finish_reason": "length", "primary_finish_reason": "stop"}, [lost]),
        ({}, [lost, ("validity", 1.0, 0.0, 0), ("refusal", 1.0, 0.0, 0), ("same_calls", None, 0.5, None)]),
        ({}, [("judge", 0.5, 0.5, 100)]),
    ]
    told = told_of(store(tmp_path, TERMS, rows))
    reasons = {one["live_id"]: one["reasons"] for one in told["worst"]}
    judged_worse = "the judge preferred the primary's answer in both orders"
    assert reasons == {
        "req_0": ["the candidate failed: timeout"],
        "req_1": ["the candidate's answer was cut at its limit of tokens", judged_worse],
        "req_2": [
            "the form that was demanded (JSON, schema or tool arguments) was kept to by the primary alone",
            "the candidate refused",
            judged_worse,
            "other tools were called, or with other arguments",
        ],
    }
    assert all(one["asked"] is None and "`capture`" in one["no_text"] for one in told["worst"])
    assert "`capture` keeps none" in seen(told)
    assert any("the candidate refused" in line for line in as_lines(told))


def test_failures_are_told_by_kind(tmp_path: Path) -> None:
    limited = {"candidate_outcome": "rate_limited", "candidate_error_kind": "rate_limit"}
    slow = {"primary_outcome": "timeout", "primary_error_kind": "timeout"}
    rows = [(limited if number < 6 else slow if number == 6 else {}, [judged(100)]) for number in range(20)]
    ledger = store(tmp_path, TERMS, rows)
    batch = Batch()
    for what, count in (("eligible", 40), ("sampled", 40), ("completed", 14), ("failed", 6), ("dropped.queue", 20)):
        batch.count("x", TERMS.version, "2026-11-01", what, count)
    ledger.commit(batch)
    told = told_of(ledger)
    assert "failed: primary 1 of 20 (timeout 1); candidate 6 of 20 (rate_limit 6)" in [*as_lines(told)]
    assert "– rate limit" in seen(told)
    warned = "\n".join(told["warnings"])
    assert "6 of the candidate's failures are rate limits" in warned
    assert "too slow to keep up" in warned


def test_a_judge_that_often_says_nothing_is_told(tmp_path: Path) -> None:
    for name, silent in (("seldom", 10), ("often", 3)):
        (tmp_path / name).mkdir()
        rows: list[tuple[dict[str, Any], list[Scored]]] = [
            ({}, [judged(100)] if number % silent else []) for number in range(90)
        ]
        warned = "\n".join(told_of(store(tmp_path / name, TERMS, rows))["warnings"])
        assert ("The judge told of 60 of 90 conversations" in warned) == (name == "often")
