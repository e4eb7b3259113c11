"""The command `weighbridge`. Each sub-command is a module with `add_arguments` and `run`, imported when it is named."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence

from proxy import __version__

COMMANDS = {
    "serve": "run the proxy",
    "check": "validate a config and show what it means",
    "demo": "see it work: simulated providers, a brown-out, a load, a summary; needs no key",
    "bench": "ask the same of several models, and decide which to use for what",
    "shadow": "experiments on mirrored traffic: list, report, pause, stop, promote",
    "report": "latency, errors, failovers, tokens and cost from the store",
    "keys": "who may call: create, list, revoke",
    "store": "what is in the store; upkeep; export",
    "replay": "ask a stored slice of live traffic again, of a candidate",
    "backtest": "what other shares of a route's targets would have done, from the records",
    "upstream": "run a simulated provider with faults, for drills and tests",
}


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 0 well, 2 for what the user can mend, 130 for Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="weighbridge",
        description="An OpenAI-compatible routing proxy that weighs every request.",
        epilog="example:\n  weighbridge demo\n  weighbridge serve --config weighbridge.yaml",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"weighbridge {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    args = list(sys.argv[1:] if argv is None else argv)
    named = next((arg for arg in args if not arg.startswith("-")), None)
    for name, what in COMMANDS.items():
        sub = commands.add_parser(
            name, help=what, description=what, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        if name == named:
            importlib.import_module(f"proxy.cli.{name}").add_arguments(sub)
    parsed = parser.parse_args(args)
    try:
        code: int = importlib.import_module(f"proxy.cli.{parsed.command}").run(parsed)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read the output has seen enough (`| head`); what is still buffered has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code
