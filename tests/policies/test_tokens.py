"""Tokens by classes of characters: near what tokenizers make of each kind of text, in bounded time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.tokens import LONGEST, estimate

COUNTED = {
    "The quick brown fox jumps over the lazy dog.": 10,
    "def f(x):\n    return x + 1\n": 11,
    '{"name": "alice", "age": 30, "tags": ["a", "b"]}': 22,
    "1234567890 and 42": 7,
    "\u4eca\u5929\u5929\u6c14\u5f88\u597d\uff0c\u6211\u4eec\u53bb\u516c\u56ed\u5427\u3002": 10,
}
"""Text -> its tokens by o200k_base, counted once with that tokenizer."""


@pytest.mark.parametrize("text", COUNTED)
def test_each_class_is_near_a_tokenizer(text: str) -> None:
    assert estimate(text) == pytest.approx(COUNTED[text], rel=0.35)


def test_bytes_alone_would_be_far_off() -> None:
    cjk = list(COUNTED)[-1]
    assert len(cjk.encode()) / 4 >= COUNTED[cjk]
    assert len(cjk) / 4 < 0.5 * COUNTED[cjk]


def test_a_long_text_is_sampled_all_over() -> None:
    half = "word " * LONGEST
    mixed = half + "1234 " * LONGEST
    assert estimate(half) == pytest.approx(LONGEST, rel=0.02)
    assert estimate(mixed) == pytest.approx(LONGEST + LONGEST * 4 / 3, rel=0.05)


@given(st.text(max_size=3000))
def test_never_more_than_a_token_for_each_character(text: str) -> None:
    assert 0.0 <= estimate(text) <= len(text)
