"""`weighbridge replay`: a stored slice of live traffic, asked again of a candidate."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.bench.replay import Slice
    from proxy.bench.replayed import Replayed
    from proxy.call import Called


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", metavar="FILE", help="default: weighbridge.yaml, else what the environment has")
    parser.add_argument("--route", required=True, help="the route whose captured requests are asked again")
    parser.add_argument("--candidate", required=True, metavar="TARGET", help="a route, or provider/model")
    parser.add_argument("--since", default="24h", metavar="TIME", help="how far back (default 24h)")
    parser.add_argument("--speed", type=float, default=1.0, metavar="X", help="2 plays an hour in half an hour")
    parser.add_argument(
        "--limit", type=int, default=1000, metavar="N", help="most requests, oldest first (default 1000)"
    )
    parser.add_argument("--most", type=int, default=100, metavar="N", help="requests under way at once (default 100)")
    parser.add_argument("--from", dest="file", metavar="FILE", help="a slice of your own instead of captured requests")
    parser.add_argument("--like", metavar="NAME", help="judge by the metrics of this shadow experiment of the config")
    parser.add_argument(
        "--format", choices=("table", "json", "report", "html"), default="table",
        help="side by side (table, json), or as a shadow experiment's report, with its verdict",
    )  # fmt: skip
    parser.epilog = (
        "example:\n  weighbridge replay --since 24h --route chat --candidate anthropic/claude-haiku-4-5 --speed 10\n"
        "  weighbridge replay --route chat --from slice.jsonl --candidate openai/gpt-5-nano --like haiku --format html"
        "\n\n"
        "Requests that `capture` has kept can be asked again, or those of a file: one JSON object a line,\n"
        '{"at": seconds or ISO 8601, "request": {...}, "response": {...}}, and "ttft_ms", "e2e_ms", "cost_usd" where\n'
        "known. The candidate is paid for every one of them."
    )


def run(args: argparse.Namespace) -> int:
    from proxy.cli.bench import lacking

    if lacking():
        return 2
    from proxy.bench import replay
    from proxy.bench.replayed import Replayed, terms_for
    from proxy.bench.session import Session
    from proxy.bench.suite import parse
    from proxy.config import ConfigError, find
    from proxy.config.problems import Wrong
    from proxy.config.values import duration

    try:
        config = find(args.config)
        since = duration(args.since)
        if args.speed <= 0 or args.limit < 1 or args.most < 1:
            raise Wrong("--speed, --limit and --most are more than 0")
        if args.file is not None:
            asked = replay.supplied(Path(args.file), args.speed, args.limit)
        else:
            asked = replay.slice_of(config.database, args.route, since, args.speed, args.limit, time.time())
        terms = terms_for(config, args.like, args.route, args.candidate)
        suite = parse(
            json.dumps(
                {
                    "name": "replay",
                    "targets": [args.candidate],
                    "tasks": {"replay": {"data": [{"prompt": ""}], "scorers": ["errors"]}},
                }
            ),
            source="replay",
        )
        session = Session(config, suite)
    except (ConfigError, Wrong, ValueError) as error:
        print(error, file=sys.stderr)
        return 2
    what = "requests" if args.file is not None else f"captured requests of {args.route}"
    print(f"{len(asked)} {what}, over {asked[-1].at:.0f} s", file=sys.stderr)
    if args.format in ("report", "html"):
        with tempfile.TemporaryDirectory(prefix="weighbridge-replay-") as folder:
            made = Replayed(Path(folder), terms)
            asyncio.run(_played(session, args.candidate, asked, args.most, made.pair))
            _report(made, args.format)
        return 0
    rows = asyncio.run(_played(session, args.candidate, asked, args.most))
    if args.format == "json":
        print(json.dumps({"rows": rows, "lines": replay.told(rows)}, indent=1))
    else:
        print("\n".join(replay.told(rows)))
    return 0


def _report(made: Replayed, form: str) -> None:
    from proxy.measure.store.rows import Timestamps
    from proxy.shadow.lines import as_lines
    from proxy.shadow.page import as_html

    told = made.report(Timestamps().text(time.time()))
    if form == "html":
        sys.stdout.buffer.write(as_html(told))
    else:
        print("\n".join(as_lines(told)))


async def _played(
    session: object, label: str, asked: object, most: int, pair: Callable[[Slice, Called], None] | None = None
) -> list[dict[str, object]]:
    from proxy.bench.replay import replay
    from proxy.bench.session import Session

    assert isinstance(session, Session)  # noqa: S101
    assert isinstance(asked, list)  # noqa: S101
    slices: list[Slice] = asked

    def tell(done: int, total: int) -> None:
        if done == total or done % max(1, total // 10) == 0:
            print(f"{done}/{total}", file=sys.stderr)

    async with session:
        return await replay(session, label, slices, most, tell, *([pair] if pair is not None else []))
