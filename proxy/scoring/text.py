"""Scorers of text, each in [0, 1], or None where they cannot tell. Pure."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

import orjson

_TOKEN = re.compile(r"\w+", re.UNICODE)
_NUMBER = re.compile(r"[-+−]?(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d+)?(?:[eE][-+]?\d+)?")
_TOKENS = 2000
"""Words looked at where the cost grows with their square."""
_NAMED = re.compile(r"(?:answer|choice|option)\s*(?:is|:)?\s*[*_`]*\(?([A-Ja-j])\)?(?![A-Za-z])", re.IGNORECASE)
_ALONE = re.compile(r"^[\s*_`]*\(?([A-Ja-j])[).:]?[\s*_`]*(?:$|\s)")


def normalised(text: str) -> str:
    """NFKC, one kind of space, and JSON in its canonical spelling (keys sorted)."""
    text = text.strip()
    if text[:1] in ("{", "["):
        try:
            return orjson.dumps(orjson.loads(text), option=orjson.OPT_SORT_KEYS).decode()
        except orjson.JSONDecodeError:
            pass
    return " ".join(unicodedata.normalize("NFKC", text).split())


def exact(text: str, other: str) -> float:
    return float(text.strip() == other.strip())


def exact_normalised(text: str, other: str) -> float:
    return float(normalised(text).casefold() == normalised(other).casefold())


def contains(text: str, part: str) -> float:
    return float(normalised(part).casefold() in normalised(text).casefold())


def matches(text: str, pattern: str) -> float:
    """`pattern` comes from a config or suite, never from a client."""
    return float(re.search(pattern, text) is not None)


def number_in(text: str) -> float | None:
    """The last number in the text."""
    found = [match[0] for match in _NUMBER.finditer(text) if any(character.isdigit() for character in match[0])]
    try:
        return float(found[-1].replace(",", "").replace("−", "-")) if found else None
    except ValueError:
        return None


def numeric(text: str, reference: str, tolerance: float = 1e-6) -> float | None:
    """Whether the last number of the answer is that of the reference; None if the reference has none."""
    wanted = number_in(reference)
    if wanted is None:
        return None
    given = number_in(text)
    return float(given is not None and abs(given - wanted) <= tolerance * max(1.0, abs(wanted)))


def chosen(text: str) -> str | None:
    """The letter of a multiple-choice answer: the last one named as the answer, else one that stands first, alone."""
    named = _NAMED.findall(text)
    if named:
        return str(named[-1]).upper()
    alone = _ALONE.match(text)
    return alone[1].upper() if alone else None


def multiple_choice(text: str, reference: str) -> float | None:
    wanted = chosen(reference)
    return None if wanted is None else float(chosen(text) == wanted)


def tokens(text: str) -> list[str]:
    return _TOKEN.findall(unicodedata.normalize("NFKC", text).casefold())


def token_f1(text: str, other: str) -> float:
    """Overlap of the words, order aside."""
    return f1(tokens(text), tokens(other))


def f1(ones: Sequence[object], others: Sequence[object]) -> float:
    """Harmonic mean of precision and recall of two multisets; two empty ones agree."""
    if not ones and not others:
        return 1.0
    common = sum((Counter(ones) & Counter(others)).values())
    return 2.0 * common / (len(ones) + len(others))


def rouge_l(text: str, other: str) -> float:
    """F1 of the longest common subsequence of words (of the first 2,000)."""
    ones, others = tokens(text)[:_TOKENS], tokens(other)[:_TOKENS]
    if not ones or not others:
        return float(ones == others)
    return 2.0 * _subsequence(ones, others) / (len(ones) + len(others))


def _subsequence(ones: list[str], others: list[str]) -> int:
    """Length of the longest common subsequence, with one bit for each word of `ones` (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for place, word in enumerate(ones):
        places[word] = places.get(word, 0) | 1 << place
    row = every = (1 << len(ones)) - 1
    for word in others:
        same = row & places.get(word, 0)
        row = ((row + same) | (row - same)) & every
    return len(ones) - row.bit_count()


def length_ratio(text: str, other: str) -> float | None:
    """The shorter by the longer, in characters; None if both are empty."""
    longer = max(len(text), len(other))
    return min(len(text), len(other)) / longer if longer else None
