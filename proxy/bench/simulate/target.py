"""A made-up upstream: slots and a queue, a time to the first token, a pace, rate limits, and faults in windows.

It stands behind the transport interface and speaks OpenAI's dialect, so everything above it is the real program.
Times are seconds of the loop's own (virtual) time since the simulation began.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from collections.abc import Callable, Mapping
from random import Random
from typing import Literal, NamedTuple

import orjson

from policies.verdict import Kind
from proxy.errors import TransportError
from proxy.transport.base import Headers, Origin, UpstreamRequest

SIZE = re.compile(rb'"user":"sim (\d+) (\d+)"')
"""How a simulated request tells its tokens, in and out."""

_NS = 1_000_000_000


class Fault(NamedTuple):
    """From `begin` to `end`, a share (`rate`) of the requests meets this."""

    kind: Literal["slow", "fail", "refuse", "hang", "stall", "throttle"]
    """`slow`: everything takes `factor` times as long. `fail`: 500 after `after`. `refuse`: no connection. `hang`: no
    answer ever. `stall`: the first token and nothing more. `throttle`: 429."""
    begin: float
    end: float
    factor: float = 4.0
    after: float = 0.05
    rate: float = 1.0
    retry_after: float | None = None
    """Seconds that a `throttle` asks to wait."""


class Figures(NamedTuple):
    """What one target can do."""

    slots: int = 16
    """Requests worked on at once; more wait in order of arrival."""
    ttft: float = 0.4
    """Median time to the first token once a slot is free, in seconds."""
    spread: float = 0.4
    """Sigma of its logarithm (the distribution is lognormal)."""
    itl: float = 0.01
    """Seconds between tokens."""
    rpm: float | None = None
    """Requests a minute for each credential; a bucket of this size that fills at this rate."""
    tpm: float | None = None
    """Tokens a minute, input and output."""
    tells: bool = True
    """Whether its answers tell what is left of the limits."""
    tail: float = 0.0
    """Share of the requests that take `tail_factor` times as long, apart from the lognormal's own tail."""
    tail_factor: float = 10.0
    notices: bool = True
    """Whether it stops working on a request whose connection was closed."""
    faults: tuple[Fault, ...] = ()


class Bucket:
    """A token bucket as providers have it: `limit` a minute, full at first."""

    __slots__ = ("_at", "_level", "_limit")

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._level = limit
        self._at = 0.0

    def level(self, now: float) -> float:
        self._level = min(self._limit, self._level + (now - self._at) * self._limit / 60.0)
        self._at = now
        return self._level

    def wait(self, cost: float, now: float) -> float:
        """Seconds until `cost` is there."""
        return max(0.0, min(cost, self._limit) - self.level(now)) * 60.0 / self._limit

    def take(self, cost: float) -> None:
        self._level -= cost

    def headers(self, what: str, now: float) -> Headers:
        level = self.level(now)
        told = {
            "limit": f"{self._limit:.0f}",
            "remaining": f"{max(0.0, level):.0f}",
            "reset": f"{(self._limit - level) * 60.0 / self._limit:.3f}s",
        }
        return [(f"x-ratelimit-{name}-{what}".encode(), value.encode()) for name, value in told.items()]


