"""Batches against real time, by the command, on simulated providers whose prices and skill are known."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from proxy.bench import batch
from proxy.bench.suite import parse
from tests.bench.test_run import Bench, bench  # noqa: F401  (a fixture)
from tests.processes import Upstream, upstream

NAMES = ("openai", "anthropic", "gemini")
PROMPTS = 24


@pytest.fixture
def providers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Upstream]]:
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(
                upstream(tmp_path_factory.mktemp(name), "--dialect", name, "--skill", "0.7", "--tokens", "4")
            )
            for name in NAMES
        }


def written(folder: Path, providers: dict[str, Upstream]) -> tuple[Path, Path]:
    cases = [{"id": f"s{n}", "prompt": f"What is {n} + {3 * n}?", "answer": str(4 * n)} for n in range(PROMPTS)]
    suite = folder / "suite.json"
    suite.write_text(
        json.dumps(
            {
                "name": "sums",
                "targets": [f"{name}/m" for name in providers],
                "tasks": {"sums": {"data": cases, "scorers": ["numeric"]}},
                "sampling": {"max_tokens": 64},
                "repeats": 1,
            }
        )
    )
    config = folder / "weighbridge.json"
    config.write_text(
        json.dumps(
            {
                "storage": f"sqlite:///{folder / 'exchanges.db'}",
                "providers": {
                    name: {
                        "base_url": one.base_url if name == "openai" else one.base_url.removesuffix("/v1"),
                        "api_key": "k",
                    }
                    for name, one in providers.items()
                },
                "prices": {f"{name}/m": {"input": 1.0, "output": 2.0, "tiers": {"batch": 0.5}} for name in providers},
            }
        )
    )
    return suite, config


def submissions(provider: Upstream) -> int:
    asked = provider.ask("/requests").json()["requests"]
    return sum(one["method"] == "POST" and one["path"].endswith(("/batches", ":batchGenerateContent")) for one in asked)


def test_a_batch_halves_the_price_and_is_the_same_model(
    tmp_path: Path,
    providers: dict[str, Upstream],
    bench: Bench,  # noqa: F811
) -> None:
    suite, config = written(tmp_path, providers)
    done = bench("batch", suite, "--config", config, "--batches", "2", "--poll", "50ms")
    assert done.returncode == 0, done.stderr
    for name in NAMES:
        assert f"{name}/m: a success costs 0.500 [0.500, 0.500] of its real-time price" in done.stdout
    assert done.stdout.count("no sign of another model: 0 prompts differ") == 3
    assert done.stdout.count("n = 2 batches") == 3
    (folder,) = (tmp_path / "bench-runs").iterdir()
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_bytes().splitlines()]
    assert len(rows) == 3 * PROMPTS
    assert len({(row["target"], row["case"]) for row in rows}) == len(rows)
    live = (folder / "live" / "results.jsonl").read_bytes().splitlines()
    assert len(live) == 3 * PROMPTS
    assert bench("report", "last").stdout == done.stdout
    assert b"<svg" in (folder / "report.html").read_bytes()
    assert json.loads(bench("report", "last", "--format", "json").stdout)["targets"][0]["batches"] == 2
    assert "| openai/m | 0.500 [0.500, 0.500] |" in bench("report", "last", "--format", "md").stdout
    beside = bench("run", suite, "--config", config, "--format", "json")
    (offline,) = [one for one in json.loads(beside.stdout)["decision"]["choices"] if one["use"] == "offline"]
    assert any("in batches, at 0.50 of its real-time price" in why for why in offline["because"])


def test_a_run_that_was_killed_submits_nothing_twice(
    tmp_path: Path,
    providers: dict[str, Upstream],
    bench: Bench,  # noqa: F811
) -> None:
    suite, config = written(tmp_path, providers)
    before = {name: submissions(one) for name, one in providers.items()}
    command = [sys.executable, "-m", "proxy", "bench", "batch", suite, "--config", config, "--poll", "1h"]
    process = subprocess.Popen([*map(str, command)], cwd=tmp_path, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 90
    while time.monotonic() < end:
        assert process.poll() is None
        if all(submissions(one) >= before[name] + 3 for name, one in providers.items()):
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = bench("batch", suite, "--config", config, "--poll", "50ms", "--resume", "last")
    assert done.returncode == 0, done.stderr
    # What was killed in the very moment of its submission is given up, never sent again.
    after = {name: submissions(one) - before[name] for name, one in providers.items()}
    assert after == dict.fromkeys(NAMES, 3)


def test_a_budget_that_may_not_be_enough_is_refused_before_anything_is_sent(
    tmp_path: Path,
    providers: dict[str, Upstream],
    bench: Bench,  # noqa: F811
) -> None:
    suite, config = written(tmp_path, providers)
    suite.write_text(json.dumps({**json.loads(suite.read_text()), "budget": "0.01 USD"}))
    done = bench("batch", suite, "--config", config)
    assert done.returncode == 2
    assert "may not be enough" in done.stderr
    assert all(one.stats()["requests"] == 0 for one in providers.values())


def row(case: int, right: bool, cost: float, **more: Any) -> dict[str, Any]:
    return {
        "target": "a", "task": "t", "case": str(case), "cluster": f"t/{case}", "weight": 1.0, "repeat": 0,
        "success": right, "cost_usd": cost, **more,
    }  # fmt: skip


def test_another_model_behind_the_batch_is_seen() -> None:
    suite = parse('{"name": "x", "targets": ["a"], "tasks": {"t": {"data": [{"prompt": "?"}], "scorers": ["errors"]}}}')
    live = [row(n, True, 1.0) for n in range(40)]
    batched = [row(n, n % 4 > 0, 0.4, ok=True, batch=f"b{n % 3}", delay_s=60.0) for n in range(40)]
    (found,) = batch.compare(suite, live, batched)
    assert found.same.p < 0.05
    assert any("NOT the same model" in line for line in batch.told(found))
    assert found.ratio.value == pytest.approx(0.4 / 0.75)
    assert found.delay.n == 3
    assert found.delay.low is None  # three batches tell a median, not its interval
