"""Prices of a library that was updated apart from this program are taken over while it runs."""

from __future__ import annotations

import asyncio
import contextlib

import orjson
import pytest

from proxy.prices import watch
from proxy.prices.book import Book
from proxy.prices.table import PATH, Table
from proxy.wire.usage import Usage

MILLION = Usage(1_000_000, 0, 0, 0, 0)


def _old() -> Table:
    held = orjson.loads(PATH.read_bytes())
    models = [["gpt-4o", {"equals": "gpt-4o"}, [[None, None, {"input": 1000}]], []]]
    return Table({**held, "version": "0.0.1", "providers": {"openai": {"fallback": [], "models": models}}})


def _watched(book: Book) -> None:
    async def main() -> None:
        watching = asyncio.create_task(watch.keep_current(lambda: book))
        for _ in range(200):
            await asyncio.sleep(0.05)
            if book.version != "genai-prices 0.0.1":
                break
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching

    asyncio.run(main())


def test_a_newer_library_is_read_in_the_background() -> None:
    book = Book({}, _old())
    price = book.price("openai", "gpt-4o", name="x")
    assert price.charge(MILLION).usd == pytest.approx(1000)
    _watched(book)
    assert price.charge(MILLION).usd == 2.5


def test_a_library_that_cannot_be_read_leaves_the_prices_as_they_are(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> Table:
        book.table.version = "genai-prices 0.0.1 (kept)"  # ends the wait above
        raise RuntimeError("another form")

    monkeypatch.setattr(watch, "_from_library", broken)
    book = Book({}, _old())
    price = book.price("openai", "gpt-4o", name="x")
    _watched(book)
    assert price.charge(MILLION).usd == pytest.approx(1000)
    assert "cannot be read" in caplog.text
