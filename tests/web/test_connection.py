"""The bounds of time and order on a client connection, under virtual time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import pytest
from uvicorn.server import ServerState

from proxy.attempt import Gone
from proxy.downstream import Asgi, Downstream
from proxy.errors import Refusal
from proxy.web.connection import BODY_SECONDS, HEAD_SECONDS, SEND_SECONDS, Connection
from proxy.web.server import server_config
from tests.virtual import run_virtually

HEAD = b"POST /%d HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n"
"""The path says how many seconds its answer takes."""
QUICK, SLOW = HEAD % 0 + b"body", HEAD % 60 + b"body"
LEAVES = b""
"""In place of bytes: the client closes the connection."""


direct = False


@pytest.fixture(autouse=True, params=["asgi", "direct"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test is played in both forms in which a request may be handed over."""
    monkeypatch.setattr(f"{__name__}.direct", request.param == "direct")


class Wire:
    """What a connection does with its socket. The client takes all at once, or so many bytes a second."""

    def __init__(self, rate: float | None) -> None:
        self.written = b""
        self.closed_at: float | None = None
        self.protocol: Connection | None = None
        self.lost = False
        self.read = True
        """The connection reads; otherwise it is not told that the client leaves."""
        self._rate = rate
        self._waiting = 0.0
        self._since = 0.0

    def get_write_buffer_size(self) -> int:
        now = asyncio.get_running_loop().time()
        if self._rate is not None:
            self._waiting = max(0.0, self._waiting - self._rate * (now - self._since))
        self._since = now
        return round(self._waiting)

    def write(self, data: bytes) -> None:
        if self.closed_at is None:
            self.written += data
            if self._rate is not None:
                self._waiting = self.get_write_buffer_size() + len(data)
                assert self.protocol is not None
                if self._waiting > 65536:
                    self.protocol.pause_writing()

    def close(self) -> None:
        if self.closed_at is None:
            self.closed_at = asyncio.get_running_loop().time()
            if not self.get_write_buffer_size():
                self._lose()

    def abort(self) -> None:
        self.closed_at = asyncio.get_running_loop().time()
        self._waiting = 0.0
        self._lose()

    def _lose(self) -> None:
        if self.lost:
            return
        self.lost = True
        assert self.protocol is not None
        asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    def is_closing(self) -> bool:
        return self.closed_at is not None

    def get_extra_info(self, name: str) -> None:
        return None

    def pause_reading(self) -> None:
        self.read = False

    def resume_reading(self) -> None:
        self.read = True


class Seen(NamedTuple):
    written: bytes
    lasted: float | None
    """Seconds until the connection was closed from this side; None if it was not."""
    lost: bool
    """The connection is gone."""
    bodies: list[bytes | None]
    """What the application read; None where it was told that the client had left."""
    late: list[bool]
    left: list[float]
    """When a request under way was told that its client had left, in seconds."""

    @property
    def statuses(self) -> list[int]:
        parts = self.written.split(b"HTTP/1.1 ")
        return [int(part[:3]) for part in parts[1:]]


def play(
    steps: Sequence[tuple[float, bytes]],
    wait: float = 200.0,
    rate: float | None = None,
    answer: bytes = b"answer",
    first: int = 3,
) -> Seen:
    """Each step: so many seconds after the one before, these bytes come. Then `wait` seconds go by.

    `rate`: bytes a second that the client takes; all at once if None. `first`: bytes sent at half time.
    """
    bodies: list[bytes | None] = []
    late: list[bool] = []
    left: list[float] = []
    begun = 0.0

    async def endpoint(seconds: float, client: Downstream) -> None:
        body, more = b"", seconds < 90  # the others are answered unread
        try:
            while more:
                piece, more = await client.receive()
                body += piece
        except (Gone, Refusal) as end:
            bodies.append(None)
            late.append(isinstance(end, Refusal))
            return
        if seconds < 90:
            bodies.append(body)
            client.watch(lambda: left.append(asyncio.get_running_loop().time() - begun))
            await asyncio.sleep(seconds / 2)
        client.begin(200, [], None)
        await client.write(answer[:first], False)
        if seconds < 90:
            await asyncio.sleep(seconds / 2)
        await client.write(answer[first:], True)
        client.close()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await endpoint(float(scope["path"][1:]), Asgi(scope, receive, send))

    async def main() -> Seen:
        nonlocal begun
        loop = asyncio.get_running_loop()
        config = server_config(app, "127.0.0.1", 0)
        config.load()
        state = ServerState()
        wire = Wire(rate)
        paths = {b"/%d" % seconds: partial(endpoint, seconds) for seconds in (0, 60, 80, 99)} if direct else {}
        connection = wire.protocol = Connection(config, state, {}, loop, direct=paths)
        begun = loop.time()
        connection.connection_made(wire)  # type: ignore[arg-type]
        for seconds, data in steps:
            await asyncio.sleep(seconds)
            if data == LEAVES:
                if wire.read:
                    wire.abort()
            elif wire.closed_at is None:
                connection.data_received(data)
        await asyncio.sleep(wait)
        seen = Seen(wire.written, wire.closed_at and wire.closed_at - begun, wire.lost, bodies, late, left)
        wire.abort()
        await asyncio.sleep(1)
        assert not state.tasks
        assert not state.connections
        return seen

    return run_virtually(main())


def error_in(written: bytes) -> Any:
    return json.loads(written.rpartition(b"\r\n\r\n")[2])["error"]


def test_a_connection_that_asks_nothing_is_closed_without_a_word() -> None:
    seen = play([])
    assert (seen.written, seen.lasted) == (b"", pytest.approx(HEAD_SECONDS))


