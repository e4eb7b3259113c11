"""Requests under a fault, beside the same request without it."""

from __future__ import annotations

from typing import Any

import pytest

from proxy.simulated import FAULTS, Simulated
from tests.simulated.wire import Client, answer, ask, exchange, run

BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def told(fault: str) -> dict[str, str]:
    """The header by which a request asks for a fault."""
    return {"x-sim-fault": fault}


def under(fault: str, *, stream: bool, **more: Any) -> tuple[Client, bytes]:
    """What a client saw under the fault, and the body that it gets without it."""
    seen: list[Client] = []
    clean: list[bytes] = []

    async def scenario(simulated: Simulated) -> None:
        clean.append((await answer(simulated, ask(stream=stream, **more))).body)
        seen.append(await exchange(simulated, ask(stream=stream, **more), **told(fault)))

    counted = run(scenario).stats
    kind = fault.split("=")[0]
    assert counted.faults == {kind: 1}
    assert (counted.requests, counted.streams) == (2, 2 * stream)
    assert (counted.answered, counted.broken) == ((2, 0) if FAULTS[kind].harmless else (1, 1))
    return seen[0], clean[0]
