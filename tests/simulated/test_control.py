"""Control by HTTP, and what is counted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from proxy.simulated import Simulated
from tests.simulated.wire import Client, answer, ask, connected, exchange, parse, payloads, request, run, until

_LOOPS = pytest.mark.parametrize("run_loop", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
_Run = Callable[[Coroutine[Any, Any, None]], None]


async def _control(simulated: Simulated, body: object) -> tuple[int, Any]:
    message = await answer(simulated, body, path="/control")
    return message.status, json.loads(message.body)


def test_control() -> None:
    async def scenario(simulated: Simulated) -> None:
        status, settings = await _control(simulated, {"faults": ["http_503:1.0"], "ttft": "0", "tokens": 3})
        assert (status, settings["faults"], settings["tokens"]) == (200, ["http_503"], "3")
        assert (await answer(simulated, ask())).status == 503
        status, settings = await _control(simulated, {"faults": ["http_500#2"], "itl": "1ms..2ms"})
        assert (settings["faults"], settings["itl"], settings["tokens"]) == (["http_500#2"], "1ms..2ms", "3")
        assert [(await answer(simulated, ask())).status for _ in range(3)] == [200, 500, 200]
        got = await answer(simulated, b"", method="GET", path="/control")
        assert json.loads(got.body) == settings
        for wrong in ({"faults": ["nope"]}, {"ttft": "soon"}, {"colour": 1}, {"faults": "http_500"}, [], b"{"):
            status, said = await _control(simulated, wrong)
            assert (status, list(said)) == (400, ["error"])
        status, _ = await _control(simulated, {"tokens": 9, "ttft": "never"})
        assert (status, simulated.settings()) == (400, settings), "all or none"

    run(scenario)


def test_one_more_than_its_capacity_is_refused() -> None:
    async def scenario(simulated: Simulated) -> None:
        async def five() -> list[int]:
            return sorted(one.status for one in await asyncio.gather(*(answer(simulated, ask()) for _ in range(5))))

        assert (await _control(simulated, {"capacity": 2, "ttft": "300ms"}))[1]["capacity"] == 2
        assert await five() == [200, 200, 429, 429, 429]
        assert simulated.stats.faults == {"http_429": 3}
        await _control(simulated, {"capacity": None})
        assert await five() == [200] * 5
        status, said = await _control(simulated, {"capacity": 0})
        assert (status, "whole number from 1" in said["error"]) == (400, True)

    run(scenario)


def test_stats_and_requests_by_http() -> None:
    async def scenario(simulated: Simulated) -> None:
        await answer(simulated, ask(stream=True))
        await answer(simulated, ask(), x_sim_fault="http_500")
        got = json.loads((await answer(simulated, b"", method="GET", path="/stats")).body)
        assert {key: got[key] for key in ("requests", "streams", "answered", "broken", "faults", "connections")} == {
            "requests": 2, "streams": 1, "answered": 1, "broken": 1, "faults": {"http_500": 1}, "connections": 3,
        }  # fmt: skip
        assert (got["open"], got["running"], got["cancelled_at"]) == (1, 0, [])
        shown = json.loads((await answer(simulated, b"", method="GET", path="/requests")).body)["requests"]
        assert [one["json"] for one in shown] == [ask(stream=True), ask()]
        assert (await answer(simulated, b"", method="GET", path="/stats/reset")).status == 405
        assert (await answer(simulated, b"", method="POST", path="/stats/reset")).status == 200
        got = json.loads((await answer(simulated, b"", method="GET", path="/stats")).body)
        assert (got["requests"], got["faults"], got["open"], got["connections"]) == (0, {}, 1, 1)
        assert json.loads((await answer(simulated, b"", method="GET", path="/healthz")).body)["name"] == "beta"

    run(scenario, name="beta")


def test_bytes_are_counted() -> None:
    seen: list[Client] = []

    async def scenario(simulated: Simulated) -> None:
        seen.append(await exchange(simulated, ask(stream=True)))

    stats = run(scenario).stats
    assert stats.bytes_out == len(seen[0].raw)
    assert stats.bytes_in == len(request(ask(stream=True), connection="close"))


def test_every_request_ends_as_exactly_one_thing() -> None:
    async def scenario(simulated: Simulated) -> None:
        for number in range(60):
            body = ask(stream=number % 2 == 0) if number % 7 else ask(temperature=9)
            await exchange(simulated, body)
        async with connected(simulated) as client:
            simulated.change(faults=[], ttft="1m")
            client.transport.write(request(ask()))
            await until(lambda: simulated.stats.running == 1)
        await until(lambda: simulated.stats.open == 0)
        stats = simulated.stats
        assert (stats.requests, stats.rejected, stats.cancelled, stats.running) == (61, 9, 1, 0)
        assert stats.answered + stats.broken + stats.rejected + stats.cancelled == 61
        assert stats.broken == sum(stats.faults.values()) - stats.faults["crlf"]
        assert min(stats.answered, stats.broken, stats.faults["crlf"]) > 0

    run(scenario, faults=["http_500:0.3", "cut_clean:0.3", "crlf:0.3"])


@pytest.mark.parametrize("told", ["nope", "http_500:0.5", "http_500#2"])
def test_a_fault_told_by_header_must_make_sense(told: str) -> None:
    async def scenario(simulated: Simulated) -> None:
        message = await answer(simulated, ask(), x_sim_fault=told)
        assert message.status == 400
        assert "x-sim-fault" in json.loads(message.body)["error"]["message"]

    run(scenario)


def test_same_seed_same_faults() -> None:
    def raw(seed: int) -> list[bytes]:
        seen: list[bytes] = []

        async def scenario(simulated: Simulated) -> None:
            for number in range(40):
                seen.append((await exchange(simulated, ask(stream=number % 2 == 0))).raw)

        run(scenario, seed=seed, faults=["http_500:0.2", "cut_mid_stream=after:1:0.2", "comments:50%"])
        return seen

    first = raw(3)
    assert first == raw(3)
    assert first != raw(4)
    kinds = {(message.status, message.complete, len(payloads(message.body))) for message in map(parse, first)}
    # Error; whole and cut, each as a stream and as JSON.
    assert kinds == {(500, True, 0), (200, True, 16), (200, True, 0), (200, False, 2), (200, False, 0)}
