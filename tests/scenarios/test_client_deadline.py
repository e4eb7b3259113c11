"""A client that says how long it waits is answered by then, and every upstream is told what is left of it."""

from __future__ import annotations

import pytest

from policies.retry import Limits
from policies.verdict import Health, Kind, Outcome
from proxy.upstreams import Timeouts
from tests.scenarios.playbook import HELLO, ROLE, SECOND, Data, Head, Wait, call, error, good

SILENT = [Head(), Wait(700)]


def told(seen: object) -> list[bytes | None]:
    return [dict(extra).get(b"x-weighbridge-timeout") for extra in seen.stage.extra]  # type: ignore[attr-defined]


@pytest.mark.parametrize("stream", [True, False])
def test_the_remainder_goes_to_each_attempt(stream: bool) -> None:
    head, *rest = error(503)
    slow = [head, Wait(2), *rest]
    seen = call({"a": [slow], "b": [good(stream)]}, stream=stream, headers={"x-weighbridge-timeout": "20s"})
    assert seen.tries == ["a", "b"]
    assert told(seen) == [b"20000ms", b"18000ms"]


def test_the_route_s_own_limit_is_told_where_it_is_shorter() -> None:
    seen = call(
        {"a": [good(True)]}, stream=True, headers={"x-weighbridge-timeout": "30"}, timeouts=Timeouts(total=8 * SECOND)
    )
    assert told(seen) == [b"8000ms"]


def test_who_says_nothing_has_nothing_said() -> None:
    assert told(call({"a": [good(True)]}, stream=True)) == [None]


@pytest.mark.parametrize("stream", [True, False])
def test_the_answer_comes_by_then(stream: bool) -> None:
    seen = call({"a": [SILENT], "b": [SILENT]}, stream=stream, headers={"x-weighbridge-timeout": "3s"})
    assert seen.status == 504
    assert seen.exchange.marks.end - seen.exchange.marks.received == 3 * SECOND
    assert seen.kinds == [Kind.TIMEOUT] * 2
    assert [one.health for one in seen.exchange.attempts] == [Health.NEUTRAL] * 2
    assert (seen.exchange.outcome, seen.error["code"]) == (Outcome.TIMEOUT, "upstream_timeout")
    assert seen.tries == ["a", "b"], "each had its share"


def test_what_is_late_by_our_own_limits_is_the_target_s_fault_all_the_same() -> None:
    late = Timeouts(ttft=2 * SECOND, stall=2 * SECOND)
    seen = call({"a": [SILENT]}, stream=True, headers={"x-weighbridge-timeout": "30s"}, timeouts=late)
    assert [one.health for one in seen.exchange.attempts] == [Health.FAILURE]
    stalled = [Head(), Data(ROLE + HELLO), Wait(50)]
    seen = call({"a": [stalled]}, stream=True, headers={"x-weighbridge-timeout": "30s"}, timeouts=late)
    assert [one.health for one in seen.exchange.attempts] == [Health.FAILURE]
    short = Timeouts(total=3 * SECOND)
    seen = call({"a": [SILENT]}, stream=True, headers={"x-weighbridge-timeout": "9s"}, timeouts=short)
    assert [one.health for one in seen.exchange.attempts] == [Health.FAILURE]


def test_a_stream_that_the_client_s_limit_ends_is_no_failure_of_the_target() -> None:
    stalled = [Head(), Data(ROLE + HELLO), Wait(50)]
    seen = call({"a": [stalled]}, stream=True, headers={"x-weighbridge-timeout": "3s"})
    (one,) = seen.exchange.attempts
    assert (one.kind, one.health, seen.done) == (Kind.STALL, Health.NEUTRAL, False)
    assert "the client's own limit" in one.detail


def test_it_cannot_make_the_proxy_wait_longer() -> None:
    seen = call(
        {"a": [SILENT]}, stream=True, headers={"x-weighbridge-timeout": "1h"},
        timeouts=Timeouts(total=5 * SECOND, ttft=9 * SECOND), limits=Limits(1, 1),
    )  # fmt: skip
    assert seen.exchange.marks.end - seen.exchange.marks.received == 5 * SECOND


@pytest.mark.parametrize("text", ["soon", "-3s", "0", "1e9x", ""])
def test_what_is_no_time_is_refused(text: str) -> None:
    seen = call({"a": [good(True)]}, stream=True, headers={"x-weighbridge-timeout": text})
    if text:
        assert (seen.status, seen.error["code"]) == (400, "invalid_timeout")
    else:
        assert seen.status == 200
