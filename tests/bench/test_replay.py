"""Captured traffic asked again of a candidate, by the command: what is paired is what was served."""

from __future__ import annotations

import json
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
        nothing = bench.command(*command, "--route", "plain")
        assert nothing.returncode == 2
        assert "no captured chat" in nothing.stderr
        assert "capture" in nothing.stderr
