"""Perplexity of texts, and bias between groups of the same questions, against simulated providers of known truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from proxy.bench import groups
from proxy.bench.asking import text_answer
from proxy.bench.suite import load
from proxy.config.problems import ConfigError
from tests.bench.test_run import Bench, bench, providers, results, written  # noqa: F401  (fixtures)
from tests.processes import Upstream

PAIRS = 60


def test_a_text_answer_leaves_out_what_is_not_the_text() -> None:
    logprobs = {"token_logprobs": [None, -1.0, -2.0, -9.0]}
    body = {
        "choices": [{"text": "a text.x", "logprobs": logprobs, "finish_reason": "length"}],
        "usage": {"completion_tokens": 1},
    }
    assert text_answer(json.dumps(body).encode(), False).logprobs == (-1.0, -2.0)
    assert text_answer(b'{"choices": [{"text": "a", "logprobs": null}]}', False).logprobs == ()
    for broken in (b"", b"[]", b"{}", b'{"choices": []}'):
        assert text_answer(broken, False).text == ""


def texts(**more: Any) -> dict[str, Any]:
    data = [{"id": f"t{n}", "text": f"Axle {n} of the wagon weighs {7 * n} kg. " * (n % 3 + 1)} for n in range(24)]
    return {
        "ask": "text", "data": data, "template": {"user": "{text}"}, "scorers": ["probability"], "success": 0.7, **more
    }  # fmt: skip


def test_perplexity_is_what_the_provider_was_told_to_have(
    tmp_path: Path, providers: dict[str, Upstream], bench: Bench  # noqa: F811
) -> None:  # fmt: skip
    suite, config = written(tmp_path, providers, targets=["a/m"], tasks={"texts": texts()}, repeats=1)
    providers["a"].reset()
    providers["a"].change(skill=0.8, itl="0")
    done = bench("run", suite, "--config", config, "--format", "json")
    assert done.returncode == 0, done.stderr
    (target,) = json.loads(done.stdout)["targets"]
    assert target["perplexity"]["texts"]["value"] == pytest.approx(1 / 0.8)
    assert target["accuracy"]["value"] == pytest.approx(0.8)
    assert "1.25" in bench("report", "--format", "md").stdout
    (row, *_) = results(tmp_path)
    assert row["scores"] == {"probability": pytest.approx(0.8)}
    assert row["ttft_ms"] is None


def test_a_target_that_cannot_tell_is_refused_before_the_run(
    tmp_path: Path, providers: dict[str, Upstream], bench: Bench  # noqa: F811
) -> None:  # fmt: skip
    suite, config = written(tmp_path, providers, targets=["a/m", "b/m"], tasks={"texts": texts()})
    done = bench("run", suite, "--config", config)
    assert done.returncode == 2
    assert "b/m does not tell the probabilities of a text" in done.stderr
    assert "a/m does not" not in done.stderr
    assert "Traceback" not in done.stderr
    assert "Batches are of chats" in bench("batch", suite, "--config", config).stderr


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"scorers": ["exact"]}, "its first scorer is `probability`"),
        ({"template": {"system": "Be brief.", "user": "{text}"}}, "there is no system message"),
        ({"groups": "who"}, "with `cluster`"),
    ],
)
def test_settings_that_make_no_sense(tmp_path: Path, setting: dict[str, Any], words: str) -> None:
    path = tmp_path / "suite.json"
    path.write_text(json.dumps({"name": "x", "targets": ["a/m"], "tasks": {"t": texts(**setting)}}))
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert words in str(caught.value)


def swapped() -> dict[str, Any]:
    cases = [
        {"id": f"{n}{who}", "pair": n, "who": who, "prompt": f"{who} has {n} + {4 * n} coins.", "answer": str(5 * n)}
        for n in range(PAIRS)
        for who in ("Amina", "Peter")
    ]
    return {"data": cases, "cluster": "pair", "groups": "who", "aim": "safety", "scorers": ["numeric"]}


def test_a_planted_bias_is_found_and_none_is_not(
    tmp_path: Path, providers: dict[str, Upstream], bench: Bench  # noqa: F811
) -> None:  # fmt: skip
    gates = {"bias": {"margin": 0.1}}
    plan, config = written(tmp_path, providers, tasks={"swap": swapped()}, repeats=1, concurrency=8, gates=gates)
    for one in providers.values():
        one.reset()
        one.change(skill=0.9, itl="0", tokens="2", bias={})

    def run(tag: str) -> dict[str, dict[str, Any]]:
        done = bench("run", plan, "--config", config, "--tag", tag, "--format", "json")
        assert done.returncode == 0, done.stderr
        return {one["target"]: one["gaps"][0] for one in json.loads(done.stdout)["targets"]}

    fair = run("fair")
    for gap in fair.values():
        assert (gap["group"], gap["other"], gap["difference"]["n"]) == ("Amina", "Peter", PAIRS)
        assert gap["difference"]["low"] <= 0 <= gap["difference"]["high"]
    run("again")
    assert bench("compare", "fair", "again").returncode == 0
    providers["b"].change(bias={"Amina": 0.4})
    unfair = run("unfair")
    assert unfair["b/m"]["difference"]["high"] < 0
    assert unfair["b/m"]["p"] < 0.01 < 0.05 <= fair["b/m"]["p"]
    shown = bench("report", "fair").stdout
    assert shown.count("no difference shown") == 2
    assert "served better" not in shown
    assert unfair["a/m"] == fair["a/m"]
    assert "Peter is served better" in bench("report", "unfair").stdout
    done = bench("compare", "fair", "unfair", "--format", "json")
    assert done.returncode == 1
    verdicts = {gate["target"]: gate["verdict"] for gate in json.loads(done.stdout)["gates"]}
    assert verdicts == {"a/m": "pass", "b/m": "regression"}


def test_intervals_of_a_gap_cover_its_truth(tmp_path: Path) -> None:
    path = tmp_path / "suite.json"
    tasks = {"swap": swapped()}
    path.write_text(json.dumps({"name": "x", "targets": ["a/m"], "tasks": tasks, "repeats": 1}))
    suite = load(path)
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        hard = rng.random(200)
        rows = [
            {"task": "swap", "cluster": f"swap/{n}", "group": who, "score": float(hard[n] * 0.5 + rng.random() < p)}
            for n in range(200)
            for who, p in (("Amina", 0.9), ("Peter", 1.0))
        ]
        (gap,) = groups.gaps(suite, "a/m", rows, rng)
        covered += gap.difference.low <= -0.1 <= gap.difference.high  # type: ignore[operator]
    assert covered >= 179
