"""From a validated config to the experiments that mirror: each with targets of its own, apart from the live ones."""

from __future__ import annotations

import functools
import logging
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from random import SystemRandom
from typing import Any

import orjson
from pydantic import ValidationError

from policies import POLICIES
from policies.retry import FailoverOn, Limits
from proxy import config as settings
from proxy import scoring
from proxy.assemble import Parts, TransportFor, targets_of
from proxy.clock import RealClock
from proxy.config.known import Reading
from proxy.config.resolve import merged_params
from proxy.config.shadow import Candidate, Shadow
from proxy.learned import Learners
from proxy.prices.book import Book
from proxy.record import Decision
from proxy.router import Plan, Route
from proxy.shadow.experiment import Experiment
from proxy.shadow.terms import Terms, terms_of
from proxy.upstreams import Upstreams

log = logging.getLogger(__name__)

_ONCE = Limits(per_target=1, per_request=1)
"""A mirrored request is sent once: no retry, no failover, and no second sending on a new connection."""


def experiments(
    config: settings.Config,
    created: Mapping[str, str],
    transport_for: TransportFor,
    book: Book,
    live: Upstreams,
    day: str,
) -> Iterator[Experiment]:
    """`transport_for`: connections of the background alone. `live`: how the live targets are, which is only looked at.

    `day`: today, as in the records.

    `created` over the API, as JSON; the config's own win over one of the same name.
    """
    for name, text in created.items():
        if name not in config.shadow:
            try:
                section = checked(orjson.loads(text), config)
            except ValueError as error:
                log.error("the shadow experiment %s, made over the API, no longer fits the config: %s", name, error)
            else:
                yield from one(name, section, config, transport_for, book, live, day)
    for name, section in config.shadow.items():
        yield from one(name, section, config, transport_for, book, live, day)


def checked(told: object, config: settings.Config) -> Shadow:
    """An experiment from outside the config's file. Raises ValueError with what is wrong."""
    try:
        section = Shadow.model_validate(told, context=Reading({}, Path(), frozenset(config.providers)))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    for route in section.mirrored:
        if route not in config.routes:
            raise ValueError(f"there is no route {route!r}")
    asked = [candidate.provider for candidate in section.arms.values()]
    if section.primary is not None and section.primary.model is not None:
        asked.append(section.primary.model.partition("/")[0])
    if section.similarity is not None:
        asked.append(section.similarity.provider)
    for provider in asked:
        if provider not in config.providers:
            raise ValueError(f"the config has no provider {provider!r}")
    return section


def one(
    name: str,
    section: Shadow,
    config: settings.Config,
    transport_for: TransportFor,
    book: Book,
    live: Upstreams,
    day: str,
) -> Iterator[Experiment]:
    """An experiment for each candidate."""
    for terms, candidate in terms_of(name, section):
        routes = {route: config.routes[route] for route in section.mirrored}
        asked = _Asked(config, transport_for, book, section.timeout)
        plans = {route: asked.candidate(route, told, candidate) for route, told in routes.items()}
        judge, embeds = asked.judge(terms), asked.alone(terms.similarity)
        accounts = {plan.targets[0].account for plan in (*plans.values(), judge, embeds) if plan is not None}
        yield Experiment(
            terms,
            candidate,
            section,
            plans,
            judge=judge,
            embeds=embeds,
            primaries=asked.primaries(routes) if terms.noise else {},
            room=functools.partial(_room, live, accounts - {None}),
            own={gauge.kind: scoring.named(gauge.kind) for gauge in terms.gauges if ":" in gauge.kind},
            day=day,
        )


def _room(live: Upstreams, accounts: Collection[object]) -> float:
    return min([live.room(account) for account in accounts], default=1.0)


class _Asked:
    """Makes the plans of the background: one target each."""

    def __init__(self, config: settings.Config, transport_for: TransportFor, book: Book, seconds: float) -> None:
        # How targets are is learned from the background's own traffic: it must not touch that of the live one.
        self._parts = Parts(config, transport_for, book, Upstreams(RealClock(), SystemRandom()), Learners())
        self._seconds = seconds

    def candidate(self, route: str, told: settings.Route, candidate: Candidate) -> Plan:
        return self._plan(
            route,
            settings.Target(
                target=candidate.target,
                name=candidate.name,
                params=merged_params(told.params, candidate.params),
                force=merged_params(told.force, candidate.force),
            ),
        )

    def judge(self, terms: Terms) -> Plan | None:
        judge = terms.primary.judge if terms.primary is not None else None
        return self.alone(judge.model if judge is not None else None)

    def alone(self, target: str | None) -> Plan | None:
        """To a target that belongs to no route."""
        return self._plan(None, settings.Target(target=target)) if target is not None else None

    def primaries(self, routes: Mapping[str, settings.Route]) -> dict[str, Plan]:
        """By the name that records have for the target."""
        return {target.label: self._plan(name, target) for name, route in routes.items() for target in route.targets}

    def _plan(self, route: str | None, target: settings.Target) -> Plan:
        limited = target.timeouts.model_copy(update={"total": min(target.timeouts.total, self._seconds)})
        whole: dict[str, Any] = {"timeouts": limited}
        made = targets_of(self._parts, target.model_copy(update=whole), "drop", False)[:1]
        alone = Route(route, made, POLICIES["ordered"](), "shadow", _ONCE, FailoverOn())
        return Plan(alone, made, Decision("shadow", 1.0, (made[0].name,)))
