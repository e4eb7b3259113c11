"""`python -m tests.replay FOLDER`: recorded answers through the proxy's dialects; `docs/replay.md` tells more."""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from proxy.assemble import DIALECTS
from proxy.errors import UpstreamError
from tests.replay import drive
from tests.replay.extract import extract
from tests.replay.frames import Broken
from tests.replay.harm import harmed
from tests.replay.judge import Mark, Verdict, judge
from tests.replay.recording import Recording, read

GOOD = {Mark.PASSED, Mark.REFUSED}


def main(argv: Sequence[str] | None = None) -> int:
    options = _options(argv)
    try:
        recordings = [one for one in read(options.folder) if _chosen(one, options)]
    except (OSError, ValueError) as error:
        print(f"replay: {error}", file=sys.stderr)
        return 2
    if not recordings:
        print("replay: no recording was chosen", file=sys.stderr)
        return 2
    if options.show:
        for recording in recordings:
            _show(recording)
    if options.harm:
        recordings = [spoilt for recording in recordings for spoilt in harmed(recording)]
    verdicts = [judge(recording) for recording in recordings]
    print(table(verdicts))
    for verdict in verdicts:
        if verdict.mark is Mark.REFUSED and not options.harm:
            print(f"refused rightly  {verdict.recording.id}: {'; '.join(verdict.reasons)}")
    failed = [verdict for verdict in verdicts if verdict.mark is Mark.FAILED]
    if options.failures:
        for verdict in failed:
            print(f"FAILED  {verdict.recording.id} [{' '.join(verdict.recording.kinds)}]: {'; '.join(verdict.reasons)}")
    return 1 if failed else 0


def table(verdicts: Sequence[Verdict]) -> str:
    """Passed of all, a row a provider; a recording of several kinds counts under each, and once in `all`."""
    cells: dict[str, dict[str, Counter[bool]]] = defaultdict(lambda: defaultdict(Counter))
    absent: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for verdict in verdicts:
        recording = verdict.recording
        if verdict.mark is Mark.ABSENT:
            absent[recording.provider] += 1
        elif verdict.mark is not Mark.UNMAPPED:
            for kind in ("all", *recording.kinds):
                cells[recording.provider][kind][verdict.mark in GOOD] += 1
                seen[kind] += 1
    kinds = [kind for kind, _ in seen.most_common()]
    rows = [["provider", *kinds]]
    for provider in sorted(cells):
        rows.append([provider, *(_cell(cells[provider][kind]) for kind in kinds)])
    if cells:
        sums = [sum((row[kind] for row in cells.values()), Counter[bool]()) for kind in kinds]
        rows.append(["all", *map(_cell, sums)])
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines += [f"{provider}: not there ({count} recordings)" for provider, count in sorted(absent.items())]
    unmapped = Counter(verdict.recording.api for verdict in verdicts if verdict.mark is Mark.UNMAPPED)
    if unmapped:
        lines.append("not chats: " + ", ".join(f"{api} {count}" for api, count in unmapped.most_common()))
    return "\n".join(lines)


def _cell(counts: Counter[bool]) -> str:
    return f"{counts[True]}/{counts.total()}" if counts else "-"


def _show(recording: Recording) -> None:
    kinds = " ".join(recording.kinds)
    print(f"{recording.id}: {recording.provider} {recording.api} {kinds}, status {recording.status}")
    print(f"--- came\n{recording.body.decode('utf-8', errors='backslashreplace')}")
    if not recording.mapped or recording.status != 200:
        return
    endpoint = drive.endpoint(recording)
    try:
        print(f"--- says\n{extract(recording, endpoint.verbatim and recording.dialect == 'openai')}")
    except Broken as broken:
        print(f"--- broken: {broken}")
    if recording.dialect in DIALECTS:
        try:
            told = drive.decode(recording, [recording.body])
            print(f"--- sent\n{told.with_usage.decode()}\n--- recorded: {told[2:]}")
        except UpstreamError as error:
            print(f"--- refused: {error}")


def _chosen(recording: Recording, options: argparse.Namespace) -> bool:
    return (
        (options.provider is None or recording.provider == options.provider)
        and (options.kind is None or options.kind in recording.kinds)
        and (options.show is None or recording.id == options.show)
    )


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.replay", description=__doc__)
    parser.add_argument("folder", type=Path, help="a folder of *.jsonl files, or one such file")
    parser.add_argument("--provider", help="only this provider's recordings")
    parser.add_argument("--kind", help="only recordings of this kind, such as stream or tools")
    parser.add_argument("--show", metavar="ID", help="print one recording, what it says, and what is sent for it")
    parser.add_argument("--harm", action="store_true", help="judge spoilt and rewritten copies of them instead")
    parser.add_argument("--failures", action="store_true", help="a line for each failure")
    return parser.parse_args(argv)


if __name__ == "__main__":
    sys.exit(main())
