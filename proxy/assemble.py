"""From a validated config to the objects that serve it: targets, routes, access rules."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import NamedTuple

from policies.allowance import UNLIMITED, Allowed
from policies.gradient import FIRST, Gradient
from policies.hedge import Hedges, Terms
from policies.ordered import Ordered
from policies.retry import FailoverOn, Limits
from proxy import config as settings
from proxy.allowances import Allowances
from proxy.auth import Gate, Key
from proxy.capture import Capture, Rule
from proxy.clock import SECOND, RealClock
from proxy.condition import Condition
from proxy.config.known import is_loopback
from proxy.config.policy import policy_of
from proxy.credentials import Source, Token, from_command, from_file, from_google
from proxy.endpoints import Front
from proxy.learned import Learners
from proxy.measure.store.bodies import Body
from proxy.measure.store.keys import StoredKey
from proxy.media import Media
from proxy.prices.book import Book, Price
from proxy.prices.tariff import Tariff
from proxy.providers.anthropic import Anthropic
from proxy.providers.azure import Azure
from proxy.providers.base import Endpoint, Provider
from proxy.providers.bedrock import Bedrock
from proxy.providers.catalog import CATALOG, UNKNOWN_SERVER, Row
from proxy.providers.cohere import Cohere
from proxy.providers.compatible import Compatible
from proxy.providers.gemini import Gemini, Vertex
from proxy.providers.mistral import Mistral
from proxy.providers.quirks import PLAIN
from proxy.router import Route, Router
from proxy.transport.base import Transport
from proxy.transport.fetch import Fetcher
from proxy.turns import Turns
from proxy.upstreams import Target, Timeouts, Upstreams, per_million

DIALECTS: dict[str, Provider] = {
    "openai": Compatible(),
    "anthropic": Anthropic(),
    "azure": Azure(),
    "gemini": Gemini(),
    "cohere": Cohere(),
    "mistral": Mistral(),
    "vertex": Vertex(),
    "bedrock": Bedrock(),
}

TransportFor = Callable[[settings.Provider], Transport]


class Parts(NamedTuple):
    """What routes and targets are made of."""

    config: settings.Config
    transport_for: TransportFor
    book: Book
    upstreams: Upstreams
    learners: Learners
    media: Media | None = None
    tokens: Mapping[str, Token] = {}
    """By the provider's name, where it has a token that expires."""


def front(
    config: settings.Config,
    transport_for: TransportFor,
    rng: Random,
    book: Book | None = None,
    upstreams: Upstreams | None = None,
    learners: Learners | None = None,
    stored: Sequence[StoredKey] = (),
    allowances: Allowances | None = None,
) -> Front:
    """Everything that a reload replaces. Kept over it, if given: the prices, how the targets are, what was learned."""
    kept = upstreams or Upstreams(RealClock(), rng)
    kept.unbound()
    learned, server = learners or Learners(), config.server
    parts = Parts(config, transport_for, book or prices(config), kept, learned, _media(config), _tokens(config))
    return Front(
        gate(config, stored, allowances),
        _router(parts, rng),
        server.body_limit,
        server.concurrency,
        tuple(config.providers),
    )


def _media(config: settings.Config) -> Media | None:
    """None where links are never fetched."""
    which = config.server.fetch_links
    if which == "never":
        return None
    return Media(Fetcher(schemes=frozenset({"https"} if which == "https" else {"http", "https"})))


def _tokens(config: settings.Config) -> dict[str, Token]:
    found = {}
    for name, provider in config.providers.items():
        source: Source | None = None
        if provider.token_command:
            source = from_command(provider.token_command)
        elif provider.token_file:
            source = from_file(provider.token_file)
        elif provider.google_key:
            source = from_google(provider.google_key)
        if source is not None:
            found[name] = Token(source, provider.token_lasts)
    return found


_TAKES_NO_LINKS = {"bedrock", "gemini"}
"""Dialects that want the data itself."""


