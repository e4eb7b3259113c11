"""Spans from sealed exchanges: in memory, and over OTLP to a collector on the loopback."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from policies.verdict import Kind
from proxy.measure import spans as module
from proxy.measure.spans import Spans
from proxy.record import Exchange
from proxy.wire.trace import trace_of
from tests import processes
from tests.measure.records import AT, MS, TARGETS, USAGE, attempt, exchange, streamed, used

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"


def made(*exchanges: Exchange, sample: float = 1.0) -> list[ReadableSpan]:
    exporter = InMemorySpanExporter()
    sink = Spans(exporter, sample=sample, service="weighbridge", rng=Random(1))
    for one in exchanges:
        sink.accept(one)
    sink.close()
    assert sum(sink.losses().values()) == 0
    return [*exporter.get_finished_spans()]


def failed_over() -> Exchange:
    bad = attempt(TARGETS[0], Kind.SERVER_ERROR, end_ms=20)
    bad.status = 503
    good = used(streamed(attempt(TARGETS[1], no=2, begun_ms=20.5)))
    good.cost_usd, good.cost_source, good.finish_reason = 0.5, "table", "stop"
    return exchange(bad, good, stream=True)


def test_one_server_span_with_a_client_span_for_each_attempt() -> None:
    server, bad, good = made(failed_over())
    assert [span.kind for span in (server, bad, good)] == [SpanKind.SERVER, SpanKind.CLIENT, SpanKind.CLIENT]
    assert server.parent is None
    assert server.context is not None
    assert all(span.parent == server.context for span in (bad, good))
    assert len({span.context.span_id for span in (server, bad, good) if span.context}) == 3
    assert server.start_time == round(AT * 1e9)
    assert server.end_time == server.start_time + 101 * MS
    assert good.start_time == server.start_time + round(20.5 * MS)
    assert [event.timestamp for event in good.events] == [server.start_time + 40 * MS]
    assert (bad.status.status_code, bad.status.description) == (StatusCode.ERROR, "server_error")
    assert server.status.status_code is good.status.status_code is StatusCode.UNSET


def test_what_the_spans_say() -> None:
    server, bad, good = (dict(span.attributes or {}) for span in made(failed_over()))
    assert server["weighbridge.exchange.id"] == "req_1"
    assert (server["weighbridge.attempts"], server["weighbridge.target"]) == (2, TARGETS[1])
    assert (bad["error.type"], bad["http.response.status_code"]) == ("server_error", 503)
    assert "gen_ai.usage.input_tokens" not in bad
    assert good["gen_ai.operation.name"] == "chat"
    assert (good["gen_ai.provider.name"], good["gen_ai.request.model"]) == ("anthropic", "haiku")
    assert good["gen_ai.usage.input_tokens"] == USAGE.input == 100
    assert good["gen_ai.usage.cache_read.input_tokens"] == USAGE.cache_read
    assert good["gen_ai.usage.output_tokens"] == USAGE.output == 11
    assert (good["weighbridge.cost_usd"], good["gen_ai.response.finish_reasons"]) == (0.5, ("stop",))
    assert "error.type" not in good


def test_the_operation_is_named_as_the_conventions_do() -> None:
    for operation, name in (("messages", "chat"), ("completions", "text_completion"), ("embeddings", "embeddings")):
        _, span = made(exchange(used(attempt()), operation=operation))
        assert span.attributes is not None
        assert span.attributes["gen_ai.operation.name"] == name
        assert span.name == f"{name} gpt"


def test_it_goes_on_with_the_clients_trace_and_the_upstreams_span() -> None:
    one = failed_over()
    one.trace = trace_of(f"00-{TRACE}-{PARENT}-01".encode())
    assert one.trace is not None
    for number, tried in enumerate(one.attempts, 1):
        tried.trace_headers = one.trace.headers(0xAB00 + number)
    server, bad, good = made(one, sample=0.0)
    assert {f"{span.context.trace_id:032x}" for span in (server, bad, good) if span.context} == {TRACE}
    assert server.parent is not None
    assert f"{server.parent.span_id:016x}" == PARENT
    assert [span.context.span_id for span in (bad, good) if span.context] == [0xAB01, 0xAB02]


def test_what_is_not_sampled_is_not_sent() -> None:
    one = failed_over()
    one.trace = trace_of(f"00-{TRACE}-{PARENT}-00".encode())
    assert made(one) == []
    assert made(failed_over(), sample=0.0) == []
    kept = made(*(failed_over() for _ in range(400)), sample=0.25)
    assert 60 < len(kept) / 3 < 140  # five standard deviations


class Refusing(SpanExporter):
    """Raises, or says that it failed."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        if self._error is not None:
            raise self._error
        return SpanExportResult.FAILURE


@pytest.mark.parametrize("error", [None, OSError("nobody there")])
def test_what_is_not_taken_is_counted(error: Exception | None) -> None:
    sink = Spans(Refusing(error), sample=1.0, service="s", rng=Random(1))
    sink.accept(failed_over())
    sink.close()
    assert sink.losses() == {"queue_full": 0, "not_sent": 1}


def test_a_full_queue_loses_the_newest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CAPACITY", 3)
    monkeypatch.setattr(module, "LINGER_SECONDS", 60.0)
    exporter = InMemorySpanExporter()
    sink = Spans(exporter, sample=1.0, service="s", rng=Random(1))
    for _ in range(5):
        sink.accept(failed_over())
    assert sink.losses()["queue_full"] == 2
    sink.close()
    assert len(exporter.get_finished_spans()) == 9


@contextmanager
def collector() -> Iterator[tuple[int, list[tuple[str, dict[str, str], bytes]]]]:
    """Its port, and what was posted to it: path, headers, body."""
    got: list[tuple[str, dict[str, str], bytes]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            got.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *args: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1], got
        server.shutdown()


def test_a_real_proxy_tells_a_real_collector(tmp_path: Path) -> None:
    with collector() as (port, got), processes.upstream(tmp_path / "up", "--tokens", "5") as upstream:
        config = {
            "otel": {"endpoint": f"http://127.0.0.1:{port}", "headers": {"x-tenant": "a"}, "service": "mine"},
            "providers": {"up": {"dialect": "openai", "base_url": f"{upstream.base_url}/v1", "api_key": None}},
            "routes": {"chat": {"targets": ["up/m"]}},
        }
        with processes.proxy(config, tmp_path) as proxy:
            chat = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
            answer = proxy.ask("/v1/chat/completions", chat, headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
            assert answer.status == 200
    ((path, headers, body),) = got
    assert path == "/v1/traces"
    assert headers["x-tenant"] == "a"
    (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    assert {"mine"} <= {attribute.value.string_value for attribute in resource.resource.attributes}
    server, client = (span for scope in resource.scope_spans for span in scope.spans)
    assert server.trace_id.hex() == client.trace_id.hex() == TRACE
    assert server.parent_span_id.hex() == PARENT
    assert client.parent_span_id == server.span_id
    told = {one.key: one.value.string_value for one in server.attributes}
    assert told["weighbridge.exchange.id"] == answer.headers["x-request-id"]
