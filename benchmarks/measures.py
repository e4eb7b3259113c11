"""The six measures. Each takes a fresh field, takes turns over all its targets, and returns plain rows for JSON.

The shape of a result is `{section: {target: [row, …] or "why it has none"}}`; the tables are made from it alone.
"""

from __future__ import annotations

import functools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import load
import probe
import procs
from field import Field, Row, Running, in_turn
from spread import quantile, slope

Section = dict[str, list[Row] | str]
Result = dict[str, Section]

PACED, LONG, SILENT = "mock-d5", "mock-n400-d5", "mock-w5000"
_BURST_CONNECTIONS, _PACED_CONNECTIONS, _PROBED_CONNECTIONS = 32, 96, 32
_STARTS_NOT_COUNTED = 1
"""The first start compiles byte code and fills the page cache."""
_NEVER_SEEN_LIMIT = 5
"""A target that has not cancelled so many times is not asked on: each costs seconds."""
_MEMORY_STEPS = 10


def all_started(field: Field) -> tuple[list[Running], dict[str, str]]:
    """Every target running side by side, and those that would not start with the reason."""
    running, broken = [], {}
    for target in field.targets:
        try:
            running.append(field.start(target)[0])
        except RuntimeError as error:
            broken[target.name] = str(error)
            print(error, file=sys.stderr, flush=True)
    return running, broken


def _records(field: Field, running: list[Running]) -> Section:
    """Stops all and compares what each has stored with what its upstream saw."""
    section: Section = {}
    for one in running:
        field.stop(one)
        row = field.records(one)
        if row:
            section[one.name] = [row]
    return section


def _able(field: Field, running: list[Running], model: str, stream: bool) -> tuple[list[Running], dict[str, str]]:
    """Those that pass one whole answer on; an incomplete one would be cheap, and no comparison."""
    able, unable = [], {}
    for one in running:
        try:
            with field.counted(one):
                probe.check_answer(one.url, one.target.prefix + model, stream, one.target.headers)
            able.append(one)
        except (OSError, RuntimeError) as error:
            unable[one.name] = str(error)
    return able, unable


def _under_load(
    field: Field, running: list[Running], model: str, stream: bool, connections: int, label: str
) -> Section:
    options = field.options
    able, unable = _able(field, running, model, stream)
    warmed = in_turn(able, 1, lambda one: field.loaded(one, model, stream, connections, 2.0), f"{label} warm-up")
    able = [one for one in able if not isinstance(warmed[one.name], str)]
    failed: Section = {name: rows for name, rows in warmed.items() if isinstance(rows, str)}
    rows = in_turn(
        able, options.rounds, lambda one: field.loaded(one, model, stream, connections, options.seconds), label
    )
    return {**rows, **failed, **unable}


def chat(field: Field) -> Result:
    running, broken = all_started(field)
    rows = _under_load(field, running, "mock", False, field.options.connections, "chat")
    return {"chat": {**rows, **broken}, "records": _records(field, running)}


def stream(field: Field) -> Result:
    running, broken = all_started(field)
    burst = _under_load(field, running, "mock", True, _BURST_CONNECTIONS, "stream burst")
    paced = _under_load(field, running, PACED, True, _PACED_CONNECTIONS, "stream paced")
    return {"burst": {**burst, **broken}, "paced": {**paced, **broken}, "records": _records(field, running)}


def _timed(field: Field, one: Running, seconds: float) -> Row:
    request = load.http_request(one.url, load.chat_body(one.target.prefix + "mock", False), one.target.headers)
    with field.counted(one):
        seen = probe.timings(one.url, request, field.options.timings, seconds)
    whole = [t.whole_ns / 1e3 for t in seen]
    return {"n": len(seen), "p50_us": quantile(whole, 0.5), "p99_us": quantile(whole, 0.99)}


def _timed_under_streams(field: Field, one: Running) -> Row:
    """First content of a stream that starts at once, while other clients read paced streams."""
    seconds = field.options.seconds
    background = field.begin_load(one, PACED, True, _PROBED_CONNECTIONS, seconds + 1.5)
    try:
        time.sleep(0.5)  # the load has come up
        request = load.http_request(one.url, load.chat_body(one.target.prefix + "mock", True), one.target.headers)
        seen = probe.timings(one.url, request, field.options.timings, seconds)
        loaded = background.row()
    finally:
        background.abandon()
    first = [t.first_ns / 1e3 for t in seen]
    return {
        "n": len(seen),
        "first_p50_us": quantile(first, 0.5),
        "first_p99_us": quantile(first, 0.99),
        "streams_per_s": loaded["rps"],
        "bad": loaded["bad"],
        "other": loaded["other"],
    }


def latency(field: Field) -> Result:
    options = field.options
    running, broken = all_started(field)
    result: Result = {}
    with procs.on_core(procs.LOAD_CORE):
        able, unable = _able(field, running, "mock", False)
        in_turn(able, 1, lambda one: _timed(field, one, 2.0), "latency warm-up")
        rows = in_turn(able, options.rounds, lambda one: _timed(field, one, options.seconds), "latency")
        result["alone"] = {**rows, **unable, **broken}
        able, unable = _able(field, running, "mock", True)
        rows = in_turn(able, options.rounds, lambda one: _timed_under_streams(field, one), "first token under streams")
        result["first_token"] = {**rows, **unable, **broken}
    return result