def capture(config: settings.Config, keep: Callable[[Body], None]) -> Capture:
    """What is kept of prompts and answers, and where it is handed to."""
    usual = config.capture
    patterns = tuple(re.compile(pattern) for pattern in usual.redact)

    def rule(bodies: str, ttl: float) -> Rule | None:
        return Rule(bodies, ttl, patterns) if bodies != "none" else None

    def own(told: Iterable[tuple[str, settings.OwnCapture]]) -> dict[str, Rule | None]:
        return {name: rule(one.bodies, one.ttl or usual.ttl) for name, one in told if one.bodies != "inherit"}

    routes = own((name, route.capture) for name, route in config.routes.items())
    keys = own((key.name, key.capture) for key in config.keys)
    return Capture(keep, rule(usual.bodies, usual.ttl), routes, keys)


def prices(config: settings.Config, before: Book | None = None) -> Book:
    """`before`: the book that this one replaces; its table is kept."""
    own = {name: _tariff(own) for name, own in config.prices.items()}
    return Book(own, before.table if before is not None else None)


def _tariff(own: settings.Prices) -> Tariff:
    told = own.model_dump(exclude_none=True)
    steps, tiers = told.pop("steps"), told.pop("tiers")
    digest = hashlib.sha256(own.model_dump_json().encode()).hexdigest()[:8]
    tariff = Tariff(told, [(step.pop("above"), step) for step in steps], source="config", version=f"config {digest}")
    tariff.tiers.update({tier: tariff.scaled(factor) for tier, factor in tiers.items()})
    return tariff


def target_names(config: settings.Config) -> tuple[list[str], dict[str, list[str]]]:
    """Every configured target's name, and each route's, as they appear in records and metric labels."""
    routes = {
        name: [label for target in route.targets for label in _labels(config, target)]
        for name, route in config.routes.items()
    }
    return sorted({label for labels in routes.values() for label in labels}), routes


def terms_of(config: settings.Config, stored: Sequence[StoredKey] = ()) -> dict[str, Allowed]:
    """What each key may use that has limits."""
    found = {key.name: key.terms for key in stored}
    for key in config.keys:
        told = key.budget.model_dump() if key.budget is not None else {}
        found[key.name] = Allowed(key.rpm, key.tpm, **told)
    return {name: one for name, one in found.items() if one != UNLIMITED}


def gate(config: settings.Config, stored: Sequence[StoredKey] = (), allowances: Allowances | None = None) -> Gate:
    """`stored`: keys made by command. The config's come first; a revoked one keeps the door closed all the same.

    `allowances`: of the keys that have limits; None heeds no limits.
    """
    token = config.server.admin_token
    named = {key.name for key in config.keys}
    may_use = allowances.load(terms_of(config, stored)) if allowances is not None else {}
    good = [key for key in stored if key.revoked is None and key.name not in named]
    return Gate(
        [
            *(
                Key(
                    key.name,
                    key.digest,
                    key.direct,
                    None if key.routes is None else frozenset(key.routes),
                    frozenset(key.tags),
                    allowance=may_use.get(key.name),
                )
                for key in good
            ),
            *(
                Key(
                    key.name,
                    key.digest,
                    key.direct,
                    frozenset(key.routes) if key.routes is not None else None,
                    frozenset(key.tags),
                    ("high", "normal", "low").index(key.priority),
                    may_use.get(key.name),
                )
                for key in config.keys
            ),
        ],
        closed=bool(stored),
        direct=config.server.direct,
        admin_digest=hashlib.sha256(token.reveal().encode()).digest() if token is not None else None,
        metrics_open=config.server.metrics == "open",
        loopback=is_loopback(config.server.host),
    )


