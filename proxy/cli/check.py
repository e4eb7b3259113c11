"""`weighbridge check`: validates a config and shows what it means."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from math import isnan
from typing import TYPE_CHECKING, Any

from proxy.cli.columns import table

if TYPE_CHECKING:
    from proxy.config import Config, Provider, Route, Target
    from proxy.prices.tariff import Tariff


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", metavar="FILE", help="config file (default: weighbridge.yaml, else the environment)"
    )
    parser.add_argument("--live", action="store_true", help="ask every target of every route what it can do")
    parser.add_argument(
        "--target", action="append", default=[], metavar="NAME", help="with --live: only this route or provider/model"
    )
    parser.add_argument("--format", choices=("table", "json"), default="table", help="with --live; default: table")
    parser.add_argument("--schema", action="store_true", help="print the JSON Schema of the config and end")
    parser.epilog = (
        "examples:\n  weighbridge check --config weighbridge.yaml\n"
        "  weighbridge check --schema > weighbridge.schema.json\n"
        "  weighbridge check --live --target openai/gpt-5-mini --format json\n\n"
        "--live makes about nine calls to each target, of at most 64 tokens each, says what they cost, and keeps the\n"
        "results in the store (docs/conformance.md).\n\n"
        "Exit status: 0 if the config can be used, 2 if not; then every mistake is listed, one a line. With --live:\n"
        "1 if a target failed at something it did not refuse."
    )


def run(args: argparse.Namespace) -> int:
    from proxy.config import ConfigError, find, json_schema

    if args.schema:
        print(json.dumps(json_schema(), indent=2))
        return 0
    try:
        config = find(args.config)
    except ConfigError as error:
        count = len(error.problems)
        print(error, file=sys.stderr)
        print(f"{count} problem{'s' if count != 1 else ''}; see docs/config.md", file=sys.stderr)
        return 2
    if args.live:
        from proxy.cli import live

        return live.run(config, args.target, args.format)
    for line in report(config):
        print(line)
    return 0


def report(config: Config) -> Iterator[str]:
    """What a valid config means, line by line."""
    from proxy.measure.store.keys import stored

    server = config.server
    yield from table(
        [
            ["config", config.source],
            ["listens", f"{server.host}:{server.port}"],
            ["records", config.storage or "none are kept"],
            *([["bodies", _captured(config)]] if _captured(config) else []),
            ["metrics", "open" if server.metrics == "open" else "need the admin token"],
            ["direct", _direct(config)],
        ]
    )
    yield ""
    yield from table([["PROVIDER", "DIALECT", "BASE URL", "KEYS", "NOTES"], *_providers(config)])
    yield ""
    if config.routes:
        yield from table([["ROUTE", "POLICY", "TRIES", "#", "TARGET", "SETTINGS"], *_routes(config)])
    else:
        yield "no routes"
    yield ""
    yield from _prices(config)
    yield ""
    if config.keys:
        yield from table(_keys(config))
        yield from _unpriced_budgets(config)
    made = stored(config.database) if config.database is not None else []
    if made:
        good = sum(key.revoked is None for key in made)
        yield f"{good} keys made by command, {len(made) - good} revoked: see `weighbridge keys list`"
    if not config.keys and not made:
        yield "no keys: whoever reaches the proxy may call"
    if config.shadow:
        from proxy.cli.shadow import consent
        from proxy.measure.store.ledger import Ledger

        path = config.database
        ledger = Ledger(path) if path is not None and path.exists() else None
        yield ""
        yield from (_clean(line) for line in consent(config, ledger))
    if config.warnings:
        yield ""
        yield from (_clean(f"warning: {warning}") for warning in config.warnings)


def _captured(config: Config) -> str:
    """Whose prompts and answers are kept; empty: nobody's."""
    told = [f"{config.capture.bodies} for all"] if config.capture.bodies != "none" else []
    for kind, named in (
        ("route", [(name, route.capture) for name, route in config.routes.items()]),
        ("key", [(key.name, key.capture) for key in config.keys]),
    ):
        told += [f"{own.bodies} for the {kind} {name}" for name, own in named if own.bodies != "inherit"]
    kept = any(not words.startswith("none") for words in told)
    return f"prompts and answers are kept: {', '.join(told)}" if kept else ""


def _direct(config: Config) -> str:
    if config.server.direct == "never":
        return "provider/model needs a route (server.direct: never)"
    if config.server.direct == "always" or not config.keys:
        return f"any provider/model of {', '.join(config.providers)}"
    names = [key.name for key in config.keys if key.direct]
    if names:
        return f"provider/model for the keys {', '.join(names)}"
    return "provider/model for no key (server.direct: auto, and no key has direct: true)"


def _providers(config: Config) -> Iterator[list[str]]:
    for name, provider in config.providers.items():
        keys = ", ".join(
            secret.origin if secret.origin != "literal" else "in the file" for secret in provider.credentials
        )
        yield [name, provider.dialect, provider.base_url, keys or "none", _provider_notes(provider)]


def _provider_notes(provider: Provider) -> str:
    notes = [f"like {provider.like}"] if provider.like else []
    if provider.http != "auto":
        notes.append(f"http {provider.http}")
    if provider.ca_file:
        notes.append(f"ca_file {provider.ca_file}")
    if provider.headers:
        notes.append(f"headers {', '.join(provider.headers)}")
    return "; ".join(notes)


