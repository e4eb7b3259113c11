"""The same closed loop by `wrk` and by `weighbridge bench load`, in turns: do the figures agree?

    python benchmarks/cross_check.py [--users 8] [--wait 20] [--seconds 5] [--rounds 5]

Both ask `mock_upstream.py`, whose answers take `--wait` ms by its own clock, with as many users, each asking again when
answered. Prints the median over the rounds with the lowest and the highest in brackets: answers a second, p50 and p99.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from load import finish, wrk
from procs import LOAD_CORE, TARGET_CORE, on_core
from tables import markdown

HERE = Path(__file__).parent
Figures = tuple[float, float, float]
"""Answers a second; p50 and p99 in ms."""


def by_wrk(url: str, model: str, args: argparse.Namespace, folder: Path) -> Figures:
    command = wrk(f"{url}/chat/completions", model, False, {}, args.users, args.seconds, folder)
    with on_core(LOAD_CORE):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    done = finish(process, args.seconds + 60)
    return done.requests / done.seconds, done.p50_us / 1000, done.p99_us / 1000


def by_bench(url: str, model: str, args: argparse.Namespace, folder: Path) -> Figures:
    suite: dict[str, Any] = {
        "name": "cross-check",
        "targets": [{"url": url, "model": model, "name": "mock"}],
        "tasks": {"t": {"data": [{"prompt": "Say in one line what the ticket is for. " * 12}], "scorers": ["errors"]}},
        "stream": False,
        "load": {"users": args.users, "for": f"{args.seconds:g}s", "warmup": "1s"},
    }
    path, config = folder / "suite.json", folder / "weighbridge.json"
    path.write_text(json.dumps(suite))
    config.write_text(json.dumps({"storage": None, "providers": {"mock": {"dialect": "openai", "base_url": url}}}))
    words = ["bench", "load", str(path), "--config", str(config), "--format", "json", "--out", str(folder / "runs")]
    with on_core(LOAD_CORE):
        done = subprocess.run(
            [sys.executable, "-m", "proxy", *words], capture_output=True, text=True, cwd=folder, check=False
        )
    if done.returncode:
        raise RuntimeError(f"bench load failed: {done.stderr[-500:]}{done.stdout[-500:]}")
    (phase,) = json.loads(done.stdout)["targets"][0]["phases"]
    return phase["throughput"], phase["e2e"]["p50"]["value"], phase["e2e"]["p99"]["value"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument("--wait", type=int, default=20, help="ms that an answer takes (default 20)")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    if shutil.which("wrk") is None:
        print("wrk is not installed: apt-get install --no-install-recommends wrk", file=sys.stderr)
        return 2
    model = f"mock-w{args.wait}"
    found: dict[str, list[Figures]] = {"wrk": [], "weighbridge bench load": []}
    with on_core(TARGET_CORE):
        mock = subprocess.Popen([sys.executable, str(HERE / "mock_upstream.py")], stdout=subprocess.PIPE, text=True)
    try:
        assert mock.stdout is not None
        url = f"http://127.0.0.1:{json.loads(mock.stdout.readline())['port']}/v1"
        with tempfile.TemporaryDirectory() as made:
            for _ in range(args.rounds):
                found["wrk"].append(by_wrk(url, model, args, Path(made)))
                found["weighbridge bench load"].append(by_bench(url, model, args, Path(made)))
    finally:
        mock.terminate()
        mock.wait()
    lines = [[name, *(_shown([one[place] for one in rounds]) for place in range(3))] for name, rounds in found.items()]
    print(f"{args.users} users, answers after {args.wait} ms, {args.rounds} rounds of {args.seconds:g} s\n")
    print(markdown(["", "answers/s", "p50 ms", "p99 ms"], lines))
    return 0


def _shown(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} [{min(values):.1f}, {max(values):.1f}]"


if __name__ == "__main__":
    sys.exit(main())
