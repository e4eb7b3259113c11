"""Tokens of a text by classes of characters: closer than so many bytes a token where code, JSON and CJK are mixed.

Tokenizers split words, digits, punctuation and lines alike, whatever their vocabulary, so a run of letters counts as a
token up to 7 of them, by 6 beyond, and by 4 where it is too long for a word; digits by 3, an ideograph, kana or hangul
0.8, a mark and a line's end 0.6. It is an estimate, and is called so; what a model makes of it is learned from reported
usage (`policies.limits`).
"""

from __future__ import annotations

import re

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_IDEOGRAPH = re.compile(f"[{_CJK}]")
_WORDS = re.compile(rf"[^\W\d_{_CJK}]+")
_MARK = re.compile(r"[^\w\s]|[_\n]")
_DIGIT = re.compile(r"\d")
_SHORT, _LONG = 7, 24
LONGEST = 2048
"""Characters that are counted one by one: some 0.2 ms. Of a longer text as many are taken from all over it."""
_PIECES = 8


def estimate(text: str) -> float:
    """Tokens of the text, roughly."""
    if len(text) <= LONGEST:
        return _counted(text)
    step, piece = len(text) / _PIECES, LONGEST // _PIECES
    sample = [text[int(at * step) : int(at * step) + piece] for at in range(_PIECES)]
    return sum([_counted(one) for one in sample]) * len(text) / LONGEST


def _counted(text: str) -> float:
    lengths = [len(word) for word in _WORDS.findall(text)]
    tokens = sum([1.0 if n <= _SHORT else n / (6.0 if n <= _LONG else 4.0) for n in lengths])
    tokens += 0.6 * len(_MARK.findall(text)) + len(_DIGIT.findall(text)) / 3.0
    return tokens if text.isascii() else tokens + 0.8 * len(_IDEOGRAPH.findall(text))
