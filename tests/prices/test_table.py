"""The built-in table against the library that it was made from, and its prices that change with time."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import genai_prices
import orjson
import pytest
from genai_prices.data import providers

from proxy.prices.book import Book
from proxy.prices.extract import extract
from proxy.prices.table import IDS, PATH, Table, built_in
from proxy.prices.tariff import charge
from proxy.wire.usage import Parts, Usage


def test_the_table_is_what_the_library_holds() -> None:
    """After the library was updated: `python -m proxy.prices.extract`."""
    assert orjson.loads(PATH.read_bytes()) == orjson.loads(orjson.dumps(extract()))
    assert not built_in().is_older_than_library()


AT = datetime(2026, 11, 26, 12, tzinfo=UTC)
_OURS = {theirs: ours for ours, theirs in IDS.items() if ours != "vertex"}
USAGES = (
    {"input_tokens": 5_000, "output_tokens": 700},
    {"input_tokens": 150_000, "cache_read_tokens": 90_000, "output_tokens": 50},
    {"input_tokens": 400_000, "cache_read_tokens": 1_000, "cache_write_tokens": 2_000, "output_tokens": 3_000},
)


def models() -> Iterator[tuple[str, str, str]]:
    """A few of each provider's, those with tiers among them."""
    for provider in providers:
        if provider.id in _OURS:
            for model in provider.models[::5]:
                yield provider.id, _OURS[provider.id], model.id


@pytest.mark.parametrize(("theirs", "ours", "model"), [*models()])
def test_our_arithmetic_agrees_with_the_librarys(theirs: str, ours: str, model: str) -> None:
    found = built_in().find(ours, model)
    for given in USAGES:
        try:
            usage = genai_prices.Usage(**given)
            expected = genai_prices.calc_price(usage, model, provider_id=theirs, genai_request_timestamp=AT)
        except (LookupError, ValueError):
            return  # the library has no price for such tokens
        if found is None:
            assert expected.total_price == 0  # priced by something else than tokens
            return
        read, written = given.get("cache_read_tokens", 0), given.get("cache_write_tokens", 0)
        ours_ = Usage(given["input_tokens"] - read - written, read, written, given["output_tokens"], 0)
        usd = charge(found.tariff(AT.timestamp()), ours_).usd
        assert usd == pytest.approx(float(expected.total_price), rel=1e-9)


def test_a_price_by_the_hour_is_followed() -> None:
    """DeepSeek's reasoner was cheaper by night (16:30 to 00:30 UTC)."""
    clock = [datetime(2026, 11, 26, 12, tzinfo=UTC).timestamp()]
    book = Book({}, now=lambda: clock[0])
    price = book.price("deepseek", "deepseek-reasoner", name="x")
    assert price.changes
    by_day = price.charge(Usage(1_000_000, 0, 0, 0, 0)).usd
    clock[0] += 6 * 3600
    book.refresh()
    by_night = price.charge(Usage(1_000_000, 0, 0, 0, 0)).usd
    assert by_day is not None
    assert by_night is not None
    assert by_night < by_day


def _held(prices: list[Any], variants: list[Any] | None = None) -> dict[str, Any]:
    model = ["m", {"or": [{"equals": "m"}, {"starts_with": "m-"}]}, prices, variants or []]
    return {"version": "9", "providers": {"openai": {"fallback": [], "models": [model]}}}


def test_a_price_of_a_day_to_come_begins_on_that_day() -> None:
    table = Table(
        _held(
            [[None, None, {"input": 1}], ["2026-12-01", None, {"input": 2}]], [["flex", "2026-12-02", {"input": 0.5}]]
        )
    )
    million = Usage(1_000_000, 0, 0, 0, 0)
    clock = [datetime(2026, 11, 30, 23, 59, tzinfo=UTC).timestamp()]
    book = Book({}, table, now=lambda: clock[0])
    price = book.price("openai", "m-1", name="x")
    assert (price.charge(million).usd, price.changes) == (1, True)
    clock[0] += 60
    book.refresh()
    assert price.charge(million).usd == 2
    assert price.charge(million._replace(parts=Parts(tier="flex"))).usd is None
    clock[0] += 86400
    book.refresh()
    assert price.charge(million._replace(parts=Parts(tier="flex"))).usd == 0.5
    assert not price.changes


def test_a_newer_table_holds_from_then_on() -> None:
    book = Book({}, Table(_held([[None, None, {"input": 1}]])))
    price = book.price("openai", "m", name="x")
    deployed = book.price("openai", "other", name="y")
    million = Usage(1_000_000, 0, 0, 0, 0)
    assert deployed.charge(million, "m").usd == 1
    book.use(Table(_held([[None, None, {"input": 3}]])))
    assert price.charge(million).usd == deployed.charge(million, "m").usd == 3


def test_serving_does_not_load_the_library() -> None:
    code = "import sys; import proxy.app; from proxy.prices.table import built_in; built_in();"
    code += "sys.exit('genai_prices' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
