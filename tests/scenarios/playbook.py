"""A literal script of what each upstream does, byte for byte, and one client call through the real endpoint.

Nothing here knows how the engine works: a `Play` is what one request to one target meets, `call` drives the real ASGI
endpoint with the real engine, router and decoder under virtual time, and gives back what the client saw together with
the records that were left.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any, NamedTuple

import orjson

from policies.ordered import Ordered
from policies.retry import FailoverOn, Limits
from policies.verdict import Kind
from proxy.auth import Gate
from proxy.clock import SECOND, LoopClock
from proxy.endpoints import Doors, Front
from proxy.engine import Engine
from proxy.errors import TransportError
from proxy.measure.bus import Bus
from proxy.prices.book import Price
from proxy.providers.base import Endpoint, Provider
from proxy.providers.openai import OpenAI
from proxy.record import Exchange
from proxy.router import Route, Router
from proxy.transport.base import Headers, Origin, UpstreamRequest
from proxy.upstreams import Target, Timeouts
from tests.virtual import run_virtually

# ---- what an upstream does --------------------------------------------------------------------------------------


class Refuse(NamedTuple):
    """No connection."""


class Wait(NamedTuple):
    seconds: float


class Head(NamedTuple):
    status: int = 200
    headers: Headers = ((b"content-type", b"text/event-stream"),)


class Data(NamedTuple):
    data: bytes


class End(NamedTuple):
    """The body ends as its framing promised."""


class Break(NamedTuple):
    """The connection is lost."""


class Hang(NamedTuple):
    """Nothing comes any more."""


Step = Refuse | Wait | Head | Data | End | Break | Hang
Play = Sequence[Step]

JSON_HEADERS: Headers = ((b"content-type", b"application/json"),)


def event(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m-1",
        "choices": [{"index": 0, "delta": delta or {}, "finish_reason": finish}],
        **more,
    }
    return b"data: " + orjson.dumps(body) + b"\n\n"


ROLE = event({"role": "assistant", "content": ""})
HELLO, WORLD = event({"content": "Hello"}), event({"content": " world"})
STOP = event(finish="stop")
USAGE = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m-1","choices":[],'
    b'"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}\n\n'
)
DONE = b"data: [DONE]\n\n"


def answer(text: str = "Hello world", **more: Any) -> bytes:
    return orjson.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "m-1",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": text},
                    "finish_reason": "stop",
                    "logprobs": None,
                }
            ],
            "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
            **more,
        }
    )


def stream_of(*events: bytes) -> list[Step]:
    return [Head(), *(Data(one) for one in events), End()]


def good(stream: bool) -> Play:
    if stream:
        return stream_of(ROLE, HELLO, WORLD, STOP, USAGE, DONE)
    return [Head(200, JSON_HEADERS), Data(answer()), End()]


def error(status: int, headers: Mapping[str, str] | None = None, **body: Any) -> Play:
    shown = {"message": "upstream text that must not leak", "type": "some_error", "param": None, "code": None, **body}
    extra = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    return [Head(status, [*JSON_HEADERS, *extra]), Data(orjson.dumps({"error": shown})), End()]


# ---- the transport that plays it --------------------------------------------------------------------------------


class PlayedReply:
    def __init__(self, connection: Played, head: Head) -> None:
        self._connection = connection
        self.status = head.status
        self.headers = head.headers
        self.sent_ns = connection.sent_ns
        self.first_byte_ns = connection.stage.clock.now()
        self.replayed = False
        self.complete = False

    async def read(self) -> tuple[bytes, int]:
        step = await self._connection.advance()
        now = self._connection.stage.clock.now()
        if isinstance(step, Data):
            return step.data, now
        if isinstance(step, End):
            self.complete = True
            return b"", now
        raise TransportError(Kind.TRUNCATED, "lost", sent=True, answered=True)

    def release(self) -> None:
        self._connection.close("released")

    def abort(self) -> None:
        self._connection.close("aborted")


class Played:
    """One connection that plays one script."""

    def __init__(self, stage: Stage, name: str, play: Play) -> None:
        self.stage = stage
        self.name = name
        self.steps = list(play)
        self.sent_ns = 0
        self.closed: str | None = None

    async def advance(self) -> Step:
        while True:
            step = self.steps.pop(0)
            if isinstance(step, Wait):
                await asyncio.sleep(step.seconds)
            elif isinstance(step, Hang):
                await asyncio.get_running_loop().create_future()
            else:
                return step

    async def send(self, request: UpstreamRequest) -> PlayedReply:
        self.stage.requests.append((self.name, request.body))
        self.stage.extra.append(request.extra)
        self.sent_ns = self.stage.clock.now()
        step = await self.advance()
        if isinstance(step, Head):
            return PlayedReply(self, step)
        raise TransportError(Kind.CONNECT, "lost before an answer", sent=True)

    def discard(self) -> None:
        self.close("discarded")

    def close(self, how: str) -> None:
        assert self.closed is None, f"closed twice: {self.closed}, {how}"
        self.closed = how


class Stage:
    """Every target's plays, one for each request to it; the last one repeats."""

    def __init__(self, clock: LoopClock, plays: Mapping[str, Sequence[Play]]) -> None:
        self.clock = clock
        self.plays = {name: list(several) for name, several in plays.items()}
        self.requests: list[tuple[str, bytes]] = []
        self.extra: list[Headers] = []
        """Headers of each request beside those that all requests to a target have."""
        self.connections: list[Played] = []
        self.connects: list[str] = []

    def idle(self, origin: Origin) -> Played | None:
        return None

    async def connect(self, origin: Origin) -> Played:
        name = origin.host
        self.connects.append(name)
        plays = self.plays[name]
        play = plays.pop(0) if len(plays) > 1 else plays[0]
        connection = Played(self, name, play)
        first = connection.steps[0]
        if isinstance(first, Wait):
            await asyncio.sleep(first.seconds)
            connection.steps.pop(0)
        if not connection.steps or isinstance(connection.steps[0], Refuse):
            raise TransportError(Kind.CONNECT, "refused")
        self.connections.append(connection)
        return connection

    async def aclose(self) -> None: ...


