"""The built-in prices: which model's name has which tariff at which time.

`table.json` is made from the library genai-prices (see `extract.py`). Nothing is ever downloaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from math import nan
from pathlib import Path
from typing import Any

import orjson

from proxy.prices.tariff import Amounts, Tariff

Json = dict[str, Any]

LIBRARY = "genai-prices"
PATH = Path(__file__).with_name("table.json")

IDS: Mapping[str, str] = {
    "openai": "openai",
    "azure": "azure",
    "anthropic": "anthropic",
    "gemini": "google",
    "vertex": "google",
    "bedrock": "aws",
    "mistral": "mistral",
    "cohere": "cohere",
    "groq": "groq",
    "deepseek": "deepseek",
    "xai": "x-ai",
    "together": "together",
    "fireworks": "fireworks",
    "perplexity": "perplexity",
    "openrouter": "openrouter",
    "cerebras": "cerebras",
    "moonshot": "moonshotai",
    "zai": "zai",
}
"""Our names of providers -> the library's. Others have no built-in price."""

_MULTIPLES = {"anthropic": {"us": 1.1}}
"""Tiers billed as a multiple of all prices. Anthropic: inference that stays in the US (`inference_geo`), its page on
data residency."""


_SOUND_IS_DEARER = {"openai", "azure"}
"""Sound never costs what text does there, so a model without a price for it has none that is known."""


class Found:
    """A model in the table."""

    __slots__ = ("_defaults", "_multiples", "_prices", "_variants", "_version")

    def __init__(self, provider: str, model: Sequence[Any], version: str) -> None:
        self._prices = model[2]
        self._variants = model[3]
        self._version = version
        self._defaults = {"audio_input": nan, "audio_output": nan} if provider in _SOUND_IS_DEARER else {}
        self._multiples = _MULTIPLES.get(provider, {})

    def changes(self, now: float) -> bool:
        """Its price depends on the hour, or on a day that is yet to come."""
        today = datetime.fromtimestamp(now, UTC).date().isoformat()
        starts = [start for start, *_ in self._prices] + [start for _, start, _ in self._variants]
        return any(daily for _, daily, _ in self._prices) or any(
            start is not None and start > today for start in starts
        )

    def tariff(self, now: float) -> Tariff:
        """As it is at `now` (seconds since the epoch)."""
        at = datetime.fromtimestamp(now, UTC)
        amounts = next(
            (amounts for start, daily, amounts in reversed(self._prices) if _holds(at, start, daily)),
            self._prices[0][2],
        )
        tiers: dict[str, Json] = {}
        for tier, start, changed in self._variants:
            if _holds(at, start, None):
                tiers[tier] = {**changed, **tiers.get(tier, {})}  # the first that holds decides
        made = {tier: self._made({**amounts, **changed}) for tier, changed in tiers.items()}
        ordinary = self._made(amounts)
        for name, factor in self._multiples.items():
            for tier, one in tuple(made.items()):
                made[f"{tier}+{name}"] = one.scaled(factor)
            made[name] = ordinary.scaled(factor)
        return self._made(amounts, made)

    def _made(self, amounts: Json, tiers: Mapping[str, Tariff] | None = None) -> Tariff:
        base: dict[str, float] = dict(self._defaults)
        steps: dict[int, dict[str, float]] = {}
        for name, price in amounts.items():
            if isinstance(price, list):
                base[name] = price[0]
                for above, higher in price[1:]:
                    steps.setdefault(above, {})[name] = higher
            else:
                base[name] = price
        return Tariff(base, _filled(steps), source="table", version=self._version, tiers=tiers)


def _filled(steps: Mapping[int, Amounts]) -> list[tuple[int, Amounts]]:
    """Each step also holds what a lower one has changed."""
    so_far: dict[str, float] = {}
    filled: list[tuple[int, Amounts]] = []
    for above in sorted(steps):
        so_far = {**so_far, **steps[above]}
        filled.append((above, so_far))
    return filled


class Table:
    def __init__(self, held: Json) -> None:
        self.version: str = f"{LIBRARY} {held['version']}"
        self._providers: Json = held["providers"]

    def is_older_than_library(self) -> bool:
        """Another version of the library is installed than the table was made from."""
        try:
            return f"{LIBRARY} {version(LIBRARY)}" != self.version
        except PackageNotFoundError:
            return False

    def find(self, provider: str, model: str) -> Found | None:
        """`provider`: our name for it; `model`: as it is asked for upstream, or as the answer names it."""
        name = model.lower()
        id = IDS.get(provider)
        if provider == "huggingface" and ":" in name:
            name, _, host = name.rpartition(":")
            id = f"huggingface_{host}"
        held = self._providers.get(id or "")
        if held is None:
            return None
        for source in (held, *(self._providers[other] for other in held["fallback"])):
            for one in source["models"]:
                if _matches(one[1], name):
                    return Found(provider, one, self.version)
        return None


@cache
def built_in() -> Table:
    """What this version of the program came with."""
    return Table(orjson.loads(PATH.read_bytes()))


def _holds(at: datetime, start: str | None, daily: Sequence[int] | None) -> bool:
    if start is not None:
        return at.date().isoformat() >= start
    if daily is not None:
        begin, end = daily
        minute = at.hour * 60 + at.minute
        return begin <= minute < end if begin <= end else minute >= begin or minute < end
    return True


def _matches(clause: Json, name: str) -> bool:
    ((kind, value),) = clause.items()
    if kind == "or":
        return any(_matches(one, name) for one in value)
    if kind == "and":
        return all(_matches(one, name) for one in value)
    if kind == "regex":
        return re.search(value, name) is not None
    return bool(_TESTS[kind](name, value))


_TESTS: Mapping[str, Callable[[str, str], object]] = {
    "equals": str.__eq__,
    "starts_with": str.startswith,
    "ends_with": str.endswith,
    "contains": str.__contains__,
}
