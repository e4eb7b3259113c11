"""The built-in table from the library genai-prices, reduced to what an answer's tokens can be priced by.

`python -m proxy.prices.extract` writes `table.json` anew after the library was updated. Importing the library costs
half a second and 40 MB, which a proxy should not pay at every start; a test holds the file against the library.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, time
from importlib.metadata import version
from typing import Any

import orjson

from proxy.prices.table import IDS, LIBRARY, PATH

Json = dict[str, Any]

_RATES = {
    "input_mtok": "input",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "output_mtok": "output",
    "output_reasoning_mtok": "reasoning",
    "input_audio_mtok": "audio_input",
    "input_image_mtok": "image_input",
    "cache_audio_read_mtok": "audio_cache_read",
    "output_audio_mtok": "audio_output",
    "output_image_mtok": "image_output",
    "web_searches_kcount": "search",
    "requests_kcount": "request",
}
_THOUSANDS = ("search", "request")


def extract() -> Json:
    """The table as `table.json` holds it."""
    from genai_prices.data import providers

    wanted = set(IDS.values())
    found = {one.id: one for one in providers if one.id in wanted or one.id.startswith("huggingface_")}
    return {
        "source": f"{LIBRARY} (MIT licence: table-LICENSE.txt)",
        "version": version(LIBRARY),
        "providers": {
            id: {
                "fallback": [other for other in one.fallback_model_providers or () if other in found],
                "models": [made for model in one.models if (made := _model(model))],
            }
            for id, one in sorted(found.items())
        },
    }


def _model(model: Any) -> list[Any] | None:
    """[id, clauses that match names, [[from, daily window, amounts], ...], [[tier, from, amounts], ...]]"""
    given = model.prices if isinstance(model.prices, list) else [None]
    prices = []
    for one in given:
        held = model.prices if one is None else one.prices
        amounts = _amounts(held)
        if amounts:
            prices.append([*_constraint(None if one is None else one.constraint), amounts])
    if not prices:
        return None
    return [model.id, _clause(model.match), prices, [*_variants(model)]]


def _variants(model: Any) -> Iterator[list[Any]]:
    for one in model.price_variants or ():
        tier = one.when.get("service_tier") or one.when.get("processing") or one.when.get("speed")
        amounts = _amounts(one.prices)
        if len(one.when) == 1 and tier not in (None, "default") and amounts:
            start, daily = _constraint(one.constraint)
            if daily is None:
                yield [tier, start, amounts]


def _amounts(prices: Any) -> Json:
    """USD per million tokens (search, request: each); a price by the prompt's length is [base, [above, price], ...]."""
    found: Json = {}
    for key, name in _RATES.items():
        price = getattr(prices, key, None)
        if price is None:
            continue
        per = 1000 if name in _THOUSANDS else 1
        if hasattr(price, "tiers"):
            found[name] = [float(price.base) / per, *([step.start, float(step.price) / per] for step in price.tiers)]
        else:
            found[name] = float(price) / per
    return found


def _constraint(constraint: Any) -> tuple[str | None, list[int] | None]:
    """First day (ISO), and the daily window in minutes of the day (UTC)."""
    if constraint is None:
        return None, None
    if hasattr(constraint, "start_date"):
        return constraint.start_date.isoformat(), None
    return None, [_minute(constraint.start_time), _minute(constraint.end_time)]


def _minute(at: time) -> int:
    if at.tzinfo not in (None, UTC):
        raise ValueError(f"a time of day that is not in UTC: {at}")
    return at.hour * 60 + at.minute


def _clause(clause: Any) -> Json:
    """The library's words: starts_with, ends_with, contains, equals, regex, or, and."""
    ((name, value),) = vars(clause).items()
    if name in ("or_", "and_"):
        return {name.rstrip("_"): [_clause(one) for one in value]}
    return {name: value if name == "regex" else value.lower()}


def main() -> int:
    PATH.write_bytes(orjson.dumps(extract(), option=orjson.OPT_APPEND_NEWLINE))
    return 0


if __name__ == "__main__":
    sys.exit(main())
