"""`weighbridge check --live`: asks every target a few tiny questions and shows what it can do."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import TYPE_CHECKING, Any

from proxy.conformance import CELLS, FAIL, PASS, Row, row

if TYPE_CHECKING:
    from proxy.config import Config
    from proxy.upstreams import Target

_AT_ONCE = 4
"""Targets that are asked at the same time."""


def run(config: Config, named: Sequence[str], format: str) -> int:
    """0: nothing failed; 1: a cell failed; 2: there is nothing to ask."""
    rows = asyncio.run(_rows(config, named))
    if not rows:
        print("no target to ask: name one with --target provider/model, or list some under `routes`", file=sys.stderr)
        return 2
    before = _stored(config, rows)
    if format == "json":
        print(json.dumps({"targets": [_as_json(one, before) for one in rows]}, indent=2))
    else:
        for line in _matrix(rows, before):
            print(line)
    return 1 if any(one.failed for one in rows) else 0


async def _rows(config: Config, named: Sequence[str]) -> list[Row]:
    from proxy.assemble import front
    from proxy.clock import RealClock
    from proxy.engine import Engine
    from proxy.errors import Refusal
    from proxy.measure.bus import Bus
    from proxy.record import Origin
    from proxy.transport.choose import Transports

    transports = Transports()
    engine = Engine(RealClock(), Bus({}), Random(), Origin.BENCH)  # noqa: S311  (nothing here is secret)
    router = front(config, transports.for_provider, Random()).router  # noqa: S311
    targets = {target.name: target for target in router.targets} if not named else {}
    for name in named:
        try:
            targets.update((target.name, target) for target in router.find(name, True).targets)
        except Refusal as refusal:
            print(refusal.message, file=sys.stderr)
    places = asyncio.Semaphore(_AT_ONCE)

    async def ask(target: Target) -> Row:
        async with places:
            found = await row(engine, target)
            _progress(f"{target.name}: {found.calls} calls")
            return found

    try:
        return list(await asyncio.gather(*(ask(target) for target in targets.values())))
    finally:
        await transports.aclose()


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


def _stored(config: Config, rows: Sequence[Row]) -> Mapping[tuple[str, str], str]:
    """What was found the last time; what was found now is kept for the next."""
    from proxy.measure.store.conformance import Found, last, save
    from proxy.measure.store.schema import SchemaError

    if config.storage is None:
        return {}
    found = [Found(one.target, cell.name, cell.result, cell.reason) for one in rows for cell in one.cells]
    try:
        before = last(config.storage)
        save(config.storage, time.time(), found)
    except (sqlite3.Error, OSError, SchemaError) as error:
        print(f"warning: not stored: {error}", file=sys.stderr)
        return {}
    return before


def _as_json(one: Row, before: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    cells = {
        cell.name: {"result": cell.result, "reason": cell.reason or None, "before": before.get((one.target, cell.name))}
        for cell in one.cells
    }
    return {"target": one.target, "cells": cells, "calls": one.calls, "tokens": one.tokens, "cost_usd": one.cost_usd}


def _matrix(rows: Sequence[Row], before: Mapping[tuple[str, str], str]) -> Iterator[str]:
    from proxy.cli.columns import table

    heads = ["TARGET", *(name.upper() for name in CELLS), "CALLS", "TOKENS", "COST"]
    yield from table([heads, *([one.target, *_results(one, before), *_spent(one)] for one in rows)])
    for one in rows:
        notes = [f"  {cell.name}: {cell.result}: {cell.reason}" for cell in one.cells if cell.reason]
        if notes:
            yield ""
            yield one.target
            yield from notes
    tokens, calls = sum(one.tokens for one in rows), sum(one.calls for one in rows)
    yield ""
    costs = [one.cost_usd for one in rows]
    known = "unknown (no price for some target)" if None in costs else f"{sum(filter(None, costs)):.6f} USD"
    yield f"{calls} calls, {tokens} tokens, cost {known}"


def _results(one: Row, before: Mapping[tuple[str, str], str]) -> Iterator[str]:
    """An exclamation mark where a cell passed the last time and does not now."""
    for cell in one.cells:
        lost = before.get((one.target, cell.name)) == PASS and cell.result != PASS
        yield (cell.result.upper() if cell.result == FAIL else cell.result) + ("!" if lost else "")


def _spent(one: Row) -> list[str]:
    return [str(one.calls), str(one.tokens), "?" if one.cost_usd is None else f"{one.cost_usd:.6f}"]
