"""Captured traffic asked again of a candidate, by the command: what is paired is what was served."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import openai

from proxy.bench.replay import compared, likeness
from tests import processes
from tests.bench.test_run import Bench, bench  # noqa: F401  (a fixture)
from tests.processes import upstream

ASKED = 16


def test_served_and_candidate_side_by_side(tmp_path: Path, bench: Bench) -> None:  # noqa: F811
    with (
        upstream(tmp_path / "a", "--skill", "1", "--tokens", "4", "--seed", "1") as served,
        upstream(tmp_path / "b", "--skill", "1", "--tokens", "4", "--seed", "1", "--fault", "http_500#1-4") as other,
    ):
        config: dict[str, Any] = {
            "providers": {
                "a": {"dialect": "openai", "base_url": served.base_url, "api_key": None},
                "b": {"dialect": "openai", "base_url": other.base_url, "api_key": None},
            },
            "routes": {"chat": {"targets": ["a/m"]}, "plain": {"targets": ["a/m"], "capture": {"bodies": "none"}}},
            "defaults": {"retries": {"per_target": 1}, "breaker": False},
            "prices": {"a/m": {"input": 1, "output": 2}, "b/m": {"input": 1, "output": 4}},
            "capture": {"bodies": "full"},
            "shadow": {
                "x": {
                    "route": "chat",
                    "candidate": "b/m",
                    "rate": 0,
                    "primary": {"kind": "errors", "margin": 0.5},
                    "guardrails": [{"kind": "cost", "margin": 0.1}],
                },
            },
        }
        with processes.proxy(config, tmp_path) as running:
            sdk = openai.OpenAI(base_url=f"{running.base_url}/v1", api_key="x", max_retries=0)
            for n in range(ASKED):
                messages: Any = [{"role": "user", "content": f"What is {n} + 1?"}]
                if n % 2:
                    list(sdk.chat.completions.create(model="chat", messages=messages, stream=True))
                else:
                    sdk.chat.completions.create(model="chat", messages=messages)
            sdk.chat.completions.create(model="plain", messages=[{"role": "user", "content": "not kept"}])
        command = ("replay", "--config", tmp_path / "weighbridge.json", "--candidate", "b/m", "--speed", "100")
        done = bench.command(*command, "--route", "chat", "--format", "json")
        assert done.returncode == 0, done.stderr
        rows = json.loads(done.stdout)["rows"]
        assert len(rows) == ASKED == other.stats()["requests"]
        assert sum(row["candidate"]["ok"] for row in rows) == ASKED - 4
        assert sum(row["candidate"]["ttft_ms"] is not None for row in rows) > 0
        for row in rows:
            assert row["served"]["ok"]
            if row["candidate"]["ok"]:
                assert row["sameness"]["same_text"] == 1.0  # the same seed says the same
                assert row["candidate"]["cost_usd"] > row["served"]["cost_usd"]
        found = {one.metric: one for one in compared(rows)}
        assert found["errors"].difference.value == -4 / ASKED
        assert found["errors"].difference.n == ASKED
        assert likeness(rows)["same_text"].value == 1.0
        table = bench.command(*command, "--route", "chat")
        assert "candidate failed" not in table.stdout  # the four faults are over
        assert "likeness" in table.stdout
        _as_a_shadow_experiment(bench, (*command, "--route", "chat"))
        nothing = bench.command(*command, "--route", "plain")
        assert nothing.returncode == 2
        assert "no captured chat" in nothing.stderr
        assert "capture" in nothing.stderr


def _as_a_shadow_experiment(run: Bench, command: tuple[Any, ...]) -> None:
    """The same pairs, scores and report; 16 conversations are too few for a verdict, and it says so."""
    told = run.command(*command, "--like", "x", "--format", "report").stdout
    assert "replay of chat: NO VERDICT" in told
    assert f"{ASKED} conversations, {ASKED} pairs" in told
    assert f"failed: primary 0 of {ASKED}; candidate 0 of {ASKED}" in told
    assert "at most 50 points worse" not in told
    errors = next(line for line in told.splitlines() if line.startswith("errors"))
    assert "+0.0 pts" in errors
    table = run.command(*command, "--format", "table").stdout
    assert re.search(r"^without an error +100\.0%", table, re.M), table
    page = html.unescape(run.command(*command, "--format", "html").stdout)
    assert "only reports" in page
    assert page.count("<svg") >= 4
    unknown = run.command(*command, "--like", "y", "--format", "report")
    assert unknown.returncode == 2
    assert "known: x" in unknown.stderr


def test_a_slice_of_ones_own_is_paired_and_judged(tmp_path: Path, bench: Bench) -> None:  # noqa: F811
    with upstream(tmp_path / "b", "--skill", "1", "--tokens", "4", "--fault", "http_500:1") as other:
        told = {
            "providers": {"b": {"dialect": "openai", "base_url": other.base_url, "api_key": None}},
            "routes": {"chat": {"targets": ["b/m"], "retries": {"per_target": 1}}},
            "prices": {"b/m": {"input": 1, "output": 4}},
            "shadow": {"x": {"route": "chat", "candidate": "b/m", "primary": {"kind": "errors", "margin": 0.05}}},
        }
        (tmp_path / "weighbridge.json").write_text(json.dumps(told))
        answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "4"}, "finish_reason": "stop"}]}
        lines = []
        for n in range(120):
            request = {"model": "any", "messages": [{"role": "user", "content": f"What is {n} + 1?"}]}
            at = f"2026-11-01T00:00:{n % 60:02}Z" if n % 2 else 1793491200.0 + n % 60
            lines.append(json.dumps({"at": at, "request": request, "response": answer, "e2e_ms": 300}))
        (tmp_path / "slice.jsonl").write_text("\n".join(lines))
        command = ("replay", "--config", tmp_path / "weighbridge.json", "--route", "chat", "--candidate", "b/m",
                   "--from", tmp_path / "slice.jsonl", "--speed", "1000", "--like", "x")  # fmt: skip
        done = bench.command(*command, "--format", "report")
        assert done.returncode == 0, done.stderr
        assert "KEEP THE PRIMARY" in done.stdout
        assert "worse than the margin on errors" in done.stdout
        assert "candidate 120 of 120 (server_error 120)" in done.stdout
        assert "What is " in done.stdout, "the worst pairs have their texts"
        for wrong, why in (('{"at": 1}', "slice.jsonl:1"), ("", "holds no request"), ('{"at": "x"}', "each line is")):
            (tmp_path / "slice.jsonl").write_text(wrong)
            assert bench.command(*command).returncode == 2
            assert why in bench.command(*command).stderr
