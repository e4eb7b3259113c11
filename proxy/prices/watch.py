"""Keeps prices current while the proxy runs: those that change with the hour, and those of a newer library."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from proxy.prices.book import Book
from proxy.prices.table import Table

log = logging.getLogger(__name__)

_PERIOD_SECONDS = 60.0


async def keep_current(book: Callable[[], Book]) -> None:
    """Runs until it is cancelled. `book` gives the one in use at the moment."""
    if book().table.is_older_than_library():
        try:
            # Half a second of work, in a thread: the library was updated apart from this program.
            table = await asyncio.to_thread(_from_library)
        except Exception:
            log.exception("the prices of the installed library cannot be read; those of %s hold", book().version)
        else:
            book().use(table)
    while True:
        await asyncio.sleep(_PERIOD_SECONDS)
        book().refresh()


def _from_library() -> Table:
    from proxy.prices.extract import extract

    return Table(extract())
