"""The server itself: connections, the pace of answers, clients that leave, ports that close, control by HTTP."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from proxy.simulated import Fault, Simulated
from proxy.simulated import connection as connection_module
from proxy.simulated.reply import End, Framing, Part, Reply, script
from tests.simulated.wire import Client, answer, ask, connected, exchange, parse, payloads, request, run, until

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


# Pace.


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


# Clients that leave.


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


# Refusal.


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


# Control by HTTP, and counts.


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