class Job:
    """One request at one target, from its arrival to the last token."""

    __slots__ = ("changed", "ended", "fault", "first", "output", "slow", "started", "stream", "target", "timer", "wake")

    def __init__(self, target: SimulatedTarget, stream: bool, output: int, fault: Fault | None) -> None:
        self.target = target
        self.stream = stream
        self.output = output
        self.fault = fault
        self.slow = fault.factor if fault is not None and fault.kind == "slow" else 1.0
        self.started = self.first = self.ended = False
        self.wake: asyncio.Future[None] | None = None
        self.timer: asyncio.TimerHandle | None = None

    async def until(self, what: Literal["first", "ended"]) -> None:
        while not getattr(self, what):
            self.wake = self.target.loop.create_future()
            await self.wake

    def start(self) -> None:
        target, fault = self.target, self.fault
        self.started = True
        if fault is not None and fault.kind == "fail":
            self._after(fault.after, self._end)
        elif fault is None or fault.kind != "hang":
            self._after(target.first_after() * self.slow, self._first)

    def _first(self) -> None:
        self.first = True
        if self.fault is None or self.fault.kind != "stall":
            self._after((self.output - 1) * self.target.figures.itl * self.slow, self._end)
        self._notify()

    def _end(self) -> None:
        self.first = self.ended = True
        self.timer = None
        self.target.leave(self)
        self._notify()

    def closed(self) -> None:
        """The caller has gone."""
        if not self.ended and self.target.figures.notices:
            if self.timer is not None:
                self.timer.cancel()
            self.ended = True
            self.target.leave(self)

    def _after(self, seconds: float, call: Callable[[], None]) -> None:
        self.timer = self.target.loop.call_later(seconds, call)

    def _notify(self) -> None:
        if self.wake is not None and not self.wake.done():
            self.wake.set_result(None)


class SimulatedTarget:
    """The state of one target: who is worked on, who waits, and what is left of its limits."""

    def __init__(self, name: str, figures: Figures, loop: asyncio.AbstractEventLoop, rng: Random) -> None:
        self.name = name
        self.figures = figures
        self.loop = loop
        self.calls = 0
        self.tokens = 0
        """Output tokens of the requests it worked on to the end, wanted or not."""
        self._began = loop.time()
        self._rng = rng
        self._working: set[Job] = set()
        self._waiting: deque[Job] = deque()
        self._buckets: dict[bytes, list[tuple[str, Bucket]]] = {}

    @property
    def idle(self) -> bool:
        return not self._working and not self._waiting

    def now(self) -> float:
        return self.loop.time() - self._began

    def fault(self) -> Fault | None:
        now = self.now()
        for fault in self.figures.faults:
            if fault.begin <= now < fault.end and (fault.rate >= 1.0 or self._rng.random() < fault.rate):
                return fault
        return None

    def enter(self, job: Job) -> None:
        if len(self._working) < self.figures.slots:
            self._working.add(job)
            job.start()
        else:
            self._waiting.append(job)

    def leave(self, job: Job) -> None:
        if not job.started:
            self._waiting.remove(job)
            return
        self._working.discard(job)
        self.tokens += job.output
        if self._waiting and len(self._working) < self.figures.slots:
            after = self._waiting.popleft()
            self._working.add(after)
            after.start()

    def first_after(self) -> float:
        figures, rng = self.figures, self._rng
        seconds = figures.ttft * rng.lognormvariate(0.0, figures.spread)
        return seconds * figures.tail_factor if figures.tail and rng.random() < figures.tail else seconds

    def limits(self, credential: bytes) -> list[tuple[str, Bucket]]:
        found = self._buckets.get(credential)
        if found is None:
            figures = self.figures
            rows = (("requests", figures.rpm), ("tokens", figures.tpm))
            found = self._buckets[credential] = [(what, Bucket(limit)) for what, limit in rows if limit is not None]
        return found


class SimulatedTransport:
    """Connections to simulated targets, by host name."""

    def __init__(self, targets: Mapping[str, SimulatedTarget], clock_now: Callable[[], int]) -> None:
        self.targets = targets
        self.clock_now = clock_now

    def idle(self, origin: Origin) -> _Connection | None:
        target = self.targets[origin.host]
        fault = target.fault()
        if fault is not None and fault.kind == "refuse":
            return None
        return _Connection(target, fault, self.clock_now)

    async def connect(self, origin: Origin) -> _Connection:
        # `idle` gives a connection unless none can be had, so this is only asked where the target refuses.
        raise TransportError(Kind.CONNECT, f"{origin.host} refuses connections")

    async def aclose(self) -> None: ...


