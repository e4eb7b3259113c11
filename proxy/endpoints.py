"""The measured endpoints, in raw ASGI: read the request, ask the engine, hand on the answer, seal the record.

They stand before Starlette, which serves everything else, because its layers cost as much as all the rest of the way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from proxy.attempt import DRAIN, GONE, Gone
from proxy.auth import Gate, header
from proxy.engine import Engine, Run
from proxy.errors import Refusal
from proxy.failure import shutting_down
from proxy.forms.anthropic_errors import ANTHROPIC
from proxy.forms.messages import MessagesRequest
from proxy.router import Router
from proxy.wire.chat import ChatRequest
from proxy.wire.render import OPENAI, Form
from proxy.wire.request import Headers, Request

log = logging.getLogger(__name__)

Scope = dict[str, Any]
Receive = Callable[[], Any]
Send = Callable[[dict[str, Any]], Any]

DISCARD_FACTOR = 8
"""How much of a body that is too large is still read, in multiples of the limit, so that the client can read why."""

_JSON = (b"content-type", b"application/json")
_SSE = (b"content-type", b"text/event-stream; charset=utf-8")
_CUT = {"type": "cut"}
"""Ends a connection whose answer cannot be ended: see `proxy.web.cycle`."""
_BODY_FOLLOWS = {"body_follows": True}
"""A hint to our own server (`web/cycle.py`); others know nothing of it and lose nothing."""
_FORWARDED = (b"openai-", b"x-ratelimit-", b"anthropic-ratelimit-")


class Front:
    """What the endpoints read of the configuration; replaced whole when the config is loaded anew."""

    __slots__ = ("body_limit", "gate", "router")

    def __init__(self, gate: Gate, router: Router, body_limit: int) -> None:
        self.gate = gate
        self.router = router
        self.body_limit = body_limit


class Door(NamedTuple):
    """One measured path: how its requests are read, and how it tells what went wrong."""

    parse: Callable[[bytes, Headers], Request]
    """Body and headers; raises `Refusal` (400)."""
    form: Form


DOORS: dict[str, Door] = {
    "/v1/chat/completions": Door(ChatRequest.parse, OPENAI),
    "/v1/messages": Door(MessagesRequest.parse, ANTHROPIC),
}
"""By path. All are asked by POST."""


class Doors:
    """Serves the paths of `DOORS`."""

    def __init__(self, engine: Engine, front: Front) -> None:
        self.engine = engine
        self.front = front
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  (ASGI servers run an application in a task)
        front, door = self.front, DOORS[scope["path"]]
        early: Refusal | Gone | None = None
        body, key = b"", None
        try:
            if self.draining:
                raise shutting_down()
            key = front.gate.client(scope["headers"])
            body = await _read_body(scope, receive, front.body_limit)
            if self.draining:
                raise shutting_down()
        except (Refusal, Gone) as end:
            early = end
        except asyncio.CancelledError:
            early = shutting_down()  # the server does not wait any longer for the rest of the body
        watch = _Watch(receive)
        run = watch.run = self.engine.begin(task, watch.begin)
        try:
            if early is not None:
                raise early
            run.exchange.request_bytes = len(body)
            run.exchange.key = key.name if key is not None else None
            ask = door.parse(body, scope["headers"])
            run.exchange.model = ask.model[:200]
            run.exchange.stream = ask.stream
            route = front.router.find(ask.model, front.gate.may_go_direct(key))
            head = await run.commit(ask, front.router.plan(route, ask))
            await self._answer(run, ask, head, send)
        except Refusal as refusal:
            await self._refuse(run, refusal, door.form, send)
        except Gone:
            run.gone()
            await send(_CUT)
        except asyncio.CancelledError:
            # While sending: the client left, takes nothing, or the proxy stops.
            reason = run.deadline.taken()
            if reason is None:
                raise
            if reason == DRAIN:
                run.fault()
            else:
                run.gone()
            if reason != GONE:
                log.warning("request %s is cut: its client did not take its answer in time", run.exchange.id)
            await send(_CUT)
        except Exception:
            log.exception("request %s failed by a fault of the proxy", run.exchange.id)
            await self._fault(run, door.form, send)
        finally:
            watch.close()
            run.seal()

    async def _answer(self, run: Run, ask: Request, head: bytes, send: Send) -> None:
        exchange = run.exchange
        if ask.stream:
            headers = [_SSE, (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
        else:
            headers = [_JSON, (b"content-length", b"%d" % len(head))]
        headers += _told(run, ask.form)
        await send({"type": "http.response.start", "status": 200, "headers": headers, **_BODY_FOLLOWS})
        data = head
        while True:
            exchange.answer_bytes += len(data)
            run.sending()
            await send({"type": "http.response.body", "body": data, "more_body": not run.ended})
            if run.deadline.stopped == GONE and not run.ended:
                raise Gone(GONE)
            if run.ended:
                return
            data = await run.next()

    async def _refuse(self, run: Run, refusal: Refusal, form: Form, send: Send) -> None:
        run.refuse(refusal)
        run.deadline.close()
        await _send_refusal(refusal, form.refusal(refusal, run.exchange.id), _told(run, form), send)

    async def _fault(self, run: Run, form: Form, send: Send) -> None:
        """A fault of ours: an error body if nothing was sent yet; else the connection is cut, never ended cleanly."""
        begun = run.exchange.status != 0
        run.fault()
        if begun:
            await send(_CUT)
            return
        refusal = Refusal(500, "The proxy failed; its log tells why.", type="api_error", code="internal_error")
        await self._refuse(run, refusal, form, send)


class _Watch:
    """Stops the exchange when the client goes away. Waiting for that costs a task, which a quick answer never needs."""

    __slots__ = ("_receive", "_task", "run")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._task: asyncio.Task[None] | None = None
        self.run: Run | None = None

    def begin(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._wait())

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if self.run is not None:
            self.run.deadline.stop(GONE)

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()


async def _read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """The whole request body. Raises `Refusal` (408, 413, 415) or `Gone`. The connection bounds the time."""
    headers = scope["headers"]
    coding = header(headers, b"content-encoding")
    if coding and coding.lower() != b"identity":
        raise Refusal(
            415,
            f"The request body is compressed ({coding.decode('latin-1')[:40]}). Send it uncompressed.",
            code="unsupported_content_encoding",
        )
    length = header(headers, b"content-length")
    if length.isdigit() and int(length) > limit * DISCARD_FACTOR:
        raise _too_large(limit)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise _unfinished(scope)
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False) and len(body) <= limit:
        return body
    parts, size = [body], len(body)
    while message.get("more_body", False):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _unfinished(scope)
        size += len(message.get("body", b""))
        if size <= limit:
            parts.append(message.get("body", b""))
        elif size > limit * DISCARD_FACTOR:
            break
        else:
            parts.clear()
    if size > limit:
        raise _too_large(limit)
    return b"".join(parts)


def _unfinished(scope: Scope) -> Refusal | Gone:
    if scope["state"].get("late"):
        return Refusal(408, "The request body stopped coming.", code="request_timeout")
    return Gone("the client left before its request was whole")


def _too_large(limit: int) -> Refusal:
    return Refusal(
        413,
        f"The request body is larger than {limit} bytes. Send less, or raise `server.body_limit`.",
        code="request_too_large",
    )


def _told(run: Run, form: Form) -> list[tuple[bytes, bytes]]:
    """The headers that tell what became of the request."""
    exchange = run.exchange
    headers = [(name, exchange.id.encode()) for name in form.id_headers]
    if exchange.attempts:
        last = exchange.attempts[-1]
        overhead, upstream = run.spent_ms()
        overhead_ms = b"%.3f" % overhead
        headers += (
            (b"x-weighbridge-target", last.target.encode("ascii", "replace")),
            (b"x-weighbridge-attempts", b"%d" % len(exchange.attempts)),
            (b"x-weighbridge-overhead-ms", overhead_ms),
            (b"server-timing", b"proxy;dur=%b, upstream;dur=%.3f" % (overhead_ms, upstream)),
        )
        if last.dropped:
            headers.append((b"x-weighbridge-dropped", ",".join(last.dropped).encode("ascii", "replace")))
        headers += [(name, value) for name, value in run.upstream_headers() if name.startswith(_FORWARDED)]
    return headers


async def _send_refusal(refusal: Refusal, body: bytes, extra: list[tuple[bytes, bytes]], send: Send) -> None:
    """An error body with the headers that official SDKs act upon."""
    headers = [_JSON, (b"content-length", b"%d" % len(body)), *extra]
    if refusal.retry_after is not None:
        # Whole seconds, rounded up: RFC 9110 knows no fractions. The SDKs read the milliseconds first.
        headers.append((b"retry-after", b"%d" % -(-refusal.retry_after // 1)))
        headers.append((b"retry-after-ms", b"%d" % (refusal.retry_after * 1000)))
    if refusal.should_retry is not None:
        headers.append((b"x-should-retry", b"true" if refusal.should_retry else b"false"))
    if refusal.status in (408, 413):
        headers.append((b"connection", b"close"))
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers, **_BODY_FOLLOWS})
    await send({"type": "http.response.body", "body": body, "more_body": False})
