"""The SQLite file: tables, views and how one version becomes the next.

The views are the public face (`docs/store.md`); the tables may change with any version. `PRAGMA user_version` holds the
version. Exchanges are numbered by `n` in the order in which they were committed; attempts are clustered by it, so that
both are appended to. Moments are kept raw (monotonic nanoseconds, 0 = never) beside the durations sealed from them by
`proxy.measure.timing`.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from proxy.measure.store import rollups

MARKS = ("scheduled", "received", "sent", "headers", "first_byte", "first_content", "last_content", "end")
_MARK_COLUMNS = ", ".join(f"{mark}_ns INTEGER NOT NULL" for mark in MARKS)

_EXCHANGES = f"""
CREATE TABLE exchanges (
  n INTEGER PRIMARY KEY, id TEXT NOT NULL, seq INTEGER NOT NULL, at TEXT NOT NULL, origin TEXT NOT NULL,
  parent_id TEXT, key TEXT, route TEXT, model TEXT NOT NULL, stream INTEGER NOT NULL, outcome TEXT NOT NULL,
  error_kind TEXT, status INTEGER, policy TEXT, propensity REAL, decision TEXT, attempts INTEGER NOT NULL,
  failovers INTEGER NOT NULL, winner_no INTEGER, last_no INTEGER, cost_usd REAL, cost_source TEXT,
  request_bytes INTEGER NOT NULL, answer_bytes INTEGER NOT NULL,
  ttft_ns INTEGER, e2e_ns INTEGER, overhead_ns INTEGER, {_MARK_COLUMNS}
)"""

_ATTEMPTS = f"""
CREATE TABLE attempts (
  exchange_n INTEGER NOT NULL, attempt_no INTEGER NOT NULL, target TEXT NOT NULL, provider TEXT NOT NULL,
  model TEXT NOT NULL, response_model TEXT, upstream_id TEXT, outcome TEXT NOT NULL, error_kind TEXT, status INTEGER,
  retry_after REAL, detail TEXT NOT NULL, dropped TEXT, replayed INTEGER NOT NULL, wait_ns INTEGER NOT NULL,
  finish_reason TEXT,
  uncached_input_tokens INTEGER, cache_read_tokens INTEGER, cache_write_tokens INTEGER, output_text_tokens INTEGER,
  reasoning_tokens INTEGER, usage_source TEXT, cost_usd REAL, cost_source TEXT,
  request_bytes INTEGER NOT NULL, answer_bytes INTEGER NOT NULL,
  ttft_ns INTEGER, tpot_ns INTEGER, e2e_ns INTEGER, max_gap_ns INTEGER, stall_count INTEGER, stall_ns INTEGER,
  chunks INTEGER, gaps TEXT, {_MARK_COLUMNS},
  PRIMARY KEY (exchange_n, attempt_no)
) WITHOUT ROWID"""

_SHADOW_PAIRS = """
CREATE TABLE shadow_pairs (
  n INTEGER PRIMARY KEY, experiment TEXT NOT NULL, version TEXT NOT NULL, at TEXT NOT NULL, unit TEXT NOT NULL,
  scored INTEGER NOT NULL, live_id TEXT NOT NULL, shadow_id TEXT NOT NULL, noise_id TEXT,
  route TEXT, key TEXT, operation TEXT NOT NULL, stream INTEGER NOT NULL,
  primary_target TEXT, primary_outcome TEXT, primary_error_kind TEXT, primary_finish_reason TEXT,
  primary_ttft_ms REAL, primary_e2e_ms REAL, primary_cost_usd REAL, primary_cached_tokens INTEGER,
  primary_output_tokens INTEGER,
  candidate_target TEXT, candidate_outcome TEXT, candidate_error_kind TEXT, candidate_finish_reason TEXT,
  candidate_ttft_ms REAL, candidate_e2e_ms REAL, candidate_cost_usd REAL, candidate_cached_tokens INTEGER,
  candidate_output_tokens INTEGER,
  served_outcome TEXT, served_target TEXT, served_e2e_ms REAL,
  differences TEXT NOT NULL, spent_usd REAL NOT NULL, usd_source TEXT
)"""

_SHADOW_SCORES = """
CREATE TABLE shadow_scores (
  pair_n INTEGER NOT NULL, metric TEXT NOT NULL, primary_score REAL, candidate_score REAL, bin INTEGER,
  PRIMARY KEY (pair_n, metric)
) WITHOUT ROWID"""

MIGRATIONS: Sequence[Sequence[str]] = (
    (
        _EXCHANGES,
        _ATTEMPTS,
        "CREATE INDEX exchanges_id ON exchanges (id)",
        "CREATE INDEX exchanges_at ON exchanges (at)",
    ),
    (
        "ALTER TABLE attempts ADD COLUMN parts TEXT",
        "ALTER TABLE attempts ADD COLUMN price_version TEXT",
        "ALTER TABLE attempts ADD COLUMN first_answer_ns INTEGER",
        "ALTER TABLE attempts ADD COLUMN answer_ns INTEGER",
        "ALTER TABLE attempts ADD COLUMN span_id TEXT",
        "ALTER TABLE exchanges ADD COLUMN first_answer_ns INTEGER",
        "ALTER TABLE exchanges ADD COLUMN answer_ns INTEGER",
        "ALTER TABLE exchanges ADD COLUMN before_ns INTEGER",
        "ALTER TABLE exchanges ADD COLUMN relay_ns INTEGER",
        "ALTER TABLE exchanges ADD COLUMN trace_id TEXT",
        "ALTER TABLE exchanges ADD COLUMN tags TEXT",
    ),
    (
        "CREATE TABLE conformance (at TEXT NOT NULL, target TEXT NOT NULL, cell TEXT NOT NULL, result TEXT NOT NULL,"
        " reason TEXT NOT NULL, PRIMARY KEY (target, cell, at)) WITHOUT ROWID",
    ),
    (
        _SHADOW_PAIRS,
        _SHADOW_SCORES,
        "CREATE INDEX shadow_pairs_experiment ON shadow_pairs (experiment, version, n)",
        "CREATE INDEX shadow_pairs_live ON shadow_pairs (live_id)",
        "CREATE INDEX shadow_pairs_shadow ON shadow_pairs (shadow_id)",
        "CREATE TABLE shadow_counts (experiment TEXT NOT NULL, version TEXT NOT NULL, day TEXT NOT NULL,"
        " what TEXT NOT NULL, n INTEGER NOT NULL, PRIMARY KEY (experiment, version, day, what)) WITHOUT ROWID",
        "CREATE TABLE shadow_events (n INTEGER PRIMARY KEY, at TEXT NOT NULL, experiment TEXT NOT NULL,"
        " version TEXT NOT NULL, event TEXT NOT NULL, detail TEXT NOT NULL)",
        "CREATE TABLE feedback (n INTEGER PRIMARY KEY, at TEXT NOT NULL, request_id TEXT NOT NULL, name TEXT NOT NULL,"
        " score REAL NOT NULL, key TEXT)",
        "CREATE INDEX feedback_request ON feedback (request_id)",
    ),
    ("ALTER TABLE attempts ADD COLUMN params_hash TEXT",),
    (
        *rollups.TABLES,
        "CREATE TABLE bodies (n INTEGER PRIMARY KEY, id TEXT NOT NULL, at TEXT NOT NULL, expires TEXT NOT NULL,"
        " request TEXT NOT NULL, answer TEXT)",
        "CREATE INDEX bodies_id ON bodies (id)",
        "CREATE INDEX bodies_expires ON bodies (expires)",
    ),
    (
        "CREATE TABLE learned (route TEXT PRIMARY KEY, at TEXT NOT NULL, state TEXT NOT NULL) WITHOUT ROWID",
        "CREATE TABLE rollout_events (n INTEGER PRIMARY KEY, at TEXT NOT NULL, route TEXT NOT NULL,"
        " candidate TEXT NOT NULL, event TEXT NOT NULL, share REAL NOT NULL, units INTEGER NOT NULL,"
        " detail TEXT NOT NULL)",
    ),
    (
        "CREATE TABLE keys (name TEXT PRIMARY KEY, digest BLOB NOT NULL UNIQUE, begins TEXT NOT NULL,"
        " direct INTEGER NOT NULL, routes TEXT, tags TEXT NOT NULL, created TEXT NOT NULL, revoked TEXT)",
    ),
    (
        "ALTER TABLE shadow_pairs ADD COLUMN judge_usd REAL",
        "ALTER TABLE shadow_pairs ADD COLUMN similarity_usd REAL",
    ),
    (
        "ALTER TABLE exchanges ADD COLUMN operation TEXT",
        *rollups.BY_OPERATION,
        "ALTER TABLE keys ADD COLUMN limits TEXT",
    ),
    (
        "CREATE TABLE bench_results (n INTEGER PRIMARY KEY, run TEXT NOT NULL, suite TEXT NOT NULL, tag TEXT,"
        " at TEXT NOT NULL, task TEXT, case_id TEXT, target TEXT NOT NULL, repeat INTEGER, phase TEXT,"
        " exchange_id TEXT, served_by TEXT, provider TEXT, outcome TEXT, error_kind TEXT, status INTEGER,"
        " attempts INTEGER, ttft_ms REAL, tpot_ms REAL, e2e_ms REAL, max_gap_ms REAL, stalls INTEGER,"
        " input_tokens INTEGER, cached_tokens INTEGER, output_tokens INTEGER, reasoning_tokens INTEGER, cost_usd REAL,"
        " finish_reason TEXT, score REAL, success INTEGER, scores TEXT)",
        "CREATE INDEX bench_results_run ON bench_results (run)",
        "CREATE INDEX bench_results_at ON bench_results (at)",
    ),
    rollups.FOR_REPORTS,
)
"""`MIGRATIONS[v]` holds the statements that make version v + 1 of version v; what was released is never edited."""

PARTS = ("cache_write_1h", "audio_input", "image_input", "audio_cache_read", "audio_output", "image_output")
"""Parts of the token classes: members of `attempts.parts`, 0 where usage was told without them."""


def _part(name: str) -> str:
    value = f"coalesce({{0}}.parts ->> '$.{name}', 0)"
    return f"CASE WHEN {{0}}.uncached_input_tokens IS NOT NULL THEN {value} END AS {name}_tokens"


_TOKENS = (
    """
  {0}.uncached_input_tokens, {0}.cache_read_tokens, {0}.cache_write_tokens,
  {0}.output_text_tokens, {0}.reasoning_tokens,
  {0}.uncached_input_tokens + {0}.cache_read_tokens + {0}.cache_write_tokens AS input_tokens,
  {0}.cache_read_tokens AS cached_tokens,
  {0}.output_text_tokens + {0}.reasoning_tokens AS output_tokens,
  {0}.usage_source,
  """
    + ", ".join(map(_part, PARTS))
    + """,
  {0}.parts ->> '$.searches' AS searches, {0}.parts ->> '$.tier' AS service_tier,
  {0}.parts ->> '$.cost_usd' AS reported_cost_usd, {0}.price_version"""
)

VIEWS: Sequence[str] = (
    *rollups.VIEWS,
    "DROP VIEW IF EXISTS v_exchanges",
    "DROP VIEW IF EXISTS v_attempts",
    "DROP VIEW IF EXISTS v_conformance",
    "DROP VIEW IF EXISTS v_rollouts",
    """
