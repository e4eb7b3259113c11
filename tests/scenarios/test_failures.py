"""Every failure x {stream, not} x {before, after content}: tries per target, what the client saw, what was recorded."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import NamedTuple

import pytest

from policies.retry import FailoverOn, Limits
from policies.verdict import Kind, Outcome
from proxy.clock import SECOND
from proxy.errors import UpstreamError
from proxy.providers.base import Decoder, Endpoint, Minted
from proxy.providers.openai import OpenAI
from proxy.upstreams import Timeouts
from proxy.wire.chat import ChatRequest
from proxy.wire.chunk import Chunk
from tests.scenarios.playbook import (
    DONE,
    HELLO,
    JSON_HEADERS,
    ROLE,
    STALL,
    STOP,
    TTFT,
    USAGE,
    WORLD,
    Break,
    Data,
    End,
    Hang,
    Head,
    Play,
    Refuse,
    Seen,
    Step,
    Wait,
    answer,
    call,
    error,
    event,
    good,
    stream_of,
)

OK = Kind.OK
BROKEN_JSON = b'data: {"choices": [{"delta": {"content": "Hel\n\n'
ERROR_EVENT = (
    b'data: {"error": {"message": "upstream text that must not leak", "type": "server_error", "code": null}}\n\n'
)
LIMIT_EVENT = b'data: {"error": {"message": "slow down", "type": "x", "code": "rate_limit_exceeded"}}\n\n'
HTML = b"<html><body>Bad gateway</body></html>"
BIG = b"data: " + b"x" * (10 * 1024 * 1024) + b"\n\n"


class Fails(NamedTuple):
    """A failure before content: the plays for stream and not, its kind, and the end when nobody else can help."""

    name: str
    stream: Play | None
    whole: Play | None
    kind: Kind
    status: int
    code: str
    alone: int = 1
    """Tries at a target that is alone."""
    outcome: Outcome = Outcome.UPSTREAM_ERROR
    spreads: bool = True
    """Another target is asked."""


def both(play: Play) -> dict[str, Play]:
    return {"stream": play, "whole": play}


def refused(status: int, **more: object) -> dict[str, Play]:
    return both(error(status, **more))  # type: ignore[arg-type]


FAILURES = [
    Fails("refuse", **both([Refuse()]), kind=Kind.CONNECT, status=502, code="upstream_unreachable", alone=2),
    Fails("connect hangs", **both([Wait(4)]), kind=Kind.CONNECT, status=502, code="upstream_unreachable", alone=2),
    Fails("reset before headers", **both([Break()]), kind=Kind.CONNECT, status=502, code="upstream_unreachable", alone=2),
    Fails(
        "hang before headers", **both([Hang()]),
        kind=Kind.TIMEOUT, status=504, code="upstream_timeout", outcome=Outcome.TIMEOUT,
    ),
    Fails(
        "slow first token", stream=[Head(), Data(ROLE), Wait(TTFT + 1), Data(HELLO)], whole=None,
        kind=Kind.TIMEOUT, status=504, code="upstream_timeout", outcome=Outcome.TIMEOUT,
    ),
    Fails(
        "comments for ever", stream=[Head(), *[Wait(5), Data(b": still here\n\n")] * 20], whole=None,
        kind=Kind.TIMEOUT, status=504, code="upstream_timeout", outcome=Outcome.TIMEOUT,
    ),
    Fails("400", **refused(400), kind=Kind.BAD_REQUEST, status=400, code="", outcome=Outcome.CLIENT_ERROR, spreads=False),
    Fails("422", **refused(422), kind=Kind.BAD_REQUEST, status=422, code="", outcome=Outcome.CLIENT_ERROR, spreads=False),
    Fails("401", **refused(401), kind=Kind.AUTH, status=502, code="upstream_auth"),
    Fails("403", **refused(403), kind=Kind.AUTH, status=502, code="upstream_auth"),
    Fails("402", **refused(402), kind=Kind.QUOTA, status=429, code="insufficient_quota", outcome=Outcome.RATE_LIMITED),
    Fails(
        "404", **refused(404, code="model_not_found"),
        kind=Kind.UNKNOWN_MODEL, status=404, code="model_not_found", outcome=Outcome.CLIENT_ERROR,
    ),
    Fails("408", **refused(408), kind=Kind.TIMEOUT, status=504, code="upstream_timeout", outcome=Outcome.TIMEOUT),
    Fails(
        "413", **refused(413), kind=Kind.CONTEXT_LENGTH, status=400, code="context_length_exceeded",
        outcome=Outcome.CLIENT_ERROR,
    ),
    Fails(
        "429", **refused(429), kind=Kind.RATE_LIMIT, status=429, code="rate_limit_exceeded", alone=2,
        outcome=Outcome.RATE_LIMITED,
    ),
    Fails(
        "429 with a short Retry-After", **refused(429, headers={"retry-after": "2"}),
        kind=Kind.RATE_LIMIT, status=429, code="rate_limit_exceeded", alone=2, outcome=Outcome.RATE_LIMITED,
    ),
    Fails(
        "429 with a long Retry-After", **refused(429, headers={"retry-after": "60"}),
        kind=Kind.RATE_LIMIT, status=429, code="rate_limit_exceeded", outcome=Outcome.RATE_LIMITED,
    ),
    Fails(
        "429 out of quota", **refused(429, code="insufficient_quota"),
        kind=Kind.QUOTA, status=429, code="insufficient_quota", outcome=Outcome.RATE_LIMITED,
    ),
    *(
        Fails(str(status), **refused(status), kind=Kind.SERVER_ERROR, status=shown, code="upstream_error", alone=2)
        for status, shown in ((500, 500), (502, 502), (503, 503), (504, 504), (529, 503))
    ),
    Fails(
        "HTML with 502", **both([Head(502, ((b"content-type", b"text/html"),)), Data(HTML), End()]),
        kind=Kind.SERVER_ERROR, status=502, code="upstream_error", alone=2,
    ),
    Fails(
        "HTML with 200", **both([Head(200, ((b"content-type", b"text/html"),)), Data(HTML), End()]),
        kind=Kind.MALFORMED, status=502, code="upstream_bad_response",
    ),
    Fails("redirect", **both([Head(302, ((b"location", b"http://elsewhere/"),)), End()]),
          kind=Kind.MALFORMED, status=502, code="upstream_bad_response"),
    Fails("empty answer", **both([Head(200, JSON_HEADERS), End()]),
          kind=Kind.MALFORMED, status=502, code="upstream_bad_response"),
    Fails("cut JSON", stream=None, whole=[Head(200, JSON_HEADERS), Data(answer()[:-20]), End()],
          kind=Kind.MALFORMED, status=502, code="upstream_bad_response"),
    Fails("wrong content length", **both([Head(200, JSON_HEADERS), Data(answer()[:-20]), Break()]),
          kind=Kind.MALFORMED, status=502, code="upstream_bad_response"),
    Fails("body stalls", stream=None, whole=[Head(200, JSON_HEADERS), Data(answer()[:-20]), Hang()],
          kind=Kind.TIMEOUT, status=504, code="upstream_timeout", outcome=Outcome.TIMEOUT),
    Fails("no choices", stream=None, whole=[Head(200, JSON_HEADERS), Data(answer(choices=[])), End()],
          kind=Kind.MALFORMED, status=502, code="upstream_bad_response"),
    Fails("no finish reason", stream=None,
          whole=[Head(200, JSON_HEADERS), Data(answer().replace(b'"stop"', b"null")), End()],
          kind=Kind.MALFORMED, status=502, code="upstream_bad_response"),
    Fails("error inside a 200", stream=None, whole=[Head(200, JSON_HEADERS), Data(ERROR_EVENT[6:]), End()],
          kind=Kind.MALFORMED, status=502, code="upstream_bad_response"),
    Fails("JSON in place of a stream", stream=[Head(200, JSON_HEADERS), Data(answer()), End()], whole=None,
          kind=Kind.MALFORMED, status=502, code="upstream_bad_response"),
    Fails("a stream in place of JSON", stream=None, whole=stream_of(ROLE, HELLO, STOP, DONE),
          kind=Kind.MALFORMED, status=502, code="upstream_bad_response"),
    Fails("cut before content", stream=[Head(), Data(ROLE), Break()], whole=None,
          kind=Kind.MALFORMED, status=502, code="upstream_bad_response"),
    Fails("clean end before content", stream=stream_of(ROLE), whole=None,
          kind=Kind.MALFORMED, status=502, code="upstream_bad_response"),
    Fails("only the end marker", stream=stream_of(DONE), whole=None,
          kind=Kind.MALFORMED, status=502, code="upstream_bad_response"),
    Fails("malformed event first", stream=stream_of(BROKEN_JSON, ROLE, HELLO, STOP, DONE), whole=None,
          kind=Kind.MALFORMED, status=502, code="upstream_bad_response"),
    Fails("error event first", stream=stream_of(ERROR_EVENT), whole=None,
          kind=Kind.MALFORMED, status=502, code="upstream_bad_response"),
    Fails("role, then an error event", stream=stream_of(ROLE, ERROR_EVENT), whole=None,
          kind=Kind.MALFORMED, status=502, code="upstream_bad_response"),
    Fails("rate limit told inside the stream", stream=stream_of(ROLE, LIMIT_EVENT), whole=None,
          kind=Kind.RATE_LIMIT, status=429, code="rate_limit_exceeded", alone=2, outcome=Outcome.RATE_LIMITED),
    Fails("a line of 10 MB", stream=[Head(), *(Data(BIG[at:at + 65536]) for at in range(0, len(BIG), 65536)), End()],
          whole=None, kind=Kind.MALFORMED, status=502, code="upstream_bad_response"),
    Fails("content-free events for ever", stream=[Head(), *[Data(event({}) * 50)] * 100], whole=None,
          kind=Kind.MALFORMED, status=502, code="upstream_bad_response"),
    Fails("not UTF-8", stream=stream_of(b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n'),
          whole=[Head(200, JSON_HEADERS), Data(answer().replace(b"Hello", b"\xff")), End()],
          kind=Kind.MALFORMED, status=502, code="upstream_bad_response"),
]  # fmt: skip

CASES = [
    pytest.param(one, stream, id=f"{one.name}-{'stream' if stream else 'whole'}")
    for one in FAILURES
    for stream in (True, False)
    if (one.stream if stream else one.whole) is not None
]


def lasted(seen: Seen) -> float:
    marks = seen.exchange.marks
    return (marks.end - marks.received) / SECOND


def play_of(one: Fails, stream: bool) -> Play:
    play = one.stream if stream else one.whole
    assert play is not None
    return play


@pytest.mark.parametrize(("one", "stream"), CASES)
def test_the_next_target_answers_and_the_client_never_knows(one: Fails, stream: bool) -> None:
    seen = call({"a": [play_of(one, stream)], "b": [good(stream)], "c": [good(stream)]}, stream=stream)
    if not one.spreads:
        assert seen.tries == ["a"]
        assert seen.status == one.status
        return
    assert (seen.tries, seen.kinds) == (["a", "b"], [one.kind, OK])
    assert seen.status == 200
    assert seen.text == "Hello world"
    assert seen.ended
    assert seen.exchange.outcome is Outcome.OK
    assert seen.headers["x-weighbridge-target"] == "b"
    assert seen.headers["x-weighbridge-attempts"] == "2"


@pytest.mark.parametrize(("one", "stream"), CASES)
def test_a_target_that_is_alone(one: Fails, stream: bool) -> None:
    seen = call({"a": [play_of(one, stream)]}, stream=stream)
    assert seen.tries == ["a"] * one.alone
    assert seen.kinds == [one.kind] * one.alone
    assert seen.status == one.status
    assert seen.exchange.status == one.status
    assert (seen.exchange.kind, seen.exchange.outcome) == (one.kind, one.outcome)
    assert seen.exchange.winner is None
    if one.code:
        assert seen.error["code"] == one.code


@pytest.mark.parametrize(("one", "stream"), CASES)
def test_a_target_that_recovers_is_asked_again_only_if_that_can_help(one: Fails, stream: bool) -> None:
    seen = call({"a": [play_of(one, stream), good(stream)]}, stream=stream)
    assert seen.status == (200 if one.alone == 2 else one.status)


@pytest.mark.parametrize(("one", "stream"), CASES)
def test_when_all_fail_the_limits_hold(one: Fails, stream: bool) -> None:
    play = play_of(one, stream)
    seen = call({name: [play] for name in "abcde"}, stream=stream)
    assert seen.tries == (list("abcd") if one.spreads else ["a"])
    assert seen.status == one.status
    if one.spreads and one.kind is not Kind.CONTEXT_LENGTH:
        assert [tried["target"] for tried in seen.error["attempts"]] == seen.tries


AFTER: dict[str, tuple[list[Step], Kind, str]] = {
    "cut": ([Data(HELLO), Break()], Kind.TRUNCATED, "upstream_truncated"),
    "clean end without a finish reason": ([Data(HELLO), End()], Kind.TRUNCATED, "upstream_truncated"),
    "end marker without a finish reason": ([Data(HELLO), Data(DONE), End()], Kind.TRUNCATED, "upstream_truncated"),
    "stall": ([Data(HELLO), Hang()], Kind.STALL, "upstream_stalled"),
    "stall behind comments": (
        [Data(HELLO), *[Wait(5), Data(b": still here\n\n")] * 20],  # type: ignore[list-item]
        Kind.STALL,
        "upstream_stalled",
    ),
    "malformed event": ([Data(HELLO), Data(BROKEN_JSON), Data(STOP), Data(DONE), End()], Kind.TRUNCATED, "upstream_truncated"),
    "error event": ([Data(HELLO), Data(ERROR_EVENT), End()], Kind.TRUNCATED, "upstream_truncated"),
    "error event, then an end marker": (
        [Data(HELLO), Data(ERROR_EVENT + DONE), End()], Kind.TRUNCATED, "upstream_truncated",
    ),
    "named error event": (
        [Data(HELLO), Data(b'event: error\ndata: {"message": "x"}\n\n'), End()], Kind.TRUNCATED, "upstream_truncated",
    ),
    "finish reason error": ([Data(HELLO), Data(event(finish="error")), Data(DONE), End()], Kind.TRUNCATED, "upstream_truncated"),
    "a line of 10 MB": (
        [Data(HELLO), *(Data(BIG[at:at + 65536]) for at in range(0, len(BIG), 65536)), End()],
        Kind.TRUNCATED, "upstream_truncated",
    ),
    "cut inside an event": ([Data(HELLO), Data(WORLD[:40]), Break()], Kind.TRUNCATED, "upstream_truncated"),
    "cut inside a character": (
        [Data(HELLO), Data(event({"content": "é"}).replace(b"\xc3\xa9", b"\xc3")[:-30]), End()],
        Kind.TRUNCATED, "upstream_truncated",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", AFTER)
def test_after_content_a_broken_answer_never_looks_whole(name: str) -> None:
    steps, kind, code = AFTER[name]
    seen = call({"a": [[Head(), Data(ROLE), *steps]], "b": [good(True)]}, stream=True)
    assert seen.tries == ["a"], "what was begun is not begun again elsewhere"
    assert seen.status == 200
    assert seen.text == "Hello"
    assert seen.events[-1]["error"]["code"] == code
    assert "upstream text" not in str(seen.events[-1])
    assert not seen.done
    assert seen.ended
    assert (seen.exchange.kind, seen.exchange.outcome) == (kind, Outcome.TRUNCATED)
    assert seen.exchange.winner is seen.exchange.attempts[0]


def test_chunks_before_a_fault_in_the_same_packet_are_handed_on_first() -> None:
    seen = call({"a": [[Head(), Data(ROLE), Data(HELLO), Data(WORLD + BROKEN_JSON), End()]]}, stream=True)
    assert seen.text == "Hello world"
    assert "error" in seen.events[-1]


HARMLESS: dict[str, list[Step]] = {
    "missing usage": stream_of(ROLE, HELLO, WORLD, STOP, DONE),
    "missing end marker": stream_of(ROLE, HELLO, WORLD, STOP),
    "cut after the finish reason": [Head(), Data(ROLE + HELLO + WORLD + STOP), Break()],
    "CRLF": stream_of(*(one.replace(b"\n", b"\r\n") for one in (ROLE, HELLO, WORLD, STOP, USAGE, DONE))),
    "comments": stream_of(b": hi\n\n", ROLE, b": hi\n\n", HELLO, b":\n\n", WORLD, STOP, DONE),
    "one byte at a time": [
        Head(), *(Data(bytes([one])) for one in ROLE + HELLO + WORLD + STOP + USAGE + DONE), End(),
    ],
    "all at once": stream_of(ROLE + HELLO + WORLD + STOP + USAGE + DONE),
    "no last empty line": stream_of(ROLE, HELLO, WORLD, STOP, DONE[:-1]),
    "no space after data": stream_of(*(one.replace(b"data: ", b"data:") for one in (ROLE, HELLO, WORLD, STOP, DONE))),
    "events after the end marker": stream_of(ROLE, HELLO, WORLD, STOP, DONE, HELLO, DONE),
    "slow, but never too slow": [
        Head(), Wait(TTFT - 1), Data(ROLE + HELLO), Wait(STALL - 1), Data(WORLD), Wait(STALL - 1), Data(STOP + DONE), End(),
    ],
    "hang after the end marker": [Head(), Data(ROLE + HELLO + WORLD + STOP + DONE), Hang()],
}  # fmt: skip


@pytest.mark.parametrize("name", HARMLESS)
@pytest.mark.parametrize("wants", [True, False])
def test_what_is_odd_but_whole_is_served(name: str, wants: bool) -> None:
    ask = {"stream_options": {"include_usage": True}} if wants else {}
    seen = call({"a": [HARMLESS[name]], "b": [good(True)]}, stream=True, ask=ask)
    assert seen.tries == ["a"]
    assert seen.text == "Hello world"
    assert seen.exchange.outcome is Outcome.OK
    assert seen.done
    assert b"usage" not in seen.body or wants
    assert seen.body.count(b"[DONE]") == 1


def test_an_empty_answer_with_a_finish_reason_is_an_answer() -> None:
    seen = call({"a": [stream_of(ROLE, STOP, DONE)], "b": [good(True)]}, stream=True)
    assert (seen.tries, seen.text, seen.done) == (["a"], "", True)


def test_every_choice_must_finish() -> None:
    two = [event({"content": "x"}), HELLO.replace(b'"index":0', b'"index":1'), STOP, DONE]
    seen = call({"a": [stream_of(ROLE, *two)]}, stream=True, ask={"n": 2})
    assert seen.exchange.kind is Kind.TRUNCATED
    assert not seen.done


def test_the_smallest_retry_after_reaches_the_client() -> None:
    plays = {
        "a": [error(429, {"retry-after": "30"})],
        "b": [error(429, {"retry-after-ms": "7500"})],
        "c": [error(429, {"retry-after": "Wed, 21 Oct 2026 07:28:20 GMT", "date": "Wed, 21 Oct 2026 07:28:00 GMT"})],
    }
    seen = call(plays, stream=False)
    assert seen.status == 429
    assert (seen.headers["retry-after"], seen.headers["retry-after-ms"]) == ("8", "7500")
    assert [attempt.retry_after for attempt in seen.exchange.attempts] == [30.0, 7.5, 20.0]


@pytest.mark.parametrize("status", [401, 402, 404])
def test_the_sdk_is_told_not_to_try_what_cannot_help(status: int) -> None:
    assert call({"a": [error(status)]}, stream=False).headers["x-should-retry"] == "false"


def test_a_short_retry_after_is_waited_for() -> None:
    seen = call({"a": [error(429, {"retry-after": "2"}), good(False)]}, stream=False)
    assert seen.status == 200
    assert 2 * SECOND <= seen.exchange.attempts[1].wait_ns <= 2.2 * SECOND


def test_the_original_400_reaches_the_client_unchanged() -> None:
    play = error(
        400, message="max_tokens is too large", type="invalid_request_error", param="max_tokens", code="invalid_value"
    )
    data = next(step.data for step in play if isinstance(step, Data))
    seen = call({"a": [play], "b": [good(False)]}, stream=False)
    assert seen.body == data


def test_a_bad_request_goes_elsewhere_where_the_route_says_so() -> None:
    plays = {"a": [error(400)], "b": [good(False)]}
    seen = call(plays, stream=False, failover_on=FailoverOn(bad_request=True))
    assert (seen.tries, seen.status) == (["a", "b"], 200)


@pytest.mark.parametrize(("allowed", "tries"), [(False, ["a"]), (True, ["a", "b"])])
def test_a_content_filter_goes_elsewhere_only_where_the_route_says_so(allowed: bool, tries: list[str]) -> None:
    plays = {"a": [error(400, code="content_filter")], "b": [good(False)]}
    assert call(plays, stream=False, failover_on=FailoverOn(content_filter=allowed)).tries == tries


def test_a_prompt_too_long_goes_only_to_targets_not_known_to_be_as_small() -> None:
    too_long = error(400, code="context_length_exceeded")
    plays = {"a": [too_long], "b": [good(False)], "c": [good(False)]}
    seen = call(plays, stream=False, windows={"a": 8000, "b": 8000, "c": 128000})
    assert seen.tries == ["a", "c"]
    seen = call(plays, stream=False, windows={"a": 8000, "b": 4000, "c": 8000})
    assert (seen.tries, seen.status, seen.error["code"]) == (["a"], 400, "context_length_exceeded")
    seen = call(plays, stream=False, failover_on=FailoverOn(context_length=False))
    assert seen.tries == ["a"]


def test_limits_of_tries() -> None:
    plays = {name: [error(503)] for name in "ab"}
    assert call(plays, stream=False).tries == ["a", "b", "a", "b"]
    assert call(plays, stream=False, limits=Limits(2, 3)).tries == ["a", "b", "a"]
    assert call(plays, stream=False, limits=Limits(1, 4)).tries == ["a", "b"]


def test_the_total_deadline_is_shared_by_the_targets_left() -> None:
    timeouts = Timeouts(total=12 * SECOND)
    seen = call({name: [[Hang()]] for name in "abc"}, stream=True, timeouts=timeouts)
    assert (seen.tries, seen.status) == (["a", "b", "c"], 504)
    shares = [(one.marks.end - one.marks.received) / SECOND for one in seen.exchange.attempts]
    assert shares == [pytest.approx(4, abs=0.01)] * 3


def test_the_total_deadline_ends_a_stream_that_goes_on_for_ever() -> None:
    timeouts = Timeouts(total=12 * SECOND)
    seen = call({"a": [[Head(), Data(ROLE), *[Data(HELLO), Wait(1)] * 100]]}, stream=True, timeouts=timeouts)  # type: ignore[list-item]
    assert seen.text == "Hello" * 12
    assert "error" in seen.events[-1]
    assert not seen.done


def test_reasoning_requests_may_think_longer() -> None:
    play = [Head(), Data(ROLE), Wait(100), Data(HELLO + STOP + DONE), End()]
    assert call({"a": [play]}, stream=True).status == 504
    assert call({"a": [play]}, stream=True, ask={"reasoning_effort": "high"}).status == 200


GONE: dict[str, Callable[[bool], Play]] = {
    "before the connection": lambda stream: [Wait(2.5), *good(stream)],
    "before headers": lambda stream: [Hang()],
    "before content": lambda stream: [Head(), Data(ROLE), Hang()] if stream else [Head(200, JSON_HEADERS), Hang()],
    "inside a body": lambda stream: [Head(), Data(ROLE + HELLO), Hang()] if stream else [
        Head(200, JSON_HEADERS), Data(answer()[:20]), Hang(),
    ],
    "during a pause": lambda stream: error(429, {"retry-after": "5"}),
    "during an error": lambda stream: [Head(503, JSON_HEADERS), Hang()],
}  # fmt: skip


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("name", GONE)
def test_a_client_that_leaves_is_never_held_against_the_upstream(name: str, stream: bool) -> None:
    seen = call({"a": [GONE[name](stream)]}, stream=stream, gone_after=2.0)
    assert not seen.ended
    assert (seen.exchange.kind, seen.exchange.outcome) == (Kind.DOWNSTREAM_CLOSED, Outcome.CLIENT_CLOSED)
    expected = Kind.RATE_LIMIT if name == "during a pause" else Kind.DOWNSTREAM_CLOSED
    assert seen.kinds == [expected]
    assert lasted(seen) == pytest.approx(2.0, abs=0.01)


def test_a_client_that_does_not_read_is_given_up() -> None:
    plays = {"a": [[Head(), Data(ROLE), *[Data(HELLO), Wait(1)] * 100]]}
    seen = call(plays, stream=True, slow_reader=True)  # type: ignore[arg-type]
    assert not seen.ended
    assert seen.exchange.outcome is Outcome.CLIENT_CLOSED
    assert lasted(seen) == pytest.approx(60, rel=0.01)


@pytest.mark.parametrize("stream", [True, False])
def test_a_drain_before_content_is_a_503_that_may_be_tried_again(stream: bool) -> None:
    seen = call({"a": [[Hang()]], "b": [good(stream)]}, stream=stream, drain_after=1.0)
    assert (seen.status, seen.tries) == (503, ["a"])
    assert seen.headers["retry-after"] == "1"


def test_a_drain_in_the_middle_of_a_stream_says_so() -> None:
    seen = call({"a": [[Head(), Data(ROLE + HELLO), Hang()]]}, stream=True, drain_after=1.0)
    assert "shutting down" in seen.events[-1]["error"]["message"]
    assert seen.events[-1]["error"]["code"] == "shutting_down"
    assert not seen.done
    assert seen.exchange.outcome is Outcome.INTERNAL_ERROR


def test_what_was_asked_upstream() -> None:
    seen = call({"a": [good(True)]}, stream=True)
    ((_, body),) = seen.stage.requests
    assert body == (
        b'{"model":"m-1","messages":[{"role":"user","content":"Say hello"}],"stream":true'
        b',"stream_options":{"include_usage":true}}'
    )
    usage = seen.exchange.attempts[0].usage
    assert usage is not None
    assert (usage.input, usage.output) == (5, 2)
    assert b"usage" not in seen.body


class Unread(OpenAI):
    """A dialect with a fault of its own: it cannot read answers of the target `a` from their third piece on."""

    def decoder(self, ask: ChatRequest, to: Endpoint, minted: Minted) -> Decoder:
        decoder = super().decoder(ask, to, minted)
        if to.provider != "a":
            return decoder

        class Broken:
            pieces = 0

            def __getattr__(self, name: str) -> object:
                return getattr(decoder, name)

            def feed(self, data: bytes) -> list[Chunk]:
                self.pieces += 1
                if self.pieces >= BREAKS_AT:
                    raise TypeError("unhashable type: 'list'")
                return list(decoder.feed(data))

        return Broken()  # type: ignore[return-value]


BREAKS_AT = 3


@pytest.mark.parametrize("content", [False, True])
def test_a_fault_in_reading_an_answer_is_no_answer(content: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Before content another target is asked; after it the client is told. The log has the traceback."""
    events = [ROLE, HELLO, WORLD, STOP, DONE] if content else [ROLE, ROLE, HELLO, STOP, DONE]
    seen = call({"a": [stream_of(*events)], "b": [good(True)]}, stream=True, provider=Unread())
    assert "TypeError" in caplog.text
    if content:
        assert (seen.kinds, seen.exchange.outcome) == ([Kind.TRUNCATED], Outcome.TRUNCATED)
        assert seen.events[-1]["error"]["code"] == "upstream_truncated"
        assert not seen.done
    else:
        assert (seen.tries, seen.kinds, seen.status) == (["a", "b"], [Kind.MALFORMED, Kind.OK], 200)
        assert seen.done


def test_a_stream_that_breaks_leaves_no_cycle_behind() -> None:
    """What was read of it, often megabytes, would stay until the collector comes by, which counts objects, not bytes."""
    for events in ([ROLE, HELLO, b"data: }{\n\n"], [ROLE, HELLO, WORLD + b"data: }{\n\n"]):
        gc.collect()
        gc.disable()
        try:
            seen = call({"a": [stream_of(*events)]}, stream=True)
            assert seen.kinds == [Kind.TRUNCATED]
            gc.set_debug(gc.DEBUG_SAVEALL)
            gc.collect()
            assert not [one for one in gc.garbage if isinstance(one, UpstreamError)]
        finally:
            gc.set_debug(0)
            gc.garbage.clear()
            gc.enable()
