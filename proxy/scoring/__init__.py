"""One implementation of every scorer, for shadow traffic and benchmarks alike.

A score is in [0, 1], or None where the scorer cannot tell ("not applicable"), never a guess. Higher is better.

- ARMS look at one answer and what was asked: they can gate a promotion.
- REFERENCES compare an answer with what is known to be right: they can gate.
- SAMENESS compares the candidate with the primary. Being different is not being worse: it is shown, and never gates.

`judge` and `embedding` ask a model; everything else is pure.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from proxy.scoring import form, text
from proxy.scoring.form import empty, failed
from proxy.wire.answer import Answer
from proxy.wire.chunk import Json

__all__ = ["ARMS", "FAILED", "REFERENCES", "SAMENESS", "Arm", "empty", "failed", "named", "within"]

FAILED = Answer()
"""What is scored where there was no answer."""

Arm = Callable[[Json, Answer], float | None]
Reference = Callable[[str, str], float | None]
Sameness = Callable[[Answer, Answer], float | None]


def success(body: Json, answer: Answer) -> float | None:
    """1 for an answer that came whole and says anything at all."""
    return float(not failed(answer) and not empty(answer))


ARMS: dict[str, Arm] = {
    "errors": success,
    "validity": form.validity,
    "refusal": form.answered,
    "truncation": form.whole,
}
"""Named after what they watch for; 1 is the absence of trouble."""

REFERENCES: dict[str, Reference] = {
    "exact": text.exact,
    "exact_normalised": text.exact_normalised,
    "contains": text.contains,
    "regex": text.matches,
    "numeric": text.numeric,
    "multiple_choice": text.multiple_choice,
    "reference_f1": text.token_f1,
    "reference_rouge_l": text.rouge_l,
}
"""Answer and reference (a pattern for `regex`)."""


def _texts(compare: Reference) -> Sameness:
    def same(primary: Answer, candidate: Answer) -> float | None:
        if failed(primary) or failed(candidate) or not (primary.text and candidate.text):
            return None
        return compare(candidate.text, primary.text)

    return same


SAMENESS: dict[str, Sameness] = {
    "same_text": _texts(text.exact_normalised),
    "same_words": _texts(text.token_f1),
    "same_order": _texts(text.rouge_l),
    "same_length": _texts(text.length_ratio),
    "same_calls": form.same_calls,
}


def within(value: float | None, limit: float) -> float | None:
    """The indicator of a service level: whether a time or a price is within its limit."""
    return None if value is None else float(value <= limit)


def named(place: str) -> Arm:
    """A user's own scorer, `module:function`, called with the request's body and the answer.

    Raises ValueError where there is none. What it returns is held to [0, 1] or None by `checked`.
    """
    module, _, name = place.partition(":")
    try:
        found = getattr(import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"there is no scorer {place!r}: {error}") from error
    if not callable(found):
        raise ValueError(f"{place!r} is not a function")

    def checked(body: Json, answer: Answer) -> float | None:
        score = found(body, answer)
        if score is None:
            return None
        if isinstance(score, bool | int | float) and 0.0 <= score <= 1.0:
            return float(score)
        raise ValueError(f"{place} returned {score!r}, not a number from 0 to 1 or None")

    return checked
