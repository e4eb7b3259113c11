"""Clients that go away at any moment: nothing is left behind, nothing is lost, and the upstream is told."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest

from proxy.simulated import Simulated
from tests import processes
from tests.e2e.raw import Line, chat, get, line, post, request
from tests.processes import Running

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts file descriptors in /proc")

CLIENTS = 1000
AT_ONCE = 50
SETTLED_S = 60.0
"""Ends a hung test."""


class Leaver(NamedTuple):
    """A client and the moment at which it goes."""

    name: str
    moment: str
    stream: bool
    seconds: float
    reads: int
    reset: bool

    @classmethod
    def at_random(cls, number: int, rng: Random) -> Leaver:
        return cls(
            name=f"up/leaver-{number}",
            moment=rng.choice(("in the body", "at once", "later", "later", "between chunks", "at the end")),
            stream=rng.random() < 0.6,
            seconds=rng.uniform(0, 0.25),
            reads=rng.randint(1, 8),
            reset=rng.random() < 0.5,
        )

    async def come_and_go(self, port: int) -> bool:
        """Whether the whole answer was read."""
        whole = request(chat(self.name, self.stream))
        async with line(port) as one:
            if self.moment == "in the body":
                await one.send(whole[: -1 - self.reads * 5])
                await asyncio.sleep(self.seconds / 4)
            else:
                await one.send(whole)
            done = await self._stay(one)
            if self.reset:
                one.reset()
            return done

    async def _stay(self, one: Line) -> bool:
        if self.moment == "later":
            await asyncio.sleep(self.seconds)
        elif self.moment == "between chunks":
            for _ in range(self.reads if self.stream else 1):
                if b"[DONE]" in await one.reader.read(4096):
                    break
        elif self.moment == "at the end":
            answer = await one.answer()
            assert answer.status == 200
            assert answer.whole
            return True
        return False


def fds(running: Running) -> int:
    """But for those of the store: SQLite keeps as many of its file as were ever open at once, and uses them again."""
    folder = Path(f"/proc/{running.process.pid}/fd")
    found = []
    for one in folder.iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found.append(os.readlink(one))
    return sum(1 for name in found if "exchanges.db" not in name)


def models_asked_of(upstream: Simulated) -> set[Any]:
    return {one.json["model"] for one in upstream.requests if isinstance(one.json, dict)}


def memory(running: Running) -> int:
    """MiB that are resident."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{running.process.pid}/status").read_text())
    assert found
    return int(found[1]) // 1024


async def in_flight(port: int) -> float:
    metrics = (await get(port, "/metrics")).body.decode()
    found = re.search(r"^weighbridge_inflight_requests (\S+)$", metrics, re.MULTILINE)
    assert found
    return float(found[1])


async def settled(proxy: Running, upstream: Simulated, base: int) -> None:
    """Waits until nothing runs any more and every file descriptor is gone but those of kept upstream connections."""
    async with asyncio.timeout(SETTLED_S):
        while True:
            state = (await in_flight(proxy.port), upstream.stats.running, fds(proxy) - upstream.stats.open)
            if state == (0, 0, base):
                return
            await asyncio.sleep(0.1)


async def warmed_up(proxy: Running, upstream: Simulated) -> int:
    """File descriptors that are open for good, connections to the upstream not counted."""
    for stream in (False, True):
        assert (await post(proxy.port, chat("up/warm", stream))).status == 200
    shown = await get(proxy.port, "/api/exchanges")
    assert len(shown.json()["exchanges"]) == 2
    await in_flight(proxy.port)
    await asyncio.sleep(0.2)
    return fds(proxy) - upstream.stats.open


@contextmanager
def serving(upstream: Simulated, folder: Path, http: str = "native", downstream: str = "60s") -> Iterator[Running]:
    config = {
        "providers": {"up": {"base_url": upstream.base_url, "api_key": None, "http": http}},
        "defaults": {"timeouts": {"downstream": downstream}},
    }
    with processes.proxy(config, folder) as running:
        yield running
    log = running.log.read_text()
    assert "Traceback" not in log, log[-4000:]
    assert "ERROR" not in log, log[-4000:]


def records(folder: Path) -> dict[str, dict[str, Any]]:
    """By model; the requests that broke off within their body, which never named one, come as `?1`, `?2`, ..."""
    rows = processes.rows(folder, "SELECT * FROM v_exchanges WHERE model != 'up/warm' ORDER BY record_no")
    found = {row["model"] or f"?{number}": row for number, row in enumerate(rows)}
    assert len(found) == len(rows), "a request left two records"
    return found


