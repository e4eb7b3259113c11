"""What policies see of a request: read when it is looked at, whatever the request looks like."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.base import Ask
from proxy.asked import _FILLS, Asked
from proxy.wire.chat import ChatRequest
from proxy.wire.request import Request

USER = {"role": "user", "content": "Hello there"}


def asked(body: dict[str, Any] | None = None, **more: Any) -> Asked:
    whole = {"model": "chat", "messages": [USER], **(body or {})}
    return Asked(ChatRequest.parse(orjson.dumps(whole)), **more)


def test_nothing_is_read_before_it_is_looked_at() -> None:
    ask = asked({"tools": [{"type": "function", "function": {"name": "f"}}]})
    assert all(ask.looked_at(name) is None for name in _FILLS)
    assert ask.tools is True
    assert ask.looked_at("tools") is True
    assert ask.looked_at("tokens") is None


def test_every_field_of_an_ask_is_there() -> None:
    ask = asked()
    for name in Ask.__slots__:
        getattr(ask, name)
    with pytest.raises(AttributeError):
        ask.nonsense  # noqa: B018


def test_the_route_is_counted_up_only_by_those_who_count() -> None:
    turns = iter(range(5, 9))
    one = asked(route_turn=lambda: next(turns))
    assert (one.turn, one.turn) == (5, 5)
    assert next(turns) == 6


def test_what_it_needs() -> None:
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,x"}}]}
    assert asked().needs == frozenset()
    assert asked({"messages": [image]}).needs == {"vision"}
    assert asked({"response_format": {"type": "json_object"}}).needs == {"json"}
    assert asked({"response_format": {"type": "json_schema", "json_schema": {}}, "functions": [{}]}).needs == {
        "json_schema",
        "tools",
    }


def test_sizes() -> None:
    assert asked({"messages": [{"role": "user", "content": "word" * 100}]}).tokens == 100
    assert asked().output == 512
    assert asked({"max_completion_tokens": 7}).output == 7
    image = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x" * 9000}}]}
    assert asked({"messages": [image]}).tokens == 1000, "an image's bytes are no text"


def test_secrets_are_not_shown_to_rules() -> None:
    headers = [(b"Authorization", b"Bearer x"), (b"cookie", b"c"), (b"X-Api-Key", b"k"), (b"X-Tier", b"gold")]
    assert asked(headers=headers).headers == {"x-tier": "gold"}


def test_the_unit_is_what_the_client_says_else_the_conversations_beginning() -> None:
    later = {"messages": [USER, {"role": "assistant", "content": "Hi"}, {"role": "user", "content": "More"}]}
    other = {"messages": [{"role": "user", "content": "Another"}]}
    assert asked().unit == asked(later).unit != asked(other).unit
    assert asked(key="a").unit != asked(key="b").unit
    assert asked({"messages": [{"role": "system", "content": "x"}, USER]}).unit != asked().unit
    assert asked({"metadata": {"conversation_id": "c-1"}}).unit == "c-1"
    assert asked({"metadata": {"conversation_id": "c-1"}}, unit="u-1").unit == "u-1"
    assert asked({"prompt_cache_key": "app"}).unit == asked().unit, "often one for the whole app"
    assert len(asked({"metadata": {"conversation_id": "c" * 5000}}).unit) == 512


def test_affinity_follows_the_prompts_beginning_whoever_asks() -> None:
    assert asked(key="a").affinity == asked(key="b").affinity
    assert asked({"prompt_cache_key": "app"}).affinity == "app"
    assert asked({"tools": [{"type": "function"}]}).affinity != asked().affinity


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["type", "text", "content"]), inner),
    max_leaves=8,
)
MEMBERS = st.sampled_from(
    ["messages", "input", "prompt", "system", "instructions", "tools", "response_format", "text", "metadata",
     "max_tokens", "max_output_tokens", "prompt_cache_key"]
)  # fmt: skip


@given(st.dictionaries(MEMBERS, JUNK, max_size=5))
def test_no_request_of_any_form_makes_it_fail(body: dict[str, Any]) -> None:
    whole = {**body, "model": "m"}
    ask = Asked(Request(orjson.dumps(whole), whole))
    for name in Ask.__slots__:
        getattr(ask, name)
    assert ask.tokens >= 0
    assert ask.needs <= {"tools", "vision", "json", "json_schema"}
