"""Closed-loop load: N connections, each sends its next request when the last one has been answered.

`wrk` does it where it is installed; otherwise this file does, slower but with the same figures and an exact count:

    python benchmarks/load.py URL --model mock [--stream] --connections 64 (--requests N | --seconds S)

Both run as a process of their own and end by themselves. What they print is read back into a `Load`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import uvloop
from spread import quantile

HERE = Path(__file__).parent
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNK_END = b"0\r\n\r\n"
_GRACE_S = 30.0
"""How long after the chosen end answers may still come in before the rest is given up and counted as bad."""


class Load(NamedTuple):
    requests: int
    """Answers that came in whole."""
    seconds: float
    p50_us: float
    p99_us: float
    bad: int
    """Answers with a status other than 200, broken or missing ones, and (built-in load only) streams without [DONE]."""


def chat_body(model: str, stream: bool, note: str = "") -> bytes:
    """The request of every measure, about 600 bytes; `note` is put into the prompt."""
    prompt = "Say in one line what the ticket from the weighbridge below is for. " * 4 + note
    body: dict[str, object] = {
        "model": model,
        "messages": [
            {"role": "system", "content": "You read weighing tickets and answer in one short line."},
            {"role": "user", "content": prompt},
        ],
        "temperature": 0.2,
        "top_p": 1.0,
        "max_tokens": 256,
        "seed": 7,
        "user": "bench-1",
    }
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return json.dumps(body, separators=(",", ":")).encode()


def http_request(url: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    at = urlsplit(url)
    lines = [f"POST {at.path} HTTP/1.1", f"host: {at.netloc}", "content-type: application/json"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    lines.append(f"content-length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Run:
    """The state that all connections of one built-in run share. Ends after `requests` answers or `seconds`."""

    def __init__(self, url: str, request: bytes, requests: int | None, seconds: float) -> None:
        at = urlsplit(url)
        self.host, self.port = at.hostname or "127.0.0.1", at.port or 80
        self.request = request
        self.to_send = requests
        self.until_ns = time.perf_counter_ns() + int(seconds * 1e9)
        self.times_ns: list[int] = []
        self.bad = 0
        self.open = 0
        self.loop = asyncio.get_running_loop()
        self.tasks: set[asyncio.Task[None]] = set()
        self.over = asyncio.Event()

    def take(self) -> bool:
        """Whether one more request is to be sent; takes it off the count."""
        if time.perf_counter_ns() >= self.until_ns or self.to_send == 0:
            return False
        if self.to_send is not None:
            self.to_send -= 1
        return True

    def begin(self) -> None:
        self.open += 1
        task = self.loop.create_task(self.connect())
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def connect(self) -> None:
        try:
            await self.loop.create_connection(lambda: Asker(self), self.host, self.port)
        except OSError:
            self.bad += 1
            self.closed()

    def closed(self) -> None:
        self.open -= 1
        if self.open == 0:
            self.over.set()


class Asker(asyncio.Protocol):
    """One connection of the built-in load."""

    __slots__ = ("began_ns", "head", "left", "run", "status_ok", "tail", "transport", "waiting")
    transport: asyncio.Transport

    def __init__(self, run: Run) -> None:
        self.run = run
        self.waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.ask()

    def ask(self) -> None:
        if not self.run.take():
            self.transport.close()
            return
        self.head: bytes | None = b""
        self.left = -1
        """Bytes of the body still to come; below 0 for a chunked body."""
        self.tail = b""
        self.waiting = True
        self.began_ns = time.perf_counter_ns()
        self.transport.write(self.run.request)

    def data_received(self, data: bytes) -> None:
        if self.head is not None:
            self.head += data
            end = self.head.find(b"\r\n\r\n") + 4
            if end < 4:
                return
            self.status_ok = self.head.startswith(b"HTTP/1.1 200")
            length = _LENGTH.search(self.head, 0, end)
            self.left = int(length[1]) if length else -1
            data, self.head = self.head[end:], None
        if self.left >= 0:
            self.left -= len(data)
            if self.left <= 0:
                self.answered(whole=self.left == 0)
            return
        # A body cannot hold the end mark at a packet's end by chance: what is sent here is JSON lines.
        self.tail = (self.tail + data)[-64:]
        if self.tail.endswith(_CHUNK_END):
            self.answered(whole=b"[DONE]" in self.tail)

    def answered(self, whole: bool) -> None:
        self.waiting = False
        if whole and self.status_ok:
            self.run.times_ns.append(time.perf_counter_ns() - self.began_ns)
        else:
            self.run.bad += 1
        self.ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.waiting:
            self.run.bad += 1
        again = self.run.until_ns > time.perf_counter_ns() and self.run.to_send != 0
        if again and self.run.bad < 1000:
            self.run.begin()
        self.run.closed()


async def closed_loop(url: str, request: bytes, connections: int, requests: int | None, seconds: float) -> Load:
    began = time.perf_counter()
    run = Run(url, request, requests, seconds)
    for _ in range(connections):
        run.begin()
    try:
        await asyncio.wait_for(run.over.wait(), seconds + _GRACE_S)
    except TimeoutError:
        run.bad += run.open
    took = time.perf_counter() - began
    micros = [t / 1000 for t in run.times_ns]
    return Load(len(micros), took, quantile(micros, 0.5), quantile(micros, 0.99), run.bad)


def built_in(
    url: str, model: str, stream: bool, headers: Mapping[str, str], connections: int, **end: float
) -> list[str]:
    """The command for this file's own load; `end` is `requests` or `seconds`."""
    command = [sys.executable, str(HERE / "load.py"), url, "--model", model, "--connections", str(connections)]
    command += ["--stream"] if stream else []
    command += [f"--header={name}: {value}" for name, value in headers.items()]
    return command + [f"--{name}={value}" for name, value in end.items()]


