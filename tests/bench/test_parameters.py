"""The same sampling, found again in what every dialect was sent."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.assemble import DIALECTS
from proxy.bench.parameters import altered, effective
from proxy.providers.base import Endpoint
from proxy.wire.chat import ChatRequest

ASKED = {"temperature": 0.3, "top_p": 0.5, "max_tokens": 64, "stop": "END"}
SENDS = sorted(set(DIALECTS) - {"vertex"})  # in Gemini's or Anthropic's words


def sent(dialect: str, **more: Any) -> dict[str, Any] | None:
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **ASKED, **more}
    return DIALECTS[dialect].build(ChatRequest.parse(orjson.dumps(body)), Endpoint(dialect, "http://x", "m")).sent


@pytest.mark.parametrize("dialect", SENDS)
def test_every_dialect_was_sent_what_was_asked(dialect: str) -> None:
    told = sent(dialect)
    assert {name: value for name, value in effective(told).items() if name != "stop"} == {
        "temperature": 0.3,
        "top_p": 0.5,
        "max_tokens": 64,
    }
    assert altered(ASKED, told) == {}


@pytest.mark.parametrize("dialect", SENDS)
def test_another_value_is_seen(dialect: str) -> None:
    assert altered(ASKED, sent(dialect, temperature=0.9, stop=["END", "."])) == {
        "temperature": [0.3, 0.9],
        "stop": ["END", ["END", "."]],
    }


def test_what_was_not_asked_or_never_sent_is_no_change() -> None:
    assert altered({"temperature": 0}, {"temperature": 0.0, "max_tokens": 4096}) == {}
    assert altered({"seed": 3}, {"temperature": 1}) == {}  # `dropped` tells of that
    assert altered(ASKED, None) == {}
