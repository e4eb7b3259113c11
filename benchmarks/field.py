"""The mock upstream and the targets in front of it, started together and stopped in any case."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import load
import probe
import procs
from targets import Target, found

Row = dict[str, Any]
_START_LIMIT_S = 120.0
_SETTLE_LIMIT_S = 20.0


class Options(NamedTuple):
    rounds: int
    seconds: float
    """Length of one load."""
    timings: int
    """Answers per target and round in `latency`."""
    leaves: int
    """Clients that go away per target and case in `cancel`."""
    memory_requests: int
    connections: int = 64
    """Of `chat` and `memory`; streams have their own."""
    use_wrk: bool = False
    targets: tuple[str, ...] = ()
    """Empty: all that are found."""
    baseline: Path | None = None


class Running:
    """A target that has been started, with what it has cost its upstream so far."""

    def __init__(self, target: Target, process: subprocess.Popen[bytes] | None, url: str) -> None:
        self.target = target
        self.process = process
        self.url = url
        self.upstream = 0
        """Requests that the mock has seen from it."""

    @property
    def name(self) -> str:
        return self.target.name

    def cpu_seconds(self) -> float:
        return procs.cpu_seconds(self.process.pid) if self.process else 0.0


class Field:
    """Context manager over one mock and the targets that `start` puts in front of it."""

    def __init__(self, options: Options, folder: Path) -> None:
        self.options = options
        self.folder = folder
        self.running: list[Running] = []

    def __enter__(self) -> Field:
        log = self.folder / "mock.log"
        command = [sys.executable, str(load.HERE / "mock_upstream.py")]
        log.unlink(missing_ok=True)
        self.mock = procs.start(command, procs.LOAD_CORE, log)
        try:
            self.mock_port = self._announced(log)
            targets = found(self.folder, self.mock_port, self.options.baseline)
        except BaseException:
            procs.stop(self.mock)
            raise
        wanted = self.options.targets
        self.targets = [target for target in targets if not wanted or target.name in wanted]
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for running in list(self.running):
                self.stop(running)
        finally:
            procs.stop(self.mock)

    def _announced(self, log: Path) -> int:
        until = time.monotonic() + 20
        while time.monotonic() < until and self.mock.poll() is None:
            line = log.read_text().partition("\n")[0]
            if line.startswith("{"):
                return int(json.loads(line)["port"])
            time.sleep(0.02)
        raise RuntimeError(f"the mock upstream did not start: {log.read_text()[-500:]}")

    def upstream_requests(self) -> int:
        return int(probe.get_json(self.mock_port, "/stats")["requests"])

    @contextlib.contextmanager
    def counted(self, running: Running) -> Iterator[None]:
        """What the mock sees meanwhile is this target's: only one target is asked at a time."""
        before = self.upstream_requests()
        try:
            yield
        finally:
            running.upstream += self.upstream_requests() - before

    def start(self, target: Target) -> tuple[Running, float]:
        """Starts a target and waits for its first whole answer; the seconds from the one to the other.

        Raises RuntimeError with the end of its log if it does not come to that.
        """
        log = target.folder / "log.txt"
        if target.address_file:
            target.address_file.unlink(missing_ok=True)
        if target.database:
            for suffix in ("", "-wal", "-shm"):
                Path(f"{target.database}{suffix}").unlink(missing_ok=True)
        began = time.monotonic()
        process = None
        if target.command:
            process = procs.start(target.command, procs.TARGET_CORE, log, target.env, target.cwd)
        running = Running(target, process, target.url)
        self.running.append(running)
        try:
            with self.counted(running):
                self._wait_for_answer(running, began + _START_LIMIT_S)
        except RuntimeError as error:
            self.stop(running)
            last = log.read_text(errors="replace")[-400:] if log.exists() else ""
            raise RuntimeError(f"{target.name} did not start: {error} {last}") from error
        return running, time.monotonic() - began

    def _wait_for_answer(self, running: Running, until: float) -> None:
        target = running.target
        while True:
            why = "no answer"
            try:
                if target.address_file and running.url == target.url:
                    running.url = target.address_file.read_text().strip().rstrip("/") + target.url
                return probe.check_answer(running.url, target.prefix + "mock", False, target.headers, seconds=5.0)
            except (OSError, RuntimeError) as error:
                why = str(error)
            if running.process and running.process.poll() is not None:
                raise RuntimeError(f"it ended with {running.process.returncode}")
            if time.monotonic() > until:
                raise RuntimeError(why)
            time.sleep(0.005)

    def stop(self, running: Running) -> None:
        self.running.remove(running)
        if running.process:
            procs.stop(running.process)

    def records(self, running: Running) -> Row:
        """After `stop`: how many exchanges the target has stored, beside what its upstream saw. Empty for others."""
        database = running.target.database
        if database is None:
            return {}
        connection = sqlite3.connect(f"file:{database}?mode=rw", uri=True)
        try:
            (stored,) = connection.execute("SELECT count(*) FROM v_exchanges").fetchone()
        finally:
            connection.close()
        return {"stored": stored, "upstream": running.upstream}

    def begin_load(self, running: Running, model: str, stream: bool, connections: int, seconds: float) -> Loading:
        target = running.target
        asked = (running.url, target.prefix + model, stream, target.headers, connections)
        if self.options.use_wrk:
            command = load.wrk(*asked, seconds, self.folder)
        else:
            command = load.built_in(*asked, seconds=seconds)
        return Loading(self, running, command, seconds)

    def loaded(self, running: Running, model: str, stream: bool, connections: int, seconds: float) -> Row:
        return self.begin_load(running, model, stream, connections, seconds).row()


