"""A suite against real simulated providers, by the command: killed, gone on with, reported, compared."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from proxy.cli import main
from tests.processes import Upstream, rows, upstream

PROMPTS = 30
REPEATS = 2
DIALECTS = {"a": "openai", "b": "anthropic"}


@pytest.fixture(scope="module")
def providers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Upstream]]:
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(
                upstream(
                    tmp_path_factory.mktemp(name), "--dialect", dialect, "--seed", str(seed), "--skill", "0.8",
                    "--tokens", "4", "--itl", "2ms",
                )
            )
            for seed, (name, dialect) in enumerate(DIALECTS.items())
        }  # fmt: skip


def written(folder: Path, providers: dict[str, Upstream], **more: Any) -> tuple[Path, Path]:
    """A suite and a config."""
    cases = [{"id": f"s{n}", "prompt": f"What is {n} + {3 * n}?", "answer": str(4 * n)} for n in range(PROMPTS)]
    (folder / "sums.jsonl").write_text("".join(json.dumps(case) + "\n" for case in cases))
    suite = {
        "name": "sums",
        "targets": ["a/m", "b/m"],
        "tasks": {"sums": {"data": "sums.jsonl", "scorers": ["numeric"]}},
        "sampling": {"max_tokens": 64},
        "repeats": REPEATS,
        "concurrency": 3,
        **more,
    }
    path = folder / f"suite-{len(list(folder.glob('suite-*')))}.json"
    path.write_text(json.dumps(suite))
    config = {
        "storage": f"sqlite:///{folder / 'exchanges.db'}",
        "providers": {
            name: {
                "dialect": DIALECTS[name],
                "base_url": one.base_url.removesuffix("/v1") if name == "b" else one.base_url,
                "api_key": "k" if name == "b" else None,
            }
            for name, one in providers.items()
        },
        "prices": {"a/m": {"input": 1.0, "output": 2.0}, "b/m": {"input": 1.0, "output": 2.0}},
    }
    (folder / "weighbridge.json").write_text(json.dumps(config))
    return path, folder / "weighbridge.json"


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


class Bench:
    """The command, run in this process: scipy is loaded once."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
        monkeypatch.chdir(folder)
        self.folder = folder
        self._capfd = capfd

    def __call__(self, *words: object) -> Done:
        return self.command("bench", *words)

    def command(self, *words: object) -> Done:
        self._capfd.readouterr()
        code = main([*map(str, words)])
        return Done(code, *self._capfd.readouterr())


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Bench:
    return Bench(tmp_path, monkeypatch, capfd)


def started(*words: object, folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "proxy", "bench", *map(str, words)],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def results(folder: Path) -> list[dict[str, Any]]:
    (path,) = (folder / "bench-runs").glob("*/results.jsonl")
    return [json.loads(line) for line in path.read_bytes().splitlines() if line.endswith(b"}")]