def wrk(
    url: str, model: str, stream: bool, headers: Mapping[str, str], connections: int, seconds: float, folder: Path
) -> list[str]:
    """The command for `wrk`; the request body goes through a file in `folder`."""
    body = folder / f"body-{model.replace(':', '_')}-{int(stream)}.json"
    body.write_bytes(chat_body(model, stream))
    options = ["-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "20s"]
    lines = [f"{name}={value}" for name, value in headers.items()]
    return ["wrk", *options, "-s", str(HERE / "wrk.lua"), url, "--", str(body), *lines]


def finish(process: subprocess.Popen[str], limit_s: float) -> Load:
    """Waits for a load to end. Raises RuntimeError with its last words if it broke or outlived `limit_s` seconds."""
    try:
        printed, complaints = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise RuntimeError(f"the load did not end within {limit_s:.0f} s") from None
    line = printed.strip().rsplit("\n", 1)[-1]
    if process.returncode or not line.startswith("{"):
        raise RuntimeError(f"the load failed: {(printed + complaints)[-500:]}")
    return Load(**json.loads(line))


def main() -> None:
    parser = argparse.ArgumentParser(description="Closed-loop load on one URL; prints one line of JSON.")
    parser.add_argument("url")
    parser.add_argument("--model", default="mock")
    parser.add_argument("--stream", action="store_true")
    parser.add_argument("--header", action="append", default=[], metavar="NAME: VALUE")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--requests", type=int)
    parser.add_argument("--seconds", type=float, default=600.0, help="an end in any case (default 600)")
    args = parser.parse_args()
    headers = dict(line.split(": ", 1) for line in args.header)
    request = http_request(args.url, chat_body(args.model, args.stream), headers)
    done = uvloop.run(closed_loop(args.url, request, args.connections, args.requests, args.seconds))
    print(json.dumps(done._asdict()))


if __name__ == "__main__":
    main()
