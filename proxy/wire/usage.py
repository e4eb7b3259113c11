"""What an answer used, as its provider counted it: tokens in five disjoint classes, and the rare parts of them.

The five classes add up to the provider's totals, and every token is in exactly one. `Parts` divides them further where
a provider told more than the common counts; most answers have none, so that the usual case stays five numbers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

Json = dict[str, Any]

STANDARD_TIERS = frozenset({"", "auto", "default", "standard", "on_demand", "unspecified"})
"""Service tiers, in lower case, that are billed at the ordinary price."""

TICKS_PER_USD = 10_000_000_000
"""xAI's `cost_in_usd_ticks` (docs.x.ai, cost tracking)."""


class Parts(NamedTuple):
    """Parts of the classes that are billed apart, and what the provider itself said of the price."""

    cache_write_1h: int = 0
    """Of `cache_write`: kept for an hour instead of five minutes."""
    audio_input: int = 0
    """Of `uncached_input`."""
    image_input: int = 0
    """Of `uncached_input`."""
    audio_cache_read: int = 0
    """Of `cache_read`."""
    audio_output: int = 0
    """Of `output_text`."""
    image_output: int = 0
    """Of `output_text`."""
    searches: int = 0
    """Web searches that the provider ran, in calls."""
    cost_usd: float | None = None
    """What the provider says it charges for the whole answer."""
    tier: str | None = None
    """Service tier that served it, in lower case; None for the ordinary one."""


NO_PARTS = Parts()
_MOST = 1 << 48


class Usage(NamedTuple):
    """Tokens in disjoint classes: their sum is what the provider counted, and each is priced once.

    OpenAI counts cached tokens inside `prompt_tokens` and reasoning inside `completion_tokens`; the totals are
    properties here, so that no two numbers can disagree.
    """

    uncached_input: int
    cache_read: int
    cache_write: int
    output_text: int
    """All output but reasoning: text, tool calls, and sound or pictures where `parts` names them."""
    reasoning: int
    parts: Parts | None = None

    @property
    def input(self) -> int:
        return self.uncached_input + self.cache_read + self.cache_write

    @property
    def output(self) -> int:
        return self.output_text + self.reasoning


CLASSES = Usage._fields[:5]


def split(usage: Usage) -> dict[str, int]:
    """The finest disjoint classes; they add up to `input` and `output`."""
    parts = usage.parts or NO_PARTS
    return {
        "uncached_input": usage.uncached_input - parts.audio_input - parts.image_input,
        "audio_input": parts.audio_input,
        "image_input": parts.image_input,
        "cache_read": usage.cache_read - parts.audio_cache_read,
        "audio_cache_read": parts.audio_cache_read,
        "cache_write_5m": usage.cache_write - parts.cache_write_1h,
        "cache_write_1h": parts.cache_write_1h,
        "output_text": usage.output_text - parts.audio_output - parts.image_output,
        "audio_output": parts.audio_output,
        "image_output": parts.image_output,
        "reasoning": usage.reasoning,
    }


def count(value: object) -> int:
    """A number of tokens; what is none, or negative, or more than can be, is 0."""
    return value if type(value) is int and 0 < value < _MOST else 0


def tier_of(told: object) -> str | None:
    """A service tier as `Parts.tier` has it."""
    if type(told) is not str:
        return None
    tier = told.lower()
    return None if tier in STANDARD_TIERS else tier


def parted(usage: Usage, told: Parts) -> Usage:
    """`usage` with its parts, each capped by what is left of its class; unchanged where nothing was told."""
    if told == NO_PARTS:
        return usage
    audio = min(told.audio_input, usage.uncached_input)
    spoken = min(told.audio_output, usage.output_text)
    parts = told._replace(
        cache_write_1h=min(told.cache_write_1h, usage.cache_write),
        audio_input=audio,
        image_input=min(told.image_input, usage.uncached_input - audio),
        audio_cache_read=min(told.audio_cache_read, usage.cache_read),
        audio_output=spoken,
        image_output=min(told.image_output, usage.output_text - spoken),
    )
    return usage._replace(parts=parts if parts != NO_PARTS else None)


def usage_of(usage: Json, tier: object = None) -> Usage:
    """OpenAI's `usage` object; `tier`: the answer's `service_tier`.

    Cached and written tokens are capped by the prompt and reasoning by the completion, since some hosts report more
    (161 cached of 31 prompt tokens was seen); negative and non-integer counts are read as 0.
    """
    prompt = count(usage.get("prompt_tokens"))
    completion = count(usage.get("completion_tokens"))
    details = usage.get("prompt_tokens_details")
    outcome = usage.get("completion_tokens_details")
    read = write = reasoning = rare = 0
    if type(details) is dict:
        read = min(count(details.get("cached_tokens")), prompt)
        write = min(count(details.get("cache_write_tokens")), prompt - read)
        rare = details.get("audio_tokens") or details.get("image_tokens") or 0
    if type(outcome) is dict:
        reasoning = min(count(outcome.get("reasoning_tokens")), completion)
        rare = rare or outcome.get("audio_tokens") or outcome.get("image_tokens") or 0
    if rare or (tier is not None and tier != "default") or "cost" in usage or "cost_in_usd_ticks" in usage:
        classes = Usage(prompt - read - write, read, write, completion - reasoning, reasoning)
        return parted(classes, _parts(usage, _dict(details), _dict(outcome), tier))
    return Usage(prompt - read - write, read, write, completion - reasoning, reasoning)


def _parts(usage: Json, prompt: Json, completion: Json, tier: object) -> Parts:
    return Parts(
        audio_input=count(prompt.get("audio_tokens")),
        image_input=count(prompt.get("image_tokens")),
        audio_output=count(completion.get("audio_tokens")),
        image_output=count(completion.get("image_tokens")),
        cost_usd=reported_cost(usage),
        tier=tier_of(tier),
    )


def reported_cost(usage: Json) -> float | None:
    """USD that the provider says it charges: OpenRouter's `cost`, Perplexity's `cost.total_cost`, xAI's ticks.

    OpenRouter's `cost` is its own fee alone where the request ran on the user's key elsewhere (`is_byok`); what that
    cost is told beside it.
    """
    ticks = usage.get("cost_in_usd_ticks")
    if type(ticks) is int and ticks >= 0:
        return ticks / TICKS_PER_USD
    cost = usage.get("cost")
    if type(cost) is dict:
        if cost.get("currency", "USD") != "USD":
            return None
        return _money(cost.get("total_cost"))
    total = _money(cost)
    if total is not None and usage.get("is_byok") is True:
        return total + (_money(_dict(usage.get("cost_details")).get("upstream_inference_cost")) or 0.0)
    return total


def _money(value: object) -> float | None:
    return float(value) if type(value) in (int, float) and 0 <= value < float("inf") else None  # type: ignore[operator, arg-type]


def _dict(value: object) -> Json:
    return value if type(value) is dict else {}
