"""Processes under measurement: started on a core, read from /proc, stopped by their own ids. Linux only."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

TARGET_CORE, LOAD_CORE = 0, 1
_TICKS = os.sysconf("SC_CLK_TCK")
_STOP_S = 15.0
"""How long a server may take to drain before it is killed."""


@contextlib.contextmanager
def on_core(core: int) -> Iterator[None]:
    """What is started inside inherits the core from this process. Where it may not have the core, nothing is pinned."""
    before = os.sched_getaffinity(0)
    if (os.cpu_count() or 1) > 1:
        with contextlib.suppress(OSError):
            os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def start(
    command: Sequence[str], core: int, log: Path, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.Popen[bytes]:
    """A server in a session of its own, so that Ctrl-C reaches only the benchmark, which then stops it in order.

    Its working directory is the folder of its log where none is given.
    """
    with on_core(core), log.open("ab") as out:
        return subprocess.Popen(
            command,
            env={**os.environ, **(env or {})},
            cwd=cwd or log.parent,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, time to drain, then SIGKILL for it and for children it left behind."""
    family = {pid: _born(pid) for pid in tree(process.pid)}
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pid, born in family.items():
        if pid != process.pid and born and _born(pid) == born:  # the same process, not a later one with its id
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name: [0] is the state, [1] the parent; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _born(pid: int) -> str:
    fields = _stat(pid)
    return fields[19] if fields else ""


def tree(pid: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (fields := _stat(int(entry))):
            children.setdefault(int(fields[1]), []).append(int(entry))
    family = [pid]
    for member in family:
        family += children.get(member, [])
    return family


def cpu_seconds(pid: int) -> float:
    """User and system time of the tree so far, in steps of a clock tick (10 ms on most machines)."""
    ticks = 0
    for member in tree(pid):
        if fields := _stat(member):
            ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICKS


def memory_mb(pid: int, field: str = "VmRSS") -> float:
    """Resident memory of the tree in MB (10^6 bytes); `field` may be `VmHWM` for the peak."""
    kib = 0
    for member in tree(pid):
        try:
            status = Path(f"/proc/{member}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        kib += sum(int(line.split()[1]) for line in status.splitlines() if line.startswith(field + ":"))
    return kib * 1024 / 1e6


def machine_busy_seconds() -> float:
    """CPU time that all cores together have spent on anything, without idling and waiting for disks."""
    user, nice, system, _, _, irq, soft, *_ = map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:])
    return (user + nice + system + irq + soft) / _TICKS
