"""`weighbridge bench load`: users, ramps, arrivals, a search, a failover drill."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy.cli.bench_runs import keep_in_store, now, stopped_by_signals

if TYPE_CHECKING:
    from proxy.bench.results import Run
    from proxy.bench.runner import Spend
    from proxy.bench.session import Session
    from proxy.bench.suite import Suite


def run(args: argparse.Namespace) -> int:
    from proxy.bench import data, loadreport, planning, scorers
    from proxy.bench.manifest import manifest
    from proxy.bench.results import LOAD_COLUMNS, Run
    from proxy.bench.runner import Spend
    from proxy.bench.session import Session
    from proxy.bench.suite import load
    from proxy.config import ConfigError, Problem, find
    from proxy.config.problems import did_you_mean

    suite = load(args.suite)
    if suite.load is None:
        raise ConfigError([Problem(args.suite, "load", "is missing", 'say for example "load": {"users": 50}')])
    labels = [target.label for target in suite.targets]
    for name in args.target or ():
        if name not in labels:
            raise ConfigError([Problem(args.suite, "targets", f"has no {name!r}", did_you_mean(name, labels))])
    config = find(args.config)
    cases = data.load(suite, config.database)
    if args.score:
        scorers.check(suite, cases)
    session = Session(config, suite, suite.load.plain)
    plan = planning.plan(suite, cases, session.dearest)
    if args.dry_run:
        print("\n".join(planning.load_told(suite, suite.load, args.target or labels, cases, plan)))
        return 0
    planning.affordable(suite, plan)
    told = {**manifest(suite, cases, args.tag), **session.made_of(), "kind": "load"}
    run = Run(Path(args.out) / told["id"])
    run.begin(told)
    print(f"load {told['id']} in {run.folder}", file=sys.stderr)
    spend = Spend(suite.budget, plan.worst_case)
    asyncio.run(_loaded(suite, cases, session, run, spend, args.target or labels, args.score))
    if spend.exhausted:
        print(f"the budget of {suite.budget:g} USD is spent: the load ended before its time", file=sys.stderr)
    made = loadreport.report(suite, run.manifest, run.rows())
    told |= {"finished": now(), "invalid": loadreport.invalid(made)}
    run.begin(told)
    run.write("report.html", loadreport.as_html(made))
    run.write("report.json", loadreport.as_json(made))
    run.write("report.md", loadreport.as_markdown(made).encode())
    run.parquet(LOAD_COLUMNS)
    keep_in_store(config, run)
    show(made, args.format)
    print(f"{run.folder}/: report.html, report.md, report.json, results.parquet", file=sys.stderr)
    return 4 if told["invalid"] else 0


async def _loaded(
    suite: Suite,
    cases: Sequence[Any],
    session: Session,
    run: Run,
    spend: Spend,
    labels: Sequence[str],
    judged: bool,
) -> None:
    from proxy.bench.load import Loader, Tick
    from proxy.bench.scorers import Scorers

    assert suite.load is not None  # noqa: S101
    last = [0.0]

    def tick(one: Tick) -> None:
        if one.seconds - last[0] >= 2.0:
            last[0] = one.seconds
            print(
                f"{one.seconds:6.0f} s  {one.phase:>12}  "
                f"{one.done:,} done, {one.failed:,} failed, {one.running} running, ${one.spent_usd:.4f}",
                file=sys.stderr,
            )

    session.billed = spend.billed
    async with session:
        arrivals: Sequence[float] = ()
        if suite.load.recorded is not None:
            arrivals = await session.arrivals(suite.load.recorded)

        stopped = False

        def stop() -> None:
            nonlocal stopped
            stopped = True
            loader.stop()

        stopped_by_signals(stop)
        for label in labels:
            if stopped:
                break
            last[0] = 0.0
            score = Scorers(suite, session.words) if judged else None
            loader = Loader(suite, suite.load, label, cases, session, run, spend, score, tick)
            await loader.run(arrivals)


def show(made: Any, form: str) -> None:
    from proxy.bench import loadreport
    from proxy.bench.terminal import show_load

    if form == "json":
        sys.stdout.buffer.write(loadreport.as_json(made) + b"\n")
        sys.stdout.flush()
    elif form == "md":
        print(loadreport.as_markdown(made))
    else:
        show_load(made)
