"""`weighbridge demo`: the product at work, without a key or a config."""

from __future__ import annotations

import argparse
import signal
import sqlite3
import sys
import tempfile
from pathlib import Path

_SECONDS = 20.0
_LEAST_SECONDS = 3.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--seconds", type=float, metavar="N", help="how long the load runs (default: 20, at least 3); then it ends"
    )
    parser.add_argument("--port", type=int, default=0, metavar="P", help="the proxy's port (default: a free one)")
    parser.add_argument("--keep", action="store_true", help="keep serving after the load, until Ctrl-C, in any case")
    parser.epilog = (
        "examples:\n  weighbridge demo\n  weighbridge demo --seconds 60 --port 8080 --keep\n\n"
        "Without --seconds, on a terminal, it keeps serving after the load, so that the live page can be looked at;\n"
        "with --seconds, or where its output is no terminal, it ends by itself.\n\n"
        "Exit status: 0 if no client saw an error and all counts agree, 1 if not, 2 if it could not run."
    )


def run(args: argparse.Namespace) -> int:
    seconds = _SECONDS if args.seconds is None else args.seconds
    keep = args.keep or (args.seconds is None and sys.stdout.isatty())
    if not _LEAST_SECONDS <= seconds < float("inf") or not 0 <= args.port <= 65535:
        print(f"--seconds is {_LEAST_SECONDS:g} or more, --port from 0 (any free one) to 65535.", file=sys.stderr)
        return 2
    from proxy.demo.processes import Children, DemoError
    from proxy.demo.screen import Screen

    _end_as_by_ctrl_c()
    screen = Screen()
    screen.opening()
    from proxy.demo.story import tell

    folder = Path(tempfile.mkdtemp(prefix="weighbridge-demo-"))
    try:
        with Children(folder) as children:
            verdict = tell(screen, children, seconds=seconds, port=args.port, keep=keep)
    except DemoError as error:
        print(error, file=sys.stderr)
        return 2
    except sqlite3.Error as error:
        print(f"The records cannot be read: {error}.\nThe logs may tell why: {folder}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        screen.stopped(folder / "weighbridge.db")
        return 130
    return 0 if verdict.agree and not verdict.errors else 1


def _end_as_by_ctrl_c() -> None:
    """Being told to stop, or losing the terminal, ends the demo and its children as Ctrl-C does."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # where a shell had it ignored
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        signal.signal(number, lambda *_: signal.raise_signal(signal.SIGINT))
