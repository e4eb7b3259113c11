"""`weighbridge keys`: who may call, without a line in the config."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.measure.store.keys import StoredKey


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest="what", metavar="create | list | revoke", required=True)
    for name, text in (
        ("create", "make a key; it is shown once"),
        ("list", "all keys, by name"),
        ("revoke", "refuse a key from now on"),
    ):
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--config", metavar="FILE", help="config that names the store")
        sub.add_argument("--storage", metavar="URL", help="the store itself: sqlite:///weighbridge.db, or a path")
        if name != "list":
            sub.add_argument("name", help="what records call it")
        if name == "create":
            sub.add_argument("--direct", action="store_true", help="it may ask for provider/model without a route")
            sub.add_argument("--route", action="append", metavar="ROUTE", help="only this route (may be repeated)")
            sub.add_argument("--tag", action="append", default=[], metavar="TAG", help="tag of all its requests")
    parser.epilog = (
        "examples:\n  weighbridge keys create app --route chat\n  weighbridge keys list\n"
        "  weighbridge keys revoke app\n\n"
        "A running proxy knows within five seconds. Once there was a key, nobody may call without one."
    )


def run(args: argparse.Namespace) -> int:
    from proxy.cli.store import path_of
    from proxy.config import ConfigError
    from proxy.measure.store import keys
    from proxy.measure.store.offline import NoStore

    try:
        path = path_of(args)
        if args.what == "create":
            print(keys.create(path, args.name, direct=args.direct, routes=args.route, tags=args.tag))
            print(f"the key of {args.name!r}: it is not shown again", file=sys.stderr)
        elif args.what == "revoke":
            keys.revoke(path, args.name)
            print(f"{args.name!r} is revoked")
        else:
            _list(keys.stored(path))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    except (NoStore, ValueError, keys.NoKey) as error:
        print(f"weighbridge keys: {error}", file=sys.stderr)
        return 2
    return 0


def _list(found: list[StoredKey]) -> None:
    from proxy.cli.columns import table

    rows = [["NAME", "KEY", "MAY ASK FOR", "TAGS", "CREATED", "REVOKED"]]
    for key in found:
        routes = "every route" if key.routes is None else ", ".join(key.routes)
        shown = f"{routes}, provider/model" if key.direct else routes
        rows.append([key.name, f"{key.begins}…", shown, ", ".join(key.tags), key.created, key.revoked or "-"])
    if found:
        print("\n".join(table(rows)))
    else:
        print("no keys; `weighbridge keys create NAME` makes one")