class Loading:
    """One load under way, with the readings taken before it."""

    def __init__(self, field: Field, running: Running, command: Sequence[str], seconds: float) -> None:
        self.field, self.running, self.seconds = field, running, seconds
        self.before = self._readings()
        self.upstream = field.upstream_requests()
        with procs.on_core(procs.LOAD_CORE):
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def _readings(self) -> tuple[float, float, float, float]:
        """Seconds: now, CPU of the target, CPU of mock and this program with its finished loads, CPU of the machine."""
        ours = procs.cpu_seconds(self.field.mock.pid) + sum(_own_cpu())
        return time.monotonic(), self.running.cpu_seconds(), ours, procs.machine_busy_seconds()

    def row(self) -> Row:
        """Waits for the end. `cpu_ms` is the target's CPU time per request that reached the upstream."""
        try:
            done = load.finish(self.process, self.seconds + 60)
        finally:
            self.abandon()
        after = self._readings()
        took, cpu, ours, machine = (b - a for a, b in zip(self.before, after, strict=True))
        whole_cpu = self._settled() - self.before[1]
        count = self.field.upstream_requests() - self.upstream
        self.running.upstream += count
        if not done.requests or not count:
            raise RuntimeError(f"{self.running.name} answered nothing under load ({done.bad} bad)")
        return {
            "rps": done.requests / done.seconds,
            "n": done.requests,
            "p50_ms": done.p50_us / 1e3,
            "p99_ms": done.p99_us / 1e3,
            "bad": done.bad,
            "cpu_ms": whole_cpu * 1e3 / count,
            "busy": cpu / took,
            "other": max(0.0, machine - cpu - ours) / took,
        }

    def _settled(self) -> float:
        """The target's CPU seconds once it is quiet: a slow one still works on what the load had asked for, and that
        belongs to this turn, not to the next one.
        """
        until = time.monotonic() + _SETTLE_LIMIT_S
        now = self.running.cpu_seconds()
        while self.running.process and time.monotonic() < until:
            time.sleep(0.2)
            before, now = now, self.running.cpu_seconds()
            if now - before <= 0.02:
                break
        return now

    def abandon(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


def _own_cpu() -> tuple[float, float]:
    times = os.times()
    return times.user + times.system, times.children_user + times.children_system


def in_turn(
    running: Sequence[Running], rounds: int, measure: Callable[[Running], Row], label: str
) -> dict[str, list[Row] | str]:
    """A B C A B C …: one row per target and round. A target that fails is left out from then on, with its reason."""
    rows: dict[str, list[Row] | str] = {one.name: [] for one in running}
    for turn in range(rounds):
        for one in running:
            seen = rows[one.name]
            if isinstance(seen, str):
                continue
            try:
                row = measure(one)
            except (OSError, RuntimeError) as error:
                rows[one.name] = str(error)
                print(f"{label} {one.name}: {error}", file=sys.stderr, flush=True)
                continue
            seen.append(row)
            figures = " ".join(f"{key}={value:.4g}" for key, value in row.items() if isinstance(value, int | float))
            print(f"{label} {turn + 1}/{rounds} {one.name}: {figures}", file=sys.stderr, flush=True)
    return rows