def test_nothing_is_lost_or_asked_twice_after_a_kill(
    tmp_path: Path, providers: dict[str, Upstream], bench: Bench
) -> None:
    suite, config = written(tmp_path, providers)
    for one in providers.values():
        one.reset()
        one.change(tokens="4", itl="5ms")
    process = started("run", suite, "--config", config, folder=tmp_path)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        found = list((tmp_path / "bench-runs").glob("*/results.jsonl"))
        if found and found[0].read_bytes().count(b"\n") >= 20:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = {json.dumps(row, sort_keys=True) for row in results(tmp_path)}
    assert 20 <= len(before) < PROMPTS * REPEATS * 2
    (path,) = (tmp_path / "bench-runs").glob("*/results.jsonl")
    with path.open("ab") as file:
        file.write(b'{"target": "a/m", "torn')
    done = bench("run", suite, "--config", config, "--resume", "last", "--format", "json")
    assert done.returncode == 0, done.stderr
    after = results(tmp_path)
    assert before <= {json.dumps(row, sort_keys=True) for row in after}
    places = Counter((row["target"], row["case"], row["repeat"]) for row in after)
    assert len(places) == PROMPTS * REPEATS * 2
    assert set(places.values()) == {1}
    # The store holds what the lines name; the kill may have cost it its last moments, and upstreams were asked for no
    # more than what was under way then.
    stored = {row["id"]: row for row in rows(tmp_path, "SELECT * FROM v_exchanges")}
    named = {row["exchange_id"] for row in after}
    assert len(named - stored.keys()) <= len(before)
    assert {row["origin"] for row in stored.values()} == {"bench"}
    judged = rows(tmp_path, "SELECT exchange_id, target, case_id, repeat, score, success FROM v_bench_results")
    names = ("exchange_id", "target", "case", "repeat", "score", "success")
    assert [tuple(row.values()) for row in judged] == [tuple(row[name] for name in names) for row in after]
    for name, one in providers.items():
        asked = one.stats()["requests"]
        assert PROMPTS * REPEATS <= asked <= PROMPTS * REPEATS + 4, name
    whole = json.loads(done.stdout)
    assert whole["valid"]
    by_target = {one["target"]: one for one in whole["targets"]}
    for target in ("a/m", "b/m"):
        mine = [row for row in after if row["target"] == target]
        assert by_target[target]["requests"] == len(mine)
        right = {row["case"] for row in mine if row["success"]}
        assert by_target[target]["accuracy"]["value"] == pytest.approx(len(right) / PROMPTS)
        assert 0.5 < by_target[target]["accuracy"]["value"] < 1.0
        spent = sum(row["input_tokens"] + 2 * row["output_tokens"] for row in mine) / 1e6
        assert by_target[target]["spent_usd"] == pytest.approx(spent)
    cold = [row for row in after if row["cold"]]
    assert Counter(row["target"] for row in cold) == {"a/m": 2, "b/m": 2}  # once for each start of the command


def test_orders_differ_by_repeat_and_not_by_target(
    tmp_path: Path, providers: dict[str, Upstream], bench: Bench
) -> None:
    suite, config = written(tmp_path, providers, concurrency=1)
    for one in providers.values():
        one.reset()
    assert bench("run", suite, "--config", config).returncode == 0
    order: dict[tuple[str, int], list[str]] = {}
    for row in results(tmp_path):
        order.setdefault((row["target"], row["repeat"]), []).append(row["case"])
    assert order["a/m", 0] == order["b/m", 0]
    assert order["a/m", 0] != order["a/m", 1]
    assert sorted(order["a/m", 0]) == sorted(order["a/m", 1])


def test_report_list_and_compare(tmp_path: Path, providers: dict[str, Upstream], bench: Bench) -> None:
    gates = {"accuracy": {"margin": 0.15}}
    suite, config = written(tmp_path, providers, gates=gates)
    for one in providers.values():
        one.reset()
        one.change(skill=0.9)
    assert bench("run", suite, "--config", config, "--tag", "v1").returncode == 0
    assert bench("run", suite, "--config", config).returncode == 0
    same = bench("compare", "v1")
    assert same.returncode == 0, same.stdout + same.stderr
    assert "no worse" in same.stdout
    providers["a"].change(skill=0.3)
    assert bench("run", suite, "--config", config).returncode == 0
    worse = bench("compare", "v1", "last", "--format", "junit")
    assert worse.returncode == 1, worse.stdout + worse.stderr
    assert 'failures="1"' in worse.stdout
    other, _ = written(tmp_path, providers, gates=gates, sampling={"max_tokens": 32})
    assert bench("run", other, "--config", config).returncode == 0
    differing = bench("compare", "v1", "last")
    assert differing.returncode == 4
    assert "sampling" in differing.stdout
    listed = bench("list")
    assert listed.stdout.count("whole") == 4
    page = bench("report", "v1", "--format", "html").stdout
    assert page.startswith("<!doctype html>")
    assert "http://" not in page.replace("http://www.w3.org", "")
    for form in ("md", "table", "json"):
        assert "a/m" in bench("report", "v1", "--format", form).stdout


