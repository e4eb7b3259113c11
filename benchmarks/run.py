"""The speed benchmark: Weighbridge beside the bare upstream, nginx and the gateways found installed.

    python benchmarks/run.py chat                   # one measure
    python benchmarks/run.py all --write-readme     # all, and the tables in the README anew
    python benchmarks/run.py table --out FOLDER     # the tables of an earlier run, no load

See benchmarks/README.md for what is measured and how.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import shutil
import signal
import sys
import tempfile
from pathlib import Path

import tables
from field import Field, Options
from load import HERE
from measures import MEASURES

_FULL = Options(rounds=5, seconds=3.0, timings=1000, leaves=200, memory_requests=200_000)
_QUICK = Options(rounds=2, seconds=1.0, timings=200, leaves=10, memory_requests=10_000)


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "measures",
        nargs="+",
        choices=[*MEASURES, "all", "table", "targets"],
        metavar="MEASURE",
        help=f"{', '.join(MEASURES)}; all; table: print stored results; targets: print what is found",
    )
    parser.add_argument("--targets", default="", help="names with commas between; default: all that are found")
    parser.add_argument(
        "--baseline", type=Path, help="another checkout of Weighbridge, to be measured in turn with this"
    )
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float, help="length of one load")
    parser.add_argument("--connections", type=int, default=64, help="of `chat` and `memory` (default 64)")
    parser.add_argument("--timings", type=int, help="answers per target and round in `latency`")
    parser.add_argument("--leaves", type=int, help="clients that go away per target and case in `cancel`")
    parser.add_argument("--memory-requests", type=int)
    parser.add_argument("--quick", action="store_true", help="short runs, to see that all works; figures are rough")
    parser.add_argument("--load", choices=["auto", "wrk", "builtin"], default="auto")
    parser.add_argument("--out", type=Path, help="folder of results.json, added to (default: a new temporary one)")
    parser.add_argument("--write-readme", action="store_true", help="put the tables into benchmarks/README.md")
    return parser.parse_args(words)


def options_of(args: argparse.Namespace) -> Options:
    sizes = ("rounds", "seconds", "timings", "leaves", "memory_requests")
    chosen = {name: getattr(args, name) for name in sizes if getattr(args, name) is not None}
    wrk = shutil.which("wrk") is not None
    if args.load == "wrk" and not wrk:
        raise SystemExit("wrk is not installed: apt-get install wrk, or use --load builtin")
    names = tuple(name for name in args.targets.split(",") if name)
    return (_QUICK if args.quick else _FULL)._replace(
        **chosen,
        connections=args.connections,
        use_wrk=wrk and args.load != "builtin",
        targets=names,
        baseline=args.baseline,
    )


def machine() -> str:
    cores = os.cpu_count() or 1
    return f"{cores} core{'s' * (cores > 1)}, Python {'.'.join(platform.python_version_tuple()[:2])}"


def measure(name: str, options: Options) -> tables.Entry:
    """One run in a temporary folder of its own, as it goes into the results file."""
    with tempfile.TemporaryDirectory(prefix="weighbridge-bench-") as folder, Field(options, Path(folder)) as field:
        missing = set(options.targets) - {target.name for target in field.targets}
        if missing:
            raise SystemExit(f"not found here: {', '.join(sorted(missing))} (see benchmarks/README.md)")
        return {
            "measure": name,
            "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "load": "wrk" if options.use_wrk else "built in",
            "rounds": options.rounds,
            "seconds": options.seconds,
            "connections": options.connections,
            "versions": {target.name: target.version for target in field.targets},
            "result": MEASURES[name](field),
        }


def stored(path: Path) -> list[tables.Entry]:
    entries: list[tables.Entry] = json.loads(path.read_text()) if path.exists() else []
    return entries


def print_targets(options: Options) -> None:
    with tempfile.TemporaryDirectory(prefix="weighbridge-bench-") as folder, Field(options, Path(folder)) as field:
        for target in field.targets:
            print(target.name, target.version)


def main() -> None:
    args = arguments()
    options = options_of(args)
    # Inherited, it would make every start compile all modules again, which no installation does.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is stopped on this way, too
    if "targets" in args.measures:
        print_targets(options)
        return
    out = args.out or Path(tempfile.mkdtemp(prefix="weighbridge-results-"))
    out.mkdir(parents=True, exist_ok=True)
    path = out / "results.json"
    names = list(MEASURES) if "all" in args.measures else [name for name in args.measures if name != "table"]
    for name in names:
        entry = measure(name, options)
        path.write_text(json.dumps([*stored(path), entry], indent=1))
        print(tables.TABLES[name](entry), end="\n\n", flush=True)
    if not names:
        print(tables.report(stored(path)))
    print(f"results: {path}", file=sys.stderr)
    if args.write_readme:
        tables.write_block(HERE / "README.md", tables.report(stored(path)))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
