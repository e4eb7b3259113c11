"""The same load by `wrk` and by `weighbridge bench load`, in turns: do the figures agree, and what does ours cost?

    python benchmarks/cross_check.py [steady|ramp|cost] [--rounds 8] [--seconds 5]

- steady: 20 users, each asking again when answered; a simulated provider that takes as long as real ones vary
  (lognormal). Answers a second, p50 and p99 of each tool over the rounds, and the difference within each round, all
  with Student's 95 % interval over the rounds.
- ramp: 1 to 100 users with 50 ms between answer and question against a provider that allows 40 requests at once; ours
  in plain form, as wrk has neither cool-downs nor retries. Answers and refusals a second, step by step.
- cost: one user and an answer that takes 20 ms sharp, so that what is more is the tool's own.

The load is on one core, the provider on the other. Exit status 1 where the intervals do not meet.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from load import chat_body
from procs import LOAD_CORE, TARGET_CORE, on_core
from scipy import stats
from tables import markdown

HERE = Path(__file__).parent
STEPS = (1, 21, 41, 60, 80, 100)
THINK_MS = 50
FILL_S = 0.185
"""An answer's usual time: 150 ms and seven gaps of 5 ms."""


class Figures(NamedTuple):
    answers: float
    """A second."""
    refused: float
    p50: float
    """ms"""
    p99: float
    busy: float = 0.0
    """Share of a core that the load generator computed."""


class Place(NamedTuple):
    """Where a load goes, and a folder for its files."""

    url: str
    folder: Path


@contextmanager
def provider(*words: str) -> Iterator[Place]:
    command = [sys.executable, "-m", "proxy", "upstream", "--seed", "1", "--tokens", "8", *words]
    with on_core(TARGET_CORE):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        with tempfile.TemporaryDirectory() as made:
            yield Place(process.stdout.readline().split()[-1], Path(made))
    finally:
        process.terminate()
        process.wait()


def by_wrk(at: Place, users: int, seconds: float, think: int = 0, fill: float = FILL_S) -> Figures:
    body = at.folder / "body.json"
    body.write_bytes(chat_body("m", False))
    words = ["wrk", "-t1", f"-c{users}", f"-d{max(1, round(seconds))}s", "--timeout", "20s"]
    words += ["-s", str(HERE / "wrk_paced.lua"), f"{at.url}/chat/completions", "--", str(body), str(think)]
    with on_core(LOAD_CORE):
        done = subprocess.run(words, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.strip().rsplit("\n", 1)[-1])
    # As `bench load` counts: not the time until the first answers, nor the half of these that came before their median.
    lasted, first = told["seconds"] - fill, users / 2
    return Figures((told["answers"] - first) / lasted, told["refused"] / lasted, told["p50"][0], told["p99"][0])


def by_bench(at: Place, load: dict[str, Any], think: int = 0) -> list[Figures]:
    """One `Figures` for each step."""
    messages = json.loads(chat_body("m", False))["messages"]
    suite = {
        "name": "cross-check",
        "targets": ["mock/m"],
        "tasks": {"t": {"data": [{"messages": messages}], "scorers": ["errors"]}},
        "sampling": {"temperature": 0.2, "top_p": 1.0, "max_tokens": 256, "seed": 7, "user": "bench-1"},
        "stream": False,
        "load": {"warmup": "0s", "think": f"{think}ms", "plain": True, **load},
    }
    config = {
        "storage": None,
        "providers": {"mock": {"dialect": "openai", "base_url": at.url, "api_key": None}},
    }
    for name, told in (("suite.json", suite), ("weighbridge.json", config)):
        (at.folder / name).write_text(json.dumps(told))
    words = ["bench", "load", "suite.json", "--config", "weighbridge.json", "--format", "json"]
    with on_core(LOAD_CORE):
        done = subprocess.run(
            [sys.executable, "-m", "proxy", *words], capture_output=True, text=True, cwd=at.folder, check=False
        )
    if done.returncode not in (0, 4):
        raise RuntimeError(f"bench load failed: {done.stderr[-500:]}{done.stdout[-500:]}")
    found = json.loads(done.stdout)["targets"][0]
    busy = {one["phase"]: one["busy"] for one in found["generator"]}
    return [
        Figures(
            phase["throughput"],
            phase["kinds"].get("rate_limit", 0) / phase["seconds"],
            milliseconds(phase["e2e"]["p50"]["value"]),
            milliseconds(phase["e2e"]["p99"]["value"]),
            busy[phase["label"]],
        )
        for phase in found["phases"]
    ]


def milliseconds(value: float | str | None) -> float:
    """Failures count as infinitely slow, which JSON has a word for and no number."""
    return value if isinstance(value, float) else math.inf