class _Connection:
    __slots__ = ("_fault", "_job", "_now", "_target")

    def __init__(self, target: SimulatedTarget, fault: Fault | None, now: Callable[[], int]) -> None:
        self._target = target
        self._fault = fault
        self._now = now
        self._job: Job | None = None

    async def send(self, request: UpstreamRequest) -> _Reply:
        target, fault = self._target, self._fault
        target.calls += 1
        sent = self._now()
        size = SIZE.search(request.body)
        tokens_in, tokens_out = (int(size[1]), int(size[2])) if size is not None else (100, 50)
        credential = dict(request.head.headers).get(b"authorization", b"")
        limits, now = target.limits(credential), target.now()
        waits = [bucket.wait(1 if what == "requests" else tokens_in + tokens_out, now) for what, bucket in limits]
        if fault is not None and fault.kind == "throttle":
            return self._refused(429, sent, limits, fault.retry_after)
        if any(waits):
            return self._refused(429, sent, limits, max(waits))
        for what, bucket in limits:
            bucket.take(1 if what == "requests" else tokens_in + tokens_out)
        # Told is what was left when the request came, as providers do it.
        headers = self._headers(limits)
        stream = b'"stream":true' in request.body
        job = self._job = Job(target, stream, tokens_out, fault)
        target.enter(job)
        await job.until("first" if stream else "ended")
        if fault is not None and fault.kind == "fail":
            return self._refused(500, sent, limits, None)
        return _Reply(200, headers, sent, self._now, job, _parts(stream, tokens_in, tokens_out))

    def _refused(self, status: int, sent: int, limits: list[tuple[str, Bucket]], wait: float | None) -> _Reply:
        code = "rate_limit_exceeded" if status == 429 else "server_error"
        body = orjson.dumps({"error": {"message": "simulated", "type": code, "param": None, "code": code}})
        headers = self._headers(limits)
        if wait is not None:
            headers.append((b"retry-after-ms", b"%d" % (wait * 1000 + 1)))
        return _Reply(status, headers, sent, self._now, None, [body])

    def _headers(self, limits: list[tuple[str, Bucket]]) -> list[tuple[bytes, bytes]]:
        now = self._target.now()
        if not self._target.figures.tells:
            return []
        return [header for what, bucket in limits for header in bucket.headers(what, now)]

    def discard(self) -> None:
        if self._job is not None:
            self._job.closed()


class _Reply:
    __slots__ = ("_job", "_now", "_parts", "complete", "first_byte_ns", "headers", "replayed", "sent_ns", "status")

    def __init__(
        self, status: int, headers: Headers, sent: int, now: Callable[[], int], job: Job | None, parts: list[bytes]
    ) -> None:
        self.status = status
        self.headers = headers
        self.sent_ns = sent
        self.first_byte_ns = now()
        self.replayed = False
        self.complete = False
        self._now = now
        self._job = job
        self._parts = parts

    async def read(self) -> tuple[bytes, int]:
        if len(self._parts) <= 1 and self._job is not None:
            await self._job.until("ended")
        if not self._parts:
            self.complete = True
            return b"", self._now()
        return self._parts.pop(0), self._now()

    def release(self) -> None:
        self.complete = True

    def abort(self) -> None:
        if self._job is not None:
            self._job.closed()


_CHUNK = b'data: {"id":"c","object":"chat.completion.chunk","created":1,"model":"sim","choices":[%b]%b}\n\n'
_FIRST = _CHUNK % (b'{"index":0,"delta":{"role":"assistant","content":"word"},"finish_reason":null}', b"")
_LAST = _CHUNK % (b'{"index":0,"delta":{},"finish_reason":"stop"}', b"")
_USAGE = b'"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}'
_WHOLE = (
    b'{"id":"c","object":"chat.completion","created":1,"model":"sim","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"word"},"finish_reason":"stop"}],%b}'
)


def _parts(stream: bool, tokens_in: int, tokens_out: int) -> list[bytes]:
    """What is read first, and what is read when all tokens are out."""
    usage = _USAGE % (tokens_in, tokens_out, tokens_in + tokens_out)
    if not stream:
        return [_WHOLE % usage]
    return [_FIRST, _LAST + _CHUNK % (b"", b"," + usage) + b"data: [DONE]\n\n"]
