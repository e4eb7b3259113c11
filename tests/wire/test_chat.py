from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import Refusal
from proxy.wire.chat import ChatRequest

BASE: dict[str, Any] = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}


def ask(**more: Any) -> ChatRequest:
    return ChatRequest.parse(orjson.dumps({**BASE, **more}))


def test_only_the_model_changes_and_every_other_byte_stays() -> None:
    raw = b'{ "x_future": {"b":1.00, "a": 1e3},\n "messages":[{"role":"user","content":"the \\"model\\" is \xc3\xa9"}], "model" : "chat" ,"seed":12345678901234567890123}\n'
    sent = ChatRequest.parse(raw).for_upstream("gpt-x", ask_usage=True)
    assert sent == raw.replace(b'"model" : "chat"', b'"model" : "gpt-x"')


def test_usage_is_asked_for_in_streams_only() -> None:
    assert b"stream_options" not in ask().for_upstream("m", ask_usage=True)
    assert ask(stream=True).for_upstream("m", ask_usage=True).endswith(b',"stream_options":{"include_usage":true}}')
    assert b"stream_options" not in ask(stream=True).for_upstream("m", ask_usage=False)


def test_usage_is_added_to_options_that_are_there() -> None:
    one = ask(stream=True, stream_options={"include_obfuscation": False})
    body = orjson.loads(one.for_upstream("m", ask_usage=True))
    assert body["stream_options"] == {"include_obfuscation": False, "include_usage": True}
    assert not one.wants_usage
    two = ask(stream=True, stream_options={"include_usage": True})
    assert two.wants_usage
    assert two.for_upstream("chat", ask_usage=True) == two.raw


@pytest.mark.parametrize(
    "raw",
    [
        b'{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"model"}],"model":"chat"}',
        b'{"messages":[{"role":"user","content":"x"}],"metadata":{"model":"chat"},"model":"chat"}',
        b'{"mod\\u0065l":"other","messages":[{"role":"user","content":"x"}],"model":"chat"}',
        b'{"model":"other","messages":[{"role":"user","content":"x"}],"model":"chat"}',
    ],
)
def test_the_right_model_is_replaced_whatever_else_is_called_so(raw: bytes) -> None:
    sent = json.loads(ChatRequest.parse(raw).for_upstream("m", ask_usage=True))
    expected = json.loads(raw)
    assert sent == {**expected, "model": "m"}
    assert b"other" not in ChatRequest.parse(raw).for_upstream("m", ask_usage=True)


def test_params_fill_in_and_force_wins() -> None:
    one = ask(max_completion_tokens=5, temperature=0.5)
    body = orjson.loads(
        one.for_upstream("m", ask_usage=False, params={"max_tokens": 9, "temperature": 1, "top_p": 0.1})
    )
    assert (body["temperature"], body["top_p"]) == (0.5, 0.1)
    assert "max_tokens" not in body, "it is the same as max_completion_tokens, which was given"
    body = orjson.loads(one.for_upstream("m", ask_usage=False, force={"max_tokens": 9, "temperature": 1}))
    assert (body["max_tokens"], body["temperature"]) == (9, 1)
    assert "max_completion_tokens" not in body


def test_an_explicit_null_counts_as_left_out() -> None:
    body = orjson.loads(ask(temperature=None).for_upstream("m", ask_usage=False, params={"temperature": 1}))
    assert body["temperature"] == 1


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)


@given(
    st.dictionaries(st.sampled_from(["zz", "x_model", "é", "provider", 'q"']), JSON), TEXT, st.booleans(), st.booleans()
)
def test_unknown_fields_survive(extra: dict[str, Any], content: str, stream: bool, ascii_only: bool) -> None:
    body = {**extra, "messages": [{"role": "user", "content": content}], "stream": stream, "model": "chat"}
    raw = json.dumps(body, ensure_ascii=ascii_only).encode()
    sent = json.loads(ChatRequest.parse(raw).for_upstream("m/é", ask_usage=True))
    assert sent.pop("stream_options", None) == ({"include_usage": True} if stream else None)
    assert sent == {**body, "model": "m/é"}


BAD: list[tuple[bytes, str | None, str]] = [
    (b"", None, "empty"),
    (b"  ", None, "empty"),
    (b"{", None, "not valid JSON"),
    (b"\xff", None, "not valid JSON"),
    (b'{"model":"\xff"}', None, "not valid JSON"),
    (b"[]", None, "must be a JSON object"),
    (b"null", None, "must be a JSON object"),
    (b"[" * 10_000, None, "not valid JSON"),
    (b'{"messages":[{"role":"user"}]}', "model", "missing"),
    (b'{"model":7,"messages":[{"role":"user"}]}', "model", "non-empty string"),
    (b'{"model":"","messages":[{"role":"user"}]}', "model", "non-empty string"),
    (b'{"model":"m"}', "messages", "non-empty array"),
    (b'{"model":"m","messages":[]}', "messages", "non-empty array"),
    (b'{"model":"m","messages":"hi"}', "messages", "non-empty array"),
    (b'{"model":"m","messages":["hi"]}', "messages[0]", "role"),
    (b'{"model":"m","messages":[{"role":1}]}', "messages[0]", "role"),
    (b'{"model":"m","messages":[{"role":"user","content":1}]}', "messages[0].content", "array of parts"),
    (b'{"model":"m","messages":[{"role":"user"}],"n":0}', "n", "between 1 and 128"),
    (b'{"model":"m","messages":[{"role":"user"}],"n":true}', "n", "an integer"),
    (b'{"model":"m","messages":[{"role":"user"}],"stream":1}', "stream", "true or false"),
    (b'{"model":"m","messages":[{"role":"user"}],"temperature":"0"}', "temperature", "a number"),
    (b'{"model":"m","messages":[{"role":"user"}],"temperature":true}', "temperature", "a number"),
    (b'{"model":"m","messages":[{"role":"user"}],"tools":{}}', "tools", "an array"),
    (b'{"model":"m","messages":[{"role":"user"}],"tools":[1]}', "tools[0]", "an object"),
    (b'{"model":"m","messages":[{"role":"user"}],"stream_options":true}', "stream_options", "an object"),
]


@pytest.mark.parametrize(("raw", "param", "words"), BAD)
def test_what_is_wrong_is_said(raw: bytes, param: str | None, words: str) -> None:
    with pytest.raises(Refusal) as caught:
        ChatRequest.parse(raw)
    assert caught.value.status == 400
    assert caught.value.param == param
    assert words in caught.value.message


def test_null_means_not_given() -> None:
    one = ask(stream=None, n=None, temperature=None, tools=None, stream_options=None)
    assert (one.stream, one.n, one.wants_usage) == (False, 1, False)


def test_a_body_nested_too_deep_to_be_written_again_is_refused() -> None:
    deep: Any = 1
    for _ in range(500):
        deep = [deep]
    raw = json.dumps({**BASE, "deep": deep}).encode()
    assert ChatRequest.parse(raw).for_upstream("m", ask_usage=False), "in place it may be as deep as it likes"
    with pytest.raises(Refusal, match="less deeply"):
        ChatRequest.parse(raw).for_upstream("m", ask_usage=False, force={"seed": 1})
