-- A file of version 1, as it was first released. Do not edit.
PRAGMA application_id = 1466263911;
PRAGMA user_version = 1;
CREATE TABLE exchanges (
  n INTEGER PRIMARY KEY, id TEXT NOT NULL, seq INTEGER NOT NULL, at TEXT NOT NULL, origin TEXT NOT NULL,
  parent_id TEXT, key TEXT, route TEXT, model TEXT NOT NULL, stream INTEGER NOT NULL, outcome TEXT NOT NULL,
  error_kind TEXT, status INTEGER, policy TEXT, propensity REAL, decision TEXT, attempts INTEGER NOT NULL,
  failovers INTEGER NOT NULL, winner_no INTEGER, last_no INTEGER, cost_usd REAL, cost_source TEXT,
  request_bytes INTEGER NOT NULL, answer_bytes INTEGER NOT NULL,
  ttft_ns INTEGER, e2e_ns INTEGER, overhead_ns INTEGER, scheduled_ns INTEGER NOT NULL, received_ns INTEGER NOT NULL, sent_ns INTEGER NOT NULL, headers_ns INTEGER NOT NULL, first_byte_ns INTEGER NOT NULL, first_content_ns INTEGER NOT NULL, last_content_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL
);
CREATE TABLE attempts (
  exchange_n INTEGER NOT NULL, attempt_no INTEGER NOT NULL, target TEXT NOT NULL, provider TEXT NOT NULL,
  model TEXT NOT NULL, response_model TEXT, upstream_id TEXT, outcome TEXT NOT NULL, error_kind TEXT, status INTEGER,
  retry_after REAL, detail TEXT NOT NULL, dropped TEXT, replayed INTEGER NOT NULL, wait_ns INTEGER NOT NULL,
  finish_reason TEXT,
  uncached_input_tokens INTEGER, cache_read_tokens INTEGER, cache_write_tokens INTEGER, output_text_tokens INTEGER,
  reasoning_tokens INTEGER, usage_source TEXT, cost_usd REAL, cost_source TEXT,
  request_bytes INTEGER NOT NULL, answer_bytes INTEGER NOT NULL,
  ttft_ns INTEGER, tpot_ns INTEGER, e2e_ns INTEGER, max_gap_ns INTEGER, stall_count INTEGER, stall_ns INTEGER,
  chunks INTEGER, gaps TEXT, scheduled_ns INTEGER NOT NULL, received_ns INTEGER NOT NULL, sent_ns INTEGER NOT NULL, headers_ns INTEGER NOT NULL, first_byte_ns INTEGER NOT NULL, first_content_ns INTEGER NOT NULL, last_content_ns INTEGER NOT NULL, end_ns INTEGER NOT NULL,
  PRIMARY KEY (exchange_n, attempt_no)
) WITHOUT ROWID;
CREATE INDEX exchanges_id ON exchanges (id);
CREATE INDEX exchanges_at ON exchanges (at);
CREATE VIEW v_exchanges AS SELECT
  e.n AS record_no, e.id, e.seq, e.at, e.origin, e.parent_id, e.key, e.route,
  coalesce(w.target, l.target) AS target, coalesce(w.provider, l.provider) AS provider,
  e.model, w.response_model, e.outcome, e.error_kind, e.status, e.stream, w.finish_reason,
  e.ttft_ns / 1e6 AS ttft_ms, w.tpot_ns / 1e6 AS tpot_ms, e.e2e_ns / 1e6 AS e2e_ms, w.max_gap_ns / 1e6 AS max_gap_ms,
  w.stall_count, w.stall_ns / 1e6 AS stall_ms, e.overhead_ns / 1e6 AS overhead_ms,
  w.uncached_input_tokens, w.cache_read_tokens, w.cache_write_tokens,
  w.output_text_tokens, w.reasoning_tokens,
  w.uncached_input_tokens + w.cache_read_tokens + w.cache_write_tokens AS input_tokens,
  w.cache_read_tokens AS cached_tokens,
  w.output_text_tokens + w.reasoning_tokens AS output_tokens,
  w.usage_source,
  e.cost_usd, e.cost_source, e.attempts, e.failovers, e.winner_no, e.policy, e.propensity, e.decision,
  e.request_bytes, e.answer_bytes
FROM exchanges e
LEFT JOIN attempts w ON w.exchange_n = e.n AND w.attempt_no = e.winner_no
LEFT JOIN attempts l ON l.exchange_n = e.n AND l.attempt_no = e.last_no;
CREATE VIEW v_attempts AS SELECT
  e.n AS record_no, e.id || '/' || a.attempt_no AS id, e.id AS exchange_id, a.attempt_no,
  a.attempt_no IS e.winner_no AS winner, e.seq, e.at, e.origin, e.key, e.route,
  a.target, a.provider, a.model, a.response_model, a.upstream_id, a.outcome, a.error_kind, a.status,
  a.retry_after AS retry_after_s, a.detail, a.dropped, a.replayed, e.stream, a.finish_reason,
  (a.received_ns - e.received_ns) / 1e6 AS begun_ms, a.wait_ns / 1e6 AS wait_ms,
  a.ttft_ns / 1e6 AS ttft_ms, a.tpot_ns / 1e6 AS tpot_ms, a.e2e_ns / 1e6 AS e2e_ms, a.max_gap_ns / 1e6 AS max_gap_ms,
  a.stall_count, a.stall_ns / 1e6 AS stall_ms, a.chunks,
  a.uncached_input_tokens, a.cache_read_tokens, a.cache_write_tokens,
  a.output_text_tokens, a.reasoning_tokens,
  a.uncached_input_tokens + a.cache_read_tokens + a.cache_write_tokens AS input_tokens,
  a.cache_read_tokens AS cached_tokens,
  a.output_text_tokens + a.reasoning_tokens AS output_tokens,
  a.usage_source,
  a.cost_usd, a.cost_source, a.request_bytes, a.answer_bytes
FROM attempts a JOIN exchanges e ON e.n = a.exchange_n;
INSERT INTO exchanges VALUES (1, 'req_old', 1, '2026-09-21T14:13:20.500Z', 'live', NULL, 'app', 'chat', 'chat', 1, 'ok', NULL, 200, 'ordered', 1.0, '{"candidates":["openai/gpt","anthropic/haiku","local/llama"],"passed_over":[{"target":"local/llama","reason":"open"}]}', 1, 0, 1, 1, NULL, NULL, 0, 0, 40000000, 101000000, 1200000, 0, 77000000000000, 0, 0, 0, 0, 0, 77000101000000);
INSERT INTO attempts VALUES (1, 1, 'openai/gpt', 'openai', 'gpt', NULL, NULL, 'ok', NULL, 200, NULL, '', NULL, 0, 0, 'stop', 70, 20, 10, 8, 3, 'provider', NULL, NULL, 0, 0, 39800000, 6000000, 99900000, 30000000, 0, 0, 4, '{"counts":[[96,1],[100,1],[103,1]],"long_ns":[]}', 0, 77000000100000, 77000000200000, 77000040000000, 77000040000000, 77000040000000, 77000100000000, 77000100000000);
