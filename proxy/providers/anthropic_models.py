"""What the Claude models take, as far as a request depends on it. Data only: one row a generation.

From Anthropic's model pages and migration guides (November 2026) and the flags of litellm's public model table. A name
that is not Claude's (other servers speak the dialect too) gets the forms that are oldest and most widely understood.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_NEWER = re.compile(r"claude-(opus|sonnet|haiku|fable|mythos)-(\d)(?:[-.](\d{1,2})(?!\d))?")
_OLDER = re.compile(r"claude-(\d)(?:[-.](\d)(?!\d))?(?:-(opus|sonnet|haiku))?")


class Model(NamedTuple):
    """How one generation of models is asked."""

    max_tokens: int
    """Most tokens of an answer; what is sent where the request names no limit."""
    thinking: str = "none"
    """`none`, `budget` (a number of tokens), `adaptive` (an effort) or `always` (adaptive, and never off)."""
    off: str | None = None
    """The `thinking.type` that turns thinking off, where it is on unless told otherwise."""
    efforts: tuple[str, ...] = ()
    """Values of `output_config.effort`, lowest first."""
    sampling: bool = True
    """`temperature`, `top_p` and `top_k` are taken; newer models answer 400."""
    both: bool = True
    """`temperature` and `top_p` may stand together."""
    schema: bool = False
    """`output_config.format` and strict tools are taken."""
    forced: bool = True
    """`tool_choice` may force a call (with thinking off)."""
    prefill: bool = True
    """The conversation may end with the assistant's words."""
    system: bool = False
    """`role: system` may stand in the middle of a conversation, after a user's turn."""


_FOUR = ("low", "medium", "high", "max")
_FIVE = ("low", "medium", "high", "xhigh", "max")
_BUDGET = Model(64_000, "budget")
_4_5 = Model(64_000, "budget", both=False, schema=True)
_4_6 = Model(128_000, "adaptive", None, _FOUR, both=False, schema=True, prefill=False)
_4_7 = _4_6._replace(efforts=_FIVE, sampling=False)
_4_8 = _4_7._replace(system=True)
_5 = _4_8._replace(off="disabled")
_ALWAYS = _4_8._replace(thinking="always")

_ANY = ("opus", "sonnet", "haiku", "fable", "mythos", "")
_ROWS: tuple[tuple[tuple[int, int], tuple[str, ...], Model], ...] = (
    ((0, 0), _ANY, Model(4_096)),
    ((3, 5), _ANY, Model(8_192)),
    ((3, 7), _ANY, _BUDGET),
    ((4, 0), ("opus",), Model(32_000, "budget")),
    ((4, 1), ("opus",), Model(32_000, "budget", both=False)),
    ((4, 5), _ANY, _4_5),
    ((4, 6), _ANY, _4_6),
    ((4, 7), _ANY, _4_7),
    ((4, 8), _ANY, _4_8),
    ((5, 0), ("opus", "sonnet", "haiku"), _5),
    ((5, 0), ("fable", "mythos"), _ALWAYS),
    ((5, 1), ("fable", "mythos"), _ALWAYS._replace(forced=False)),
    ((5, 5), ("opus",), _ALWAYS._replace(forced=False)),
    ((5, 5), ("sonnet",), _5._replace(off="between_tools", forced=False)),
)
"""Since which version, of which families; the last row that fits holds, so that a new model is taken for its elder."""

OTHER = Model(4_096, "budget")


def model(name: str) -> Model:
    """By name, with or without a prefix such as `us.anthropic.`, a date or a suffix."""
    found = _NEWER.search(name)
    if found is not None:
        family, version = found[1], (int(found[2]), int(found[3] or 0))
    else:
        found = _OLDER.search(name)
        if found is None:
            return _ALWAYS if "claude-mythos" in name else OTHER
        family, version = found[3] or "", (int(found[1]), int(found[2] or 0))
    fitting = [row for since, families, row in _ROWS if family in families and version >= since]
    return fitting[-1]
