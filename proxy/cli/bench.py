"""`weighbridge bench`: from a suite of tasks to a decision."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy.cli import bench_batch, bench_judge, bench_load
from proxy.cli.bench_runs import FOLDER, Missing, find_run, keep_in_store, now, progress, stopped_by_signals

if TYPE_CHECKING:
    from proxy.bench.results import Run
    from proxy.bench.session import Session
    from proxy.bench.suite import Suite
    from proxy.config import Config

NEEDED = ("numpy", "scipy", "statsmodels", "pyarrow")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="bench", metavar="command", required=True)
    run = _command(commands, "run", "ask every target everything, and decide")
    run.add_argument("suite", metavar="SUITE", help="a .json, .yaml or .toml file")
    _common(run)
    run.add_argument("--resume", metavar="RUN", help="go on with a run that was stopped or killed (its id, or `last`)")
    run.add_argument("--dry-run", action="store_true", help="say what would be asked and what it may cost, and end")
    run.add_argument("--tag", help="a name for this run, say a version; `bench compare` takes it")
    run.add_argument("--format", choices=("table", "md", "json"), default="table")
    run.epilog = (
        "example:\n  weighbridge bench run examples/suites/support.json --config weighbridge.yaml\n\n"
        "Exit status: 0 the run is whole and valid, 2 something to mend, 4 the run is invalid, 130 stopped."
    )
    load = _command(commands, "load", "put targets under load: users, ramps, arrivals, a search, a failover drill")
    load.add_argument("suite", metavar="SUITE", help="a suite with a section `load`")
    _common(load)
    load.add_argument("--target", action="append", metavar="NAME", help="only this target of the suite (repeatable)")
    load.add_argument("--score", action="store_true", help="judge every answer too, with the suite's scorers")
    load.add_argument("--dry-run", action="store_true", help="say what would be asked and what it may cost, and end")
    load.add_argument("--tag", help="a name for this run")
    load.add_argument("--format", choices=("table", "md", "json"), default="table")
    load.epilog = (
        "example:\n  weighbridge bench load examples/suites/ramp.json --config weighbridge.yaml\n\n"
        "Exit status: 0 the run is valid, 2 something to mend, 4 the run is invalid (the generator was late)."
    )
    batch = _command(
        commands, "batch", "the same in real time and through batch APIs: what is saved, what it costs in time"
    )
    batch.add_argument("suite", metavar="SUITE", help="a .json, .yaml or .toml file")
    _common(batch)
    batch.add_argument("--batches", type=int, default=3, metavar="N", help="batches for each target (default 3)")
    batch.add_argument("--poll", default="30s", metavar="TIME", help="how often providers are asked (default 30s)")
    batch.add_argument("--emulate", action="store_true", help="work lines off one by one where there is no batch API")
    batch.add_argument("--resume", metavar="RUN", help="go on with a run that was stopped; nothing is submitted twice")
    batch.add_argument("--tag", help="a name for this run")
    batch.add_argument("--format", choices=("table", "md", "json"), default="table")
    batch.epilog = "example:\n  weighbridge bench batch suite.json --batches 5"
    bench_judge.add_arguments(
        _command(commands, "judge", "which answers of a run are better, by a model as judge; and is it a good one?")
    )
    report = _command(commands, "report", "show a run again")
    report.add_argument("run", metavar="RUN", nargs="?", default="last", help="id, tag or `last` (default)")
    report.add_argument("--config", metavar="FILE", help="look again at what its store has of live and shadow traffic")
    report.add_argument("--out", default=FOLDER, metavar="DIR", help=f"where the runs are (default {FOLDER})")
    report.add_argument("--format", choices=("table", "md", "json", "html"), default="table")
    report.epilog = "example:\n  weighbridge bench report last --format html > report.html"
    compare = _command(commands, "compare", "is a run no worse than another? (for CI)")
    compare.add_argument("base", metavar="BASE", help="id or tag of the run to hold it to")
    compare.add_argument("new", metavar="NEW", nargs="?", default="last", help="id, tag or `last` (default)")
    compare.add_argument("--out", default=FOLDER, metavar="DIR", help=f"where the runs are (default {FOLDER})")
    compare.add_argument("--format", choices=("table", "json", "junit"), default="table")
    compare.epilog = (
        "example:\n  weighbridge bench compare v1.4 last\n\n"
        "Exit status: 0 shown to be no worse, 1 regression, 3 inconclusive (too little to say), 4 not comparable."
    )
    drift = _command(commands, "drift", "has a model changed without saying so? the same prompts over many runs")
    drift.add_argument("base", metavar="BASE", help="id or tag of the run to hold the later ones against")
    drift.add_argument("--out", default=FOLDER, metavar="DIR", help=f"where the runs are (default {FOLDER})")
    drift.epilog = "example:\n  weighbridge bench drift first\n\nExit status: 0 no change seen, 1 changed."
    took = _command(commands, "import", "take scores of lm-evaluation-harness or inspect_ai as a run")
    took.add_argument("logs", metavar="FILE", nargs="+", help="samples_*.jsonl of lm-eval; .json or .eval of inspect")
    took.add_argument("--target", metavar="NAME", help="the model's name, where the log has none")
    took.add_argument("--name", default="imported", help="the suite's name")
    took.add_argument("--tag", help="a name for this run")
    took.add_argument("--out", default=FOLDER, metavar="DIR", help=f"where runs are kept (default {FOLDER})")
    took.epilog = "example:\n  weighbridge bench import samples_gsm8k_2026-11-26.jsonl --target openai/gpt-5-mini"
    export = _command(commands, "export", "a run as JSONL in the form of OpenAI's evals")
    export.add_argument("run", metavar="RUN", nargs="?", default="last", help="id, tag or `last` (default)")
    export.add_argument("--out", default=FOLDER, metavar="DIR", help=f"where the runs are (default {FOLDER})")
    export.epilog = "example:\n  weighbridge bench export last > events.jsonl"
    listed = _command(commands, "list", "every run")
    listed.add_argument("--out", default=FOLDER, metavar="DIR", help=f"where the runs are (default {FOLDER})")
    listed.epilog = "example:\n  weighbridge bench list"
    schema = _command(commands, "schema", "the JSON Schema of a suite, for editors")
    schema.epilog = "example:\n  weighbridge bench schema > suite.schema.json"
    parser.epilog = "example:\n  weighbridge bench run suite.json --dry-run"


def _command(commands: Any, name: str, what: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(
        name, help=what, description=what, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    return made


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="default: weighbridge.yaml, else what the environment has")
    parser.add_argument("--out", default=FOLDER, metavar="DIR", help=f"where runs are kept (default {FOLDER})")


def lacking() -> bool:
    """Tells what is not installed, if anything is."""
    from importlib.util import find_spec

    absent = [name for name in NEEDED if find_spec(name) is None]
    if absent:
        print(f"Benchmarks need {', '.join(absent)}.\nInstall them: pip install 'weighbridge[bench]'", file=sys.stderr)
    return bool(absent)


def run(args: argparse.Namespace) -> int:
    if lacking():
        return 2
    from proxy.config import ConfigError

    try:
        code: int = {
            "run": _run,
            "load": bench_load.run,
            "batch": bench_batch.run,
            "judge": bench_judge.run,
            "report": _report,
            "compare": _compare,
            "drift": _drift,
            "import": _import,
            "export": _export,
            "list": _list,
            "schema": _schema,
        }[args.bench](args)
    except ConfigError as error:
        count = len(error.problems)
        print(error, file=sys.stderr)
        print(f"{count} problem{'s' if count != 1 else ''}; see docs/benchmarking.md", file=sys.stderr)
        return 2
    except Missing as error:
        print(error, file=sys.stderr)
        return 2
    except asyncio.CancelledError:
        print(
            "stopped at once; what came is kept: the same command goes on (run and batch: with --resume)",
            file=sys.stderr,
        )
        return 130
    return code


def _schema(args: argparse.Namespace) -> int:
    from proxy.bench.suite import schema

    print(json.dumps(schema(), indent=2))
    return 0


def _list(args: argparse.Namespace) -> int:
    from proxy.bench.results import runs

    found = runs(Path(args.out))
    if not found:
        print(f"No runs in {args.out}.")
        return 0
    lines = [["RUN", "SUITE", "TAG", "STARTED", "REQUESTS", "STATE"]]
    for one in found:
        manifest = one.manifest
        state = "invalid" if manifest.get("invalid") else "whole" if manifest.get("finished") else "not finished"
        count = str(len(one.rows()))
        lines.append(
            [one.folder.name, manifest["suite_name"], manifest.get("tag") or "", manifest["started"], count, state]
        )
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    return 0


# -- run


def _run(args: argparse.Namespace) -> int:
    from proxy.bench import data, planning, scorers
    from proxy.bench.session import Session
    from proxy.bench.suite import load
    from proxy.config import find

    suite = load(args.suite)
    config = find(args.config)
    slices = find_run(args.out, args.resume).manifest.get("slices") if args.resume is not None else None
    cases = data.load(suite, config.database, slices)
    scorers.check(suite, cases)
    session = Session(config, suite)
    plan = planning.plan(suite, cases, session.dearest)
    if args.dry_run:
        for line in planning.told(plan):
            print(line)
        return 0
    planning.affordable(suite, plan)
    run = _opened(args, suite, cases, session)
    for line in planning.told(plan):
        print(line, file=sys.stderr)
    whole = asyncio.run(_asked(suite, cases, session, run, plan))
    run.begin({**run.manifest, "evidence": _evidence(config, suite)})
    keep_in_store(config, run)
    return _concluded(args, suite, run, whole)


def _opened(args: argparse.Namespace, suite: Suite, cases: Sequence[Any], session: Session) -> Run:
    """A new run, or the one to go on with, if it asked the same."""
    from proxy.bench.manifest import manifest
    from proxy.bench.results import Run

    fresh = {**manifest(suite, cases, args.tag), **session.made_of()}
    if args.resume is None:
        made = Run(Path(args.out) / fresh["id"])
        made.begin(fresh)
        print(f"run {fresh['id']} in {made.folder}", file=sys.stderr)
        return made
    run = find_run(args.out, args.resume)
    old = run.manifest
    for key in ("suite", "data", "scorers"):
        if old[key] != fresh[key]:
            raise Missing(f"The run {run.folder.name} cannot be gone on with: its {key} was another. Begin a new one.")
    if old.get("finished"):
        raise Missing(f"The run {run.folder.name} is whole; there is nothing left to ask.")
    print(f"going on with {run.folder.name}: {len(run.rows())} results are there", file=sys.stderr)
    return run


async def _asked(suite: Suite, cases: Sequence[Any], session: Session, run: Run, plan: Any) -> bool:
    from proxy.bench.runner import Runner, Spend, invalid
    from proxy.bench.saturation import Watch
    from proxy.bench.scorers import Scorers

    async with session:
        await session.check(cases)
        score = Scorers(suite, session.words)
        with progress(len(cases) * suite.repeats * len(suite.targets)) as show:
            spend = Spend(suite.budget, plan.worst_case)
            session.billed = spend.billed
            runner = Runner(suite, cases, session, run, score, spend, show)
            stopped_by_signals(runner.stop)
            async with Watch() as watch:
                whole = await runner.run()
    manifest = run.manifest
    manifest["generator"] = watch.told()
    reasons = invalid(suite, run.rows(), manifest["generator"])
    manifest["invalid"] = list(dict.fromkeys([*manifest.get("invalid", []), *reasons]))
    if whole:
        manifest["finished"] = now()
    run.begin(manifest)
    return whole


def _concluded(args: argparse.Namespace, suite: Suite, run: Run, whole: bool) -> int:
    from proxy.bench.batchreport import read_back
    from proxy.bench.report import as_html, as_json, as_markdown, report

    rows = run.rows()
    run.begin({**run.manifest, "batches": _in_batches(args.out, run.manifest)})
    made = report(suite, run.manifest, rows, batches=read_back(run.manifest["batches"]))
    run.write("report.html", as_html(made))
    run.write("report.json", as_json(made))
    run.write("report.md", as_markdown(made).encode())
    run.parquet()
    _show(made, args.format)
    print(f"{run.folder}/: report.html, report.md, report.json, results.parquet", file=sys.stderr)
    if not whole:
        print(
            f"not finished; go on with: weighbridge bench run {args.suite} --resume {run.folder.name}", file=sys.stderr
        )
        return 130
    return 4 if run.manifest["invalid"] else 0


# -- report and compare


def _suite_of(run: Run) -> Suite:
    """The suite as it was when the run began; its data files are not needed again."""
    from proxy.bench.suite import parse

    return parse(json.dumps(run.manifest["suite_text"]), source=f"{run.folder}/run.json")


def _report(args: argparse.Namespace) -> int:
    from proxy.bench.batchreport import read_back
    from proxy.bench.report import as_html, report
    from proxy.config import find

    run = find_run(args.out, args.run)
    if run.manifest["kind"] == "load":
        from proxy.bench import loadreport

        loaded = loadreport.report(_suite_of(run), run.manifest, run.rows())
        if args.format == "html":
            sys.stdout.buffer.write(loadreport.as_html(loaded))
        else:
            bench_load.show(loaded, args.format)
        return 0
    suite, manifest = _suite_of(run), run.manifest
    if manifest["kind"] == "batch":
        bench_batch.show(suite, manifest, _compared(run), args.format)
        return 0
    if args.config is not None:
        manifest["evidence"] = _evidence(find(args.config), suite)
    made = report(suite, manifest, run.rows(), batches=read_back(_in_batches(args.out, manifest)))
    if args.format == "html":
        sys.stdout.buffer.write(as_html(made))
        return 0
    _show(made, args.format)
    return 0


def _in_batches(folder: str, manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """What the last whole run through batch APIs that asked the same says of the targets."""
    from proxy.bench.batchreport import evidence
    from proxy.bench.results import runs

    for run in reversed(runs(Path(folder))):
        about = run.manifest
        alike = all(about.get(key) == manifest.get(key) for key in ("data", "scorers", "sampling"))
        if about["kind"] == "batch" and about.get("finished") and alike:
            return evidence(run.folder.name, _compared(run))
    return []


def _compared(run: Run) -> Sequence[Any]:
    """A run through batch APIs beside its real-time part."""
    from proxy.bench.batch import compare
    from proxy.bench.results import Run as Folder

    return compare(_suite_of(run), Folder(run.folder / "live").rows(), run.rows())


def _evidence(config: Config, suite: Suite) -> list[dict[str, Any]]:
    """What the store has of live and shadow traffic of the suite's targets."""
    from proxy.bench import evidence
    from proxy.measure.store.ledger import Ledger
    from proxy.shadow.report import names, report

    database = config.database
    if database is None or not database.exists():
        return []
    ledger = Ledger(database)
    verdicts = {}
    for name in names(ledger):
        told = report(ledger, name, now()[:10])
        if told is not None:
            verdicts[told["candidate"]] = f"{name}: {told['state']}, {told['units']} conversations"
    return evidence.told(evidence.gathered(database, [target.label for target in suite.targets], verdicts))


