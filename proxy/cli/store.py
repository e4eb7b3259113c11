"""`weighbridge store`: what is in the store, upkeep at once, and export."""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from proxy.cli.since import moment

_FORMATS = ("csv", "jsonl", "parquet")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="what", metavar="stats | vacuum | export", required=True)
    for name, text in (
        ("stats", "size, rows, the oldest and newest record"),
        ("vacuum", "do what is due and give free space back"),
        ("export", "a view as CSV, JSONL or Parquet"),
    ):
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--config", metavar="FILE", help="config that names the store")
        sub.add_argument("--storage", metavar="URL", help="the store itself: sqlite:///weighbridge.db, or a path")
        if name == "stats":
            sub.add_argument("--format", choices=("table", "json"), default="table")
        if name == "export":
            sub.add_argument("--format", choices=_FORMATS, default="csv")
            sub.add_argument("--view", default="v_exchanges", help="default: v_exchanges; see docs/store.md")
            sub.add_argument("--since", type=moment, default=0.0, metavar="TIME", help="24h, 7d, 2026-11-26")
            sub.add_argument("--until", type=moment, default=None, metavar="TIME")
            sub.add_argument("--out", metavar="FILE", help="default: standard output (not for parquet)")
    parser.epilog = (
        "examples:\n  weighbridge store stats\n  weighbridge store vacuum --config weighbridge.yaml\n"
        "  weighbridge store export --view v_attempts --since 24h --format jsonl --out attempts.jsonl"
    )


def run(args: argparse.Namespace) -> int:
    from proxy.config import ConfigError
    from proxy.measure.store.offline import NoStore

    try:
        return _COMMANDS[args.what](args)
    except ConfigError as error:
        print(error, file=sys.stderr)
    except (NoStore, ValueError) as error:
        print(f"weighbridge store: {error}", file=sys.stderr)
    return 2


def path_of(args: argparse.Namespace) -> Path:
    """The file that `--storage` or the config names. Raises `NoStore`, `ConfigError`, ValueError."""
    from proxy.config import find_records
    from proxy.measure.store.offline import NoStore
    from proxy.measure.store.writer import store_path

    url = args.storage or find_records(args.config).storage
    if url is None:
        raise NoStore("this config keeps no records (`storage: none`): name a store with --storage")
    return store_path(url)


def _stats(args: argparse.Namespace) -> int:
    from proxy.measure.store.offline import stats

    found = stats(path_of(args))
    if args.format == "json":
        print(json.dumps(found, indent=2))
        return 0
    for name, value in found.items():
        shown = f"{value:,}" if isinstance(value, int) else value if value is not None else "-"
        print(f"{name.replace('_', ' '):12}  {shown}")
    return 0


def _vacuum(args: argparse.Namespace) -> int:
    from proxy.config import Config, find_records
    from proxy.measure.store.offline import vacuum
    from proxy.measure.store.upkeep import Retention

    path = path_of(args)
    keep = (Config() if args.storage else find_records(args.config)).retention
    before = path.stat().st_size if path.exists() else 0
    after = before
    for after in vacuum(path, time.time(), Retention(keep.raw, keep.minutes)):  # noqa: B007  (the last one counts)
        pass
    print(f"{path}: {before:,} bytes before, {after:,} after")
    return 0


def _export(args: argparse.Namespace) -> int:
    from proxy.measure.store.offline import reading, rows
    from proxy.measure.store.upkeep import iso

    if args.format == "parquet" and not args.out:
        raise ValueError("Parquet needs a file: --out FILE.parquet")
    until = iso(args.until) if args.until is not None else "9999"
    with reading(path_of(args)) as connection:
        found = rows(connection, args.view, iso(args.since), until)
        names = next(found)
        if args.format == "parquet":
            count = _parquet(Path(args.out), names, found)
        else:
            write = _csv if args.format == "csv" else _jsonl
            if args.out:
                with open(args.out, "w", encoding="utf-8", newline="") as file:
                    count = write(file, names, found)
            else:
                count = write(sys.stdout, names, found)
    print(f"{count} rows of {args.view}", file=sys.stderr)
    return 0


def _csv(file: Any, names: Sequence[str], found: Iterator[Sequence[Any]]) -> int:
    writer = csv.writer(file)
    writer.writerow(names)
    count = 0
    for row in found:
        writer.writerow([value.hex() if isinstance(value, bytes) else value for value in row])
        count += 1
    return count


def _jsonl(file: Any, names: Sequence[str], found: Iterator[Sequence[Any]]) -> int:
    count = 0
    for row in found:
        values = [value.hex() if isinstance(value, bytes) else value for value in row]
        file.write(json.dumps(dict(zip(names, values, strict=True)), ensure_ascii=False) + "\n")
        count += 1
    return count


def _parquet(path: Path, names: Sequence[str], found: Iterator[Sequence[Any]]) -> int:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise ValueError("Parquet needs the extra: pip install 'weighbridge[bench]'") from None
    rows = [*found]
    table = pa.table({name: [row[place] for row in rows] for place, name in enumerate(names)})
    pq.write_table(table, path)
    return len(rows)


_COMMANDS = {"stats": _stats, "vacuum": _vacuum, "export": _export}
