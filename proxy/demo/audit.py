"""Whether everybody counted the same: the clients, the store, the metrics and the providers. `audit` really compares.

The store is read as any other program would read it: through its documented views, with SQLite.
"""

from __future__ import annotations

import re
import sqlite3
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from proxy.demo.apps import Seen
from proxy.demo.processes import LOAD, PROVIDERS, Running

_SETTLE_SECONDS = 15.0
"""Records are committed in batches, a moment after the answer; so long may the last ones take."""
_SERIES = re.compile(r"^(\w+)\{(.*)\} ([0-9.e+]+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


class Store(NamedTuple):
    """What the records hold."""

    exchanges: int
    ids: frozenset[str]
    """Of the exchanges that the demo's own clients asked for."""
    repeated: int
    """Ids that stand there more than once."""
    whole: int
    """Exchanges of the demo's own clients whose outcome is ok."""
    attempts: Counter[str]
    """By target."""


class Metered(NamedTuple):
    """What `/metrics` says."""

    requests: int
    attempts: Counter[str]
    """By target."""


class Check(NamedTuple):
    """Two counts of the same thing, each with who counted."""

    what: str
    left: str
    right: str
    agree: bool


def read_store(path: Path) -> Store:
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)) as connection:
        connection.execute("PRAGMA query_only = 1")
        connection.execute("BEGIN")  # one state of the file for all three questions
        (exchanges, different) = connection.execute(
            "SELECT count(*), count(DISTINCT id) FROM v_exchanges WHERE origin = 'live'"
        ).fetchone()
        ours = connection.execute(
            "SELECT id, outcome FROM v_exchanges WHERE model = ? AND origin = 'live'", (LOAD,)
        ).fetchall()
        attempts = connection.execute(
            "SELECT target, count(*) FROM v_attempts WHERE origin = 'live' GROUP BY target"
        ).fetchall()
    whole = sum(outcome == "ok" for _, outcome in ours)
    return Store(exchanges, frozenset(id for id, _ in ours), exchanges - different, whole, Counter(dict(attempts)))


def read_metrics(exposition: str) -> Metered:
    """From the Prometheus text format."""
    requests, attempts = 0.0, Counter[str]()
    for name, labels, value in _SERIES.findall(exposition):
        if name == "weighbridge_requests_total":
            requests += float(value)
        elif name == "weighbridge_attempts_total":
            attempts[dict(_LABEL.findall(labels))["target"]] += int(float(value))
    return Metered(int(requests), attempts)


def compare(seen: Sequence[Seen], store: Store, metered: Metered, upstream: Mapping[str, int]) -> list[Check]:
    """`upstream`: the requests that each provider itself counted."""
    ids = [one.id for one in seen]
    same_ids = set(ids) == store.ids and len(ids) == len(store.ids) and not store.repeated
    others = store.exchanges - len(store.ids)
    records = f"{len(store.ids):,} + {others:,} of other callers" if others else f"{store.exchanges:,} records"
    whole = sum(one.error is None for one in seen)
    asked, attempts = Counter(upstream), f"{_each(store.attempts)} records"
    return [
        Check("requests", f"{len(ids):,} sent by clients", f"{len(store.ids):,} records, id for id", same_ids),
        Check("", f"{whole:,} answered whole", f"{store.whole:,} records of success", whole == store.whole),
        Check("", records, f"{metered.requests:,} in the metrics", store.exchanges == metered.requests),
        Check("attempts", attempts, f"{_each(asked)} counted by providers", store.attempts == asked),
        Check("", attempts, f"{_each(metered.attempts)} in the metrics", store.attempts == metered.attempts),
    ]


def _each(counts: Counter[str]) -> str:
    """`812 + 34 + 4`: one number for each provider, then what belongs to none of them."""
    known = [f"{counts[name]:,}" for name in PROVIDERS]
    return " + ".join([*known, *(f"{count:,} of {name}" for name, count in counts.items() if name not in PROVIDERS)])


def audit(seen: Sequence[Seen], store: Path, proxy: Running, providers: Mapping[str, Running]) -> list[Check]:
    """The comparison, once everything is written; what still differs after a while is told as it is.

    Raises `DemoError` when a process does not answer, `sqlite3.Error` when the store cannot be read.
    """
    until = time.monotonic() + _SETTLE_SECONDS
    while True:
        metered = read_metrics(proxy.ask("/metrics").decode())
        upstream = {
            name: int(running.ask_json("/stats")["requests"])
            for name, running in providers.items()
            if name in PROVIDERS
        }
        checks = compare(seen, read_store(store), metered, upstream)
        if all(check.agree for check in checks) or time.monotonic() > until:
            return checks
        time.sleep(0.1)
