"""The parameters that were sent, as they are recorded: those of the very body, in any order, without the prompt."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.assemble import DIALECTS
from proxy.wire.chat import ChatRequest
from proxy.wire.request import PROMPT, fingerprint, parameters
from tests.replay.requests import endpoint

HELLO = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
TOOL = {"type": "function", "function": {"name": "weigh", "parameters": {"type": "object", "properties": {}}}}


def ask(**more: Any) -> ChatRequest:
    return ChatRequest.parse(orjson.dumps({"model": "m", "messages": HELLO, **more}))


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"temperature": 0.5, "seed": None},
        {"stream": True, "tools": [TOOL]},
        {"stream": True, "stream_options": {"include_usage": True}, "max_tokens": 5},
        {"max_completion_tokens": 5},
    ],
)
@pytest.mark.parametrize("params", [None, {"max_tokens": 9, "top_p": 0.5}])
@pytest.mark.parametrize("force", [None, {"temperature": 1, "max_tokens": 7}])
def test_they_are_those_of_the_body(more: dict[str, Any], params: dict[str, Any], force: dict[str, Any]) -> None:
    given: dict[str, Any] = {"ask_usage": True, "params": params, "force": force}
    body = ask(**more).for_upstream("x", **given)
    assert ask(**more).sent(**given) == parameters(orjson.loads(body))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_tells_them(dialect: str) -> None:
    def sent(**more: Any) -> Any:
        built = DIALECTS[dialect].build(ask(**more), endpoint(dialect))
        assert built.sent == parameters(orjson.loads(built.body))
        assert built.sent is not None
        assert not built.sent.keys() & PROMPT
        return fingerprint(built.sent)

    assert sent(max_tokens=5) != sent(max_tokens=6)
    assert sent(max_tokens=5, stop=["a"]) == sent(stop=["a"], max_tokens=5)


def test_no_fingerprint_of_what_is_not_known() -> None:
    assert fingerprint(None) is None
    assert fingerprint({"a": 1 << 80}) is None
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1}) != fingerprint({"a": 1})
