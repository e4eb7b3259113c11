"""From 1 to 100 users against a provider that allows 40 requests at once: is the knee found, every failure in the log?

    python benchmarks/ramp.py [--users 100] [--capacity 40] [--step 3] [--think 50ms]

Two simulated providers; the first answers a request too many with a 429, and is silent now and then until the client's
timeout. `bench load` puts the ramp on it alone and then on a route that has the second one to fail over to. Prints the
knee and the failures beside what the provider itself counted; exit status 1 where they differ, where the knee is not
about the capacity, or where a client of the route saw an error.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from tables import markdown

COMMAND = [sys.executable, "-m", "proxy"]
SILENT = "hang_before_headers"


def upstream(name: str, *words: str) -> tuple[subprocess.Popen[str], str]:
    command = [*COMMAND, "upstream", "--name", name, "--ttft", "lognormal(150ms,0.3)", "--itl", "5ms", "--tokens", "8"]
    process = subprocess.Popen([*command, *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().split()[-1]


def written(folder: Path, limited: str, spare: str, args: argparse.Namespace) -> list[str]:
    timeouts = {"ttft": "2s", "answer": "2s"}
    config = {
        "storage": None,
        "defaults": {"timeouts": timeouts},
        "providers": {
            name: {"dialect": "openai", "base_url": url, "api_key": None}
            for name, url in (("limited", limited), ("spare", spare))
        },
        "routes": {"routed": {"targets": ["limited/m", "spare/m"]}},
    }
    suite = {
        "name": f"ramp to {args.users}",
        "targets": [{"target": "limited/m", "name": "alone"}, "routed"],
        "tasks": {"t": {"data": [{"prompt": f"Ticket {n}?"} for n in range(50)], "scorers": ["errors"]}},
        "slo": {"e2e": "1s"},
        "load": {
            "ramp": [1, args.users],
            "steps": 10,
            "for": f"{args.step:g}s",
            "think": args.think,
            "warmup": "0s",
        },
    }
    for name, told in (("weighbridge.json", config), ("suite.json", suite)):
        (folder / name).write_text(json.dumps(told))
    return [*COMMAND, "bench", "load", "suite.json", "--config", "weighbridge.json", "--format", "json"]


def counted(limited: str) -> Counter[str]:
    with urllib.request.urlopen(f"{limited.removesuffix('/v1')}/stats") as answer:
        return Counter(json.load(answer)["faults"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--capacity", type=int, default=40)
    parser.add_argument("--step", type=float, default=3.0, help="seconds of each of the ten steps (default 3)")
    parser.add_argument("--think", default="50ms", help="how long a user waits before asking again (default 50ms)")
    args = parser.parse_args()
    first, limited = upstream("limited", "--capacity", str(args.capacity), "--fault", f"{SILENT}:0.002")
    second, spare = upstream("spare")
    try:
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            agree = True
            for label in ("alone", "routed"):
                before = counted(limited)
                words = [*written(folder, limited, spare, args), "--target", label, "--out", label]
                done = subprocess.run(words, cwd=folder, stdout=subprocess.PIPE, text=True, check=False)
                met = counted(limited) - before
                rows = [json.loads(line) for line in next(folder.glob(f"{label}/*/results.jsonl")).open()]
                agree = told(label, json.loads(done.stdout)["targets"][0], rows, met, done.returncode, args) and agree
    finally:
        for process in (first, second):
            process.terminate()
            process.wait()
    return 0 if agree else 1


def told(
    label: str,
    found: dict[str, Any],
    rows: list[dict[str, Any]],
    met: Counter[str],
    code: int,
    args: argparse.Namespace,
) -> bool:
    tries: Counter[str] = Counter()
    visible = 0
    for row in rows:
        if row["kind"] == "request":
            tries.update(row["failed_tries"])
            visible += row["outcome"] != "ok"
    print(f"\n{label} (exit status {code})\n")
    lines = [
        [
            phase["label"], str(phase["requests"]), f"{phase['goodput']:.0f}", f"{phase['attainment']['value']:.1%}",
            f"{phase['e2e']['p95']['value'] or 0:.0f}", str(sum(phase["kinds"].values())),
            str(phase["failed_tries"].get("rate_limit", 0)), str(phase["failed_tries"].get("timeout", 0)),
        ]
        for phase in found["phases"]
    ]  # fmt: skip
    head = ["", "requests", "good/s", "within 1 s", "p95 ms", "seen by clients", "tries: 429", "tries: timeout"]
    print(markdown(head, lines))
    print("\n".join(f"- {words}" for words in found["said"]))
    print(f"- the provider counted {met['http_429']} refusals and {met[SILENT]} silences")
    same = (tries["rate_limit"], tries["timeout"]) == (met["http_429"], met[SILENT])
    knee = found["knee"] and (found["knee"]["users"], found["beyond"]["users"])
    if label == "routed":
        return same and visible == 0 and met["http_429"] > 0
    return bool(same and knee and knee[0] <= args.capacity < knee[1])


if __name__ == "__main__":
    sys.exit(main())
