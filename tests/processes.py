"""Real processes for the end-to-end tests: the proxy, the simulated upstream, anything else that serves HTTP.

Each is started with its output in a log file, awaited by asking it over HTTP, and stopped by SIGTERM with an exit
status of 0 demanded. The waits have generous limits that only end a hung test; nothing is concluded from durations.
"""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
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


class Upstream(Running):
    """A simulated upstream, with its own paths for orders and counts."""

    def change(self, **settings: Any) -> None:
        """Set `faults`, `ttft`, `itl` or `tokens`; `#N` of a fault counts requests from here."""
        answer = self.ask("/control", settings)
        assert answer.status == 200, answer.body

    def stats(self) -> dict[str, Any]:
        counts: dict[str, Any] = self.ask("/stats").json()
        return counts

    def reset(self) -> None:
        """No faults, no latency, no counts."""
        self.change(faults=[], ttft="0", itl="0", tokens="20")
        assert self.ask("/stats/reset", b"").status == 200


@contextmanager
def proxy(config: Mapping[str, Any], folder: Path, *, env: Mapping[str, str] | None = None) -> Iterator[Running]:
    """`weighbridge serve` with this configuration, on a free port, ready for requests.

    The store is `folder/exchanges.db`: read it with `rows` after the block, when the process has flushed and gone.
    """
    with _running(_serve(config, folder), folder / "proxy.log", env) as running:
        _await(running, lambda: _is_ready(running))
        yield running


@contextmanager
def mortal_proxy(config: Mapping[str, Any], folder: Path, *options: str) -> Iterator[Running]:
    """The same for tests of its end, which are theirs to judge: what still runs after the block is killed."""
    with _started([*_serve(config, folder), *options], folder / "proxy.log", None) as running:
        _await(running, lambda: _is_ready(running))
        yield running


def _serve(config: Mapping[str, Any], folder: Path) -> list[str]:
    """The command, after its config was written."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "weighbridge.json"
    storage = f"sqlite:///{folder / 'exchanges.db'}"
    server = {"port": 0, **config.get("server", {})}
    path.write_text(json.dumps({"storage": storage, **config, "server": server}, indent=1))
    return ["serve", "--config", str(path)]


@contextmanager
def upstream(folder: Path, *options: str) -> Iterator[Upstream]:
    """`weighbridge upstream` with these command-line options, on a free port."""
    folder.mkdir(parents=True, exist_ok=True)
    with _running(["upstream", "--port", "0", *options], folder / "upstream.log", None) as running:
        yield Upstream(running.process, running.base_url, running.log)


def rows(folder: Path, query: str) -> list[dict[str, Any]]:
    """What an SQL query answers on the store of a proxy that ran with `folder`."""
    with closing(sqlite3.connect(f"file:{folder / 'exchanges.db'}?mode=ro", uri=True)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(query)]


@contextmanager
def _running(arguments: Sequence[str], log: Path, env: Mapping[str, str] | None) -> Iterator[Running]:
    with _started(arguments, log, env) as running:
        yield running
        running.process.send_signal(signal.SIGTERM)
        status = running.process.wait(_LIMIT_S)
    assert status == 0, f"{arguments[0]} ended with {status} on SIGTERM:\n{tail(log)}"


@contextmanager
def _started(arguments: Sequence[str], log: Path, env: Mapping[str, str] | None) -> Iterator[Running]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "proxy", *arguments],
            cwd=REPOSITORY,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        running = Running(process, "", log)
        _await(running, lambda: _announced(log) is not None)
        yield Running(process, _announced(log) or "", log)
    finally:
        process.kill()
        process.wait()


def _announced(log: Path) -> str | None:
    """The base URL that the process has logged, if it has."""
    found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text(errors="replace"))
    return found and found[0]


def _is_ready(running: Running) -> bool:
    try:
        return running.ask("/readyz").status == 200
    except ConnectionRefusedError:
        return False  # the port is named a moment before it listens


def _await(running: Running, ready: Callable[[], bool]) -> None:
    end = time.monotonic() + _LIMIT_S
    while not ready():
        status = running.process.poll()
        assert status is None, f"ended with {status} before it was ready:\n{tail(running.log)}"
        assert time.monotonic() < end, f"not ready in {_LIMIT_S:.0f} s:\n{tail(running.log)}"
        time.sleep(0.05)


def tail(log: Path, lines: int = 40) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