@pytest.mark.parametrize("pieces", [[(1.0, b"POST")], [(0.5, bytes([one])) for one in QUICK[:40]]])
def test_a_head_must_be_whole_in_time(pieces: list[tuple[float, bytes]]) -> None:
    seen = play(pieces)
    assert seen.statuses == [408]
    assert error_in(seen.written)["code"] == "request_timeout"
    assert seen.lasted == pytest.approx(HEAD_SECONDS)


def test_the_next_head_must_be_whole_in_time_too() -> None:
    seen = play([(0, QUICK), (20, QUICK[:10]), (4, QUICK[10:12])])
    assert seen.statuses == [200, 408]
    assert seen.lasted == pytest.approx(20 + HEAD_SECONDS)


@pytest.mark.parametrize("begun", [b"", b"bo"])
def test_a_body_may_not_pause_for_long(begun: bytes) -> None:
    seen = play([(0, HEAD % 0 + begun)])
    assert seen.statuses == [408]
    assert error_in(seen.written)["code"] == "request_timeout"
    assert seen.lasted == pytest.approx(BODY_SECONDS)
    assert (seen.bodies, seen.late) == ([None], [True])


def test_a_slow_body_is_waited_for() -> None:
    pause = BODY_SECONDS - 1
    seen = play([(0, HEAD % 0), *((pause, bytes([one])) for one in b"body")], wait=1)
    assert (seen.statuses, seen.bodies, seen.lasted) == ([200], [b"body"], None)


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_body_that_comes_with_the_end_of_its_head_is_no_head(cut: int) -> None:
    head = b"POST /0 HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n"
    seen = play([(0, head[:-cut]), (0, head[-cut:] + b"x" * 100_000)], wait=1)
    assert (seen.statuses, seen.bodies) == ([200], [b"x" * 100_000])


@pytest.mark.parametrize("cut", [1, 20, 60_000, 70_000])
def test_a_head_that_is_too_large(cut: int) -> None:
    raw = b"POST /0 HTTP/1.1\r\nhost: x\r\nx: " + b"y" * 70_000 + b"\r\ncontent-length: 100000\r\n\r\n" + b"x" * 100_000
    seen = play([(0, raw[:cut]), (0, raw[cut:])], wait=1)
    assert (seen.statuses, seen.bodies) == ([431], [])


@pytest.mark.parametrize("more", [b"\r\n", b"\r\n\r\n", QUICK[:20]])
def test_what_follows_a_request_does_not_cut_its_answer(more: bytes) -> None:
    seen = play([(0, SLOW), (1, more)], wait=60)
    assert seen.statuses[0] == 200
    assert b"wer" in seen.written


@pytest.mark.parametrize(
    "bad", [b"\0\0\0", HEAD.replace(b"content-length: 4", b"transfer-encoding: chunked") % 0 + b"x"]
)
def test_nonsense_amid_an_answer_ends_it_without_being_mixed_into_it(bad: bytes) -> None:
    seen = play([(0, SLOW), (45, bad)])
    assert seen.statuses == [200]
    assert b"wer" not in seen.written
    assert seen.lasted == pytest.approx(45)


def test_nonsense_before_an_answer_is_told() -> None:
    seen = play([(0, SLOW), (1, b"\0\0\0")])
    assert seen.statuses == [400]


def test_an_answer_to_a_body_that_nobody_waits_for_gets_no_second_status() -> None:
    seen = play([(0, HEAD % 99 + b"b")])
    assert seen.statuses == [200]
    assert seen.lasted == pytest.approx(BODY_SECONDS)


def test_an_idle_connection_is_kept_for_a_while() -> None:
    seen = play([(0, QUICK), (60, QUICK)], wait=60)
    assert (seen.statuses, seen.lasted) == ([200, 200], None)


@pytest.mark.parametrize("close", [b"", b"connection: close\r\n"])
def test_a_client_that_takes_nothing_of_its_answer_is_cut(close: bytes) -> None:
    asked = QUICK.replace(b"host: x\r\n", b"host: x\r\n" + close)
    seen = play([(0, asked)], rate=0, answer=b"x" * 200_000, wait=SEND_SECONDS - 1)
    assert seen.lost is False
    seen = play([(0, asked)], rate=0, answer=b"x" * 200_000, wait=SEND_SECONDS + 1)
    assert seen.lost is True


def test_a_client_that_takes_a_small_answer_never_is_cut_with_the_idle_ones() -> None:
    assert play([(0, QUICK)], rate=0, wait=70).lost is False
    assert play([(0, QUICK)], rate=0, wait=80).lost is True


def test_a_client_that_takes_its_answer_slowly_gets_it_all() -> None:
    seen = play([(0, QUICK.replace(b"host: x", b"connection: close"))], rate=1000, answer=b"x" * 200_000, wait=199)
    assert seen.lost is False


def test_an_answer_under_way_is_the_exchange_s_to_bound() -> None:
    seen = play([(0, HEAD % 80 + b"body")], rate=0, answer=b"x" * 200_000, first=100_000, wait=110)
    assert (seen.lost, seen.statuses) == (False, [200])


def test_a_request_with_a_large_body_is_told_when_its_client_leaves() -> None:
    seen = play([(0, SLOW.replace(b"content-length: 4", b"content-length: 100000") + b"x" * 99_996), (20, LEAVES)])
    assert seen.left == [pytest.approx(20)]


@pytest.mark.parametrize("more", [b"", QUICK, QUICK + QUICK[:30]])
def test_a_request_under_way_is_told_when_its_client_leaves(more: bytes) -> None:
    """Also where the client has asked for more meanwhile; what waits in line is not begun."""
    seen = play([(0, SLOW + more), (20, LEAVES)], wait=100)
    assert seen.left == [pytest.approx(20)]
    assert seen.bodies == [b"body"]
    assert seen.statuses == []