def _routes(config: Config) -> Iterator[list[str]]:
    for name, route in config.routes.items():
        tries = f"{route.retries.per_target} a target, {route.retries.per_request} in all"
        names = ", ".join((name, *route.aliases))
        for number, target in enumerate(route.targets, 1):
            first = [names, _policy(route), tries] if number == 1 else ["", "", ""]
            yield [*first, str(number), _target_name(target), _settings(route, target)]


def _policy(route: Route) -> str:
    """Its kind, and what was written about it."""
    policy = route.policy
    said = policy.model_dump(mode="json", exclude_unset=True, exclude={"kind"})
    parts = [f"{name}={_json(value)}" for name, value in said.items()]
    if route.explore:
        parts.append(f"explore={route.explore:g}")
    return f"{policy.kind} ({', '.join(parts)})" if parts else policy.kind


def _target_name(target: Target) -> str:
    return f"{target.target} as {target.name}" if target.name else target.target


def _settings(route: Route, target: Target) -> str:
    """Whatever of a target is not as the program has it by itself."""
    from proxy.config import FailoverOn, Timeouts

    parts = [f"{name} {_seconds(value)}" for name, value in target.timeouts if value != getattr(Timeouts(), name)]
    parts += [f"{name}={_json(value)}" for name, value in target.params.items()]
    parts += [f"{name}:={_json(value)} (forced)" for name, value in target.force.items()]
    if target.context_window:
        parts.append(f"context {target.context_window} tokens")
    if target.priority != 1:
        parts.append(f"priority {target.priority}")
    if target.weight != 1.0:
        parts.append(f"weight {target.weight:g}")
    if target.lacks:
        parts.append(f"lacks {', '.join(target.lacks)}")
    for name, value in route.failover_on:
        if value != getattr(FailoverOn(), name):
            parts.append(f"{'fails' if value else 'does not fail'} over on {name}")
    return "; ".join(parts)


def _seconds(value: float) -> str:
    return f"{value:g}s" if value >= 1 else f"{value * 1000:g}ms"


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _prices(config: Config) -> Iterator[str]:
    """What every target of a route costs; USD per million tokens."""
    from proxy.assemble import price_of, prices

    book = prices(config)
    targets = {target.label: target for route in config.routes.values() for target in route.targets}
    if not targets:
        yield f"prices: {book.version}, for whatever is asked for"
        return
    yield from table(
        [
            ["PRICE OF", "INPUT", "CACHE READ", "CACHE WRITE", "OUTPUT", "MORE", "FROM"],
            *(_price(name, price_of(book, config, target).tariff) for name, target in targets.items()),
        ]
    )
    yield f"USD per million tokens; what a provider reports itself is preferred; table: {book.version}"


def _price(name: str, tariff: Tariff | None) -> list[str]:
    if tariff is None:
        return [
            name,
            "-",
            "-",
            "-",
            "-",
            "-",
            "no price is known: give one under `prices`, or it is counted as unpriced",
        ]
    rates = tariff.rates
    more = [
        f"{part.replace('_', ' ')} {getattr(rates, part) * 1e6:g}"
        for part, usual in (("reasoning", "output"), ("audio_input", "input"), ("audio_output", "output"))
        if getattr(rates, part) != getattr(rates, usual) and not isnan(getattr(rates, part))
    ]
    more += [f"over {above} tokens {step.input * 1e6:g} / {step.output * 1e6:g}" for above, step in tariff.steps]
    more += [
        f"each {part} {value:g}" for part, value in (("search", rates.search), ("request", rates.request)) if value
    ]
    if tariff.tiers:
        more.append(f"tiers {', '.join(tariff.tiers)}")
    shown = (rates.input, rates.cache_read, rates.cache_write, rates.output)
    return [name, *(f"{rate * 1e6:g}" for rate in shown), "; ".join(more) or "-", tariff.source]


def _keys(config: Config) -> list[list[str]]:
    from policies.allowance import UNLIMITED
    from proxy.assemble import terms_of
    from proxy.cli.keys import limits

    rows, terms = [["KEY", "MAY ASK FOR", "LIMITS"]], terms_of(config)
    for key in config.keys:
        direct = config.server.direct == "always" or (config.server.direct == "auto" and key.direct)
        routes = "every route" if key.routes is None else ", ".join(key.routes) or "no route"
        shown = f"{routes}, and provider/model" if direct else routes
        rows.append([key.name, shown, limits(terms.get(key.name, UNLIMITED))])
    return rows if terms else [row[:2] for row in rows]


def _unpriced_budgets(config: Config) -> Iterator[str]:
    """What budgets are charged for targets without a price."""
    from proxy.assemble import price_of, prices
    from proxy.prices.assumed import ASSUMED_INPUT, ASSUMED_OUTPUT

    if all(key.budget is None for key in config.keys):
        return
    book = prices(config)
    targets = {target.label: target for route in config.routes.values() for target in route.targets}
    unknown = [name for name, target in targets.items() if price_of(book, config, target).tariff is None]
    if unknown:
        rates = f"{ASSUMED_INPUT * 1e6:g} in and {ASSUMED_OUTPUT * 1e6:g} out"
        yield _clean(f"no price is known of {', '.join(unknown)}: budgets are charged {rates}, USD per million tokens")


def _clean(text: str) -> str:
    from proxy.config.problems import printable

    return printable(text)
