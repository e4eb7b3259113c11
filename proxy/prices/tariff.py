"""A tariff: flat numbers, so that an answer is priced by a few multiplications.

A tier by the prompt's length holds for all tokens of the request (OpenAI, Anthropic, Google and xAI bill so). What has
no price of its own costs what its class costs: sound and pictures what text does, reasoning what output does, a write
to the cache what input does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from proxy.wire.usage import Parts, Usage

MILLION = 1_000_000

Amounts = Mapping[str, float]
"""USD per million tokens by the name of a rate; `search` and `request` are USD for each."""


class Rates(NamedTuple):
    """USD for one token of each class; the first five in the order of `Usage`. Not a number: it has a price of its own
    that is not known."""

    input: float
    cache_read: float
    cache_write: float
    output: float
    reasoning: float
    cache_write_1h: float
    audio_input: float
    image_input: float
    audio_cache_read: float
    audio_output: float
    image_output: float
    search: float
    """For one search."""
    request: float
    """For each request, whatever its size."""


NAMES = Rates._fields
_FALLS_BACK = {
    "cache_read": "input",
    "cache_write": "input",
    "cache_write_1h": "cache_write",
    "audio_input": "input",
    "image_input": "input",
    "audio_cache_read": "cache_read",
    "reasoning": "output",
    "audio_output": "output",
    "image_output": "output",
}
"""In an order in which each name's stand-in is known before it."""
_EACH = ("search", "request")


def rates(amounts: Amounts) -> Rates:
    full = dict(amounts)
    for name, other in _FALLS_BACK.items():
        full.setdefault(name, full.get(other, 0.0))
    return Rates(*[full.get(name, 0.0) / (1 if name in _EACH else MILLION) for name in NAMES])


class Tariff:
    """The rates of one target in its ordinary service tier; `tiers` holds those of the others."""

    __slots__ = ("rates", "source", "steps", "tiers", "version")

    def __init__(
        self,
        base: Amounts,
        steps: Sequence[tuple[int, Amounts]] = (),
        *,
        source: str,
        version: str,
        tiers: Mapping[str, Tariff] | None = None,
    ) -> None:
        """`steps`: (tokens, amounts) for prompts longer than that; what a step does not name stays as it was."""
        self.rates: Final = rates(base)
        self.steps: Final = tuple((above, rates({**base, **amounts})) for above, amounts in sorted(steps))
        self.source: Final = source
        """`config` or `table`."""
        self.version: Final = version
        self.tiers: Final = dict(tiers or {})

    def scaled(self, factor: float) -> Tariff:
        """All prices times `factor`: a tier that is billed as a multiple."""
        made = Tariff.__new__(Tariff)
        made.rates = Rates(*[rate * factor for rate in self.rates])  # type: ignore[misc]
        made.steps = tuple((above, Rates(*[rate * factor for rate in step])) for above, step in self.steps)  # type: ignore[misc]
        made.source, made.version, made.tiers = self.source, self.version, {}  # type: ignore[misc]
        return made


def cost(tariff: Tariff, usage: Usage) -> float:
    """USD for an answer of the tariff's own service tier."""
    fresh, read, written, output, reasoning, parts = usage
    rate = tariff.rates
    if tariff.steps:
        prompt = fresh + read + written
        for above, higher in tariff.steps:
            if prompt > above:
                rate = higher
    total = fresh * rate[0] + read * rate[1] + written * rate[2] + output * rate[3] + reasoning * rate[4] + rate[12]
    return total if parts is None else total + _apart(rate, parts)


def _apart(rate: Rates, parts: Parts) -> float:
    """What the parts cost more (or less) than their classes; not a number where that of one is not known."""
    used = (
        (parts.cache_write_1h, rate.cache_write_1h - rate.cache_write),
        (parts.audio_input, rate.audio_input - rate.input),
        (parts.image_input, rate.image_input - rate.input),
        (parts.audio_cache_read, rate.audio_cache_read - rate.cache_read),
        (parts.audio_output, rate.audio_output - rate.output),
        (parts.image_output, rate.image_output - rate.output),
        (parts.searches, rate.search),
    )
    return sum([count * more for count, more in used if count])


class Charge(NamedTuple):
    usd: float | None
    source: str | None
    """`provider`, `config` or `table`; None where no price is known."""
    version: str | None


UNPRICED = Charge(None, None, None)


def charge(tariff: Tariff | None, usage: Usage) -> Charge:
    """What an answer costs: as its provider says, else by the tariff of the tier that served it, else not known."""
    parts = usage.parts
    if parts is not None:
        if parts.cost_usd is not None:
            return Charge(parts.cost_usd, "provider", None)
        if parts.tier is not None and tariff is not None:
            tariff = tariff.tiers.get(parts.tier)
    if tariff is None:
        return UNPRICED
    usd = cost(tariff, usage)
    return Charge(usd, tariff.source, tariff.version) if usd == usd else UNPRICED


def plain_usd(usd: float) -> str:
    """An amount without an exponent, to a billionth of a cent: `0.000123`."""
    return f"{usd:.11f}".rstrip("0").rstrip(".")
