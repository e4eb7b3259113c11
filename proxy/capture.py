"""Keeps prompts and answers where the config asks for it: a key's word before its route's, before that for all."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from proxy.carry import LARGEST, Carry, Taker
from proxy.measure.store.bodies import Body
from proxy.record import Exchange
from proxy.wire.controls import Controls
from proxy.wire.request import Headers, Request


class Rule(NamedTuple):
    bodies: str
    """`redacted` or `full`."""
    keep_seconds: float
    patterns: Sequence[re.Pattern[str]] = ()


class Capture:
    """An onlooker."""

    def __init__(
        self,
        keep: Callable[[Body], None],
        usual: Rule | None,
        routes: Mapping[str, Rule | None],
        keys: Mapping[str, Rule | None],
    ) -> None:
        """`routes` and `keys` hold those that have a word of their own; None: nothing is kept."""
        self._keep = keep
        self._usual = usual
        self._routes = routes
        self._keys = keys

    @property
    def idle(self) -> bool:
        """Nothing is kept of anything."""
        return not any((self._usual, *self._routes.values(), *self._keys.values()))

    def wants(self, ask: Request, route: str | None, key: str, headers: Headers, controls: Controls) -> Taker | None:
        rule = self._rule(route, key)
        if rule is None:
            return None

        def take(exchange: Exchange, carry: Carry) -> None:
            self._take(rule, exchange, carry.ask, carry.answer)

        return take

    def mirrored(self, exchange: Exchange, ask: Request, route: str | None, key: str, answer: bytes) -> None:
        """What a candidate was asked and said, wherever that of the live request is kept."""
        rule = self._rule(route, key)
        if rule is not None:
            self._take(rule, exchange, ask, answer if len(answer) <= LARGEST else None)

    def _rule(self, route: str | None, key: str) -> Rule | None:
        rule = self._usual
        if route is not None and route in self._routes:
            rule = self._routes[route]
        return self._keys.get(key, rule)

    def _take(self, rule: Rule, exchange: Exchange, ask: Request, answer: bytes | None) -> None:
        redacted = rule.bodies == "redacted"
        self._keep(Body(exchange.id, exchange.at, rule.keep_seconds, ask.raw, answer, redacted, rule.patterns))