CREATE VIEW v_rollouts AS SELECT n AS event_no, at, route, candidate, event, share, units, detail
FROM rollout_events""",
    """
CREATE VIEW v_conformance AS SELECT at, target, cell, result, nullif(reason, '') AS reason FROM conformance""",
    "DROP VIEW IF EXISTS v_bench_results",
    """
CREATE VIEW v_bench_results AS SELECT
  n AS result_no, run, suite, tag, at, task, case_id, target, repeat, phase, exchange_id, served_by, provider, outcome,
  error_kind, status, attempts, ttft_ms, tpot_ms, e2e_ms, max_gap_ms, stalls, input_tokens, cached_tokens,
  output_tokens, reasoning_tokens, cost_usd, finish_reason, score, success, scores
FROM bench_results""",
    "DROP VIEW IF EXISTS v_shadow_pairs",
    "DROP VIEW IF EXISTS v_shadow_scores",
    # w is the attempt whose answer was sent on, l the last one; an index look-up each, left out by SQLite when no
    # column of theirs is asked for.
    f"""
CREATE VIEW v_exchanges AS SELECT
  e.n AS record_no, e.id, e.seq, e.at, e.origin, e.operation, e.parent_id, e.key, e.route,
  coalesce(w.target, l.target) AS target, coalesce(w.provider, l.provider) AS provider,
  e.model, w.response_model, e.outcome, e.error_kind, e.status, e.stream, w.finish_reason,
  e.ttft_ns / 1e6 AS ttft_ms, w.tpot_ns / 1e6 AS tpot_ms, e.e2e_ns / 1e6 AS e2e_ms, w.max_gap_ns / 1e6 AS max_gap_ms,
  w.stall_count, w.stall_ns / 1e6 AS stall_ms, e.overhead_ns / 1e6 AS overhead_ms,
  e.answer_ns / 1e6 AS answer_ttft_ms, e.before_ns / 1e6 AS before_ms, e.relay_ns / 1e6 AS relay_ms,
  {_TOKENS.format("w").strip()},
  e.cost_usd, e.cost_source, e.attempts, e.failovers, e.winner_no, e.policy, e.propensity, e.decision,
  e.request_bytes, e.answer_bytes, e.trace_id, e.tags
