from __future__ import annotations

import pytest

from proxy.wire.chunk import CONTENT, Chunk, answers
from proxy.wire.trace import Trace, trace_of

GOOD = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_trace_goes_on_with_a_span_of_our_own() -> None:
    found = trace_of(GOOD, b"vendor=1")
    assert found == Trace("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "01", b"vendor=1")
    assert found.headers(0xABC) == (
        (b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-0000000000000abc-01"),
        (b"tracestate", b"vendor=1"),
    )
    assert Trace("a" * 32, "b" * 16, "00").headers(1) == ((b"traceparent", b"00-" + b"a" * 32 + b"-%016x-00" % 1),)


@pytest.mark.parametrize(
    "header",
    [
        b"", b"x", GOOD.upper(), GOOD + b"-more", b"ff" + GOOD[2:], b" " + GOOD, GOOD[:-1],
        GOOD.replace(b"0af7651916cd43dd8448eb211c80319c", b"0" * 32), GOOD.replace(b"b7ad6b7169203331", b"0" * 16),
        GOOD.replace(b"0af", b"0ag"),
    ],
)  # fmt: skip
def test_what_is_not_valid_is_as_if_it_were_not_there(header: bytes) -> None:
    assert trace_of(header) is None


def test_a_later_version_may_say_more_and_a_long_state_is_left_out() -> None:
    assert trace_of(b"01" + GOOD[2:] + b"-more") is not None
    found = trace_of(GOOD, b"x" * 513)
    assert found is not None
    assert found.state == b""


@pytest.mark.parametrize(
    ("delta", "is_answer"),
    [
        ({"content": "a"}, True),
        ({"reasoning_content": "a"}, False),
        ({"role": "assistant", "content": "", "reasoning": "a"}, False),
        ({"reasoning_content": "a", "content": "b"}, True),
        ({"tool_calls": [{"index": 0}]}, True),
        ({"refusal": "no"}, True),
    ],
)
def test_reasoning_alone_is_no_answer(delta: dict[str, object], is_answer: bool) -> None:
    assert answers(Chunk(CONTENT, b"", {"choices": [{"index": 0, "delta": delta}]})) is is_answer