def _show(made: Any, form: str) -> None:
    from proxy.bench.report import as_json, as_markdown
    from proxy.bench.terminal import show

    if form == "json":
        sys.stdout.buffer.write(as_json(made) + b"\n")
        sys.stdout.flush()
    elif form == "md":
        print(as_markdown(made))
    else:
        show(made)


def _compare(args: argparse.Namespace) -> int:
    from proxy.bench import compare
    from proxy.bench.figures import tables
    from proxy.bench.terminal import gates_json, gates_junit, gates_table

    old, new = find_run(args.out, args.base), find_run(args.out, args.new)
    if old.folder == new.folder:
        raise Missing(f"{args.base} and {args.new} are the same run, {old.folder.name}.")
    if {old.manifest["kind"], new.manifest["kind"]} != {"run"}:
        raise Missing("Only runs of `bench run` can be compared; loads are shown by `bench report`.")
    suite = _suite_of(new)
    before, after = old.rows(), new.rows()
    reasons = compare.invalid(old.manifest, new.manifest) + compare.wire_mismatch({"old": before, "new": after})
    if reasons:
        made = compare.Compared(compare.INVALID, [], reasons)
    else:
        made = compare.compare(suite, tables(suite, before), tables(suite, after))
        made.reasons.extend(compare.changed(old.manifest, new.manifest))
    form: Callable[..., str] = {"table": gates_table, "json": gates_json, "junit": gates_junit}[args.format]
    print(form(made, old.folder.name, new.folder.name))
    return made.code