def _router(parts: Parts, rng: Random) -> Router:
    config = parts.config
    routes, aliases = {}, {}
    for name, route in config.routes.items():
        targets = [
            made for target in route.targets for made in targets_of(parts, target, route.unsupported, route.breaker)
        ]
        policy = policy_of(route.policy)
        routes[name] = Route(
            name,
            targets,
            policy,
            route.policy.kind,
            Limits(route.retries.per_target, route.retries.per_request),
            FailoverOn(**route.failover_on.model_dump()),
            route.explore,
            parts.learners.learner(name, policy),
            Hedges(Terms(route.hedge.after, route.hedge.budget)) if route.hedge is not None else None,
        )
        aliases.update(dict.fromkeys(route.aliases, name))
    defaults = config.defaults
    limits = Limits(defaults.retries.per_target, defaults.retries.per_request)
    failover_on = FailoverOn(**defaults.failover_on.model_dump())
    in_order = Ordered()

    def direct(targets: Sequence[Target]) -> Route:
        return Route(None, targets, in_order, "direct", limits, failover_on)

    def make_direct(provider: str, model: str) -> Sequence[Target] | None:
        if provider not in config.providers:
            return None
        target = settings.Target.model_construct(
            target=f"{provider}/{model}",
            name=None,
            params=defaults.params,
            force=defaults.force,
            weight=1.0,
            context_window=None,
            priority=1,
            lacks=(),
            concurrency=None,
            queue=0,
            timeouts=defaults.timeouts,
        )
        return targets_of(parts, target, defaults.unsupported, defaults.breaker)

    return Router(routes, aliases, direct, make_direct, rng, parts.upstreams.clock)


def _labels(config: settings.Config, target: settings.Target) -> list[str]:
    """One name for each credential: the same model under another key is another target."""
    count = max(1, len(config.providers[target.provider].credentials))
    return [target.label if number == 0 else f"{target.label}#{number + 1}" for number in range(count)]


def targets_of(parts: Parts, target: settings.Target, unsupported: str, breaker: bool) -> list[Target]:
    config = parts.config
    provider = config.providers[target.provider]
    row = CATALOG.get(provider.like or target.provider)
    endpoint = Endpoint(
        provider=target.provider,
        base_url=provider.base_url,
        model=target.model,
        verbatim=provider.verbatim,
        usage_in_stream=provider.usage_in_stream,
        params=target.params or None,
        force=target.force or None,
        headers=tuple((name, value.reveal()) for name, value in provider.headers.items()),
        quirks=row.quirks if row is not None and row.dialect == provider.dialect else PLAIN,
        operations=_operations(provider, row),
        region=provider.region or "",
        api_version=provider.api_version or "",
        deployment=provider.deployment or "",
        known=(provider.like or target.provider) if row is not None else "",
    )
    credentials: list[str | None] = [credential.reveal() for credential in provider.credentials] or [None]
    return [
        Target(
            label,
            endpoint,
            DIALECTS[provider.dialect],
            parts.transport_for(provider),
            credential,
            _timeouts(target.timeouts),
            weight=target.weight,
            context_window=target.context_window,
            unsupported=unsupported,
            token=parts.tokens.get(target.provider),
            media=parts.media if provider.dialect in _TAKES_NO_LINKS else None,
            priority=target.priority,
            lacks=frozenset(target.lacks),
            price=price_of(parts.book, config, target),
            condition=_bounded(parts.upstreams.condition(label, endpoint, credential), target),
            heeds_breaker=breaker,
        )
        for label, credential in zip(_labels(config, target), credentials, strict=True)
    ]


def price_of(book: Book, config: settings.Config, target: settings.Target) -> Price:
    return book.price(target.provider, target.model, name=target.label, like=config.providers[target.provider].like)


def list_price(book: Book, config: settings.Config, target: settings.Target) -> tuple[float | None, float | None]:
    """USD per million tokens of prompt and of answer; None where it is not known."""
    return per_million(price_of(book, config, target).tariff)


def _operations(provider: settings.Provider, row: Row | None) -> frozenset[str] | None:
    if provider.operations is not None:
        return frozenset(provider.operations)
    if row is None or row.dialect != provider.dialect:
        return UNKNOWN_SERVER if provider.dialect == "openai" else None
    return row.operations


def _bounded(condition: Condition, target: settings.Target) -> Condition:
    """With the bounds of this config. Who waits stays where he is; and who asks for it directly is bound as all are."""
    told, turns = target.concurrency, condition.turns
    if told is None:
        return condition
    if turns is None:
        turns = condition.turns = Turns(0, 0)
    turns.adapts = (turns.adapts or Gradient()) if told == "auto" else None
    turns.limit = FIRST if told == "auto" else told
    turns.queue = target.queue
    return condition


def _timeouts(seconds: settings.Timeouts) -> Timeouts:
    told = seconds.model_dump()
    adaptive = told.pop("adaptive")
    return Timeouts(**{name: round(value * SECOND) for name, value in told.items()}, adaptive=adaptive)
