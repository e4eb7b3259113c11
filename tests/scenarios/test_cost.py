"""What a request costs: the sum over its attempts, in the header, beside the usage of a stream, and in the record."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.prices.book import Book, Price
from proxy.prices.tariff import Tariff
from tests.scenarios.playbook import (
    DONE,
    HELLO,
    JSON_HEADERS,
    ROLE,
    STOP,
    USAGE,
    Break,
    Data,
    End,
    Head,
    Seen,
    answer,
    call,
    good,
    stream_of,
)

ASKED = {"stream_options": {"include_usage": True}}


def price(input: float, output: float) -> Price:
    tariff = Tariff({"input": input, "output": output}, source="config", version="config 1")
    return Book({"x": tariff}).price("x", "x", name="x")


PRICES = {"a": price(1, 10), "b": price(100, 1000)}
USED = (5 * 1 + 2 * 10) / 1e6
"""`answer` and `USAGE` tell 5 prompt and 2 completion tokens."""


def usage_events(seen: Seen) -> list[dict[str, Any]]:
    events = [orjson.loads(line[6:]) for line in seen.body.split(b"\n\n") if line.startswith(b"data: {")]
    return [event for event in events if event.get("usage")]


def test_an_answer_that_is_not_streamed_says_what_it_cost() -> None:
    seen = call({"a": [good(False)]}, stream=False, prices=PRICES)
    assert seen.headers["x-weighbridge-cost-usd"] == "0.000025"
    (attempt,) = seen.exchange.attempts
    assert (attempt.cost_usd, attempt.cost_source, attempt.price_version) == (
        pytest.approx(USED),
        "config",
        "config 1",
    )


def test_without_a_price_nothing_is_said() -> None:
    seen = call({"a": [good(False)]}, stream=False)
    assert "x-weighbridge-cost-usd" not in seen.headers
    (attempt,) = seen.exchange.attempts
    assert (attempt.cost_usd, attempt.cost_source, attempt.price_version) == (None, None, None)


def test_a_stream_that_asked_for_usage_gets_the_cost_with_it() -> None:
    seen = call({"a": [stream_of(ROLE, HELLO, STOP, USAGE, DONE)]}, stream=True, ask=ASKED, prices=PRICES)
    assert "x-weighbridge-cost-usd" not in seen.headers
    (told,) = usage_events(seen)
    assert told["cost"] == told["usage"]["cost"] == pytest.approx(USED)
    assert seen.body == ROLE + HELLO + STOP + b"data: %b\n\n" % orjson.dumps(told) + DONE
    assert seen.exchange.attempts[0].cost_usd == pytest.approx(USED)


def test_a_stream_without_a_price_stays_byte_for_byte() -> None:
    events = (ROLE, HELLO, STOP, USAGE, DONE)
    assert call({"a": [stream_of(*events)]}, stream=True, ask=ASKED).body == b"".join(events)


def test_what_the_provider_says_it_charges_stays_as_it_came() -> None:
    told = USAGE.replace(b'"completion_tokens"', b'"cost": 0.5, "completion_tokens"')
    seen = call({"a": [stream_of(ROLE, HELLO, STOP, told, DONE)]}, stream=True, ask=ASKED, prices=PRICES)
    assert seen.body == ROLE + HELLO + STOP + told + DONE
    (attempt,) = seen.exchange.attempts
    assert (attempt.cost_usd, attempt.cost_source, attempt.price_version) == (0.5, "provider", None)


def test_who_did_not_ask_for_usage_is_told_no_cost() -> None:
    seen = call({"a": [stream_of(ROLE, HELLO, STOP, USAGE, DONE)]}, stream=True, prices=PRICES)
    assert b"cost" not in seen.body
    assert seen.exchange.attempts[0].cost_usd == pytest.approx(USED)


def test_what_a_failed_attempt_used_is_paid_for_as_well() -> None:
    """The first upstream bills an answer that nobody could read to its end."""
    spoilt = answer().replace(b'"finish_reason":"stop"', b'"finish_reason":"error"')
    plays = {"a": [[Head(200, JSON_HEADERS), Data(spoilt), End()]], "b": [good(False)]}
    seen = call(plays, stream=False, prices=PRICES)
    first, second = seen.exchange.attempts
    assert first.outcome != "ok"
    assert (first.cost_usd, second.cost_usd) == (pytest.approx(USED), pytest.approx(100 * USED))
    assert float(seen.headers["x-weighbridge-cost-usd"]) == pytest.approx(101 * USED)


def test_a_stream_that_breaks_off_has_what_was_told_until_then() -> None:
    play = [Head(), Data(ROLE + HELLO + USAGE), Break()]
    seen = call({"a": [play]}, stream=True, prices=PRICES)
    (attempt,) = seen.exchange.attempts
    assert attempt.outcome != "ok"
    assert (attempt.usage_source, attempt.cost_usd) == ("partial", pytest.approx(USED))