def start(field: Field) -> Result:
    """Cold start, and memory: at rest a second after the first answer, and after a load (its peak included)."""
    rounds = field.options.rounds
    section: Section = {target.name: [] for target in field.targets if target.command}
    for turn in range(rounds + _STARTS_NOT_COUNTED):
        for target in field.targets:
            rows = section.get(target.name)
            if rows is None or isinstance(rows, str):
                continue
            try:
                running, seconds = field.start(target)
                row = _memory_row(field, running, seconds, last=turn == rounds)
            except RuntimeError as error:
                section[target.name] = str(error)
                print(error, file=sys.stderr, flush=True)
                continue
            field.stop(running)
            if turn >= _STARTS_NOT_COUNTED:
                rows.append(row)
                print(f"start {turn}/{rounds} {target.name}: {row}", file=sys.stderr, flush=True)
    return {"start": section}


def _memory_row(field: Field, running: Running, seconds: float, last: bool) -> Row:
    assert running.process is not None
    time.sleep(1.0)
    row: Row = {"cold_s": seconds, "idle_mb": procs.memory_mb(running.process.pid)}
    if last:
        options = field.options
        field.loaded(running, "mock", False, options.connections, max(5.0, options.seconds))
        row["after_mb"] = procs.memory_mb(running.process.pid)
        row["peak_mb"] = procs.memory_mb(running.process.pid, "VmHWM")
    return row


def memory(field: Field) -> Result:
    """Resident memory of Weighbridge over many requests (others where they are named): does it grow?"""
    step = max(1, field.options.memory_requests // _MEMORY_STEPS)
    result: Result = {"memory": {}, "samples": {}, "records": {}}
    for target in field.targets:
        if not target.command or (target.database is None and not field.options.targets):
            continue
        try:
            running = field.start(target)[0]
            samples = [_memory_step(field, running, step) for _ in range(_MEMORY_STEPS + 1)]
        except RuntimeError as error:
            result["memory"][target.name] = str(error)
            continue
        result["samples"][target.name] = samples
        result["memory"][target.name] = [_growth(samples)]
        result["records"] |= _records(field, [running])
    return result


def _growth(samples: list[Row]) -> Row:
    """From the first sample (taken after one step of warming up) to the last, and over the second half alone."""
    requests, mb = [sample["requests"] for sample in samples], [sample["mb"] for sample in samples]
    grown, half = slope(requests, mb)
    later = len(samples) // 2
    late, late_half = slope(requests[later:], mb[later:])
    return {
        "requests": samples[-1]["requests"] - samples[0]["requests"],
        "first_mb": samples[0]["mb"],
        "last_mb": samples[-1]["mb"],
        "kb_per_1000": grown * 1e6,
        "half": half * 1e6,
        "late_kb_per_1000": late * 1e6,
        "late_half": late_half * 1e6,
        "bad": sum(sample["bad"] for sample in samples),
    }


def _memory_step(field: Field, running: Running, requests: int) -> Row:
    """So many requests, counted exactly by the built-in load, then the resident memory."""
    assert running.process is not None
    target, connections = running.target, field.options.connections
    model = target.prefix + "mock"
    command = load.built_in(running.url, model, False, target.headers, connections, requests=requests, seconds=600.0)
    with field.counted(running), procs.on_core(procs.LOAD_CORE):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        done = load.finish(process, 660)
    time.sleep(0.5)  # a batch of records may still be on its way to the store
    row: Row = {"requests": running.upstream, "mb": procs.memory_mb(running.process.pid), "bad": done.bad}
    print(f"memory {target.name}: {row}", file=sys.stderr, flush=True)
    return row


def cancel(field: Field) -> Result:
    """How long after a client has gone away the upstream sees its own connection closed."""
    cases = {
        "mid-stream": (LONG, True),
        "before the first token": (SILENT, True),
        "not streamed": (SILENT, False),
    }
    tickets = iter(range(1, 1_000_000_000))
    running, broken = all_started(field)
    result: Result = {}
    with procs.on_core(procs.LOAD_CORE):
        for label, (model, streamed) in cases.items():
            leave = functools.partial(_leaves, field, tickets, model, streamed)
            result[label] = {**in_turn(running, 1, leave, f"cancel {label}"), **broken}
    result["records"] = _records(field, running)
    return result


def _leaves(field: Field, tickets: Iterator[int], model: str, stream: bool, one: Running) -> Row:
    delays: list[float] = []
    unseen = 0
    name = one.target.prefix + model
    with field.counted(one):
        while len(delays) + unseen < field.options.leaves and unseen < _NEVER_SEEN_LIMIT:
            delay = probe.leave(one.url, name, stream, one.target.headers, next(tickets), field.mock_port)
            if delay is None:
                unseen += 1
            else:
                delays.append(delay)
    return {
        "n": len(delays),
        "unseen": unseen,
        "p50_ms": statistics.median(delays) if delays else None,
        "p95_ms": quantile(delays, 0.95) if delays else None,
        "max_ms": max(delays) if delays else None,
    }


MEASURES: dict[str, Callable[[Field], Result]] = {
    "chat": chat,
    "stream": stream,
    "latency": latency,
    "start": start,
    "memory": memory,
    "cancel": cancel,
}
