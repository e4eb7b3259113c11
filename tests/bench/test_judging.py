"""A judge over kept answers: who is preferred, how reliable it is, whether people would say the same."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from proxy.bench import judging, stats
from proxy.bench.judging import Pair
from proxy.scoring.judge import Judge
from proxy.wire.answer import Answer
from tests.bench.test_run import Bench, bench, providers, results, written  # noqa: F401  (fixtures)
from tests.processes import Upstream

JUDGE = Judge("judge/m")


def said(text: str) -> Answer:
    return Answer(text, finish_reason="stop")


def verdict(prompt: str, habit: float, rng: Random) -> str:
    """Prefers the answer that says `good`; with a share of `habit` the one that it is shown first."""
    a, b = prompt.split(" answer A\n", 1)[1].split(" answer B\n", 1)
    if rng.random() < habit:
        return '{"winner": "A"}'
    better = ("good" in a) - ("good" in b)
    return json.dumps({"winner": "tie" if not better else "A" if better > 0 else "B"})


def played(wanted: list[Pair], habit: float, seed: int = 1) -> list[dict[str, Any]]:
    rng, rows = Random(seed), list[dict[str, Any]]()

    async def ask(body: dict[str, Any]) -> str:
        return verdict(body["messages"][0]["content"], habit, rng)

    asyncio.run(judging.judged(JUDGE, ask, wanted, rows.append))
    return rows


def paired(n: int, better: float, seed: int = 1) -> list[Pair]:
    """`better`: share of the cases in which the target is good and the baseline is not; the reverse for the rest."""
    rng = Random(seed)
    request = {"messages": [{"role": "user", "content": "?"}]}
    arms = [(said("good"), said("bad")) if rng.random() < better else (said("bad"), said("good")) for _ in range(n)]
    return [Pair(("new", "t", str(place), 0), str(place), request, a, b) for place, (a, b) in enumerate(arms)]


@pytest.mark.parametrize("habit", [0.0, 0.3])
def test_a_habit_of_position_decides_nothing_and_is_seen(habit: float) -> None:
    rows = played(paired(300, 0.7), habit)
    (found,) = judging.preferences(rows, np.random.default_rng(0))
    assert found.words == "preferred"
    assert found.wins > 2 * found.losses
    (even,) = judging.preferences(played(paired(300, 0.5), habit), np.random.default_rng(0))
    assert even.words == "not distinguishable"
    reliable = judging.reliability(rows)
    assert reliable.agree.value is not None
    if habit:
        assert reliable.agree.value < 0.8
        assert reliable.first.low is not None
        assert reliable.first.low > 0.9  # where the orders differ, the first always fared better
    else:
        assert (reliable.agree.value, reliable.first.n) == (1.0, 0)


def test_an_arm_without_an_answer_loses_unseen() -> None:
    request = {"messages": [{"role": "user", "content": "?"}]}
    wanted = [
        Pair(("new", "t", "1", 0), "1", request, None, said("good")),
        Pair(("new", "t", "2", 0), "2", request, said("bad"), None),
        Pair(("new", "t", "3", 0), "3", request, None, None),
    ]
    rows = played(wanted, 1.0)
    assert [row["score"] for row in sorted(rows, key=lambda row: row["case"])] == [0.0, 1.0, 0.5]
    assert judging.reliability(rows).agree.n == 0


def test_a_judge_is_held_against_people(tmp_path: Path) -> None:
    rng = Random(2)
    told = []
    for _ in range(200):
        a, b = rng.choice([("good", "bad"), ("bad", "good"), ("good", "good")])
        human = "tie" if a == b else "a" if a == "good" else "b"
        told.append({"prompt": "?", "a": a, "b": b, "human": human if rng.random() < 0.8 else "a"})
    wanted, human_said = judging.people(told, "pairs.jsonl")
    found = judging.agreement(played(wanted, 0.0), human_said, np.random.default_rng(0))
    truth = sum(one["human"] == ("tie" if one["a"] == one["b"] else "ab"[one["a"] == "bad"]) for one in told) / 200
    assert found.same.value == pytest.approx(truth)
    assert found.kappa.value is not None
    assert found.kappa.low is not None
    assert 0.6 < found.kappa.low < found.kappa.value < truth
    with pytest.raises(Exception, match="is no pair that somebody judged"):
        judging.people([{"prompt": "?", "a": "x", "b": "y", "human": "c"}], "pairs.jsonl")


def test_kappa() -> None:
    rng = np.random.default_rng(0)
    assert stats.kappa([1, 0] * 10, [1, 0] * 10, rng).value == 1.0
    assert stats.kappa([1, 0] * 10, [0, 1] * 10, rng).value == -1.0
    assert stats.kappa([1, 1, 0, 0] * 5, [1, 0, 1, 0] * 5, rng).value == pytest.approx(0.0)
    assert "always say the same" in stats.kappa([1] * 20, [1] * 20, rng).note


class _Scripted(BaseHTTPRequestHandler):
    """Finds the answer better whose sum is right."""

    asked = 0

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        type(self).asked += 1
        prompt = body["messages"][0]["content"]
        one, other = map(int, re.findall(r"(\d+) \+ (\d+)", prompt)[0])
        right = f"is {one + other}."
        if '"grade"' in prompt:
            self._answer(json.dumps({"grade": 10 if right in prompt.split(" answer\n", 1)[1] else 0}))
            return
        a, b = prompt.split(" answer A\n", 1)[1].split(" answer B\n", 1)
        better = (right in a) - (right in b)
        self._answer(json.dumps({"winner": "tie" if not better else "A" if better > 0 else "B"}))

    def _answer(self, content: str) -> None:
        choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        told = {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}
        raw = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *words: object) -> None:
        pass


@pytest.fixture
def judge_url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Scripted)
    _Scripted.asked = 0
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


def test_by_command(
    tmp_path: Path,
    providers: dict[str, Upstream],  # noqa: F811
    bench: Bench,  # noqa: F811
    judge_url: str,
) -> None:
    suite, path = written(tmp_path, providers, keep_answers=True, repeats=1)
    config = json.loads(path.read_text())
    config["providers"]["judge"] = {"dialect": "openai", "base_url": judge_url, "api_key": None}
    path.write_text(json.dumps(config))
    for name, skill in (("a", 0.1), ("b", 1.0)):
        providers[name].reset()
        providers[name].change(skill=skill)
    try:
        assert bench("run", suite, "--config", path).returncode in (0, 4)
    finally:
        for one in providers.values():
            one.change(skill=0.8)
    words = ("judge", suite, "--config", path, "--model", "judge/m")
    done = bench(*words)
    assert done.returncode == 0, done.stderr
    assert "b/m against a/m: preferred" in done.stdout
    assert "in both orders the same verdict: 100.0%" in done.stdout
    assert _Scripted.asked == 60  # 30 cases in both orders
    again = json.loads(bench(*words, "--format", "json").stdout)
    assert _Scripted.asked == 60  # nothing is judged twice
    assert again["targets"][0]["words"] == "preferred"
    pairs = [{"prompt": f"{n} + 1?", "a": f"is {n + 1}.", "b": "is 0.", "human": "ab"[n % 4 == 0]} for n in range(20)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    held = bench("judge", "--people", tmp_path / "pairs.jsonl", "--config", path, "--model", "judge/m")
    assert "says what people said of 75.0%" in held.stdout
    assert "Say whose answers" in bench("judge", "--config", path, "--model", "judge/m").stderr


def test_what_a_judge_costs_is_in_the_budget(
    tmp_path: Path,
    providers: dict[str, Upstream],  # noqa: F811
    bench: Bench,  # noqa: F811
    judge_url: str,
) -> None:
    scorers = ["numeric", *({"kind": kind, "options": {"model": "judge/m"}} for kind in ("judge", "preference"))]
    tasks = {"sums": {"data": "sums.jsonl", "scorers": scorers}}
    suite, path = written(tmp_path, providers, tasks=tasks, repeats=1, budget="0.1 USD", concurrency=1)
    config = json.loads(path.read_text())
    config["providers"]["judge"] = {"dialect": "openai", "base_url": judge_url, "api_key": None}
    config["prices"]["judge/m"] = {"input": 1000.0, "output": 1000.0}  # 0.002 USD a call of two tokens
    path.write_text(json.dumps(config))
    for one in providers.values():
        one.reset()
    assert bench("run", suite, "--config", path).returncode == 130
    assert 50 <= _Scripted.asked <= 56  # 0.1 USD, and what was under way
    scores = [row["scores"] for row in results(tmp_path)]
    assert {one["judge"] - one["numeric"] for one in scores} == {0.0}
    assert {(one["numeric"], one["preference"]) for one in scores} == {
        (0.0, 0.5),
        (1.0, 1.0),
    }  # the text is no sentence
