"""The allowances of all clients that have limits. They outlive a reload of the config, and budgets a restart."""

from __future__ import annotations

import calendar
import logging
import sqlite3
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from policies.allowance import UNLIMITED, Allowance, Allowed, Claim, Limit, Refused
from proxy.clock import SECOND, Clock
from proxy.engine import Run
from proxy.errors import Refusal
from proxy.failure import over_limit
from proxy.measure.spending import UNBILLED, charged_usd
from proxy.measure.store import faults
from proxy.measure.store.spending import spent
from proxy.record import Exchange
from proxy.wire.request import Request, answer_limit

log = logging.getLogger(__name__)


class Allowances:
    """A sink: charges budgets with whatever was done for a key, batches included."""

    def __init__(self, clock: Clock, path: Path | None) -> None:
        """`path`: the store, from which it is read what was spent before."""
        self._clock = clock
        self._path = path
        self._known: dict[str, Allowance] = {}
        self._restored: set[str] = set()
        self.degraded: str | None = None
        """Why it is not known what was spent before the start."""

    def load(self, terms: Mapping[str, Allowed]) -> Mapping[str, Allowance]:
        """The allowances of these keys. Reads the store where one of them has a budget for the first time."""
        now, at = self._clock.now() / SECOND, self._clock.wall()
        known = {name: self._known.get(name) or Allowance(one, now) for name, one in terms.items()}
        for name, one in terms.items():
            known[name].limit(one, now)
        new = [name for name, one in terms.items() if one.budgeted and name not in self._restored]
        if new:
            before = self._before()
            for name in new:
                known[name].restore(before.get(name, ()), _day(at))
            self._restored.update(new)
        self._known = {**self._known, **known}
        return known

    @property
    def budgeted(self) -> bool:
        """Whether there is anything to charge."""
        return bool(self._restored)

    def accept(self, exchange: Exchange) -> None:
        name = exchange.key
        if name in self._restored:
            self._known[name].charge(charged_usd(exchange), _day(exchange.at))

    def refused(self) -> Mapping[str, int]:
        """How many requests were refused, by which limit."""
        known = [*self._known.values()]
        return {limit: sum(one.refused[limit] for one in known) for limit in Limit}

    def shown(self) -> list[dict[str, Any]]:
        """How each key stands, for the API."""
        now, at = self._clock.now() / SECOND, self._clock.wall()
        return [_shown(name, one, now, at) for name, one in self._known.items() if one.terms != UNLIMITED]

    def _before(self) -> Mapping[str, Any]:
        if self._path is None:
            return {}
        try:
            return spent(self._path)
        except (sqlite3.Error, OSError) as error:
            why = faults.reason(self._path, error, "read from")
            self.degraded = f"budgets count from this start only, since what was spent before is not known: {why}"
            log.error("%s", self.degraded)
            return {}


def admit(allowance: Allowance, run: Run, ask: Request) -> Claim:
    """Raises `Refusal` (429). `settle` must follow."""
    exchange = run.exchange
    free = ask.operation in UNBILLED
    size, most = (0, 0) if free else (len(ask.raw), answer_limit(ask.body))
    found = allowance.admit(size, most, exchange.marks.received / SECOND, _day(exchange.at))
    if isinstance(found, Refused):
        run.over_limit()
        raise _refusal(allowance, found, exchange.key or "", exchange.at)
    return found


def settle(allowance: Allowance, claim: Claim, exchange: Exchange) -> None:
    """What it used is known, as far as anybody told. What was asked of nobody, or in vain, used nothing."""
    usages = [attempt.usage for attempt in exchange.attempts if attempt.usage is not None]
    if usages:
        used = (sum(usage.input for usage in usages), sum(usage.output for usage in usages))
    elif exchange.winner is not None:
        return
    else:
        used = (0, 0)
    allowance.settle(claim, used, exchange.marks.end / SECOND)


def may_spend(allowance: Allowance, name: str, at: float) -> None:
    """For what is not measured request by request: raises `Refusal` (429) where the budget is spent."""
    gone = allowance.spent_up(_day(at))
    if gone is not None:
        raise _refusal(allowance, gone, name, at)


def _refusal(allowance: Allowance, refused: Refused, name: str, at: float) -> Refusal:
    return over_limit(refused, name, allowance.spent.get(refused.span, 0.0), renewal(refused.span, at), at)


def _day(at: float) -> str:
    """`2026-11-26`, UTC."""
    return time.strftime("%Y-%m-%d", time.gmtime(at))


def renewal(span: str, at: float) -> float | None:
    """When a budget begins anew, in seconds since the epoch; None: never."""
    year, month, day, *_ = time.gmtime(at)
    if span == "day":
        return float(calendar.timegm((year, month, day + 1, 0, 0, 0)))
    if span == "month":
        return float(calendar.timegm((year + month // 12, month % 12 + 1, 1, 0, 0, 0)))
    return None


def _shown(name: str, one: Allowance, now: float, at: float) -> dict[str, Any]:
    terms, left = one.terms, one.left(now)
    return {
        "key": name,
        "rpm": _room(terms.rpm, left.get(Limit.RPM)),
        "tpm": _room(terms.tpm, left.get(Limit.TPM)),
        "budget": [
            {"span": span, "limit_usd": most, "spent_usd": used, "renews_at": renewal(span, at)}
            for span, most, used in one.budgets(_day(at))
        ],
        "refused": {limit.value: count for limit, count in one.refused.items()},
    }


def _room(limit: float | None, left: float | None) -> dict[str, float | None] | None:
    return None if limit is None else {"limit": limit, "left": left}
