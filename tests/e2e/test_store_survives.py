"""Processes that are killed or told to end under load: what was said to be stored is there, no client is lied to."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

from proxy.simulated import Simulated
from tests import processes
from tests.e2e.raw import Answer, Line, chat, get, line, post, request
from tests.processes import Running

CLIENTS = 12
STORES = 2
KILLS = 10
"""Of each store: 20 in all."""


def config(upstream: Simulated, drain: str = "30s") -> dict[str, Any]:
    return {
        "server": {"drain": drain},
        "providers": {"up": {"base_url": upstream.base_url, "api_key": None}},
    }


def end(proxy: Running) -> None:
    proxy.process.send_signal(signal.SIGTERM)


async def ended(proxy: Running) -> int:
    """The exit status, once there is one."""
    async with asyncio.timeout(60):
        while (status := proxy.process.poll()) is None:  # noqa: ASYNC110  (a process gives no other sign)
            await asyncio.sleep(0.02)
        return status


# ---- kill -9


async def load_until_gone(proxy: Running) -> None:
    """Requests one after the other on one connection, until it breaks."""
    with suppress(ConnectionError):
        async with line(proxy.port) as one:
            while True:
                await one.send(request(chat("up/m", stream=False)))
                if not (await one.answer()).whole:
                    return


async def watch_until_gone(proxy: Running) -> int:
    """The last watermark that the process has told."""
    committed = 0
    with suppress(ConnectionError):
        async with line(proxy.port) as one:
            while True:
                await one.send(request(None, "/readyz", "GET"))
                answer = await one.answer()
                if not answer.whole:
                    break
                committed = answer.json()["store"]["committed"]
                await asyncio.sleep(0.005)
    return int(committed)


async def kill_one(folder: Path, seconds: float) -> int:
    async with Simulated(tokens=2) as upstream:
        with processes.mortal_proxy(config(upstream), folder) as proxy:
            clients = [asyncio.create_task(load_until_gone(proxy)) for _ in range(CLIENTS // 2)]
            watermark = asyncio.create_task(watch_until_gone(proxy))
            await asyncio.sleep(seconds)
            proxy.process.kill()
            await asyncio.gather(*clients)
            return await watermark


def newest(folder: Path) -> int:
    with closing(sqlite3.connect(folder / "exchanges.db")) as store:
        assert store.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert store.execute("PRAGMA foreign_key_check").fetchall() == []
        found: int = store.execute("SELECT coalesce(max(record_no), 0) FROM v_exchanges").fetchone()[0]
        return found


def kill_again_and_again(folder: Path, seed: int) -> list[int]:
    rng = Random(seed)
    told = []
    before = 0
    for _ in range(KILLS):
        watermark = asyncio.run(kill_one(folder, rng.uniform(0.05, 0.6)))
        told.append(watermark)
        after = newest(folder)
        rows = processes.rows(folder, f"SELECT seq FROM v_exchanges WHERE record_no > {before}")  # noqa: S608
        seqs = [row["seq"] for row in rows]
        assert sorted(seqs) == list(range(1, len(seqs) + 1)), "each once, and none is missing in between"
        assert len(seqs) >= watermark, "what was said to be committed is there"
        orphans = "SELECT count(*) AS n FROM v_exchanges e WHERE attempts != "
        orphans += "(SELECT count(*) FROM v_attempts a WHERE a.record_no = e.record_no)"
        assert processes.rows(folder, orphans) == [{"n": 0}], "an exchange and its attempts are stored together"
        before = after
    return told


def test_twenty_kills_under_load(tmp_path: Path) -> None:
    with ThreadPoolExecutor(STORES) as pool:
        several = pool.map(kill_again_and_again, [tmp_path / str(one) for one in range(STORES)], range(STORES))
    told = [watermark for of_one in several for watermark in of_one]
    assert len(told) == STORES * KILLS
    assert sum(watermark > 0 for watermark in told) > len(told) / 4, "most were killed before anything was committed"


# ---- SIGTERM under load


class Heard(NamedTuple):
    stream: bool
    answer: Answer


async def ask_until_gone(proxy: Running, number: int) -> list[Heard]:
    """Requests, streamed and not, on kept connections and new ones, until the port is closed."""
    heard: list[Heard] = []
    rng = Random(number)
    while True:
        try:
            async with line(proxy.port) as one:
                for _ in range(rng.randint(1, 5)):
                    stream = rng.random() < 0.5
                    await one.send(request(chat("up/m", stream)))
                    answer = await one.answer()
                    heard.append(Heard(stream, answer))
                    if answer.status == 0 or answer.headers.get("connection") == "close":
                        break
        except ConnectionRefusedError:
            return heard
        except ConnectionError:
            continue  # reset while it was being opened


async def end_under_load(folder: Path, seconds: float) -> list[Heard]:
    async with Simulated(ttft="5ms..40ms", itl="3ms", tokens="2..30") as upstream:
        with processes.mortal_proxy(config(upstream), folder) as proxy:
            clients = [asyncio.create_task(ask_until_gone(proxy, number)) for number in range(CLIENTS)]
            await asyncio.sleep(seconds)
            end(proxy)
            heard = [one for client in clients for one in await client]
            assert await ended(proxy) == 0
            log = proxy.log.read_text()
            assert "Traceback" not in log, log
            assert "ERROR" not in log, log
    return heard


@pytest.mark.parametrize("seconds", [0.4, 0.9])
def test_an_end_under_load(seconds: float, tmp_path: Path) -> None:
    heard = asyncio.run(end_under_load(tmp_path, seconds))
    served = set()
    for stream, answer in heard:
        if answer.status == 0:
            assert answer.body == b"", "a head was cut"
            continue
        assert answer.whole, answer
        if answer.status == 503:
            assert answer.headers["retry-after"] == "1"
            assert answer.error["code"] == "shutting_down"
            continue
        assert answer.status == 200
        assert answer.events[-1] == "[DONE]" if stream else answer.json()["choices"][0]["finish_reason"]
        served.add(answer.headers["x-request-id"])
    rows = {row["id"]: row["outcome"] for row in processes.rows(tmp_path, "SELECT id, outcome FROM v_exchanges")}
    assert len(served) > CLIENTS
    assert {id for id, outcome in rows.items() if outcome == "ok"} == served
    told = {answer.headers["x-request-id"] for _, answer in heard if answer.status}
    assert told <= rows.keys()


# ---- one stream in flight at SIGTERM


async def draining(proxy: Running) -> None:
    async with asyncio.timeout(30):
        while (answer := await get(proxy.port, "/readyz")).status != 503:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert answer.json()["status"] == "draining"


async def begun(one: Line, model: str = "up/m") -> bytes:
    """Sends a request and reads up to its first content."""
    await one.send(request(chat(model, stream=True)))
    return await one.reader.readuntil(b'"content":"') + await one.reader.readuntil(b"\n\n")


def in_flight(
    folder: Path, drain: str, during: Callable[[Running, Line], Awaitable[None]], **simulated: Any
) -> tuple[bytes, int]:
    """What the client of a stream saw in all, when its proxy was told to end after the first content."""

    async def main() -> tuple[bytes, int]:
        async with Simulated(**simulated) as upstream:
            with processes.mortal_proxy(config(upstream, drain), folder) as proxy:
                async with line(proxy.port) as one, line(proxy.port) as other:
                    seen = await begun(one)
                    await other.send(request(chat("up/m"))[:-20])
                    end(proxy)
                    await during(proxy, other)
                    seen += await one.reader.read(-1)
                return seen, await ended(proxy)

    return asyncio.run(main())


def outcomes(folder: Path) -> list[str]:
    return [row["outcome"] for row in processes.rows(folder, "SELECT outcome FROM v_exchanges ORDER BY record_no")]


def test_a_stream_in_flight_finishes_while_new_requests_are_turned_away(tmp_path: Path) -> None:
    async def during(proxy: Running, other: Line) -> None:
        await draining(proxy)
        for stream in (False, True):
            answer = await post(proxy.port, chat("up/m", stream))
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert answer.error["code"] == "shutting_down"
        # A request that was still on its way in is turned away too.
        await other.send(request(chat("up/m"))[-20:])
        assert (await other.answer()).status == 503
        assert (await get(proxy.port, "/healthz")).status == 200

    seen, status = in_flight(tmp_path, "60s", during, itl=0.1, tokens=20)
    assert seen.count(b'"content":"') == 21, "the role and 20 tokens"
    assert b"data: [DONE]\n\n" in seen
    assert seen.endswith(b"0\r\n\r\n")
    assert status == 0
    assert sorted(outcomes(tmp_path)) == ["no_target", "no_target", "no_target", "ok"]
    query = "SELECT DISTINCT error_kind FROM v_exchanges WHERE outcome = 'no_target'"
    assert [row["error_kind"] for row in processes.rows(tmp_path, query)] == ["internal"], "no fault of the client's"


def test_a_stream_that_outlasts_the_drain_ends_in_an_error(tmp_path: Path) -> None:
    async def during(proxy: Running, other: Line) -> None: ...

    seen, status = in_flight(tmp_path, "200ms", during, itl=30, tokens=20)
    assert b"[DONE]" not in seen
    assert b'data: {"error":{"message":"The proxy is shutting down.' in seen
    assert seen.endswith(b"0\r\n\r\n")
    assert status == 0
    assert "internal_error" in outcomes(tmp_path)


@pytest.mark.parametrize("fault", ["hang_before_headers", "http_429=retry_after:5"])
def test_an_answer_that_outlasts_the_drain_before_it_began_may_be_asked_for_again(fault: str, tmp_path: Path) -> None:
    async def main() -> tuple[Answer, int]:
        async with Simulated(faults=[fault]) as upstream:
            with processes.mortal_proxy(config(upstream, "200ms"), tmp_path) as proxy:
                asked = asyncio.create_task(post(proxy.port, chat("up/m")))
                while not upstream.stats.requests:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                await asyncio.sleep(0.1)
                end(proxy)
                return await asked, await ended(proxy)

    answer, status = asyncio.run(main())
    assert (answer.status, answer.headers.get("retry-after")) == (503, "1")
    assert answer.error["code"] == "shutting_down"
    assert status == 0


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    async def main() -> tuple[bytes, int, str]:
        async with Simulated(itl=30) as upstream:
            with processes.mortal_proxy(config(upstream, "10m"), tmp_path) as proxy:
                async with line(proxy.port) as one:
                    seen = await begun(one)
                    end(proxy)
                    await draining(proxy)
                    end(proxy)
                    seen += await one.reader.read(-1)
                    return seen, await ended(proxy), proxy.log.read_text()

    seen, status, log = asyncio.run(main())
    assert b"[DONE]" not in seen
    assert b"shutting down" in seen
    assert status == 0
    assert "Traceback" not in log, log
    assert os.path.exists(tmp_path / "exchanges.db")
    assert outcomes(tmp_path) == ["internal_error"]
