"""The client's trace goes on to every attempt, is answered with the span that answered, and is in the record."""

from __future__ import annotations

from tests.scenarios.playbook import (
    DONE,
    HELLO,
    ROLE,
    STOP,
    Data,
    End,
    Head,
    Wait,
    call,
    error,
    event,
    good,
)

TRACE = "0af7651916cd43dd8448eb211c80319c"
SENT = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "tracestate": "a=1"}


def test_each_attempt_is_a_span_of_the_clients_trace() -> None:
    seen = call({"a": [error(500)], "b": [good(False)]}, stream=False, headers=SENT)
    sent = [dict(extra) for extra in seen.stage.extra]
    parents = [one[b"traceparent"].decode() for one in sent]
    assert [parent[:36] for parent in parents] == [f"00-{TRACE}-"] * 2
    assert len({parent[36:52] for parent in parents} | {"b7ad6b7169203331"}) == 3
    assert [one[b"tracestate"] for one in sent] == [b"a=1"] * 2
    assert seen.headers["traceparent"] == parents[1]
    assert "tracestate" not in seen.headers
    assert seen.exchange.trace is not None
    assert seen.exchange.trace.trace_id == TRACE


def test_without_a_trace_none_is_begun() -> None:
    for headers in ({}, {"traceparent": "00-junk"}):
        seen = call({"a": [good(False)]}, stream=False, headers=headers)
        assert seen.stage.extra == [()]
        assert "traceparent" not in seen.headers
        assert seen.exchange.trace is None


def test_reasoning_comes_first_and_the_answer_is_timed_by_itself() -> None:
    thought = event({"reasoning_content": "Hm"})
    play = [Head(), Data(ROLE + thought), Wait(2), Data(thought), Wait(3), Data(HELLO), Data(STOP), Data(DONE), End()]
    seen = call({"a": [play]}, stream=True)
    (attempt,) = seen.exchange.attempts
    first, answer = attempt.marks.first_content, attempt.marks.first_answer
    assert answer - first == 5_000_000_000
    assert seen.exchange.marks.first_answer == answer
    assert seen.exchange.relays == 3
    assert seen.exchange.relay_ns == 0
