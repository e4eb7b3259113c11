"""`weighbridge shadow`: the experiments, their reports, and what may be done to them."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.cli import split

if TYPE_CHECKING:
    from proxy.config import Config
    from proxy.config.shadow import Candidate
    from proxy.measure.store.ledger import Ledger
    from proxy.shadow.planning import Rates, Traffic
    from proxy.shadow.terms import Terms

_DONE = {"pause": "paused", "resume": "resumed", "stop": "stopped"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "examples:\n  weighbridge shadow list\n  weighbridge shadow report haiku-for-chat --format html > report.html\n"
        "  weighbridge shadow stop haiku-for-chat\n\n"
        "A running proxy heeds pause, resume and stop within seconds. Exit status: 0, or 2 for what you can mend."
    )
    actions = parser.add_subparsers(dest="action", metavar="action", required=True)
    for name, text in (
        ("list", "every experiment: who sees which prompts, what it will take, how it stands"),
        ("report", "all that is known of one experiment, and what to do next"),
        ("pause", "mirror nothing until `resume`"),
        ("resume", "go on"),
        ("stop", "end it; what is known by now decides"),
        ("split", "which requests the candidate may have for less money, by the length of the prompt"),
        ("promote", "hand traffic over to the candidate, by a canary that is printed, or written with --apply"),
    ):
        action = actions.add_parser(name, help=text, description=text)
        if name != "list":
            action.add_argument("name", metavar="NAME")
        if name == "report":
            action.add_argument("--format", choices=("table", "json", "html"), default="table")
        if name == "split":
            split.add_arguments(action)
        if name == "promote":
            action.add_argument("--apply", action="store_true", help="write it into the config file; traffic moves")
        action.add_argument("--config", metavar="FILE", help="config file (default: weighbridge.yaml)")
        action.add_argument("--store", metavar="FILE", help="the records (default: `storage` of the config)")


def run(args: argparse.Namespace) -> int:
    from proxy.config import ConfigError, find
    from proxy.measure.store.ledger import Ledger

    config = None
    if args.store is None or args.config is not None or args.action in ("list", "promote"):
        try:
            config = find(args.config)
        except ConfigError as error:
            if args.store is None:
                print(error, file=sys.stderr)
                return 2
    path = Path(args.store) if args.store is not None else config.database if config is not None else None
    if path is None:
        return _wrong("no records are kept (storage: none)", "name a file under `storage`, or give --store FILE")
    ledger = Ledger(path) if path.exists() else None
    if args.action == "list":
        for line in _list(config, ledger):
            print(line)
        return 0
    if ledger is None:
        return _wrong(f"there is no store {path}", "start the proxy first, or give --store FILE")
    return _one(args, config, ledger)


def _one(args: argparse.Namespace, config: Config | None, ledger: Ledger) -> int:
    from proxy.shadow.lines import as_lines
    from proxy.shadow.page import as_html, as_json
    from proxy.shadow.report import names, report

    told = report(ledger, args.name, time.strftime("%Y-%m-%d", time.gmtime()))
    if told is None:
        from proxy.config.problems import did_you_mean

        known = names(ledger)
        hint = did_you_mean(args.name, known) or (f"known: {', '.join(known)}" if known else "none has begun yet")
        return _wrong(f"there is no experiment {args.name!r}", hint)
    if args.action == "report":
        if args.format == "table":
            for line in as_lines(told):
                print(line)
        else:
            sys.stdout.buffer.write(as_json(told) if args.format == "json" else as_html(told))
        return 0
    if args.action == "split":
        from proxy.shadow.report import terms_of_record

        terms = terms_of_record(ledger, args.name)
        assert terms is not None  # noqa: S101  (it has a report)
        return split.run(args, ledger, terms)
    if args.action == "promote":
        if config is None:
            return _wrong("there is no config to hand the traffic over in", "name its --config FILE")
        return _promote(args, told, config, ledger)
    if told["state"] not in ("running", "paused"):
        return _wrong(f"{args.name} has ended: it is {told['state']} ({told['why']})", "another name begins anew")
    _note(ledger, args.name, told["version"], _DONE[args.action], {"by": "command line"})
    print(f"{args.name} is {_DONE[args.action]}; a running proxy heeds it within seconds")
    return 0


def _promote(args: argparse.Namespace, told: dict[str, object], config: Config, ledger: Ledger) -> int:
    """Hands over to a canary: prints the route for the config, or writes it there."""
    from proxy.cli.handover import File, Impossible, changed
    from proxy.config import ConfigError
    from proxy.shadow.report import terms_of_record

    if told["state"] != "promote":
        return _wrong(f"{args.name} is not to be promoted: it is {told['state']} ({told['why']})", "see its report")
    candidate, terms = _candidate(config, args.name, ledger), terms_of_record(ledger, args.name)
    path = _config_file(args.config)
    if candidate is None or terms is None or path is None:
        return _wrong("the config does not know this experiment any more", "name its --config FILE")
    try:
        file = File(path)
        notes = changed(file.tree, terms, candidate)
        if args.apply:
            file.write()
    except (Impossible, ConfigError, OSError) as error:
        return _wrong(f"nothing is changed: {error}", "print it without --apply, and put it there by hand")
    done = f"written to {path}; a running proxy takes it up by itself" if args.apply else "printed"
    if args.apply:
        print(f"{', '.join(terms.routes)}: {done}. What it does: weighbridge report, docs/policies.md#canary.")
    else:
        print(f"# In place of these routes in {path}; or let `--apply` put them there.")
        print(file.routes(terms.routes), end="")
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    detail = {"by": "command line", "done": done, "routes": [*terms.routes], "candidate": candidate.label}
    _note(ledger, args.name, str(told["version"]), "promoted", detail)
    return 0


def _config_file(named: str | None) -> Path | None:
    from proxy.config.load import FILES

    if named is not None:
        return Path(named)
    return next((Path(name) for name in FILES if Path(name).exists()), None)


def _candidate(config: Config, name: str, ledger: Ledger) -> Candidate | None:
    """As the config, or whoever made the experiment over the API, wrote it."""
    base, _, arm = name.partition(":")
    section = _with_created(config, ledger).shadow.get(base)
    return section.arms.get(arm) if section is not None else None


def _note(ledger: Ledger, name: str, version: str, event: str, detail: Mapping[str, object]) -> None:
    import json

    from proxy.measure.store.ledger import Batch
    from proxy.measure.store.rows import Timestamps

    batch = Batch()
    batch.events.append((Timestamps().text(time.time()), name, version, event, json.dumps(detail)))
    ledger.commit(batch)


def _list(config: Config | None, ledger: Ledger | None) -> Iterator[str]:
    from proxy.shadow.lines import as_list, money
    from proxy.shadow.report import names, report

    configured = [] if config is None else list(consent(_with_created(config, ledger), ledger))
    yield from configured
    known = names(ledger) if ledger is not None else []
    if known and ledger is not None:
        if configured:
            yield ""
        rows = [["EXPERIMENT", "STATE", "UNITS", "SPENT", "WHAT NEXT"]]
        for name in known:
            told = report(ledger, name, time.strftime("%Y-%m-%d", time.gmtime()))
            if told is not None:
                rows.append([name, told["state"], f"{told['units']:,}", money(told["spent_usd"]), told["next"]])
        yield from as_list(rows)
    if not known and not configured:
        yield "no experiments: write one under `shadow` in the config (docs/shadow.md)"


def _with_created(config: Config, ledger: Ledger | None) -> Config:
    """The config with the experiments that were made over the API, as far as they still fit it."""
    import json

    from proxy.experiments import checked

    sections = dict(config.shadow)
    for name, text in (ledger.created() if ledger is not None else {}).items():
        with contextlib.suppress(ValueError):  # the proxy tells in its log why it does not run
            sections.setdefault(name, checked(json.loads(text), config))
    return config.model_copy(update={"shadow": sections})


def consent(config: Config, ledger: Ledger | None) -> Iterator[str]:
    """Whose prompts go to which vendor, and what each experiment is going to take. `ledger`: of recent traffic."""
    from proxy.shadow.lines import share
    from proxy.shadow.planning import plan, traffic
    from proxy.shadow.terms import experiments

    allowed = [key.name for key in config.keys if key.shadow != "never"]
    for terms, candidate, section in experiments(config):
        keys = [name for name in allowed if not section.only.keys or name in section.only.keys]
        who = f"the keys {', '.join(keys) or 'none'}" if config.keys else "everybody"
        address = config.providers[candidate.provider].base_url
        told = f"{share(terms.rate)} of the prompts to {', '.join(terms.routes)} by {who}"
        yield f"{terms.name}: {candidate.provider} ({address}) will see {told}"
        live = {target.provider for route in config.routes.values() for target in route.targets}
        if candidate.provider in live and config.providers[candidate.provider].credentials:
            left = f"nothing is mirrored while less than {section.leave:.0%} of a rate limit is left"
            yield f"  its key serves live requests, too: {left} (`like: {candidate.provider}` makes a second account)"
        judge = terms.primary.judge if terms.primary is not None else None
        if judge is not None:
            vendor = judge.model.partition("/")[0]
            yield f"  {vendor} ({config.providers[vendor].base_url}) will see them with both answers, as judge"
            if vendor in {candidate.provider} | {
                target.provider for route in section.mirrored for target in config.routes[route].targets
            }:
                yield "  warning: the judge is of the family of one of the arms, and may favour its own"
        if section.similarity is not None:
            vendor = section.similarity.provider
            yield f"  {vendor} ({config.providers[vendor].base_url}) will see both answers, to compare their meaning"
        seen = traffic(ledger, terms.routes, datetime.now(UTC))
        yield f"  {plan(terms, seen, _usd_per_call(config, terms, candidate, seen) if seen is not None else None)}"
        if any(gauge.feedback is not None for gauge in terms.gauges):
            yield "  feedback counts only where both answers of a pair were rated; clients see the primary's alone, so"
            yield "  somebody must be shown both: see `User feedback` in docs/shadow.md"
        unpriced = _unpriced(config, terms, candidate)
        if unpriced:
            yield f"  no price is known of {', '.join(unpriced)}: set `prices`, or the budget counts the worst for them"
        yield f"  decides: {', '.join(f'{gauge.name} ({gauge.rule})' for gauge in terms.gauges)}"


def _rates(config: Config, *targets: str) -> list[Rates]:
    """What answers of these cost, in USD per million tokens."""
    from proxy.assemble import list_price, prices
    from proxy.config import Target

    book = prices(config)
    return [list_price(book, config, Target(target=target)) for target in targets]


def _usd_per_call(config: Config, terms: Terms, candidate: Candidate, seen: Traffic) -> float | None:
    from proxy.shadow.planning import usd_per_call

    judge = terms.primary.judge if terms.primary is not None else None
    served = config.routes[terms.routes[0]].targets[0].target
    asked, again, *judging = _rates(config, candidate.target, served, *([judge.model] if judge is not None else []))
    return usd_per_call(seen, asked, judging[0] if judging else None, again, terms.noise)


def _unpriced(config: Config, terms: Terms, candidate: Candidate) -> list[str]:
    judge = terms.primary.judge if terms.primary is not None else None
    asked = [candidate.target, *([judge.model] if judge is not None else [])]
    return [target for target, rates in zip(asked, _rates(config, *asked), strict=True) if None in rates]


def _wrong(what: str, hint: str) -> int:
    print(f"{what}: {hint}", file=sys.stderr)
    return 2
