"""The child processes: three simulated providers, and the proxy in front of them."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

PROVIDERS = ("primary", "second", "third")
"""In the order in which the route asks them."""
CANDIDATE = "candidate"
"""A fourth provider, which no client is ever answered by: a share of the requests is mirrored to it."""
EXPERIMENT = "cheaper"
_DIALECTS = {"second": "anthropic", "third": "gemini"}
"""What they speak; the others OpenAI's."""
ROUTE = "chat"
LOAD = "demo-load"
"""An alias of the route that the demo's own clients ask for, so that their records are known from others'."""

_READY_SECONDS = 60.0
_STOP_SECONDS = 10.0
_ADDRESS = re.compile(r"http://127\.0\.0\.1:(\d+)")

CONFIG = """\
# Written by `weighbridge demo`. The providers were simulated; they ended with the demo.
server: {{port: {port}, drain: 2s}}
storage: "{storage}"
providers:
{providers}
# USD per million tokens, as a cheap, a middling and a dear provider may ask.
prices:
  primary/simulated: {{input: 0.15, output: 0.60}}
  second/simulated: {{input: 0.40, output: 1.60}}
  third/simulated: {{input: 1.25, output: 10.00}}
  candidate/simulated: {{input: 0.10, output: 0.40}}
routes:
  {route}:
    aliases: [{load}]
    policy: ordered
    timeouts: {{connect: 1s, ttft: 1s, answer: 2s}}
    targets:
      - {{target: primary/simulated, name: primary}}
      - {{target: second/simulated, name: second}}
      # Nobody is left to ask after the last one, so it is given more time.
      - {{target: third/simulated, name: third, timeouts: {{ttft: 10s, answer: 20s}}}}
# Most conversations are mirrored to a candidate as well, whose answers nobody sees: are its sums as right?
shadow:
  {experiment}:
    route: {route}
    candidate: {{target: candidate/simulated, name: candidate}}
    rate: 60%
    late_above: 250ms
    cpu_above: 2
    primary: {{kind: numeric, expect_from: answer}}
    guardrails: [{{kind: errors, margin: 0.05}}, {{kind: ttft, slo: 1s}}, cost]
    margin: 0.1
"""


class DemoError(Exception):
    """The demo cannot go on; the text says what happened and, on a line of its own, how to mend it."""


class Child(NamedTuple):
    name: str
    process: subprocess.Popen[bytes]
    log: Path


class Running(NamedTuple):
    """A child that serves on a port of 127.0.0.1."""

    child: Child
    port: int

    def ask(self, path: str, body: object = None) -> bytes:
        """The body of a GET, or of a POST of JSON. Raises `DemoError` where there is no 200."""
        name = self.child.name
        try:
            with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=_READY_SECONDS)) as connection:
                if body is None:
                    connection.request("GET", path)
                else:
                    connection.request("POST", path, json.dumps(body), {"content-type": "application/json"})
                response = connection.getresponse()
                answer = response.read()
        except (OSError, http.client.HTTPException) as error:
            status = self.child.process.poll()
            what = f"has ended with status {status}" if status is not None else f"does not answer ({error})"
            raise DemoError(f"{name} {what}.\nIts log tells more: {self.child.log}") from error
        if response.status != 200:
            raise DemoError(f"{name} answered {response.status} to {path}.\nIts log tells more: {self.child.log}")
        return answer

    def ask_json(self, path: str, body: object = None) -> Any:
        return json.loads(self.ask(path, body))


class Children:
    """Starts and, as a context manager, stops them. `folder` takes the config, the store and everybody's log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = folder / "weighbridge.db"
        self._all: list[Child] = []

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *raised: object) -> None:
        self.stop()

    def start_providers(self, settings: Mapping[str, object]) -> dict[str, Running]:
        """All in the same health, the candidate too; a token every 8 ms. Raises `DemoError`."""
        pace = ["--itl", "8ms", "--tokens", "8..20", "--skill", "0.97"]
        started = [
            self._start(name, ["upstream", "--name", name, "--seed", str(seed), "--dialect", _dialect(name), *pace])
            for seed, name in enumerate((*PROVIDERS, CANDIDATE), 1)
        ]
        providers = {child.name: Running(child, _announced_port(child)) for child in started}
        for running in providers.values():
            running.ask("/control", settings)
        return providers

    def start_proxy(self, providers: Mapping[str, Running], port: int) -> Running:
        """`weighbridge serve`, ready for requests; `port` 0 takes a free one. Raises `DemoError`."""
        # `http: native`: an outbound proxy that the environment names is none of the demo's business.
        entries = [
            f'  {name}: {{dialect: {_dialect(name)}, base_url: "http://127.0.0.1:{running.port}", api_key: null,'
            " http: native}"
            for name, running in providers.items()
        ]
        config = self.folder / "weighbridge.yaml"
        text = CONFIG.format(
            port=port,
            storage=f"sqlite:///{self.store}",
            providers="\n".join(entries),
            route=ROUTE,
            load=LOAD,
            experiment=EXPERIMENT,
        )
        config.write_text(text, "utf-8")
        child = self._start("proxy", ["serve", "--config", str(config)])
        running = Running(child, _announced_port(child))
        _await_ready(running)
        return running

    def dead(self) -> Child | None:
        return next((child for child in self._all if child.process.poll() is not None), None)

    def stop(self) -> None:
        """The proxy first, so that it sees no provider go. Each is stopped by its own process id."""
        for child in reversed(self._all):
            if child.process.poll() is None:
                child.process.terminate()
                try:
                    child.process.wait(_STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    child.process.kill()
                    child.process.wait()
            if child.process.stdin is not None:
                child.process.stdin.close()
        self._all.clear()

    def _start(self, name: str, arguments: Sequence[str]) -> Child:
        log = self.folder / f"{name}.log"
        # Our own way of finding modules, and not the current folder's: `-P` with every path that we have.
        paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603  (our own command)
                [sys.executable, "-P", "-m", "proxy.demo.child", *arguments],
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": paths, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A Ctrl-C in the terminal is for the demo alone, which then stops its children in order.
                start_new_session=True,
            )
        child = Child(name, process, log)
        self._all.append(child)
        return child


def _dialect(name: str) -> str:
    return _DIALECTS.get(name, "openai")


def _announced_port(child: Child) -> int:
    until = time.monotonic() + _READY_SECONDS
    while time.monotonic() < until:
        ended = child.process.poll() is not None
        log = child.log.read_text("utf-8", "replace")
        found = _ADDRESS.search(log)
        if found is not None:
            return int(found[1])
        if ended:
            last = log.strip().splitlines()[-2:]
            raise DemoError("\n".join(last) or f"{child.name} ended with status {child.process.returncode}.")
        time.sleep(0.05)
    raise DemoError(f"{child.name} did not start within {_READY_SECONDS:.0f} s.\nIts log: {child.log}")


def _await_ready(running: Running) -> None:
    until = time.monotonic() + _READY_SECONDS
    while True:
        try:
            running.ask("/readyz")
            return
        except DemoError:
            if running.child.process.poll() is not None or time.monotonic() > until:
                raise
        time.sleep(0.05)
