"""Real processes for the end-to-end tests: the proxy, the simulated upstream, anything else that serves HTTP.

Each is started with its output in a log file, awaited by asking it over HTTP, and stopped by SIGTERM with an exit
status of 0 demanded. The waits have generous limits that only end a hung test; nothing is concluded from durations.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

REPOSITORY = Path(__file__).resolve().parent.parent
_LIMIT_S = 60.0


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    """Lower-case names; a name that came twice keeps its last value."""
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Running:
    """A process that serves at `base_url`, which ends in the port."""

    process: subprocess.Popen[bytes]
    base_url: str
    log: Path

    @property
    def port(self) -> int:
        return int(self.base_url.rsplit(":", 1)[1])

    def ask(
        self, path: str, body: object = None, *, headers: Mapping[str, str] | None = None, method: str | None = None
    ) -> Answer:
        """One request on a connection of its own; a `body` that is not bytes is sent as JSON, by POST."""
        raw = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"content-type": "application/json"} if raw is not None else {}
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=_LIMIT_S)) as connection:
            connection.request(method or ("GET" if raw is None else "POST"), path, raw, {**sent, **(headers or {})})
            response = connection.getresponse()
            with response:
                return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


@contextmanager
def proxy(config: Mapping[str, Any], folder: Path, *, env: Mapping[str, str] | None = None) -> Iterator[Running]:
    """`weighbridge serve` with this configuration, ready for requests; server and storage may be left out.

    The store is `folder/exchanges.db`: read it with `rows` after the block, when the process has flushed and gone.
    """
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    complete = {
        "storage": f"sqlite:///{folder / 'exchanges.db'}",
        **config,
        "server": {"host": "127.0.0.1", "port": port, **config.get("server", {})},
    }
    path = folder / "weighbridge.json"
    path.write_text(json.dumps(complete, indent=1))
    command = [sys.executable, "-m", "proxy", "serve", "--config", str(path)]
    with _running(command, folder / "proxy.log", env) as process:
        running = Running(process, f"http://127.0.0.1:{port}", folder / "proxy.log")
        _await(running, lambda: running.ask("/readyz").status == 200)
        yield running


@contextmanager
def upstream(folder: Path, *options: str) -> Iterator[Running]:
    """`weighbridge upstream` with these command-line options, answering on an ephemeral port."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "proxy", "upstream", "--port", str(port), *options]
    with _running(command, folder / "upstream.log", None) as process:
        running = Running(process, f"http://127.0.0.1:{port}", folder / "upstream.log")
        _await(running, lambda: running.ask("/v1/models").status == 200)
        yield running


def rows(folder: Path, query: str) -> list[dict[str, Any]]:
    """What an SQL query answers on the store of a proxy that ran with `folder`."""
    with closing(sqlite3.connect(f"file:{folder / 'exchanges.db'}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(query)]


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def _running(command: Sequence[str], log: Path, env: Mapping[str, str] | None) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield process
    except BaseException:
        process.kill()
        process.wait()
        raise
    process.send_signal(signal.SIGTERM)
    try:
        status = process.wait(_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise AssertionError(f"{command[2:4]} did not end on SIGTERM:\n{tail(log)}") from None
    assert status == 0, f"{command[2:4]} ended with {status} on SIGTERM:\n{tail(log)}"


def _await(running: Running, ready: Callable[[], bool]) -> None:
    end = time.monotonic() + _LIMIT_S
    while True:
        status = running.process.poll()
        assert status is None, f"ended with {status} before it was ready:\n{tail(running.log)}"
        try:
            if ready():
                return
        except OSError:
            pass  # not listening yet
        assert time.monotonic() < end, f"not ready in {_LIMIT_S:.0f} s:\n{tail(running.log)}"
        time.sleep(0.05)


def tail(log: Path, lines: int = 40) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