def steady(args: argparse.Namespace) -> bool:
    wrk, ours = [], []
    with provider("--ttft", "lognormal(150ms,0.4)", "--itl", "5ms") as at:
        for _ in range(args.rounds):
            wrk.append(by_wrk(at, 20, args.seconds))
            ours += by_bench(at, {"users": 20, "for": f"{args.seconds:g}s"})
    print(
        f"\n20 users, lognormal answers, {args.rounds} rounds of {args.seconds:g} s; mean [95 % interval over rounds]\n"
    )
    columns: list[tuple[str, Callable[[Figures], float]]] = [
        ("answers/s", lambda one: one.answers),
        ("p50 ms", lambda one: one.p50),
        ("p99 ms", lambda one: one.p99),
    ]
    pairs = list(zip(wrk, ours, strict=True))
    lines = [
        ["wrk", *(shown([get(one) for one in wrk]) for _, get in columns)],
        ["bench load", *(shown([get(one) for one in ours]) for _, get in columns)],
        ["difference", *(shown([get(b) - get(a) for a, b in pairs]) for _, get in columns)],
    ]
    print(markdown(["", *(name for name, _ in columns)], lines))
    print(f"\nthe load generator computed {statistics.mean(one.busy for one in ours):.0%} of a core")
    return all(meet([get(one) for one in wrk], [get(one) for one in ours]) for _, get in columns)


def ramp(args: argparse.Namespace) -> bool:
    step, rounds = max(2.0, args.seconds), max(2, args.rounds // 2)
    wrk: list[list[Figures]] = []
    ours: list[list[Figures]] = []
    with provider("--ttft", "lognormal(150ms,0.3)", "--itl", "5ms", "--capacity", "40") as at:
        for _ in range(rounds):
            wrk.append([by_wrk(at, users, step, THINK_MS) for users in STEPS])
            load = {"ramp": [STEPS[0], STEPS[-1]], "steps": len(STEPS), "for": f"{step:g}s"}
            ours.append(by_bench(at, load, THINK_MS))
    print(
        f"\n1 to 100 users, {THINK_MS} ms between, 40 at once allowed, {rounds} x {step:g} s a step; lowest-highest\n"
    )
    lines = []
    for place, users in enumerate(STEPS):
        a, b = [one[place] for one in wrk], [one[place] for one in ours]
        lines.append(
            [str(users)]
            + [span([one.answers for one in found]) for found in (a, b)]
            + [span([one.refused for one in found]) for found in (a, b)]
            + [span([one.p50 for one in found if not one.refused]) for found in (a, b)]
        )
    head = ["users", "wrk: answers/s", "bench load", "wrk: 429/s", "bench load", "wrk: p50 ms", "bench load"]
    print(markdown(head, lines))
    edges = [{knee(steps) for steps in found} for found in (wrk, ours)]
    print(f"\nthe last step with fewer than 5 % refused: wrk {sorted(edges[0])}, bench load {sorted(edges[1])}")
    return bool(edges[0] & edges[1])


def knee(steps: Sequence[Figures]) -> int:
    return max(
        (u for u, one in zip(STEPS, steps, strict=True) if one.refused <= 0.05 * (one.refused + one.answers)), default=0
    )


def cost(args: argparse.Namespace) -> bool:
    wrk, ours = [], []
    with provider("--ttft", "20ms", "--tokens", "1") as at:
        for _ in range(args.rounds):
            wrk.append(by_wrk(at, 1, args.seconds / 2, fill=0.02))
            ours += by_bench(at, {"users": 1, "for": f"{args.seconds / 2:g}s"})
    own = shown([b.p50 - a.p50 for a, b in zip(wrk, ours, strict=True)])
    computed = shown([1000 * one.busy / one.answers for one in ours])
    print(f"\none user, 20 ms answers, p50: wrk {shown([a.p50 for a in wrk])} ms, bench load {own} ms more;")
    print(f"a request takes {computed} ms of its processor")
    return True


def interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean with Student's 95 % interval; the unit is the round."""
    middle = statistics.mean(values)
    half = float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
    return middle, middle - half, middle + half


def shown(values: Sequence[float]) -> str:
    return "{:.2f} [{:.2f}, {:.2f}]".format(*interval(values))


def span(values: Sequence[float]) -> str:
    return f"{min(values):.0f}-{max(values):.0f}" if values else "-"


def meet(one: Sequence[float], other: Sequence[float]) -> bool:
    (_, a, b), (_, c, d) = interval(one), interval(other)
    return a <= d and c <= b


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("steady", "ramp", "cost"), help="default: all three")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=5.0)
    args = parser.parse_args()
    if shutil.which("wrk") is None:
        print("wrk is not installed: apt-get install --no-install-recommends wrk", file=sys.stderr)
        return 2
    parts = {"steady": steady, "ramp": ramp, "cost": cost}
    agree = [part(args) for name, part in parts.items() if args.part in (None, name)]
    return 0 if all(agree) else 1


if __name__ == "__main__":
    sys.exit(main())