def _drift(args: argparse.Namespace) -> int:
    from proxy.bench.drift import drift, told
    from proxy.bench.results import runs

    base = find_run(args.out, args.base)
    alike = [
        run
        for run in runs(Path(args.out))
        if run.manifest["kind"] == "run"
        and all(run.manifest[key] == base.manifest[key] for key in ("data", "sampling"))
        and (run.manifest["started"], run.folder.name) >= (base.manifest["started"], base.folder.name)
    ]
    read = [(run.folder.name, run.manifest["started"], run.rows()) for run in alike]
    changed = False
    for target in dict.fromkeys(row["target"] for row in read[0][2]):
        found = drift(target, read)
        if found is not None:
            changed = changed or found.changed
            print("\n".join(told(found)))
    return 1 if changed else 0


def _import(args: argparse.Namespace) -> int:
    from proxy.bench import interchange
    from proxy.bench.manifest import imported
    from proxy.bench.results import Run
    from proxy.bench.suite import parse

    rows = [row for name in args.logs for row in interchange.read(Path(name), args.target)]
    told = imported(interchange.suite_of(args.name, rows), rows, args.tag)
    parse(json.dumps(told["suite_text"]))
    run = Run(Path(args.out) / told["id"])
    run.begin(told)
    for row in rows:
        run.append(row)
    run.close()
    print(f"{len(rows)} results as run {told['id']}; weighbridge bench report {told['id']}")
    return 0


def _export(args: argparse.Namespace) -> int:
    from proxy.bench.interchange import exported

    run = find_run(args.out, args.run)
    for line in exported(run.rows(), run.folder.name):
        sys.stdout.buffer.write(line + b"\n")
    return 0