def test_a_load_by_command(tmp_path: Path, providers: dict[str, Upstream], bench: Bench) -> None:
    for one in providers.values():
        one.reset()
    load = {"users": 3, "for": "500ms", "warmup": "100ms"}
    suite, config = written(tmp_path, providers, load=load, budget="1 USD")
    told = bench("load", suite, "--config", config, "--target", "a/m", "--dry-run")
    assert told.returncode == 0
    assert "3 users for 0.5 s" in told.stdout
    assert "ends before 1 USD" in told.stdout
    assert providers["a"].stats()["requests"] == 0
    done = bench("load", suite, "--config", config, "--target", "a/m", "--format", "json")
    assert done.returncode in (0, 4), done.stderr  # 4: this machine was busy
    (folder,) = (tmp_path / "bench-runs").iterdir()
    import pyarrow.parquet as pq

    rows = pq.read_table(folder / "results.parquet").to_pylist()
    assert len(rows) == providers["a"].stats()["requests"] > 0
    (phase,) = json.loads(done.stdout)["targets"][0]["phases"]
    assert phase["requests"] == sum(row["measured"] for row in rows)
    assert {row["target"] for row in rows} == {"a/m"}
    assert providers["b"].stats()["requests"] == 0
    assert "3 users" in bench("report", "last").stdout


def test_what_the_user_can_mend_is_said(tmp_path: Path, providers: dict[str, Upstream], bench: Bench) -> None:
    suite, config = written(tmp_path, providers, tasks={"t": {"data": "sums.jsonl", "scorers": ["numerc", "code"]}})
    done = bench("run", suite, "--config", config, "--dry-run")
    assert done.returncode == 2
    assert "did you mean 'numeric'" in done.stderr
    assert "allow: true" in done.stderr
    suite, config = written(tmp_path, providers, targets=["a/m", "nobody/m"])
    done = bench("run", suite, "--config", config)
    assert done.returncode == 2
    assert "nobody" in done.stderr
    done = bench("compare", "x", "y")
    assert done.returncode == 2
    assert "no run 'x'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_target_that_is_not_sent_the_sampling_makes_the_run_invalid(
    tmp_path: Path, providers: dict[str, Upstream], bench: Bench
) -> None:
    suite, config = written(tmp_path, providers, sampling={"max_tokens": 64, "seed": 3}, repeats=1)
    for one in providers.values():
        one.reset()
    done = bench("run", suite, "--config", config, "--format", "json")
    assert done.returncode == 4, done.stderr
    assert json.loads(done.stdout)["invalid"] == [
        "b/m was not sent seed: the sampling was not the same (take it out of `sampling`)"
    ]


def test_a_target_that_is_sent_another_value_makes_the_run_invalid(
    tmp_path: Path, providers: dict[str, Upstream], bench: Bench
) -> None:
    suite, path = written(tmp_path, providers, targets=["a/m", "hot"], sampling={"temperature": 0}, repeats=1)
    config = json.loads(path.read_text())
    config["routes"] = {"hot": {"targets": [{"target": "b/m", "force": {"temperature": 1}}]}}
    path.write_text(json.dumps(config))
    for one in providers.values():
        one.reset()
    done = bench("run", suite, "--config", path, "--format", "json")
    assert done.returncode == 4, done.stderr
    assert json.loads(done.stdout)["invalid"] == [
        "hot was sent temperature 1 instead of 0: look for `force` in the config, or a bound of the provider's"
    ]
    rows = results(tmp_path)
    assert {(row["target"], row["parameters"]["temperature"]) for row in rows} == {("a/m", 0), ("hot", 1)}
    manifest = bench_manifest(tmp_path)
    assert len(manifest["config"]) == 64
    assert manifest["prices"]["a/m"][0].startswith("config ")


def bench_manifest(folder: Path) -> dict[str, Any]:
    (path,) = (folder / "bench-runs").glob("*/run.json")
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found
