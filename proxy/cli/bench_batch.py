"""`weighbridge bench batch`: the same in real time and through batch APIs."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy.cli.bench_runs import Missing, find_run, now, progress, stopped_by_signals

if TYPE_CHECKING:
    from proxy.bench.batch import Compared
    from proxy.bench.results import Run
    from proxy.bench.session import Session
    from proxy.bench.suite import Suite


def run(args: argparse.Namespace) -> int:
    """Two runs in one folder: `live`, in real time, and the batches."""
    from proxy.bench import batch, batchreport, data, planning, scorers
    from proxy.bench.manifest import manifest
    from proxy.bench.results import Run
    from proxy.bench.session import Session
    from proxy.bench.suite import load
    from proxy.config import find
    from proxy.config.values import duration

    suite = load(args.suite).model_copy(update={"repeats": 1, "stream": False})
    if texts := [name for name, task in suite.tasks.items() if task.ask != "chat"]:
        raise Missing(f"Batches are of chats; take {', '.join(texts)} out of the suite.")
    config = find(args.config)
    slices = find_run(args.out, args.resume).manifest.get("slices") if args.resume is not None else None
    cases = data.load(suite, config.database, slices)
    scorers.check(suite, cases)
    session = Session(config, suite)
    plan = planning.plan(suite, cases, session.dearest)
    planning.affordable(suite, plan, 2.0)
    if args.resume is None:
        told = {**manifest(suite, cases, args.tag), **session.made_of(), "kind": "batch"}
        run = Run(Path(args.out) / told["id"])
        run.begin(told)
    else:
        run = find_run(args.out, args.resume)
        told = run.manifest
        if (told["kind"], told["data"]) != ("batch", manifest(suite, cases, None)["data"]):
            raise Missing(f"The run {run.folder.name} asked something else; begin a new one.")
    print(f"batch {told['id']} in {run.folder}", file=sys.stderr)
    live = Run(run.folder / "live")
    if not (live.folder / "run.json").exists():
        live.begin({**told, "kind": "live"})
    whole = asyncio.run(_batched(args, suite, cases, session, run, live, plan, duration(args.poll)))
    if not whole:
        print(f"not finished; go on with: weighbridge bench batch {args.suite} --resume {told['id']}", file=sys.stderr)
        return 130
    run.begin({**told, "finished": now()})
    found = batch.compare(suite, live.rows(), run.rows())
    run.write("report.html", batchreport.as_html(suite, found))
    run.write("report.json", batchreport.as_json(suite, run.manifest, found))
    run.write("report.md", batchreport.as_markdown(suite, found).encode())
    show(suite, run.manifest, found, args.format)
    print(f"{run.folder}/: report.html, report.md, report.json", file=sys.stderr)
    return 0


def show(suite: Suite, manifest: dict[str, Any], found: Sequence[Compared], form: str) -> None:
    from proxy.bench import batch, batchreport

    if form in ("json", "html"):
        page = batchreport.as_html(suite, found) if form == "html" else batchreport.as_json(suite, manifest, found)
        sys.stdout.buffer.write(page + b"\n")
        sys.stdout.flush()
    elif form == "md":
        print(batchreport.as_markdown(suite, found))
    else:
        print("\n".join(line for one in found for line in batch.told(one)))


async def _batched(
    args: argparse.Namespace,
    suite: Suite,
    cases: Sequence[Any],
    session: Session,
    run: Run,
    live: Run,
    plan: Any,
    poll: float,
) -> bool:
    from proxy.bench.batch import Batched
    from proxy.bench.runner import Runner, Spend
    from proxy.bench.scorers import Scorers

    async with session:
        score = Scorers(suite, session.words)
        batched = Batched(suite, cases, session, run, score)
        labels = [target.label for target in suite.targets]

        def tell(line: str) -> None:
            print(line, file=sys.stderr)

        with progress(len(cases) * len(labels)) as show:
            spend = Spend(suite.budget, plan.worst_case)
            session.billed = spend.billed
            runner = Runner(suite, cases, session, live, score, spend, show)
            waiting = asyncio.create_task(batched.run(labels, args.batches, poll, args.emulate, tell))

            def stop() -> None:
                runner.stop()
                waiting.cancel()

            stopped_by_signals(stop)
            whole = await runner.run()
            try:
                await waiting
            except asyncio.CancelledError:
                return False
    return whole