# ---- one call ---------------------------------------------------------------------------------------------------


class Seen(NamedTuple):
    """What the client saw, and what was left behind."""

    status: int
    headers: dict[str, str]
    body: bytes
    ended: bool
    """The response was completed (else the connection is cut)."""
    exchange: Exchange
    stage: Stage
    leftover: int
    """Tasks still running afterwards."""

    @property
    def tries(self) -> list[str]:
        return [attempt.target for attempt in self.exchange.attempts]

    @property
    def kinds(self) -> list[str]:
        return [str(attempt.kind) for attempt in self.exchange.attempts]

    @property
    def events(self) -> list[Any]:
        lines = [line[5:].strip() for line in self.body.splitlines() if line.startswith(b"data:")]
        return [line if line == b"[DONE]" else json.loads(line) for line in lines]

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)["error"]
        return found

    @property
    def text(self) -> str:
        if b"data:" in self.body:
            chunks = [event for event in self.events if isinstance(event, dict) and event.get("choices")]
            return "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
        return str(json.loads(self.body)["choices"][0]["message"]["content"])

    @property
    def done(self) -> bool:
        return self.body.rstrip().endswith(b"[DONE]")


class Kept:
    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []

    def accept(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)


def call(
    plays: Mapping[str, Sequence[Play]],
    *,
    stream: bool,
    ask: Mapping[str, Any] | None = None,
    gone_after: float | None = None,
    drain_after: float | None = None,
    slow_reader: bool = False,
    timeouts: Timeouts | None = None,
    limits: Limits | None = None,
    failover_on: FailoverOn | None = None,
    windows: Mapping[str, int] | None = None,
    raw: bytes | None = None,
    provider: Provider | None = None,
    unsupported: str = "drop",
    prices: Mapping[str, Price] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Seen:
    """One request to a route over the targets of `plays`, in their order."""

    async def main() -> Seen:
        loop = asyncio.get_running_loop()
        clock = LoopClock(loop)
        stage = Stage(clock, plays)
        kept = Kept()
        engine = Engine(clock, Bus({"kept": kept}), Random(7))
        targets = [
            Target(
                name,
                Endpoint(name, f"http://{name}/v1", "m-1"),
                provider or OpenAI(),
                stage,
                None,
                timeouts or Timeouts(),
                context_window=(windows or {}).get(name),
                unsupported=unsupported,
                price=(prices or {}).get(name),
            )
            for name in plays
        ]
        route = Route("chat", targets, Ordered(), "ordered", limits or Limits(), failover_on or FailoverOn())
        router = Router({"chat": route}, {}, lambda some: route, lambda provider, model: None, Random(7))
        gate = Gate([], direct="auto", admin_digest=None, metrics_open=True, loopback=True)
        endpoint = Doors(engine, Front(gate, router, 1 << 20))
        body = raw
        if body is None:
            messages = [{"role": "user", "content": "Say hello"}]
            body = orjson.dumps({"model": "chat", "messages": messages, "stream": stream, **(ask or {})})
        sent: list[dict[str, Any]] = []
        asked = False

        async def receive() -> dict[str, Any]:
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "http.request", "body": body, "more_body": False}
            if gone_after is None:
                await loop.create_future()
            await asyncio.sleep(gone_after or 0.0)
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "cut":
                return
            if slow_reader and sent:
                await loop.create_future()
            sent.append(message)

        scope: dict[str, Any] = {"type": "http", "method": "POST", "path": "/v1/chat/completions"}
        scope["headers"] = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        task = loop.create_task(endpoint(scope, receive, send))
        if drain_after is not None:
            loop.call_later(drain_after, engine.drain)
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0)
        if not task.cancelled() and (fault := task.exception()) is not None:
            raise fault
        (exchange,) = kept.exchanges or [Exchange("", 0.0, 0)]
        leftover = len(asyncio.all_tasks()) - 1
        start = sent[0] if sent else {"status": 0, "headers": []}
        bodies = [message for message in sent if message["type"] == "http.response.body"]
        return Seen(
            start["status"],
            {name.decode(): value.decode() for name, value in start["headers"]},
            b"".join(message["body"] for message in bodies),
            bool(bodies) and not bodies[-1]["more_body"],
            exchange,
            stage,
            leftover,
        )

    seen = run_virtually(main())
    check_promises(seen)
    return seen


def check_promises(seen: Seen) -> None:
    """What holds for every scenario, whatever happens in it."""
    assert seen.leftover == 0, "a task was left behind"
    assert all(connection.closed for connection in seen.stage.connections), "a connection was left open"
    attempts = seen.exchange.attempts
    assert len(attempts) <= 4
    assert all(seen.tries.count(target) <= 2 for target in seen.tries)
    assert all(attempt.marks.end for attempt in attempts), "an attempt was not sealed"
    assert [attempt.no for attempt in attempts] == list(range(1, len(attempts) + 1))
    assert len(seen.stage.connects) == sum(attempt.request_bytes > 0 for attempt in attempts)
    assert b"must not leak" not in seen.body or seen.exchange.kind in (
        "bad_request",
        "context_length",
        "content_filter",
    )
    if seen.ended and seen.status == 200 and seen.exchange.stream:
        whole = seen.exchange.kind is Kind.OK
        assert seen.done is whole, "an end marker tells that the answer is whole"
    if seen.status >= 400:
        assert seen.error.keys() >= {"message", "type", "param", "code"}
        assert seen.error["message"]


TIMEOUTS = Timeouts()
TTFT, STALL = TIMEOUTS.ttft / SECOND, TIMEOUTS.stall / SECOND
