"""Made-up conversations, put into every dialect: the official packages accept them, and reject them spoilt."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.replay.conversations import conversations
from tests.replay.oracles import ORACLES
from tests.replay.requests import built, present, put

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the packages themselves

JUDGED = ["openai", "anthropic", "gemini", "bedrock", "cohere", "mistral"]

LIMITS = settings(
    max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], derandomize=True
)


@pytest.mark.parametrize("dialect", JUDGED)
def test_a_conversation_is_accepted_or_refused_by_name(dialect: str) -> None:
    if not present(dialect):
        pytest.skip(f"the package that judges {dialect} is not installed")
    marks: list[str] = []

    @LIMITS
    @given(conversations())
    def check(body: dict[str, Any]) -> None:
        assert list(ORACLES["openai"](body)) == []
        outcome = put(body, dialect)
        marks.append(outcome.mark)
        assert outcome.mark != "failed", outcome.reason

    check()
    assert marks.count("accepted") > len(marks) // 2  # else there was nothing to judge


SPOILT: dict[str, list[Callable[[dict[str, Any]], Any]]] = {
    "openai": [
        lambda body: body["messages"].append({"role": "nobody", "content": "x"}),
        lambda body: body.update(max_output_tokens=5),
        lambda body: body["messages"][-1].pop("role"),
    ],
    "anthropic": [
        lambda body: body.pop("max_tokens"),
        lambda body: body["messages"].append({"role": "tool", "content": "x"}),
        lambda body: body["messages"][-1].update(content=[{"type": "image_url", "image_url": {"url": "x"}}]),
        lambda body: body.update(stop=["x"]),
        lambda body: body["messages"][-1].update(content=[{"type": "text", "text": " "}]),
    ],
    "gemini": [
        lambda body: body["contents"].append({"role": "assistant", "parts": [{"text": "x"}]}),
        lambda body: body.update(messages=[]),
        lambda body: body["contents"][-1]["parts"].append({"type": "text", "text": "x"}),
        lambda body: body["contents"][-1]["parts"].append({"functionResponse": {"name": "x", "response": {}}}),
    ],
    "bedrock": [
        lambda body: body["messages"][-1].update(role="tool"),
        lambda body: body["messages"][-1]["content"].append({"type": "text", "text": "x"}),
        lambda body: body.update(max_tokens=5),
        lambda body: body["messages"][-1]["content"].append({"text": " "}),
    ],
    "cohere": [
        lambda body: body["messages"].append({"role": "developer", "content": "x"}),
        lambda body: body.update(top_p=0.5),
    ],
    "mistral": [
        lambda body: body["messages"].append({"role": "developer", "content": "x"}),
        lambda body: body.update(seed=5),
    ],
}


@pytest.mark.parametrize("dialect", JUDGED)
@settings(max_examples=6, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], derandomize=True)
@given(data=st.data())
def test_a_spoilt_one_is_rejected(dialect: str, data: st.DataObject) -> None:
    if not present(dialect):
        pytest.skip(f"the package that judges {dialect} is not installed")
    sent = built(data.draw(conversations()), dialect)
    for spoil in SPOILT[dialect] if sent is not None else ():
        body = deepcopy(sent)
        spoil(body)
        assert list(ORACLES[dialect](body)) != []
