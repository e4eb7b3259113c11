"""What shadow experiments leave behind: pairs, scores, the accounting, events, feedback. Written in small batches.

Pairs and counts of one batch are committed together, so that after a kill the accounting still adds up. All of it is
synchronous: call it from a thread. A verdict follows from these tables alone (`docs/store.md`).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from proxy.measure.store.writer import connect

Scored = tuple[str, float | None, float | None, int | None]
"""Metric, the primary's score, the candidate's, and the bin of their difference."""


class Pair(NamedTuple):
    """The columns of `shadow_pairs`, but for its number."""

    experiment: str
    version: str
    at: str
    unit: str
    scored: bool
    live_id: str
    shadow_id: str
    noise_id: str | None
    route: str | None
    key: str | None
    operation: str
    stream: bool
    primary_target: str | None
    primary_outcome: str | None
    primary_error_kind: str | None
    primary_finish_reason: str | None
    primary_ttft_ms: float | None
    primary_e2e_ms: float | None
    primary_cost_usd: float | None
    primary_cached_tokens: int | None
    primary_output_tokens: int | None
    candidate_target: str
    candidate_outcome: str
    candidate_error_kind: str | None
    candidate_finish_reason: str | None
    candidate_ttft_ms: float | None
    candidate_e2e_ms: float | None
    candidate_cost_usd: float | None
    candidate_cached_tokens: int | None
    candidate_output_tokens: int | None
    served_outcome: str
    served_target: str | None
    served_e2e_ms: float | None
    differences: str
    """JSON list of words."""
    spent_usd: float
    """What the pair took from the budget: candidate, judge, second primary and embeddings together."""
    judge_usd: float
    similarity_usd: float
    usd_source: str | None
    """`assumed` where a price was not known and the worst was taken."""


_INSERT_PAIR = f"INSERT INTO shadow_pairs ({', '.join(Pair._fields)}) VALUES ({', '.join('?' * len(Pair._fields))})"  # noqa: S608


class Rated(NamedTuple):
    """A pair of which people have seen both answers."""

    n: int
    shadow_id: str
    primary: float
    candidate: float


class Event(NamedTuple):
    n: int
    at: str
    experiment: str
    version: str
    event: str
    """`started`, `verdict`, `paused`, `resumed`, `stopped`, `promoted` or `created`."""
    detail: str
    """JSON."""


class Batch:
    """What waits to be committed."""

    def __init__(self) -> None:
        self.pairs: list[tuple[Pair, Sequence[Scored]]] = []
        self.counts: dict[tuple[str, str, str, str], int] = {}
        """(experiment, version, day, what) -> how many more."""
        self.events: list[tuple[str, str, str, str, str]] = []
        """At, experiment, version, event, detail."""

    def __bool__(self) -> bool:
        return bool(self.pairs or self.counts or self.events)

    def count(self, experiment: str, version: str, day: str, what: str, more: int = 1) -> None:
        key = (experiment, version, day, what)
        self.counts[key] = self.counts.get(key, 0) + more


class Sums(NamedTuple):
    """USD: all together, and of it the judge and the comparison of meanings."""

    total: float = 0.0
    judge: float = 0.0
    similarity: float = 0.0


class Restored(NamedTuple):
    """An experiment as the store knows it."""

    units: list[str]
    """Those that were scored."""
    bins: list[tuple[str, int, int]]
    """Metric, bin, units."""
    ratios: list[tuple[str, int, float, float, float, float, float]]
    """Metric, n, and the sums: candidate, primary, candidate^2, candidate * primary, primary^2."""
    counts: dict[str, int]
    spent: Sums
    """USD in all."""
    spent_today: Sums
    events: list[Event]


class Ledger:
    def __init__(self, path: Path) -> None:
        self.path = path

    def commit(self, batch: Batch) -> None:
        """All or nothing. Raises `sqlite3.Error`, `OSError`, `SchemaError`."""
        with self._open() as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                for pair, scores in batch.pairs:
                    number = connection.execute(_INSERT_PAIR, pair).lastrowid
                    connection.executemany(
                        "INSERT INTO shadow_scores VALUES (?, ?, ?, ?, ?)", [(number, *score) for score in scores]
                    )
                connection.executemany(
                    "INSERT INTO shadow_counts VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n",
                    [(*key, more) for key, more in batch.counts.items()],
                )
                connection.executemany(
                    "INSERT INTO shadow_events (at, experiment, version, event, detail) VALUES (?, ?, ?, ?, ?)",
                    batch.events,
                )
                connection.execute("COMMIT")
            except BaseException:
                connection.execute("ROLLBACK")
                raise

    def feedback(self, at: str, request_id: str, name: str, score: float, key: str | None) -> bool:
        """Whether the store knows a request of that id; only then it is kept."""
        with self._open() as connection:
            if not connection.execute("SELECT 1 FROM exchanges WHERE id = ? LIMIT 1", (request_id,)).fetchone():
                return False
            connection.execute(
                "INSERT INTO feedback (at, request_id, name, score, key) VALUES (?, ?, ?, ?, ?)",
                (at, request_id, name, score, key),
            )
            return True

    def unrated(self, experiment: str, version: str, metric: str, name: str) -> list[Rated]:
        """Scored pairs both of whose answers people have given feedback of that name, and that have no score of it.

        The first word on each answer counts. Where the primary's try failed, clients were served another answer than
        the one that is compared, and what they say is about that one.
        """
        said = "(SELECT score FROM feedback f WHERE f.request_id = p.{0} AND f.name = :name ORDER BY f.n LIMIT 1)"
        query = (
            f"SELECT p.n, p.shadow_id, {said.format('live_id')} AS one, {said.format('shadow_id')} AS other"  # noqa: S608
            " FROM shadow_pairs p WHERE p.experiment = :experiment AND p.version = :version AND p.scored"
            " AND p.primary_outcome = 'ok'"
            " AND p.shadow_id IN (SELECT request_id FROM feedback WHERE name = :name)"
            " AND NOT EXISTS (SELECT 1 FROM shadow_scores s WHERE s.pair_n = p.n AND s.metric = :metric)"
        )
        values = {"experiment": experiment, "version": version, "metric": metric, "name": name}
        with self._open() as connection:
            rows = connection.execute(f"SELECT * FROM ({query}) WHERE one IS NOT NULL", values)  # noqa: S608
            return [Rated(*row) for row in rows]

    def rate(self, scores: Sequence[tuple[int, Scored]]) -> None:
        """Scores that came later than their pairs, by the pairs' numbers."""
        with self._open() as connection:
            connection.executemany(
                "INSERT INTO shadow_scores VALUES (?, ?, ?, ?, ?)", [(n, *score) for n, score in scores]
            )

    def keep(self, texts: Sequence[tuple[str, str, str, str, str]]) -> None:
        """Id of the exchange, at, expires, request, answer: of a replay, whose texts were captured before."""
        with self._open() as connection:
            connection.executemany(
                "INSERT INTO bodies (id, at, expires, request, answer) VALUES (?, ?, ?, ?, ?)", texts
            )

    def restore(self, experiment: str, version: str, day: str) -> Restored:
        """`day`: today, as in `at`."""
        which = (experiment, version)
        scores = "FROM shadow_scores s JOIN shadow_pairs p ON p.n = s.pair_n WHERE p.experiment = ? AND p.version = ?"
        with self._open() as connection:
            ask = connection.execute
            units = ask("SELECT unit FROM shadow_pairs WHERE experiment = ? AND version = ? AND scored", which)
            bins = ask(f"SELECT metric, bin, count(*) {scores} AND bin IS NOT NULL GROUP BY 1, 2", which)
            ratios = ask(
                "SELECT metric, count(*), sum(candidate_score), sum(primary_score),"
                " sum(candidate_score * candidate_score), sum(candidate_score * primary_score),"
                f" sum(primary_score * primary_score) {scores}"
                " AND bin IS NULL AND primary_score IS NOT NULL AND candidate_score IS NOT NULL GROUP BY 1",
                which,
            )
            counts = ask(
                "SELECT what, sum(n) FROM shadow_counts WHERE experiment = ? AND version = ? GROUP BY 1", which
            )
            # Money is spent whatever the version.
            sums = ", ".join(f"coalesce(sum({part}_usd), 0)" for part in ("spent", "judge", "similarity"))
            spent = f"SELECT {sums} FROM shadow_pairs WHERE experiment = ?"  # noqa: S608
            return Restored(
                [unit for (unit,) in units],
                bins.fetchall(),
                ratios.fetchall(),
                dict(counts.fetchall()),
                Sums(*ask(spent, (experiment,)).fetchone()),
                Sums(*ask(f"{spent} AND at >= ?", (experiment, day)).fetchone()),
                self._events(connection, "experiment = ?", experiment),
            )

    def pairs_after(self, n: int) -> tuple[int, int]:
        """The number of the last pair, and how many there are after number `n`."""
        with self._open() as connection:
            last, count = connection.execute("SELECT max(n), count(*) FROM shadow_pairs WHERE n > ?", (n,)).fetchone()
            return last if last is not None else n, count

    def events(self, after: int) -> list[Event]:
        """Newer than number `after`, oldest first."""
        with self._open() as connection:
            return self._events(connection, "n > ?", after)

    def created(self) -> dict[str, str]:
        """Experiments that were made over the API, by name: what the config would say of each, as JSON."""
        with self._open() as connection:
            made: dict[str, str] = {}
            for event in self._events(connection, "event = ?", "created"):
                made[event.experiment] = event.detail
            return made

    def rows(self, query: str, values: Sequence[Any] | Mapping[str, Any] = ()) -> list[dict[str, Any]]:
        """For reports: `query` is a constant of ours."""
        with self._open() as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query, values)]

    @staticmethod
    def _events(connection: sqlite3.Connection, where: str, value: object) -> list[Event]:
        query = f"SELECT n, at, experiment, version, event, detail FROM shadow_events WHERE {where} ORDER BY n"  # noqa: S608
        return [Event(*row) for row in connection.execute(query, (value,))]

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        connection = connect(self.path)
        try:
            yield connection
        finally:
            connection.close()
