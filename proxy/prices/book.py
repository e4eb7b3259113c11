"""The prices that hold: the config's own before the built-in table's."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from time import time
from weakref import WeakSet

from proxy.prices.table import Table, built_in
from proxy.prices.tariff import Charge, Tariff, charge
from proxy.wire.usage import Usage

log = logging.getLogger(__name__)

_ANSWERED_AS = 500
"""Models that upstreams named in their answers and whose prices are kept; the least recently used goes first."""


class Price:
    """What one target's answers cost at present. `tariff` may change with the hour, or with a newer table."""

    __slots__ = ("__weakref__", "_book", "_model", "_own", "_provider", "changes", "tariff")

    def __init__(self, book: Book, provider: str, model: str, own: Tariff | None) -> None:
        self._book = book
        self._provider = provider
        self._model = model
        self._own = own
        self.tariff = own
        self.changes = False
        """The tariff depends on the hour, or will change on a day to come."""
        self.look_up()

    def look_up(self) -> None:
        if self._own is None:
            self.tariff, self.changes = self._book.built_in(self._provider, self._model)

    def charge(self, usage: Usage, response_model: str | None = None) -> Charge:
        """`response_model` prices what has no price under the name it was asked for (a deployment's, `latest`)."""
        tariff = self.tariff
        if tariff is None and response_model is not None and response_model != self._model:
            tariff = self._book.answered_as(self._provider, response_model)
        return charge(tariff, usage)


class Book:
    """`own`: the config's prices by `provider/model`, by a target's name, or by `provider/*`."""

    def __init__(self, own: Mapping[str, Tariff], table: Table | None = None, now: Callable[[], float] = time) -> None:
        """`now`: seconds since the epoch."""
        self._own = dict(own)
        self.table = table or built_in()
        self._now = now
        self._prices: WeakSet[Price] = WeakSet()
        self._answered: OrderedDict[tuple[str, str], Tariff | None] = OrderedDict()

    @property
    def version(self) -> str:
        return self.table.version

    def price(self, provider: str, model: str, *, name: str, like: str | None = None) -> Price:
        """For a target `provider/model` that records call `name`; `like`: the known provider it is an account of."""
        own = next((self._own[key] for key in (name, f"{provider}/{model}", f"{provider}/*") if key in self._own), None)
        price = Price(self, like or provider, model, own)
        self._prices.add(price)
        return price

    def built_in(self, provider: str, model: str) -> tuple[Tariff | None, bool]:
        """The tariff at this moment, and whether it changes with time."""
        found = self.table.find(provider, model)
        if found is None:
            return None, False
        now = self._now()
        return found.tariff(now), found.changes(now)

    def answered_as(self, provider: str, model: str) -> Tariff | None:
        key = (provider, model[:200])
        kept = self._answered
        if key not in kept:
            kept[key] = self.built_in(*key)[0]
            if len(kept) > _ANSWERED_AS:
                kept.popitem(last=False)
        return kept[key]

    def refresh(self) -> None:
        """Some prices change with the day or the hour: to be called every minute."""
        self._answered.clear()
        for price in [*self._prices]:
            if price.changes:
                price.look_up()

    def use(self, table: Table) -> None:
        """A newer table."""
        self.table = table
        self._answered.clear()
        for price in [*self._prices]:
            price.look_up()
        log.info("prices are those of %s", table.version)