FROM exchanges e
LEFT JOIN attempts w ON w.exchange_n = e.n AND w.attempt_no = e.winner_no
LEFT JOIN attempts l ON l.exchange_n = e.n AND l.attempt_no = e.last_no""",  # noqa: S608
    f"""
CREATE VIEW v_attempts AS SELECT
  e.n AS record_no, e.id || '/' || a.attempt_no AS id, e.id AS exchange_id, a.attempt_no,
  a.attempt_no IS e.winner_no AS winner, e.seq, e.at, e.origin, e.operation, e.key, e.route,
  a.target, a.provider, a.model, a.response_model, a.upstream_id, a.outcome, a.error_kind, a.status,
  a.retry_after AS retry_after_s, a.detail, a.dropped, a.params_hash, a.replayed, e.stream, a.finish_reason,
  (a.received_ns - e.received_ns) / 1e6 AS begun_ms, a.wait_ns / 1e6 AS wait_ms,
  a.ttft_ns / 1e6 AS ttft_ms, a.tpot_ns / 1e6 AS tpot_ms, a.e2e_ns / 1e6 AS e2e_ms, a.max_gap_ns / 1e6 AS max_gap_ms,
  a.answer_ns / 1e6 AS answer_ttft_ms, a.stall_count, a.stall_ns / 1e6 AS stall_ms, a.chunks,
  {_TOKENS.format("a").strip()},
  a.cost_usd, a.cost_source, a.request_bytes, a.answer_bytes, e.trace_id, a.span_id, e.tags
