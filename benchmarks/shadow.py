"""Whether live requests notice that they are mirrored: two proxies, one with a shadow experiment at 100 %, take turns.

    python benchmarks/shadow.py [--rounds 12] [--requests 400] [--clients 8] [--only CANDIDATE]

In each round both serve the same number of streamed requests, in an order that changes from round to round; the
difference of their medians, 99th percentiles and times to first content is taken within the round, and what is shown is
the mean over rounds with its 95 % interval (Student's t). Errors are counted. Candidates: one that answers as the
primary does, one that hangs, one that always fails, one that is 20 times slower, one that never stops talking. The most
memory that either proxy ever held is told, too.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

CANDIDATES = {
    "as quick": ["--ttft", "20ms"],
    "hangs": ["--fault", "hang_before_headers"],
    "fails": ["--fault", "http_500"],
    "20 x slower": ["--ttft", "400ms", "--itl", "40ms"],
    "floods": ["--ttft", "0ms", "--itl", "0ms", "--tokens", "100000"],
}
PRIMARY = ["--ttft", "20ms", "--itl", "2ms", "--tokens", "10"]
T95 = {4: 2.776, 8: 2.306, 12: 2.179, 20: 2.086}


@contextlib.contextmanager
def started(*arguments: str) -> Iterator[tuple[str, int]]:
    """The base URL that the process announces, and its id."""
    log = Path(tempfile.mkstemp(prefix="weighbridge-bench-")[1])
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", "proxy", *arguments], stdout=output, stderr=output)
    try:
        until = time.monotonic() + 60
        while (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text(errors="replace"))) is None:
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(log.read_text(errors="replace"))
            time.sleep(0.05)
        yield found[0], process.pid
    finally:
        process.terminate()
        process.wait(20)
        log.unlink()


def config(folder: Path, primary: str, candidate: str | None) -> str:
    told: dict[str, Any] = {
        "server": {"port": 0},
        "storage": f"sqlite:///{folder / 'store.db'}",
        "providers": {"primary": {"base_url": f"{primary}/v1", "api_key": None}},
        "routes": {"chat": {"targets": ["primary/m"]}},
    }
    if candidate is not None:
        told["providers"]["candidate"] = {"base_url": f"{candidate}/v1", "api_key": None}
        # All that protects the live side is on, as it is by default, but the experiment never ends.
        told["shadow"] = {
            "x": {
                "route": "chat", "candidate": "candidate/m", "rate": 1.0, "max_units": 10_000_000,
                "budget": {"per_day": 1e9, "total": 1e9},
            }
        }  # fmt: skip
    path = folder / "weighbridge.json"
    path.write_text(json.dumps(told))
    return str(path)


class Turn:
    def __init__(self) -> None:
        self.ttft: list[float] = []
        self.whole: list[float] = []
        self.errors = 0


async def turn(url: str, requests: int, clients: int, mark: str) -> Turn:
    done, queue = Turn(), iter(range(requests))
    async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:

        async def one() -> None:
            for number in queue:
                body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": f"{mark} {number}"}]}
                begun, first = time.perf_counter(), 0.0
                async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                    async for line in answer.aiter_lines():
                        if not first and '"content":"' in line and '"content":""' not in line:
                            first = time.perf_counter()
                    done.errors += answer.status_code != 200
                done.whole.append(time.perf_counter() - begun)
                done.ttft.append((first or time.perf_counter()) - begun)

        await asyncio.gather(*[one() for _ in range(clients)])
    return done


def quantile(values: list[float], q: float) -> float:
    return sorted(values)[min(len(values) - 1, math.ceil(len(values) * q) - 1)]


def mean_and_half(values: list[float]) -> tuple[float, float]:
    n, mean = len(values), sum(values) / len(values)
    spread = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    t = T95[min((known for known in T95 if known >= n - 1), default=20)] if n - 1 <= 20 else 1.96
    return mean, t * spread / math.sqrt(n)


async def compare(plain: str, mirrored: str, rounds: int, requests: int, clients: int) -> None:
    figures: dict[str, list[float]] = {"ttft p50": [], "ttft p99": [], "whole p50": [], "whole p99": []}
    base: dict[str, list[float]] = {name: [] for name in figures}
    errors = [0, 0]
    for number in range(rounds + 1):
        found: dict[str, Turn] = {}
        for url in (plain, mirrored) if number % 2 else (mirrored, plain):
            found[url] = await turn(url, requests, clients, f"{number}")
        if number == 0:
            continue  # to warm up
        for place, url in enumerate((plain, mirrored)):
            errors[place] += found[url].errors
        for name in figures:
            what, q = name.split()
            one, other = (quantile(getattr(found[url], what), 0.5 if q == "p50" else 0.99) for url in (plain, mirrored))
            base[name].append(one * 1e3)
            figures[name].append((other - one) * 1e3)
    for name, differences in figures.items():
        mean, half = mean_and_half(differences)
        told = f"{mean:+.2f} ms [{mean - half:+.2f}, {mean + half:+.2f}]"
        print(f"    {name}: {sum(base[name]) / rounds:.1f} ms without; with shadow {told}")
    print(f"    errors: {errors[0]} without, {errors[1]} with, of {rounds * requests} each", flush=True)


def most_memory(process: int) -> int:
    """MiB that it ever held."""
    told = Path(f"/proc/{process}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", told)
    return int(found[1]) // 1024 if found else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--only", action="append", choices=[*CANDIDATES], help="this candidate; may be given again")
    args = parser.parse_args()
    print(
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {args.rounds} rounds of {args.requests} streams each"
    )
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        primary, _ = stack.enter_context(started("upstream", "--port", "0", *PRIMARY))
        chosen = {name: CANDIDATES[name] for name in args.only or CANDIDATES}
        for place, (name, options) in enumerate(chosen.items()):
            with contextlib.ExitStack() as pair:
                candidate, _ = pair.enter_context(started("upstream", "--port", "0", "--tokens", "10", *options))
                urls, processes = [], []
                for kind, told in (("plain", None), ("mirrored", candidate)):
                    made = folder / f"{place}-{kind}"
                    made.mkdir()
                    url, process = pair.enter_context(started("serve", "--config", config(made, primary, told)))
                    urls.append(url)
                    processes.append(process)
                print(f"  candidate {name}:", flush=True)
                asyncio.run(compare(*urls, args.rounds, args.requests, args.clients))
                counts = httpx.get(f"{urls[1]}/api/shadow", trust_env=False).json()["experiments"][0]["accounting"]
                dropped = {reason: n for reason, n in counts["dropped"].items() if n}
                print(f"    sampled {counts['sampled']}, paired {counts['completed'] + counts['failed']}, {dropped}")
                most = [most_memory(process) for process in processes]
                print(f"    most memory: {most[0]} MiB without, {most[1]} MiB with", flush=True)


if __name__ == "__main__":
    main()