def test_a_thousand_clients_leave_at_random(tmp_path: Path) -> None:
    rng = Random(20)
    leavers = [Leaver.at_random(number, rng) for number in range(CLIENTS)]

    async def main() -> list[bool]:
        async with Simulated(ttft="10ms..60ms", itl="4ms", tokens=20, seed=1) as upstream:
            with serving(upstream, tmp_path) as proxy:
                base = await warmed_up(proxy, upstream)
                gate = asyncio.Semaphore(AT_ONCE)

                async def one(leaver: Leaver) -> bool:
                    async with gate:
                        return await leaver.come_and_go(proxy.port)

                done = await asyncio.gather(*(one(leaver) for leaver in leavers))
                await settled(proxy, upstream, base)
                stats = upstream.stats
                assert stats.requests == stats.answered + stats.cancelled
                assert stats.cancelled > CLIENTS / 8
            counts.update(requests=stats.requests - 2, answered=stats.answered - 2, cancelled=stats.cancelled)
            return done

    counts: Counter[str] = Counter()
    done = asyncio.run(main())
    rows = records(tmp_path)
    in_body = [leaver for leaver in leavers if leaver.moment == "in the body"]
    assert len(rows) == CLIENTS
    assert sum(name.startswith("?") for name in rows) == len(in_body)
    for leaver, whole in zip(leavers, done, strict=True):
        if leaver.moment == "in the body":
            continue
        row = rows[leaver.name]
        ended = (row["outcome"], row["error_kind"])
        # An answer may have been handed over whole just before its client left.
        assert ended == ("ok", None) or (not whole and ended == ("client_closed", "downstream_closed")), leaver
    for name, row in rows.items():
        if name.startswith("?"):
            assert (row["outcome"], row["error_kind"]) == ("client_closed", "downstream_closed")
    closed = [row for row in rows.values() if row["outcome"] == "client_closed"]
    assert len(closed) > CLIENTS / 4
    assert len(rows) - len(closed) <= counts["answered"]
    attempts = processes.rows(tmp_path, "SELECT * FROM v_attempts WHERE model != 'warm'")
    assert counts["requests"] <= len(attempts) <= CLIENTS - len(in_body)
    assert {one["error_kind"] for one in attempts} == {None, "downstream_closed"}


@pytest.mark.parametrize(
    ("fault", "http"),
    [
        ("hang_before_headers", "native"),
        ("slow_ttft=10m", "native"),
        ("stall_mid_stream", "native"),
        ("slow_body", "native"),
        ("hang_before_headers", "httpx"),
        ("stall_mid_stream", "httpx"),
    ],
)
def test_every_client_that_leaves_a_silent_upstream_is_told_to_it(fault: str, http: str, tmp_path: Path) -> None:
    """Nothing but the client's leaving ends these: each must be cancelled, whatever the client has seen."""
    count = 60

    async def main() -> None:
        rng = Random(5)
        async with Simulated(tokens=6, seed=1) as upstream:
            with serving(upstream, tmp_path, http) as proxy:
                base = await warmed_up(proxy, upstream)
                upstream.faults = (fault,)  # type: ignore[assignment]  (text is read)

                async def one(number: int) -> None:
                    name = f"leaver-{number}"
                    async with line(proxy.port) as here:
                        await here.send(request(chat(f"up/{name}", stream=number % 2 == 0)))
                        if number % 4 < 2:
                            async with asyncio.timeout(SETTLED_S):
                                while name not in models_asked_of(upstream):  # noqa: ASYNC110
                                    await asyncio.sleep(0.02)
                        await asyncio.sleep(rng.uniform(0, 0.2))
                        if number % 3:
                            here.reset()

                await asyncio.gather(*(one(number) for number in range(count)))
                await settled(proxy, upstream, base)
                told.update(cancelled=upstream.stats.cancelled, requests=upstream.stats.requests)

    told: Counter[str] = Counter()
    asyncio.run(main())
    rows = records(tmp_path)
    assert len(rows) == count
    assert {(row["outcome"], row["error_kind"]) for row in rows.values()} == {("client_closed", "downstream_closed")}
    assert told["requests"] - 2 == told["cancelled"]
    assert told["cancelled"] >= count / 2


def test_a_client_that_takes_nothing_of_its_stream_is_cut(tmp_path: Path) -> None:
    """While it is still there: its connection, its memory and the upstream's connection are given up all the same."""
    count = 3

    async def main() -> None:
        async with Simulated(tokens=40_000, seed=1) as upstream, AsyncExitStack() as stack:
            with serving(upstream, tmp_path, downstream="500ms") as proxy:
                upstream.change(tokens=3)
                base = await warmed_up(proxy, upstream)
                upstream.change(tokens=40_000)
                before = memory(proxy)
                lines = [await stack.enter_async_context(line(proxy.port)) for _ in range(count)]
                for number, one in enumerate(lines):
                    one.writer.transport.pause_reading()  # type: ignore[attr-defined]
                    await one.send(request(chat(f"up/sleeper-{number}", stream=True)))
                async with asyncio.timeout(SETTLED_S):
                    while proxy.log.read_text().count("did not take its answer") < count:  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
                await settled(proxy, upstream, base)
                assert memory(proxy) - before < 64

    asyncio.run(main())
    rows = records(tmp_path)
    assert len(rows) == count
    assert {(row["outcome"], row["error_kind"]) for row in rows.values()} == {("client_closed", "downstream_closed")}
