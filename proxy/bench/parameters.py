"""What targets really were sent: sampling parameters found again in each dialect's own words, beside what was asked.

A provider's library, a setting of the config (`force`) or a dialect's bounds can change a parameter on its way without
anybody being told; "the same sampling for all" is then not true, however the suite reads.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Json = dict[str, Any]

NAMES: dict[str, tuple[str, ...]] = {
    "temperature": ("temperature",),
    "top_p": ("top_p", "topP", "p"),
    "top_k": ("top_k", "topK", "k"),
    "seed": ("seed", "random_seed"),
    "max_tokens": ("max_tokens", "max_completion_tokens", "max_output_tokens", "maxTokens", "maxOutputTokens"),
    "stop": ("stop", "stop_sequences", "stopSequences"),
    "presence_penalty": ("presence_penalty", "presencePenalty"),
    "frequency_penalty": ("frequency_penalty", "frequencyPenalty"),
}
"""A parameter, and how dialects call it."""

_OURS = {theirs: ours for ours, names in NAMES.items() for theirs in names}
_NESTED = ("generationConfig", "inferenceConfig")
"""Where some dialects keep them."""


def effective(sent: Mapping[str, Any] | None) -> Json:
    """The sampling parameters of a request as it was sent, under one set of names."""
    return dict(sorted(_found(sent or {})))


def altered(asked: Mapping[str, Any], sent: Mapping[str, Any] | None) -> Json:
    """Parameters that were sent with another value than was asked for, by name, as `[asked, sent]`."""
    wanted, got = effective(asked), effective(sent)
    return {name: [wanted[name], got[name]] for name in wanted if name in got and not _same(wanted[name], got[name])}


def _found(body: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in body.items():
        if name in _OURS and value is not None:
            yield _OURS[name], value
        elif name in _NESTED and isinstance(value, Mapping):
            yield from _found(value)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list) != isinstance(other, list):  # one stop sequence may stand alone
        one, other = (value if isinstance(value, list) else [value] for value in (one, other))
    return bool(one == other)
