"""The server itself: connections, the pace of answers, clients that leave, ports that close, control by HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from proxy.simulated import Simulated
from proxy.simulated import connection as connection_module
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


def test_connections_are_kept() -> None:
    async def scenario(simulated: Simulated) -> None:
        async with connected(simulated) as client:
            for number in range(1, 4):
                client.transport.write(request(ask(stream=number == 2)))
                await client.until(lambda seen: _one(seen.raw))
                assert "connection" not in parse(client.raw).headers
                client.pieces.clear()
                assert (simulated.stats.answered, simulated.stats.running) == (number, 0)
        await until(lambda: simulated.stats.open == 0)

    stats = run(scenario).stats
    assert (stats.connections, stats.cancelled) == (1, 0)


def test_pipelined_requests_are_answered_in_order() -> None:
    async def scenario(simulated: Simulated) -> None:
        async with connected(simulated) as client:
            sent = [request(ask(model=f"m{number}", stream=number % 2 == 0)) for number in range(4)]
            client.transport.write(b"".join(sent) + request(ask(model="m4"), connection="close"))
            await client.until_ended()
        raw = client.raw
        for number in range(5):
            message = parse(raw)
            assert f'"model":"m{number}"'.encode() in message.body
            raw = message.rest
        assert raw == b""

    assert run(scenario, itl="1ms", tokens=3).stats.answered == 5


def test_continue_is_said_where_it_is_waited_for() -> None:
    async def scenario(simulated: Simulated) -> None:
        async with connected(simulated) as client:
            whole = request(ask(), expect="100-continue", connection="close")
            head, separator, body = whole.partition(b"\r\n\r\n")
            client.transport.write(head + separator)
            await client.until(lambda seen: bool(seen.raw))
            assert client.raw == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.transport.write(body)
            await client.until_ended()
            assert parse(parse(client.raw).rest).status == 200

    run(scenario)


@pytest.mark.parametrize(
    "raw", [b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n"]
)
def test_what_is_no_http(raw: bytes) -> None:
    async def scenario(simulated: Simulated) -> None:
        async with connected(simulated) as client:
            client.transport.write(raw)
            await client.until_ended()
        assert parse(client.raw).status == 400
        assert (await answer(simulated, ask())).status == 200

    run(scenario)


def test_requests_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "REQUEST_LIMIT", 1000)

    async def scenario(simulated: Simulated) -> None:
        assert (await answer(simulated, ask())).status == 200
        assert (await answer(simulated, b"x" * 1001)).status == 413
        assert simulated.stats.requests == 1

    run(scenario)


def test_a_mistake_of_the_simulator_is_not_blamed_on_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    reported: list[BaseException] = []

    def respond(self: Simulated, request: object) -> None:
        raise ZeroDivisionError

    async def scenario(simulated: Simulated) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, told: reported.append(told["exception"]))
        monkeypatch.setattr(Simulated, "respond", respond)
        client = await exchange(simulated, ask())
        assert client.raw == b""

    run(scenario)
    assert [type(error.__context__ or error.__cause__) for error in reported] == [ZeroDivisionError]


def test_requests_are_kept_for_a_look() -> None:
    async def scenario(simulated: Simulated) -> None:
        for number in range(5):
            await answer(simulated, ask(seed=number), x_tag=str(number))
        await answer(simulated, b"", method="GET", path="/stats")
        await answer(simulated, b"", method="GET", path="/v1/models?a=b")

    kept = run(scenario, keep=3).requests
    assert [one.path for one in kept] == ["/v1/chat/completions", "/v1/chat/completions", "/v1/models"]
    assert (kept[0].method, kept[0].headers["x-tag"], kept[0].json) == ("POST", "3", ask(seed=3))
    assert json.loads(kept[0].body) == ask(seed=3)


@_LOOPS
@pytest.mark.parametrize("when", ["before headers", "between chunks"])
def test_a_client_that_leaves_is_counted_and_costs_nothing_more(when: str, run_loop: _Run) -> None:
    async def main() -> None:
        slow = {"ttft": "1m"} if when == "before headers" else {"itl": "1m"}
        async with Simulated(seed=7, **slow) as simulated:  # type: ignore[arg-type]
            for number in range(1, 4):
                async with connected(simulated) as client:
                    client.transport.write(request(ask(stream=True)))
                    await until(lambda: simulated.stats.running == 1)
                    if when == "between chunks":
                        await client.until(lambda seen: seen.raw.count(b"data: ") == 2)
                    before = simulated.stats.bytes_out
                await until(lambda: simulated.stats.open == 0)
                stats = simulated.stats
                assert (stats.cancelled, stats.running, stats.answered) == (number, 0, 0)
                assert len(stats.cancelled_at) == number
                assert stats.bytes_out == before
            assert list(stats.cancelled_at) == sorted(stats.cancelled_at)

    run_loop(main())


@_LOOPS
def test_stop_leaves_nothing_open(run_loop: _Run) -> None:
    async def main() -> None:
        simulated = Simulated(ttft="1m", faults=["hang_before_headers#1"])
        await simulated.start()
        async with connected(simulated) as idle, connected(simulated) as hung, connected(simulated) as waiting:
            hung.transport.write(request(ask()))
            await until(lambda: simulated.stats.running == 1)
            waiting.transport.write(request(ask()))
            await until(lambda: simulated.stats.running == 2)
            await simulated.stop()
            stats = simulated.stats
            assert (stats.open, stats.running, stats.stopped, stats.cancelled) == (0, 0, 2, 0)
            for client in (idle, hung, waiting):
                await client.until_ended()
        assert await _refused(simulated.port)
        assert {task for task in asyncio.all_tasks() if task is not asyncio.current_task()} == set()

    run_loop(main())


def test_start_again_on_the_same_port() -> None:
    async def main() -> None:
        simulated = Simulated()
        for _ in range(2):
            await simulated.start()
            assert (await answer(simulated, ask())).status == 200
            await simulated.stop()
        assert simulated.stats.answered == 2

    asyncio.run(main())


def test_a_port_in_use() -> None:
    async def scenario(simulated: Simulated) -> None:
        with pytest.raises(OSError, match=r"in use"):
            await Simulated(port=simulated.port).start()

    run(scenario)


@pytest.mark.parametrize(
    "options",
    [
        {"dialect": "klingon"},
        {"faults": ["nope"]},
        {"faults": "http_500"},
        {"faults": [5]},
        {"ttft": "x"},
        {"tokens": 0},
    ],
)
def test_settings_that_cannot_be_read(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        Simulated(**options)
