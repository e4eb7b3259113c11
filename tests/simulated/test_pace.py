"""The pace of answers: pauses between writes, and readers slower than the simulator."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from proxy.simulated import Simulated
from proxy.simulated.reply import End, Framing, Part, Reply, script
from tests.simulated.wire import answer, ask, connected, exchange, parse, request, run, until

_LOOPS = pytest.mark.parametrize("run_loop", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
_Run = Callable[[Coroutine[Any, Any, None]], None]


def test_neighbours_without_a_pause_are_one_write() -> None:
    parts = [Part(b"a"), Part(b"b", pause=0.5), Part(b"c"), Part(b"d", pause=0.0)]
    made = script(Reply(200, [], parts, framing=Framing.CHUNKED, wait=2.0), close=False)
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    assert made.steps == [
        (head + b"1\r\na\r\n", 2.0),
        (b"1\r\nb\r\n1\r\nc\r\n", 0.5),
        (b"1\r\nd\r\n0\r\n\r\n", 0.0),
    ]
    assert made.end is End.KEEP


def _pauses(**options: Any) -> list[float]:
    """What the timers of one request were set to."""
    seen: list[float] = []

    async def scenario(simulated: Simulated) -> None:
        loop = asyncio.get_running_loop()
        later = loop.call_later

        def call_later(delay: float, callback: Any, *args: Any, **more: Any) -> asyncio.TimerHandle:
            seen.append(delay)
            return later(0, callback, *args, **more)

        loop.call_later = call_later  # type: ignore[method-assign]
        assert (await answer(simulated, ask(stream=options.pop("stream", True)))).complete

    stream = options.pop("stream", True)
    options["stream"] = stream
    run(scenario, tokens=5, **{key: value for key, value in options.items() if key != "stream"})
    return seen


def test_latency_zero_sets_no_timer() -> None:
    assert _pauses() == []


def test_fixed_latencies() -> None:
    assert _pauses(ttft="30s", itl="10s") == [30.0, 10.0, 10.0, 10.0, 10.0]
    assert _pauses(ttft="30s", itl="10s", stream=False) == [70.0], "not streamed: all of it before the answer"
    assert _pauses(ttft=30) == [30.0]


def test_drawn_latencies() -> None:
    drawn = _pauses(ttft="lognormal(20s,0.5)", itl="10s..30s")
    assert drawn == _pauses(ttft="lognormal(20s,0.5)", itl="10s..30s")
    assert len(set(drawn)) == 5
    assert all(10 <= one <= 30 for one in drawn[1:])
    assert drawn != _pauses(ttft="lognormal(20s,0.5)", itl="10s..30s", seed=8)


@pytest.mark.parametrize("fault", ["refuse#1", "reset_before_headers", "http_500", "http_429"])
def test_errors_do_not_wait(fault: str) -> None:
    async def scenario(simulated: Simulated) -> None:
        assert (await exchange(simulated, ask())).ended

    run(scenario, ttft="1m", itl="1m", faults=[fault])


def test_a_slow_reader_fills_no_memory() -> None:
    """The simulator stops writing where the client stops reading, and goes on when it reads again."""

    async def scenario(simulated: Simulated) -> None:
        async with connected(simulated) as client:
            client.transport.pause_reading()
            client.transport.write(request(ask(stream=True), connection="close"))
            stopped = -1
            await until(lambda: simulated.stats.bytes_out > 0)
            while stopped != simulated.stats.bytes_out:
                stopped = simulated.stats.bytes_out
                for _ in range(200):
                    await asyncio.sleep(0)
            assert simulated.stats.running == 1
            client.transport.resume_reading()
            await client.until_ended()
            assert stopped < len(client.raw) == simulated.stats.bytes_out
            assert parse(client.raw).complete

    # 400 chunks of 40 kB each, for the name stands in every one; each is a write of its own, in a turn of its own.
    run(scenario, itl=1e-9, tokens=400, name="x" * 40_000)
