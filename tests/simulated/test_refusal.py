"""The fault `refuse`: a port that closes, and opens again."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from proxy.simulated import Fault, Simulated
from tests.simulated.wire import Client, answer, ask, connected, exchange, parse, request, run, until

_LOOPS = pytest.mark.parametrize("run_loop", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
_Run = Callable[[Coroutine[Any, Any, None]], None]


def _one(raw: bytes) -> bool:
    """Whether a whole message is there."""
    return b"\r\n\r\n" in raw and parse(raw).complete


async def _refused(port: int) -> bool:
    try:
        transport, _ = await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", port)
    except ConnectionRefusedError:
        return True
    transport.abort()
    return False


@_LOOPS
def test_refusing_closes_the_port(run_loop: _Run) -> None:
    async def main() -> None:
        async with Simulated(seed=7) as simulated:
            async with connected(simulated) as idle:
                await until(lambda: simulated.stats.open == 1)
                for _ in range(3):
                    simulated.faults = ["refuse"]
                    assert await _refused(simulated.port)
                    simulated.faults = ["refuse", "http_500"]
                    assert await _refused(simulated.port)
                    simulated.faults = []
                    assert (await answer(simulated, ask())).status == 200
                await idle.until_ended()
            assert simulated.stats.faults == {"refuse": 3}
            simulated.faults = ["refuse"]
            simulated.faults = []
            simulated.faults = ["refuse"]
            # A port that was just about to open closes again within a few turns of the loop.
            while not await _refused(simulated.port):
                pass

    run_loop(main())


def test_refusing_from_the_start() -> None:
    async def scenario(simulated: Simulated) -> None:
        assert await _refused(simulated.port)
        simulated.faults = ["http_500"]
        assert (await answer(simulated, ask())).status == 500

    run(scenario, faults=["refuse"])


def test_refusing_ends_by_itself() -> None:
    async def scenario(simulated: Simulated) -> None:
        simulated.faults = ["refuse=1ms", "http_503"]
        assert simulated.faults == (Fault("refuse", seconds=0.001), Fault("http_503"))
        await until(lambda: simulated.faults == (Fault("http_503"),))
        assert (await answer(simulated, ask())).status == 503

    run(scenario)


def test_an_answer_that_runs_is_finished_while_the_port_is_closed() -> None:
    async def scenario(simulated: Simulated) -> None:
        async with connected(simulated) as client:
            client.transport.write(request(ask(stream=True)))
            await client.until(lambda seen: b"data: " in seen.raw)
            simulated.faults = ["refuse"]
            assert await _refused(simulated.port)
            await client.until(lambda seen: _one(seen.raw))
            client.transport.write(request(ask()))
            await client.until_ended()
            assert client.ended == "reset", "a further request on the kept connection meets nobody"

    run(scenario, itl="2ms", tokens=5)


def test_refusing_some() -> None:
    """At a rate or by number, connections are reset when they are accepted, and requests on kept ones as they come."""

    async def scenario(simulated: Simulated) -> None:
        seen = []
        for _ in range(6):
            client = await exchange(simulated, ask())
            seen.append(client.raw[:15] or client.ended.encode())
        ok, gone = b"HTTP/1.1 200 OK", b"reset"
        assert seen == [ok, gone, gone, ok, ok, gone]
        async with connected(simulated) as kept:
            kept.transport.write(request(ask()))
            await kept.until(lambda client: _one(client.raw))
            kept.transport.write(request(ask()))
            await kept.until_ended()
            assert kept.ended == "reset"
        assert simulated.stats.faults == {"refuse": 4}

    run(scenario, faults=["refuse#2-3", "refuse#6", "refuse#8"])
