"""A failover drill over real sockets: what clients see while the first of three providers dies, crawls or stalls.

    python examples/failover_drill.py                 # all of it, some six minutes
    python examples/failover_drill.py --quick         # each fault for 3 s

Starts three simulated providers of three dialects, the proxy in front of them, and 50 clients that stream all the time.
For each fault it tells how many requests there were, how many of them clients saw fail before the first content and
after it, how many attempts more than requests were made, and how soon the first provider had its traffic back. Then
half as much again as one target may have under way is sent, and the goodput compared with what it can do.

Exit status 1 if a promise is broken: no error before content; at most 20 % more attempts; back within 35 s; goodput of
at least 85 % of capacity under overload, and all requests served again 20 s after it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

DIALECTS = ("openai", "anthropic", "gemini")
FAULTS = ("kill", "brown-out", "429 storm", "stall")
ORDERS = {
    "brown-out": ["slow_ttft=10s:0.7"],
    "429 storm": ["http_429=retry_after:2"],
    "stall": ["stall_mid_stream=after:3"],
}
ASK = {"messages": [{"role": "user", "content": "Say something."}], "stream": True}


class Process:
    """`weighbridge` as a process of its own; it tells its address in its log."""

    def __init__(self, folder: Path, name: str, *options: str) -> None:
        self._options, self._log = options, folder / f"{name}.log"
        self.port = 0
        self._running: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        options = [str(self.port) if one == "PORT" else one for one in self._options]
        with self._log.open("wb") as log:
            self._running = subprocess.Popen([sys.executable, "-m", "proxy", *options], stdout=log, stderr=log)
        end = time.monotonic() + 60
        while (found := re.search(r"http://127\.0\.0\.1:(\d+)", self._log.read_text(errors="replace"))) is None:
            if time.monotonic() > end or self._running.poll() is not None:
                raise SystemExit(f"{' '.join(options)} did not start:\n{self._log.read_text(errors='replace')}")
            time.sleep(0.05)
        self.port = int(found[1])

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        if self._running is not None:
            self._running.send_signal(how)
            self._running.wait()
            self._running = None

    def memory(self) -> float:
        """Resident memory in MB; NaN where the system does not tell."""
        try:
            status = Path(f"/proc/{self._running.pid}/status").read_text() if self._running else ""
        except OSError:
            return float("nan")
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        return int(found[1]) / 1024 if found else float("nan")


@dataclass
class Seen:
    """One request as its client saw it."""

    begun: float
    end: float
    target: str
    attempts: int
    status: int
    content: bool
    done: bool

    @property
    def failed_before_content(self) -> bool:
        return not self.done and not self.content

    @property
    def cut(self) -> bool:
        return not self.done and self.content


@dataclass
class Drill:
    client: httpx.AsyncClient
    seen: list[Seen] = field(default_factory=list)

    async def ask(self, model: str) -> Seen:
        begun = time.monotonic()
        target, attempts, status, content, done = "", 0, 0, False, False
        try:
            async with self.client.stream("POST", "/v1/chat/completions", json={"model": model, **ASK}) as answer:
                status = answer.status_code
                target = answer.headers.get("x-weighbridge-target", "")
                attempts = int(answer.headers.get("x-weighbridge-attempts", 0))
                async for line in answer.aiter_lines():
                    content = content or '"content":"' in line.replace('"content":""', "")
                    done = done or line == "data: [DONE]"
        except httpx.HTTPError:
            pass  # seen as an answer without its end
        one = Seen(begun, time.monotonic(), target, attempts, status, content, done and status == 200)
        self.seen.append(one)
        return one

    async def client_of(self, model: str, until: asyncio.Event, pause: float) -> None:
        while not until.is_set():
            await self.ask(model)
            await asyncio.sleep(pause)


def config(ports: Sequence[int]) -> dict[str, Any]:
    paths = {"openai": "/v1", "anthropic": "", "gemini": ""}
    return {
        "storage": "none",
        "server": {"port": 0},
        "providers": {
            dialect: {"dialect": dialect, "base_url": f"http://127.0.0.1:{port}{paths[dialect]}", "api_key": None}
            for dialect, port in zip(DIALECTS, ports, strict=True)
        },
        "routes": {
            "chat": {
                "targets": [{"target": f"{dialect}/m", "name": dialect} for dialect in DIALECTS],
                "timeouts": {"connect": "1s", "ttft": "2s", "stall": "3s"},
            },
            "bounded": {"targets": [{"target": "gemini/bounded", "concurrency": 10, "queue": 10}]},
        },
    }


async def fault(
    drill: Drill, kind: str, primary: Process, control: httpx.AsyncClient, seconds: float, after: float
) -> tuple[list[str], bool]:
    """One line of the table, and whether all promises were kept."""
    begun = time.monotonic()
    await asyncio.sleep(min(5.0, seconds))
    if kind == "kill":
        await asyncio.to_thread(primary.kill)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(primary.start)
    else:
        url = f"http://127.0.0.1:{primary.port}/control"
        (await control.post(url, json={"faults": ORDERS[kind]})).raise_for_status()
        await asyncio.sleep(seconds)
        (await control.post(url, json={"faults": []})).raise_for_status()
    recovered = time.monotonic()
    await asyncio.sleep(after)
    rows = [one for one in drill.seen if one.begun >= begun]
    early = sum(one.failed_before_content for one in rows)
    cut = sum(one.cut for one in rows)
    extra = sum(max(0, one.attempts - 1) for one in rows) / len(rows)
    back = back_after([one for one in rows if one.begun >= recovered], recovered)
    kept = early == 0 and extra <= 0.2 and back is not None and back <= 35.0
    shown = f"{back:.1f}" if back is not None else "not back"
    return [kind, f"{seconds:.0f}", str(len(rows)), str(early), str(cut), f"{extra:.1%}", shown], kept


def back_after(rows: Sequence[Seen], recovered: float) -> float | None:
    """Seconds until nine of ten requests in a row of twenty went to the first provider again."""
    ordered = sorted(rows, key=lambda one: one.begun)
    for place in range(len(ordered) - 20):
        if sum(one.target == DIALECTS[0] for one in ordered[place : place + 20]) >= 18:
            return ordered[place].begun - recovered
    return None


async def overload(drill: Drill, proxy: Process, seconds: float, after: float) -> tuple[list[str], bool]:
    """150 % of what a target with a bound of 10 can do."""
    stop = asyncio.Event()
    full = [asyncio.create_task(drill.client_of("bounded", stop, 0.0)) for _ in range(10)]
    begun = time.monotonic()
    await asyncio.sleep(min(5.0, seconds))
    stop.set()
    await asyncio.gather(*full)
    capacity = sum(one.done for one in drill.seen if one.begun >= begun) / (time.monotonic() - begun)
    before = proxy.memory()
    start = time.monotonic()
    await arrivals(drill, 1.5 * capacity, seconds)
    middle = time.monotonic()
    peak = proxy.memory()
    await arrivals(drill, 0.6 * capacity, after)
    during = [one for one in drill.seen if start <= one.begun < middle]
    served = sum(one.done and start + 2.0 <= one.end < start + seconds for one in drill.seen) / (seconds - 2.0)
    late = [one for one in drill.seen if one.begun >= middle + min(20.0, after / 2)]
    goodput = served / capacity
    refused = sum(one.status == 503 for one in during)
    recovered = sum(one.done for one in late) / max(1, len(late))
    kept = goodput >= 0.85 and recovered == 1.0 and not (peak - before > 50.0)
    line = [f"{capacity:.0f}", f"{seconds:.0f}", str(len(during)), f"{goodput:.0%}", str(refused)]
    return [*line, f"{recovered:.1%} (n = {len(late)})", f"{before:.0f} -> {peak:.0f}"], kept


async def arrivals(drill: Drill, rate: float, seconds: float) -> None:
    """Requests at even distances, whatever became of those before; waits for the last of them."""
    begun = time.monotonic()
    tasks = []
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, begun + number / rate - time.monotonic()))
        tasks.append(asyncio.create_task(drill.ask("bounded")))
    await asyncio.gather(*tasks)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)])


async def run(args: argparse.Namespace, folder: Path) -> bool:
    seconds, after = (3.0, 12.0) if args.quick else (args.seconds, args.after)
    latency = ("--ttft", "lognormal(150ms,0.3)", "--itl", "5ms", "--tokens", "10..30")
    upstreams = [
        Process(folder, dialect, "upstream", "--dialect", dialect, "--port", "PORT", "--seed", "1", *latency)
        for dialect in DIALECTS
    ]
    path = folder / "weighbridge.json"
    path.write_text(json.dumps(config([one.port for one in upstreams])))
    proxy = Process(folder, "proxy", "serve", "--config", str(path))
    limits = httpx.Limits(max_connections=1000, max_keepalive_connections=1000)
    base = f"http://127.0.0.1:{proxy.port}"
    kept = []
    try:
        async with (
            httpx.AsyncClient(base_url=base, timeout=60.0, limits=limits) as client,
            httpx.AsyncClient(timeout=10.0) as control,
        ):
            lines = []
            drill, stop = Drill(client), asyncio.Event()
            clients = [asyncio.create_task(drill.client_of("chat", stop, args.pause)) for _ in range(args.clients)]
            for kind in [one for one in args.fault or FAULTS if one != "none"]:
                line, good = await fault(drill, kind, upstreams[0], control, seconds, after)
                print(f"{', '.join(line)}: {'kept' if good else 'BROKEN'}", file=sys.stderr, flush=True)
                lines.append(line)
                kept.append(good)
            stop.set()
            await asyncio.gather(*clients)
            bounds = (5.0, 8.0) if args.quick else (args.overload, 40.0)
            line, good = await overload(drill, proxy, *bounds) if bounds[0] else ([], True)
            kept.append(good)
    finally:
        for process in (proxy, *upstreams):
            process.kill(signal.SIGTERM)
    head = [
        "fault of the first provider",
        "s",
        "n",
        "errors before content",
        "cut after content",
        "more attempts",
        "back after s",
    ]
    print(table(head, lines))
    if line:
        print()
    head = ["capacity/s", "150 % for s", "n", "goodput", "turned away (503)", "served from 20 s after", "memory MB"]
    if line:
        print(table(head, [line]))
    return all(kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="3 s of each fault, 5 s of overload")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long each fault lasts (default 20)")
    parser.add_argument("--after", type=float, default=35.0, help="how long it is watched afterwards (default 35)")
    parser.add_argument("--overload", type=float, default=30.0, help="seconds of overload (default 30; 0: none)")
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between two requests of a client")
    parser.add_argument("--fault", action="append", choices=(*FAULTS, "none"), help="only this; may be repeated")
    args = parser.parse_args()
    os.environ.setdefault("PYTHONUNBUFFERED", "1")
    with tempfile.TemporaryDirectory(prefix="weighbridge-drill-") as folder:
        sys.exit(0 if asyncio.run(run(args, Path(folder))) else 1)


if __name__ == "__main__":
    main()
