"""OpenTelemetry: one SERVER span for each exchange, with one CLIENT span for each attempt under it.

Made from the sealed record by a thread of its own, so a request pays for one append to a queue (the SDK's own
instrumentation would cost it 23 us a span, ten times that where chunks are spans). Nothing is imported unless
`otel.endpoint` is configured; the packages are those of the extra `[otel]`. Attributes follow the GenAI conventions
where these have a name, else they begin with `weighbridge.`; there is no text of clients or providers in them.

An attempt's span has the id that its `traceparent` told the upstream, so the upstream's own spans hang from it.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from random import Random
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from policies.verdict import Kind, Outcome
from proxy import __version__
from proxy.measure import timing
from proxy.measure.recent import FAILED
from proxy.record import Attempt, Exchange

log = logging.getLogger(__name__)

CAPACITY = 10_000
BATCH = 200
"""Exchanges a message."""
LINGER_SECONDS = 1.0
"""How long the first of a batch waits for others."""

PROVIDERS = {
    "azure": "azure.ai.openai",
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "vertex": "gcp.vertex_ai",
    "xai": "x_ai",
}
"""`gen_ai.provider.name` where it is not our name; others keep theirs."""

OPERATIONS = {"responses": "chat", "messages": "chat", "completions": "text_completion"}
"""`gen_ai.operation.name` where it is not our name."""

Attributes = Mapping[str, Any]


class Spans:
    """A sink. Full or refused: the spans are lost, and counted."""

    def __init__(self, exporter: SpanExporter, *, sample: float, service: str, rng: Random) -> None:
        """`sample`: the share of traces that are kept, for requests that come without one; others say so themselves."""
        self._exporter = exporter
        self._sample = sample
        self._resource = Resource.create({"service.name": service, "service.version": __version__})
        self._rng = rng
        self._queue: deque[Exchange] = deque()
        self._lost = {"queue_full": 0, "not_sent": 0}
        self._wake = threading.Event()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="weighbridge-spans", daemon=True)
        self._thread.start()

    @classmethod
    def to(cls, endpoint: str, headers: Mapping[str, str], **settings: Any) -> Spans:
        """Over OTLP and HTTP; `OTEL_EXPORTER_OTLP_*` variables say what is not said here (certificates, timeout)."""
        return cls(OTLPSpanExporter(f"{endpoint.rstrip('/')}/v1/traces", headers=dict(headers) or None), **settings)

    def accept(self, exchange: Exchange) -> None:
        if len(self._queue) >= CAPACITY:
            self._lost["queue_full"] += 1
            return
        self._queue.append(exchange)
        if len(self._queue) == BATCH:
            self._wake.set()

    def losses(self) -> Mapping[str, int]:
        """Exchanges whose spans were lost: `queue_full`, or `not_sent` for what the collector did not take."""
        return self._lost

    def close(self, seconds: float = 5.0) -> None:
        """Send what waits, for at most so long."""
        self._ending = True
        self._wake.set()
        self._thread.join(seconds)
        self._exporter.shutdown()

    def _run(self) -> None:
        while not self._ending:
            self._wake.wait(LINGER_SECONDS)
            self._wake.clear()
            while self._queue:
                self._send([self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))])

    def _send(self, batch: list[Exchange]) -> None:
        spans = [span for exchange in batch for span in self._spans(exchange)]
        try:
            sent = not spans or self._exporter.export(spans) is SpanExportResult.SUCCESS
        except Exception:
            log.exception("the spans of %d requests were not sent", len(batch))
            sent = False
        if not sent:
            self._lost["not_sent"] += len(batch)

    def _spans(self, exchange: Exchange) -> Iterator[ReadableSpan]:
        """None of them where the trace is not sampled."""
        trace = exchange.trace
        if trace is None:
            trace_id, parent = self._rng.getrandbits(128) or 1, None
            sampled = self._rng.random() < self._sample
        else:
            trace_id, sampled = int(trace.trace_id, 16), bool(int(trace.flags, 16) & 1)
            parent = SpanContext(trace_id, int(trace.parent_id, 16), is_remote=True, trace_flags=_SAMPLED)
        if not sampled:
            return
        here = SpanContext(trace_id, self._rng.getrandbits(64) or 1, is_remote=False, trace_flags=_SAMPLED)
        received = exchange.marks.received
        at = round(exchange.at * 1e9)

        def wall(ns: int) -> int:
            return at + ns - received

        yield ReadableSpan(
            name=f"POST {exchange.route or 'direct'}",
            context=here,
            parent=parent,
            resource=self._resource,
            kind=SpanKind.SERVER,
            attributes=_exchange_attributes(exchange),
            status=_status(exchange.outcome, exchange.kind),
            start_time=at,
            end_time=wall(exchange.marks.end),
        )
        operation = OPERATIONS.get(exchange.operation, exchange.operation)
        for attempt in exchange.attempts:
            marks = attempt.marks
            yield ReadableSpan(
                name=f"{operation} {attempt.model}",
                context=SpanContext(trace_id, self._span_id(attempt), is_remote=False, trace_flags=_SAMPLED),
                parent=here,
                resource=self._resource,
                kind=SpanKind.CLIENT,
                attributes=_attempt_attributes(attempt, operation, stream=exchange.stream),
                events=[Event("first_content", timestamp=wall(marks.first_content))] if marks.first_content else (),
                status=_status(attempt.outcome, attempt.kind),
                start_time=wall(marks.received),
                end_time=wall(marks.end or exchange.marks.end),
            )

    def _span_id(self, attempt: Attempt) -> int:
        for name, value in attempt.trace_headers:
            if name == b"traceparent":
                return int(value[36:52], 16)
        return self._rng.getrandbits(64) or 1


_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


def _status(outcome: Outcome, kind: Kind) -> Status:
    return Status(StatusCode.ERROR, kind.value) if outcome in FAILED else Status()


def _exchange_attributes(exchange: Exchange) -> Attributes:
    decision = exchange.decision
    return _known(
        {
            "http.request.method": "POST",
            "http.response.status_code": exchange.status or None,
            "error.type": None if exchange.kind is Kind.OK else exchange.kind.value,
            "weighbridge.exchange.id": exchange.id,
            "weighbridge.origin": exchange.origin.value,
            "weighbridge.parent_exchange.id": exchange.parent_id,
            "weighbridge.route": exchange.route,
            "weighbridge.key": exchange.key,
            "weighbridge.outcome": exchange.outcome.value,
            "weighbridge.attempts": len(exchange.attempts),
            "weighbridge.target": exchange.winner.target if exchange.winner is not None else None,
            "weighbridge.policy": decision.policy if decision is not None else None,
            "weighbridge.propensity": decision.propensity if decision is not None else None,
            "weighbridge.overhead_ms": _ms(timing.overhead(exchange)),
            "weighbridge.ttft_ms": _ms(timing.exchange_ttft(exchange)),
        }
    )


def _attempt_attributes(attempt: Attempt, operation: str, *, stream: bool) -> Attributes:
    usage = attempt.usage
    times = timing.attempt_times(attempt, stream=stream)
    return _known(
        {
            "gen_ai.operation.name": operation or None,
            "gen_ai.provider.name": PROVIDERS.get(attempt.provider, attempt.provider),
            "gen_ai.request.model": attempt.model,
            "gen_ai.response.model": attempt.response_model,
            "gen_ai.response.finish_reasons": (attempt.finish_reason,) if attempt.finish_reason else None,
            "gen_ai.usage.input_tokens": usage.input if usage is not None else None,
            "gen_ai.usage.output_tokens": usage.output if usage is not None else None,
            "gen_ai.usage.cache_read.input_tokens": usage.cache_read if usage is not None else None,
            "gen_ai.usage.cache_creation.input_tokens": usage.cache_write if usage is not None else None,
            "http.response.status_code": attempt.status,
            "error.type": None if attempt.kind is Kind.OK else attempt.kind.value,
            "weighbridge.target": attempt.target,
            "weighbridge.attempt_no": attempt.no,
            "weighbridge.outcome": attempt.outcome.value,
            "weighbridge.ttft_ms": _ms(times.ttft_ns),
            "weighbridge.stalls": times.stall_count,
            "weighbridge.wait_ms": _ms(attempt.wait_ns or None),
            "weighbridge.cost_usd": attempt.cost_usd,
            "weighbridge.cost_source": attempt.cost_source,
            "weighbridge.upstream_request.id": attempt.upstream_id,
        }
    )


def _known(attributes: Mapping[str, Any]) -> Attributes:
    return {name: value for name, value in attributes.items() if value is not None}


def _ms(ns: int | None) -> float | None:
    return None if ns is None else ns / 1e6
