"""What a mould tells of an event is what reading it would have told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import UpstreamError
from proxy.providers.base import Endpoint, Minted
from proxy.providers.mould import Mould
from proxy.providers.passing import PassingStream
from proxy.wire.chat import ChatRequest

ASK = ChatRequest.parse(b'{"model":"m","stream":true,"messages":[{"role":"user","content":"x"}]}', [])
TEXTS = st.lists(st.text(max_size=8) | st.sampled_from(['"', "\\", '","x":"', '"content":"', "\n\n", "é", "\ud800"]))


def event(delta: dict[str, Any], dump: Callable[[Any], str] = json.dumps, **more: Any) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": more.pop("reason", None)}
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: %b\n\n" % dump(head | more).encode("utf-8", "surrogatepass")


def stream(texts: list[str], dump: Callable[[Any], str] = json.dumps, **more: Any) -> bytes:
    said = [event({"content": text}, dump, **more) for text in texts]
    return b"".join(
        [event({"role": "assistant", "content": "He"}, dump, **more), *said, event({}, dump, reason="stop")]
    )


def read(data: bytes) -> list[object]:
    """Every chunk, and how it ended."""
    decoder = PassingStream(ASK, Endpoint("p", "http://p", "m"), Minted("id", 1))
    seen: list[object] = []
    try:
        chunks = decoder.feed(data)
        seen += [(chunk.kind, chunk.raw, chunk.body, chunk.usage_key) for chunk in chunks + decoder.close()]
    except UpstreamError as error:
        seen += [(chunk.kind, chunk.raw, chunk.body, chunk.usage_key) for chunk in decoder.pending]
        seen.append((error.kind, error.detail))
    return [*seen, decoder.ended, decoder.model, decoder.finish_reason, decoder.usage]


def same(data: bytes) -> None:
    with patch.object(Mould, "of", lambda *_: None):
        careful = read(data)
    assert read(data) == careful


@given(
    TEXTS,
    st.sampled_from([{}, {"usage": None}, {"obfuscation": "abc"}, {"obfuscation": ""}]),
    st.sampled_from([(",", ":"), (", ", ": ")]),
    st.booleans(),
)
def test_any_text_is_told_as_if_it_had_been_read(
    texts: list[str], more: dict[str, Any], separators: tuple[str, str], ascii_only: bool
) -> None:
    def dump(value: Any) -> str:
        return json.dumps(value, separators=separators, ensure_ascii=ascii_only)

    same(stream(["a", "b", *texts], dump, **more))


@given(st.data(), st.binary(max_size=3), st.sampled_from([{}, {"obfuscation": "abc"}]))
def test_whatever_is_broken_is_told_as_if_it_had_been_read(data: st.DataObject, junk: bytes, more: Any) -> None:
    whole = stream(["a", "b", "c", "d"], **more)
    at = data.draw(st.integers(0, len(whole)))
    cut = data.draw(st.integers(0, 3))
    same(whole[:at] + junk + whole[at + cut :])


@pytest.mark.parametrize(
    ("other", "fits"),
    [
        (event({"content": 'more \\ of "it"\n'}), True),
        (event({"content": "mehr"}, lambda it: json.dumps(it, ensure_ascii=False)), True),
        (event({"content": ""}), False),
        (event({"content": "x"}).replace(b'"x"', b'"\\uD834\\uDD1E"'), False),
        (event({"content": "x"}).replace(b'"x"', b'"\\u00e9"'), True),
        (event({"content": "x"}).replace(b'"x"', b'"\\u00g9"'), False),
        (event({"content": None}), False),
        (event({"content": "x", "refusal": "y"}), False),
        (event({"content": "x"}, created=2), False),
        (event({"content": "x"}, reason="stop"), False),
        (event({"content": "x"}).replace(b'"x"', b'"\xff"'), False),
        (event({"content": "x"}).replace(b'"x"', b'"\x01"'), False),
        (event({"content": "x"}).replace(b'"x"', b'"\\x"'), False),
        (event({"content": "x"}) + b"\n", False),
    ],
)
def test_what_fits(other: bytes, fits: bool) -> None:
    mould = Mould.of(event({"content": "some"}), False)
    assert mould is not None
    assert mould.fits(other) is fits


def test_most_of_a_padded_stream_is_not_read() -> None:
    decoder = PassingStream(ASK, Endpoint("p", "http://p", "m"), Minted("id", 1))
    with patch("proxy.providers.passing._plain", side_effect=AssertionError) as plain:
        plain.side_effect = lambda event: json.loads(event[6:])
        for text in ("a", "b", "c", "d", "e", "f"):
            decoder.feed(
                event({"content": text} | ({"role": "assistant"} if text == "a" else {}), obfuscation=text * 3)
            )
    assert plain.call_count == 2
