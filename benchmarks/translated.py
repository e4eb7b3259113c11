"""What a stream costs when it has to be translated: CPU of the proxy per stream, for each dialect of the upstream.

    python benchmarks/translated.py [--rounds 3] [--streams 3000] [--connections 32] [--tokens 20]

The upstreams are the simulated ones, which send their events one by one without a pause; they are slower than we are,
so only CPU is shown, no rate. The dialects take turns: A B C, A B C; a figure is the median of the rounds with the
lowest and the highest. A turn in which not every stream came in whole ends the benchmark.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from load import chat_body, closed_loop, http_request
from procs import LOAD_CORE, TARGET_CORE, cpu_seconds, on_core, start, stop

DIALECTS = ("openai", "anthropic", "gemini", "bedrock", "cohere")
KEY = "sk-simulated"
CREDENTIALS: dict[str, dict[str, Any]] = {"bedrock": {"region": "us-east-1"}}
PATHS = {"openai": "/v1", "anthropic": "/v1", "gemini": "/v1beta", "cohere": "/v2"}
"""What the base URL ends with."""


def announced(log: Path) -> str:
    """The address that the process has printed. Ends the benchmark with its output after 60 seconds without one."""
    until = time.monotonic() + 60
    while (found := re.search(r"http://127\.0\.0\.1:\d+", log.read_text(errors="replace"))) is None:
        if time.monotonic() > until:
            raise SystemExit(log.read_text(errors="replace"))
        time.sleep(0.05)
    return found[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--streams", type=int, default=3000)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=20)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)

        def started(what: str, core: int, *arguments: str) -> tuple[int, str]:
            log = folder / f"{what}.log"
            log.touch()
            process = start([sys.executable, "-m", "proxy", *arguments], core, log, cwd=Path(__file__).parent.parent)
            stack.callback(stop, process)
            return process.pid, announced(log)

        addresses = {
            dialect: started(
                dialect, LOAD_CORE, "upstream", "--dialect", dialect, "--tokens", str(args.tokens), "--api-key", KEY
            )[1]
            for dialect in DIALECTS
        }
        config = {
            "server": {"port": 0},
            "storage": f"sqlite:///{folder / 'store.db'}",
            "providers": {
                dialect: {
                    "dialect": dialect,
                    "base_url": address + PATHS.get(dialect, ""),
                    "api_key": KEY,
                    **CREDENTIALS.get(dialect, {}),
                }
                for dialect, address in addresses.items()
            },
        }
        (folder / "weighbridge.json").write_text(json.dumps(config))
        pid, proxy = started("proxy", TARGET_CORE, "serve", "--config", str(folder / "weighbridge.json"))
        url = f"{proxy}/v1/chat/completions"

        def cost(dialect: str, streams: int) -> float:
            """CPU milliseconds per stream."""
            request = http_request(url, chat_body(f"{dialect}/m", stream=True), {})
            before = cpu_seconds(pid)
            with on_core(LOAD_CORE):
                done = asyncio.run(closed_loop(url, request, args.connections, streams, 120))
            time.sleep(0.5)  # for the rows that are still to be written
            if done.bad or done.requests != streams:
                raise SystemExit(f"{dialect}: {done.requests} of {streams} streams came in whole, {done.bad} failed")
            return (cpu_seconds(pid) - before) * 1e3 / streams

        for dialect in DIALECTS:
            cost(dialect, max(args.connections, args.streams // 10))
        rounds = [{dialect: cost(dialect, args.streams) for dialect in DIALECTS} for _ in range(args.rounds)]
    print(f"| dialect of the upstream | CPU ms per stream of {args.tokens} tokens | of openai | n |")
    print("|---|---:|---:|---:|")
    for dialect in DIALECTS:
        figures = [one[dialect] for one in rounds]
        ratio = statistics.median(one[dialect] / one["openai"] for one in rounds)
        shown = f"{statistics.median(figures):.3f} ({min(figures):.3f}–{max(figures):.3f})"
        print(f"| {dialect} | {shown} | {ratio:.2f} | {args.streams * args.rounds:,} |")


if __name__ == "__main__":
    main()
