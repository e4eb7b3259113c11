"""`weighbridge keys`: who may call, without a line in the config."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from policies.allowance import Allowed
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
            sub.add_argument("--rpm", type=int, metavar="N", help="most requests a minute")
            sub.add_argument("--tpm", type=int, metavar="N", help="most tokens a minute")
            sub.add_argument("--per-day", metavar="USD", help="most money a day (UTC); `5 USD` or 5")
            sub.add_argument("--per-month", metavar="USD", help="most money a calendar month (UTC)")
            sub.add_argument("--total", metavar="USD", help="most money at all")
            sub.add_argument("--tag", action="append", default=[], metavar="TAG", help="tag of all its requests")
    parser.epilog = (
        "examples:\n  weighbridge keys create app --route chat --rpm 600 --per-day '5 USD'\n  weighbridge keys list\n"
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
            made = keys.create(
                path, args.name, direct=args.direct, routes=args.route, tags=args.tag, terms=_terms(args)
            )
            print(made)
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


def _terms(args: argparse.Namespace) -> Allowed:
    """Raises ValueError for what is no limit."""
    from policies.allowance import Allowed
    from proxy.config.values import money

    told: dict[str, float | None] = {"rpm": args.rpm, "tpm": args.tpm}
    for name in ("per_day", "per_month", "total"):
        text = getattr(args, name)
        told[name] = None if text is None else money(text)
    for name, value in told.items():
        if value is not None and value <= 0:
            raise ValueError(f"--{name.replace('_', '-')} must be more than 0")
    return Allowed(**told)


def limits(terms: Allowed) -> str:
    """In words; `-` where there are none."""
    rates = [
        f"{value:,.0f} {what} a minute" for value, what in ((terms.rpm, "requests"), (terms.tpm, "tokens")) if value
    ]
    budgets = (("a day", terms.per_day), ("a month", terms.per_month), ("in all", terms.total))
    return ", ".join([*rates, *(f"{usd:g} USD {span}" for span, usd in budgets if usd is not None)]) or "-"


def _list(found: list[StoredKey]) -> None:
    from proxy.cli.columns import table

    rows = [["NAME", "KEY", "MAY ASK FOR", "LIMITS", "TAGS", "CREATED", "REVOKED"]]
    for key in found:
        routes = "every route" if key.routes is None else ", ".join(key.routes)
        shown = f"{routes}, provider/model" if key.direct else routes
        rows.append(
            [key.name, f"{key.begins}…", shown, limits(key.terms), ", ".join(key.tags), key.created, key.revoked or "-"]
        )
    if found:
        print("\n".join(table(rows)))
    else:
        print("no keys; `weighbridge keys create NAME` makes one")
