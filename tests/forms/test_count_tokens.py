"""What the proxy says of a prompt's tokens where nobody else can be asked."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from proxy.errors import Refusal
from proxy.forms.count_tokens import CountTokensRequest


def counted(**body: Any) -> int:
    raw = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "Hello there"}], **body})
    told = CountTokensRequest.parse(raw).stand_in()
    assert told is not None
    count: int = orjson.loads(told)["input_tokens"]
    return count


def test_everything_that_is_sent_counts() -> None:
    alone = counted()
    assert alone == 4 + 2
    assert counted(system="Be brief, please.") > alone
    assert counted(tools=[{"name": "weigh", "input_schema": {"type": "object"}}]) > alone + 10
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    assert counted(messages=[{"role": "user", "content": [picture]}]) == 4 + 1600


@pytest.mark.parametrize("place", ["tools", "messages"])
def test_what_is_nested_too_deep_is_refused(place: str) -> None:
    deep = orjson.loads('{"a":' * 600 + "1" + "}" * 600)
    raw = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "x"}]})
    ask = CountTokensRequest.parse(raw)
    ask.body[place] = (
        [{"name": "f", "input_schema": deep}]
        if place == "tools"
        else [{"role": "user", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": deep}]}]
    )
    with pytest.raises(Refusal, match="Nest it less deeply"):
        ask.stand_in()
