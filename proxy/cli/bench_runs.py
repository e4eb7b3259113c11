"""What the commands of `weighbridge bench` share: where runs are, and how a long one shows its progress."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.bench.results import Run
    from proxy.bench.runner import Progress
    from proxy.config import Config

FOLDER = "bench-runs"


class Missing(Exception):
    """A run that is not there."""


def find_run(folder: str, name: str) -> Run:
    from proxy.bench.results import runs

    found = runs(Path(folder))
    if name == "last" and found:
        return found[-1]
    for one in reversed(found):
        about = one.manifest
        if name in (one.folder.name, about.get("tag"), about.get("commit_tag") or None):
            return one
        if len(name) >= 7 and about.get("commit", "").startswith(name):
            return one
    raise Missing(
        f"There is no run {name!r} in {folder}.\n"
        "`weighbridge bench list` shows what there is; `--out` names another folder."
    )


def keep_in_store(config: Config, run: Run) -> None:
    """The run's results beside the records of its requests, for SQL (`v_bench_results`)."""
    import sqlite3

    from proxy.measure.store.benchmarks import save
    from proxy.measure.store.schema import SchemaError

    if config.storage is None:
        return
    asked = [row for row in run.rows() if row.get("kind", "request") == "request"]
    try:
        save(config.storage, run.manifest, asked)
    except (sqlite3.Error, OSError, SchemaError) as error:
        print(f"warning: the results are not in the store: {error}", file=sys.stderr)


def now() -> str:
    from datetime import UTC, datetime

    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def stopped_by_signals(stop: Callable[[], None]) -> None:
    """The first Ctrl-C or SIGTERM stops the current task in order: what is under way comes to its end. The second one
    does not wait for that."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    asked = False

    def told() -> None:
        nonlocal asked
        if asked and task is not None:
            task.cancel()
        elif not asked:
            asked = True
            print("stopping; once more to end at once", file=sys.stderr)
            stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, told)


@contextlib.contextmanager
def progress(total: int) -> Iterator[Callable[[Progress], None]]:
    """A bar on a terminal; elsewhere a line every tenth of the way."""
    began, first = time.monotonic(), -1

    def said(one: Progress) -> str:
        """Counted from here: a run that goes on has some already."""
        nonlocal first
        first = one.done - 1 if first < 0 else first
        rate = (one.done - first) / max(time.monotonic() - began, 1e-9)
        money = f"${one.spent_usd:.4f}" + (f" + {one.unpriced} without a price" if one.unpriced else "")
        return f"{rate:.1f}/s, {one.failed} failed, {one.running} running, {money}"

    if sys.stderr.isatty() and "NO_COLOR" not in os.environ:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Shown

        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        with Shown(*columns, console=Console(stderr=True)) as bar:
            task = bar.add_task("", total=total)
            yield lambda one: bar.update(task, completed=one.done, description=said(one))
        return
    last = -1

    def show(one: Progress) -> None:
        nonlocal last
        told, tenth = said(one), 10 * one.done // max(1, one.total)
        if tenth > last:
            last = tenth
            print(f"{one.done}/{one.total} {told}", file=sys.stderr)

    yield show
