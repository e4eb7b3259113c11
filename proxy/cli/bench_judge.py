"""`weighbridge bench judge`: answers of a run compared pair by pair by a model; or that model compared with people."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy.cli.bench_runs import FOLDER, Missing, find_run, stopped_by_signals

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from proxy.bench.judging import Key, Pair
    from proxy.bench.session import Session
    from proxy.scoring.judge import Judge


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("suite", metavar="SUITE", nargs="?", help="the suite of the run, whose cases the judge reads")
    parser.add_argument("--run", default="last", metavar="RUN", help="id, tag or `last` (default)")
    parser.add_argument("--model", required=True, metavar="MODEL", help="the judge: a route, or provider/model")
    parser.add_argument("--rubric", metavar="TEXT", help="what makes an answer better")
    parser.add_argument("--people", metavar="FILE", help="hold the judge against people: rows with prompt, a, b, human")
    parser.add_argument("--config", metavar="FILE", help="default: weighbridge.yaml, else what the environment has")
    parser.add_argument("--out", default=FOLDER, metavar="DIR", help=f"where the runs are (default {FOLDER})")
    parser.add_argument("--format", choices=("table", "json"), default="table")
    parser.epilog = (
        "example:\n  weighbridge bench judge suite.json --run last --model openai/gpt-5\n"
        "  weighbridge bench judge --people pairs.jsonl --model openai/gpt-5"
    )


def run(args: argparse.Namespace) -> int:
    from proxy.bench.suite import parse
    from proxy.config import find
    from proxy.scoring.judge import RUBRIC, Judge

    if args.people is None and args.suite is None:
        raise Missing("Say whose answers: SUITE and --run; or `--people FILE` to hold the judge against people.")
    judge = Judge(args.model, args.rubric or RUBRIC)
    one = {"data": [{"prompt": "?"}], "scorers": ["errors"]}
    asked = parse(json.dumps({"name": "judge", "targets": [args.model], "tasks": {"t": one}}))
    from proxy.bench.session import Session

    session = Session(find(args.config), asked)
    if args.people is not None:
        return _people(args, judge, session)
    return _run(args, judge, session)


def _people(args: argparse.Namespace, judge: Judge, session: Session) -> int:
    import numpy as np

    from proxy.bench import data, judging
    from proxy.bench.report import plain

    wanted, said = judging.people(data.rows_of(Path(args.people)), args.people)
    rows: list[dict[str, Any]] = []
    asyncio.run(_judged(session, judge, wanted, rows.append, frozenset()))
    found = judging.agreement(rows, said, np.random.default_rng(0))
    if args.format == "json":
        print(json.dumps({"judge": judge.model, "hash": judge.hash, **plain(found)}, indent=2))
    else:
        print("\n".join([judge.model, *judging.told_of_people(found)]))
    return 0


def _run(args: argparse.Namespace, judge: Judge, session: Session) -> int:
    import numpy as np

    from proxy.bench import data, judging
    from proxy.bench.report import plain
    from proxy.bench.results import Run
    from proxy.bench.suite import load
    from proxy.config import find

    suite = load(args.suite)
    of = find_run(args.out, args.run)
    manifest, rows = of.manifest, of.rows()
    if manifest.get("suite_text", {}).get("keep_answers") is not True:
        raise Missing(f"The run {of.folder.name} kept no answers. Set `keep_answers: true` in the suite and ask again.")
    cases = data.load(suite, find(args.config).database, manifest.get("slices"))
    if data.digest(cases) != manifest["data"]:
        raise Missing(f"{args.suite} holds other cases than the run {of.folder.name} asked.")
    baseline = suite.baseline or suite.targets[0].label
    wanted = list(judging.pairs(cases, rows, baseline))
    if not wanted:
        raise Missing(f"There is nothing to compare with {baseline}: the run has no other target's answers.")
    kept = Run(of.folder / f"judged-{judge.hash}")
    kept.folder.mkdir(exist_ok=True)
    have = frozenset((row["target"], row["task"], row["case"], row["repeat"]) for row in kept.rows())
    print(f"{len(wanted) - len(have):,} pairs to judge, each in both orders; {len(have):,} are there", file=sys.stderr)
    try:
        asyncio.run(_judged(session, judge, wanted, kept.append, have))
    finally:
        kept.close()
    verdicts = kept.rows()
    found = judging.preferences(verdicts, np.random.default_rng(0))
    reliable = judging.reliability(verdicts)
    whole: dict[str, Any] = {"judge": judge.model, "rubric": judge.rubric, "hash": judge.hash, "baseline": baseline}
    whole |= {"targets": [{**plain(one), "words": one.words} for one in found], "reliability": plain(reliable)}
    kept.write("report.json", json.dumps(whole, indent=2).encode())
    if args.format == "json":
        print(json.dumps(whole, indent=2))
    else:
        print("\n".join(judging.told(found, reliable, baseline)))
    return 0


async def _judged(
    session: Session,
    judge: Judge,
    wanted: Sequence[Pair],
    write: Callable[[dict[str, Any]], None],
    have: frozenset[Key],
) -> None:
    from proxy.bench import judging

    async def ask(body: dict[str, Any]) -> str:
        return await session.words(judge.model, body)

    task = asyncio.current_task()
    assert task is not None  # noqa: S101

    def stop() -> None:
        """Verdicts that are under way are not waited for: nothing is lost but these."""
        task.cancel()

    async with session:
        stopped_by_signals(stop)
        await judging.judged(judge, ask, wanted, write, have)
