"""One exchange from the bytes of its request to the bytes of its answer, with everything but the kernel.

    python benchmarks/whole.py [chat|burst|paced] [--exchanges N] [--connections N] [--steps]

The server's and the client's protocol objects are real, and so are the event loop, the engine, the record and its
writer's thread; only the sockets are not. So what it shows is our own Python, without the system calls that a load
over sockets adds. `--steps` counts the interpreter's steps (bytecode instructions) on the event loop by function: the
same in every run, whatever else the machine does. A step is some 10 to 30 ns; what C code does in it is not seen.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))  # this checkout, installed or not

from load import chat_body, http_request
from mock_upstream import COMPLETION, plain, stream_parts
from tables import markdown
from uvicorn.server import ServerState

_KEY = "sk-bench-0123456789abcdef"
_CONFIG = """{"storage": "sqlite:///%s", "keys": [{"name": "bench", "key": "env:BENCH_KEY"}],
 "providers": {"mock": {"dialect": "openai", "base_url": "http://127.0.0.1:9/v1", "api_key": null}},
 "routes": {"mock": {"targets": ["mock/mock"]}}}"""


class Socket:
    """What both protocols see of a socket: written bytes go to `wrote`."""

    def __init__(self, wrote: Any) -> None:
        self.write = wrote

    def get_extra_info(self, name: str) -> Any:
        return {"sockname": ("127.0.0.1", 1), "peername": ("127.0.0.1", 2)}.get(name)

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def nothing(self, *_: Any, **__: Any) -> None: ...

    set_protocol = set_write_buffer_limits = pause_reading = resume_reading = close = abort = nothing


def answering(loop: asyncio.AbstractEventLoop, pieces: tuple[bytes, ...]) -> Any:
    """In place of `Pool._open`: an upstream that answers with the pieces, each so late that the last one is through."""
    from proxy.transport.http1 import Http1Connection

    async def opened(pool: Any) -> Http1Connection:
        connection = Http1Connection(pool)

        def answer(request: bytes) -> None:
            loop.call_soon(piece, 0)

        def piece(at: int) -> None:
            if at + 1 < len(pieces):
                loop.call_soon(loop.call_soon, piece, at + 1)
            connection.data_received(pieces[at])

        connection.connection_made(Socket(answer))
        return connection

    return opened


class Client:
    """Asks again whenever it has its answer, until `left` is used up."""

    left = 0
    done: asyncio.Future[None]
    running = 0

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: Any, request: bytes, end: bytes) -> None:
        self.loop, self.protocol, self.request, self.end = loop, protocol, request, end
        protocol.connection_made(Socket(self.wrote))

    def ask(self) -> None:
        if Client.left > 0:
            Client.left -= 1
            Client.running += 1
            self.loop.call_soon(self.protocol.data_received, self.request)
        elif not Client.running:
            Client.done.set_result(None)

    def wrote(self, data: bytes) -> None:
        if data.endswith(self.end):
            Client.running -= 1
            self.ask()
        elif not data.startswith(b"HTTP/1.1 200") and b"data: " not in data:
            raise SystemExit(f"not answered: {data[:300]!r}")


class Steps:
    """Counts bytecode instructions by function, once `begin` was called."""

    def __init__(self) -> None:
        self.counts: Counter[CodeType] = Counter()
        self.calls: Counter[CodeType] = Counter()

    def begin(self) -> None:
        sys.settrace(self._called)

    def end(self) -> None:
        sys.settrace(None)

    def _called(self, frame: FrameType, event: str, arg: Any) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        self.calls[frame.f_code] += 1
        return self._stepped

    def _stepped(self, frame: FrameType, event: str, arg: Any) -> Any:
        if event == "opcode":
            self.counts[frame.f_code] += 1
        return self._stepped

    def table(self, exchanges: int) -> str:
        ours = [(count, code) for code, count in self.counts.most_common() if code.co_filename != __file__]
        lines = [
            [f"{'/'.join(code.co_filename.split('/')[-2:])} {code.co_qualname}", f"{count / exchanges:.1f}",
             f"{self.calls[code] / exchanges:.2f}"]
            for count, code in ours
        ]  # fmt: skip
        total = [
            "all", f"{sum(count for count, _ in ours) / exchanges:.0f}",
            f"{sum(self.calls[code] for _, code in ours) / exchanges:.0f}",
        ]  # fmt: skip
        return markdown(["function", "steps an exchange", "calls"], [total, *lines])


async def run(
    form: str, exchanges: int, rounds: int, connections: int, folder: str, steps: Steps | None = None
) -> list[float]:
    """CPU microseconds an exchange, of each round; the writer's thread included."""
    from proxy import config as settings
    from proxy.app import App
    from proxy.cli.serve import calm_collector
    from proxy.transport.pool import Pool
    from proxy.web.connection import Connection
    from proxy.web.server import server_config

    text = _CONFIG % (Path(folder) / "whole.db")
    app = App(settings.parse(text, source="whole", format="json", env={"BENCH_KEY": _KEY}))
    loop = asyncio.get_running_loop()
    stream = form != "chat"
    parts = stream_parts(20)
    pieces = (plain(COMPLETION),) if not stream else (b"".join(parts),) if form == "burst" else parts
    Pool._open = answering(loop, pieces)  # type: ignore[method-assign]
    served = server_config(app, "127.0.0.1", 0)
    served.load()
    state = ServerState()
    request = http_request(
        "http://127.0.0.1:8080/v1/chat/completions", chat_body("mock", stream), {"authorization": f"Bearer {_KEY}"}
    )
    end = b"0\r\n\r\n" if stream else COMPLETION[-40:]
    clients = [Client(loop, Connection(served, state, {}, direct=app.direct), request, end) for _ in range(connections)]
    calm_collector()
    seen = []
    for number in range(rounds):
        if steps is not None and number:
            steps.begin()
        Client.left, Client.done = exchanges, loop.create_future()
        began = time.process_time_ns()
        for client in clients:
            client.ask()
        await Client.done
        if steps is not None:
            steps.end()
        assert app.store is not None
        app.store.flush()
        seen.append((time.process_time_ns() - began) / exchanges / 1e3)
    await app.aclose()
    return seen


def main() -> None:
    from proxy.web.server import loop_factory

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("form", nargs="?", choices=["chat", "burst", "paced"], default="chat")
    parser.add_argument("--exchanges", type=int, default=2000, help="of one round")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--steps", action="store_true", help="count steps by function; no times are taken")
    args = parser.parse_args()
    steps = Steps() if args.steps else None
    rounds, exchanges = (2, 200) if steps is not None else (args.rounds, args.exchanges)
    folders = tempfile.TemporaryDirectory(prefix="weighbridge-whole-")
    runner = asyncio.Runner(loop_factory=loop_factory())
    with folders as folder, runner:
        seen = runner.run(run(args.form, exchanges, rounds, args.connections, folder, steps))
    if steps is not None:
        print(steps.table(exchanges))
        return
    print(f"{args.form}: median {statistics.median(seen):.1f} us, lowest {min(seen):.1f} us an exchange")


if __name__ == "__main__":
    main()
