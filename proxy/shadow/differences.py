"""In what the candidate was asked differently from the primary, in words: read off what both were really sent.

Both are sent parameters of their own (the route's, the target's, what a dialect demands or cannot say), each in its
own words. Those that shape an answer are brought to one name and compared; the rest of the two requests is the same
but for what the experiment changes on purpose and what a dialect dropped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import orjson

from proxy.config.shadow import Candidate
from proxy.record import Attempt
from proxy.wire.chunk import Json
from proxy.wire.request import Request

_SHAPING = frozenset(
    {
        "temperature", "top_p", "top_k", "min_p", "max_tokens", "stop", "seed", "n", "presence_penalty",
        "frequency_penalty", "repetition_penalty", "logit_bias", "reasoning_effort", "thinking", "thinking_config",
        "verbosity", "service_tier", "parallel_tool_calls",
    }
)  # fmt: skip
"""Parameters that change what is answered, by OpenAI's names where it has one."""
_SAME = {
    "max_completion_tokens": "max_tokens", "max_output_tokens": "max_tokens", "stop_sequences": "stop",
    "p": "top_p", "k": "top_k", "candidate_count": "n",
}  # fmt: skip
_INSIDE = ("generation_config", "inference_config")
"""Members that hold parameters (Gemini, Bedrock)."""
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")


def differences(candidate: Candidate, ask: Request, primary: Attempt | None, shadow: Attempt | None) -> list[str]:
    """`primary -> candidate` for each parameter; `null` where it was not sent."""
    told = [*_compared(candidate, primary, shadow)]
    told += [name for name in ("system", "prefix", "suffix", "cache_bust") if getattr(candidate, name)]
    if ask.body.get("store"):
        told.append("store: true -> false")
    lost, kept = (set(one.dropped) if one is not None else set() for one in (shadow, primary))
    told += [f"dropped: {name}" for name in sorted(lost - kept)]
    return told + [f"dropped by the primary: {name}" for name in sorted(kept - lost)]


def _compared(candidate: Candidate, primary: Attempt | None, shadow: Attempt | None) -> Iterator[str]:
    if primary is None or shadow is None or primary.sent is None or shadow.sent is None:
        return
    one, other = _plain(primary.sent), _plain(shadow.sent)
    wanted = _SHAPING | {_named(name) for name in (*candidate.params, *candidate.force)}
    for name in sorted(wanted & (one.keys() | other.keys())):
        before, after = _value(name, one.get(name)), _value(name, other.get(name))
        if before != after:
            yield f"{name}: {_short(before)} -> {_short(after)}"


def _plain(sent: Json) -> Json:
    """By common names, whatever the dialect."""
    found: Json = {}
    for name, value in sent.items():
        common = _named(name)
        if common in _INSIDE and isinstance(value, dict):
            found.update(_plain(value))
        elif common == "reasoning" and isinstance(value, dict) and "effort" in value:
            found["reasoning_effort"] = value["effort"]
        else:
            found[common] = value
    return found


def _named(name: str) -> str:
    plain = _HUMP.sub("_", name).lower()
    return _SAME.get(plain, plain)


def _value(name: str, value: Any) -> Any:
    """A single stop sequence and a list of one are the same."""
    return [value] if name == "stop" and isinstance(value, str) else value


def _short(value: object) -> str:
    text = orjson.dumps(value, default=str).decode()
    return text if len(text) <= 60 else text[:57] + "..."
