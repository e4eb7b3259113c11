"""Asks the engine what an endpoint would, without HTTP: for shadow traffic, benchmarks and the simulator."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from proxy.attempt import GONE, Gone
from proxy.engine import Engine
from proxy.errors import Refusal
from proxy.record import Exchange
from proxy.router import Plan
from proxy.wire.request import Request


class Called(NamedTuple):
    exchange: Exchange
    """Sealed, and given to the bus."""
    data: bytes
    """What a client would have been sent; of a stream, everything up to where it ended or broke."""


async def call(
    engine: Engine,
    ask: Request,
    plan: Plan,
    *,
    due_ns: int = 0,
    patience: float | None = None,
    parent: str | None = None,
    key: str | None = None,
    keep: bool = True,
) -> Called:
    """One exchange in the current task, which must do nothing else meanwhile. Never raises for a failed exchange.

    `due_ns`: when a load generator meant to send it (monotonic). `patience`: seconds after which it is given up as a
    client would. `parent`: the exchange that it shadows. `key`: the name of the key that it is done for. `keep` False
    throws the answer away as it comes.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101
    run = engine.begin(task)
    exchange = run.exchange
    exchange.model, exchange.stream, exchange.parent_id = ask.model[:200], ask.stream, parent
    exchange.key = key
    exchange.operation = ask.operation
    exchange.marks.scheduled = due_ns
    exchange.request_bytes = len(ask.raw)
    leaving = None
    if patience is not None:
        leaving = asyncio.get_running_loop().call_later(patience, run.deadline.stop, GONE)
    parts: list[bytes] = []
    try:
        data = await run.commit(ask, plan)
        while True:
            exchange.answer_bytes += len(data)
            if keep:
                parts.append(data)
            run.sending()
            if run.ended:
                break
            data = await run.next()
    except Refusal as refusal:
        run.refuse(refusal)
    except Gone:
        run.gone()
    except BaseException:
        run.fault()
        raise
    finally:
        if leaving is not None:
            leaving.cancel()
        run.seal()
    return Called(exchange, b"".join(parts))