FROM attempts a JOIN exchanges e ON e.n = a.exchange_n""",  # noqa: S608
    """
CREATE VIEW v_shadow_pairs AS SELECT
  p.n AS pair_no, p.experiment, p.version, p.at, p.unit, p.scored, p.live_id, p.shadow_id, p.noise_id, p.route, p.key,
  p.operation, p.stream,
  p.primary_target, p.primary_outcome, p.primary_error_kind, p.primary_finish_reason, p.primary_ttft_ms,
  p.primary_e2e_ms, p.primary_cost_usd, p.primary_cached_tokens, p.primary_output_tokens,
  p.candidate_target, p.candidate_outcome, p.candidate_error_kind, p.candidate_finish_reason, p.candidate_ttft_ms,
  p.candidate_e2e_ms, p.candidate_cost_usd, p.candidate_cached_tokens, p.candidate_output_tokens,
  p.served_outcome, p.served_target, p.served_e2e_ms, p.differences, p.spent_usd, p.judge_usd, p.similarity_usd,
  p.usd_source,
  (SELECT avg(f.score) FROM feedback f WHERE f.request_id = p.live_id) AS primary_feedback,
  (SELECT avg(f.score) FROM feedback f WHERE f.request_id = p.shadow_id) AS candidate_feedback
FROM shadow_pairs p""",
    """
CREATE VIEW v_shadow_scores AS SELECT
  p.experiment, p.version, p.at, p.unit, s.pair_n AS pair_no, s.metric, s.primary_score, s.candidate_score,
  (s.bin - 100) / 100.0 AS difference, s.bin
FROM shadow_scores s JOIN shadow_pairs p ON p.n = s.pair_n""",
)

APPLICATION_ID = 0x57656967
"""In the file's header: tells it from another program's SQLite file."""


class SchemaError(Exception):
    """The file is not one this program may write; the text says why and how to mend it. Waiting does not help."""


def version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection, migrations: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Bring the file to the newest version, in one transaction; `connection` is in autocommit mode.

    Raises `SchemaError` if the file was written by a newer version or belongs to another program, and `sqlite3.Error`
    if it cannot be read or written.
    """
    if _checked_version(connection, len(migrations)) == len(migrations):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Again, now that no other process can be doing the same.
        for statements in migrations[_checked_version(connection, len(migrations)) :]:
            for statement in statements:
                connection.execute(statement)
        for statement in VIEWS:
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {len(migrations)}")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _checked_version(connection: sqlite3.Connection, newest: int) -> int:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID and connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
        raise SchemaError("it is another program's database: name another file under `storage`")
    found = version(connection)
    if found > newest:
        raise SchemaError(
            f"it was written by a newer weighbridge (store version {found}, this one knows {newest}):"
            " install the newer version, or name another file under `storage`"
        )
    return found
