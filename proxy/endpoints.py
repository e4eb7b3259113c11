"""The measured endpoints: read the request, ask the engine, hand on the answer, seal the record.

They stand before Starlette, which serves everything else, because its layers cost as much as all the rest of the way.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, NamedTuple

import orjson

from policies.allowance import Claim
from proxy.allowances import admit, settle
from proxy.attempt import DRAIN, GONE, TIMEOUT, Gone
from proxy.auth import Gate, Key, Named, by_name
from proxy.carry import Carry, Onlooker, carry_for
from proxy.clock import SECOND
from proxy.config.values import duration
from proxy.downstream import Asgi, Downstream, Receive, Scope, Send
from proxy.engine import Engine, Run
from proxy.errors import Refusal
from proxy.explain import explained
from proxy.failure import shutting_down
from proxy.forms.anthropic_errors import ANTHROPIC
from proxy.forms.completions import CompletionsRequest
from proxy.forms.count_tokens import CountTokensRequest
from proxy.forms.media import SpeechRequest, TranscriptionsRequest
from proxy.forms.messages import MessagesRequest
from proxy.forms.plain import EmbeddingsRequest, ImagesRequest, ModerationsRequest, RerankRequest
from proxy.forms.responses import ResponsesRequest
from proxy.prices.tariff import plain_usd
from proxy.router import UNSERVED, Caller, Plan, Router
from proxy.wire.chat import ChatRequest
from proxy.wire.controls import taken as controls_of
from proxy.wire.render import BYTES, OPENAI, Form
from proxy.wire.request import Headers, Request
from proxy.wire.trace import trace_of

log = logging.getLogger(__name__)

DISCARD_FACTOR = 8
"""How much of a body that is too large is still read, in multiples of the limit, so that the client can read why."""

_JSON = (b"content-type", b"application/json")
_STREAM = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
_FORWARDED = (b"openai-", b"x-ratelimit-", b"anthropic-ratelimit-")


class Front:
    """What the endpoints read of the configuration; replaced whole when the config is loaded anew."""

    __slots__ = ("body_limit", "gate", "most", "providers", "router")

    def __init__(
        self, gate: Gate, router: Router, body_limit: int, most: int | None = None, providers: Sequence[str] = ()
    ) -> None:
        self.gate = gate
        self.router = router
        self.body_limit = body_limit
        self.most = most
        """Requests in hand at once; None: as many as come."""
        self.providers = providers
        """Names of the configured ones."""


class Door(NamedTuple):
    """One measured path: how its requests are read, and how it tells what went wrong."""

    parse: Callable[[bytes, Headers], Request]
    """Body and headers; raises `Refusal` (400)."""
    form: Form
    operation: str


def _door(request: type[Request], form: Form) -> Door:
    return Door(request.parse, form, request.operation)


DOORS: dict[str, Door] = {
    "/v1/chat/completions": _door(ChatRequest, OPENAI),
    "/v1/messages": _door(MessagesRequest, ANTHROPIC),
    "/v1/messages/count_tokens": _door(CountTokensRequest, ANTHROPIC),
    "/v1/responses": _door(ResponsesRequest, OPENAI),
    "/v1/completions": _door(CompletionsRequest, OPENAI),
    "/v1/embeddings": _door(EmbeddingsRequest, OPENAI),
    "/v1/moderations": _door(ModerationsRequest, OPENAI),
    "/v1/rerank": _door(RerankRequest, OPENAI),
    "/v1/images/generations": _door(ImagesRequest, OPENAI),
    "/v1/audio/speech": _door(SpeechRequest, BYTES),
    "/v1/audio/transcriptions": _door(TranscriptionsRequest, BYTES),
}
"""By path. All are asked by POST."""


class Doors:
    """Serves the paths of `DOORS`."""

    def __init__(self, engine: Engine, front: Front) -> None:
        self.engine = engine
        self.front = front
        self.onlookers: tuple[Onlooker, ...] = ()
        self.draining = False

    def direct(self) -> dict[bytes, Callable[[Downstream], Coroutine[Any, Any, None]]]:
        """What serves each path, without ASGI between."""
        return {path.encode(): functools.partial(self.serve, door) for path, door in DOORS.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.serve(DOORS[scope["path"]], Asgi(scope, receive, send))

    async def serve(self, door: Door, client: Downstream) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101  (servers run an endpoint in a task)
        front, named = self.front, by_name(client.headers)
        key, body, early = await self._received(front, named, client)
        run = self.engine.begin(task)
        run.exchange.operation = door.operation
        carry: Carry | None = None
        claim: Claim | None = None
        try:
            if early is not None:
                raise early
            client.watch(run.leave)
            run.exchange.request_bytes = len(body)
            if key is not None:
                run.exchange.key, run.rank = key.name, key.rank
            if front.most is not None:
                run.admit(front.most)
            if patience := named.get(TIMEOUT):
                run.most_ns = _patience(patience)
            if traceparent := named.get(b"traceparent"):
                run.exchange.trace = trace_of(traceparent, named.get(b"tracestate", b""))
            ask = door.parse(body, client.headers)
            run.exchange.model = ask.model[:200]
            run.exchange.stream = ask.stream
            caller = _caller(ask, key, front.gate, client.headers, run.exchange.at)
            if key is not None and key.allowance is not None and not caller.controls.dry_run:
                claim = admit(key.allowance, run, ask)
            if caller.controls.tags:
                run.exchange.tags = tuple(sorted(caller.controls.tags))
            try:
                plan = front.router.planned(ask, caller)
            except Refusal as refusal:
                told = ask.stand_in() if refusal.code == UNSERVED else None
                if told is None:
                    raise
                await self._stand_in(run, told, door.form, client)
                return
            if plan.dry:
                await self._dry_run(run, ask, plan, client)
                return
            if self.onlookers:
                carry = carry_for(self.onlookers, ask, plan.route.name, caller.key, caller.headers, caller.controls)
            head = await run.commit(ask, plan)
            await self._answer(run, ask, head, client, carry)
        except Refusal as refusal:
            await self._refuse(run, refusal, door.form, client)
        except Gone:
            run.gone()
            await client.cut()
        except asyncio.CancelledError:
            if not _interrupted(run):
                raise
            await client.cut()
        except Exception:
            log.exception("request %s failed by a fault of the proxy", run.exchange.id)
            await self._fault(run, door.form, client)
        finally:
            client.close()
            run.seal()
            if claim is not None and key is not None and key.allowance is not None:
                settle(key.allowance, claim, run.exchange)
            if carry is not None:
                carry.hand_over(run.exchange)

    async def _received(
        self, front: Front, named: Named, client: Downstream
    ) -> tuple[Key | None, bytes, Refusal | Gone | None]:
        """Whose request it is and its body; or, as the last, why it is over before it was whole."""
        key: Key | None = None
        try:
            if self.draining:
                raise shutting_down()
            key = front.gate.caller(named)
            body = await _read_body(client, named, front.body_limit)
            if self.draining:
                raise shutting_down()
        except (Refusal, Gone) as end:
            return key, b"", end
        except asyncio.CancelledError:
            return key, b"", shutting_down()  # the server does not wait any longer for the rest of the body
        return key, body, None

    async def _answer(self, run: Run, ask: Request, head: bytes, client: Downstream, carry: Carry | None) -> None:
        length = None if ask.stream else len(head)
        if ask.form is BYTES:
            kind = dict(run.upstream_headers()).get(b"content-type", b"application/octet-stream")
            client.begin(200, [(b"content-type", kind), *_told(run, ask.form)], length)
        elif ask.stream:
            client.begin(200, [*_STREAM, *_told(run, ask.form)], None)
        else:
            client.begin(200, [_JSON, *_told(run, ask.form)], len(head))
        exchange, data = run.exchange, head
        while True:
            exchange.answer_bytes += len(data)
            if carry is not None:
                carry.add(data)
            run.sending(client.full)
            ended = run.ended
            await client.write(data, ended)
            if ended:
                return
            if run.deadline.stopped == GONE:
                raise Gone(GONE)
            data = await run.next()

    async def _dry_run(self, run: Run, ask: Request, plan: Plan, client: Downstream) -> None:
        """What would be asked, and why; nobody is asked, and nothing is recorded."""
        run.unrecorded = True
        run.deadline.close()
        body = orjson.dumps(
            {"object": "weighbridge.plan", "model": ask.model, "route": plan.route.name, **explained(plan.decision)}
        )
        client.begin(200, [_JSON, (b"x-request-id", run.exchange.id.encode())], len(body))
        await client.write(body, True)

    async def _stand_in(self, run: Run, body: bytes, form: Form, client: Downstream) -> None:
        """No target can be asked, and the proxy answers as well as it can; it says so."""
        run.exchange.status = 200
        run.exchange.answer_bytes = len(body)
        run.deadline.close()
        client.begin(200, [_JSON, (b"x-weighbridge-estimate", b"true"), *_told(run, form)], len(body))
        await client.write(body, True)

    async def _refuse(self, run: Run, refusal: Refusal, form: Form, client: Downstream) -> None:
        run.refuse(refusal)
        run.deadline.close()
        body = form.refusal(refusal, run.exchange.id)
        headers = [*_refused(refusal), *_told(run, form)]
        client.begin(refusal.status, headers, len(body), close=refusal.status in (408, 413))
        await client.write(body, True)

    async def _fault(self, run: Run, form: Form, client: Downstream) -> None:
        """A fault of ours: an error body if nothing was sent yet; else the connection is cut, never ended cleanly."""
        begun = run.exchange.status != 0
        run.fault()
        if begun:
            await client.cut()
            return
        refusal = Refusal(500, "The proxy failed; its log tells why.", type="api_error", code="internal_error")
        await self._refuse(run, refusal, form, client)


def _interrupted(run: Run) -> bool:
    """While sending: the client left, takes nothing, or the proxy stops. False where the task itself was cancelled."""
    reason = run.deadline.taken()
    if reason is None:
        return False
    if reason == DRAIN:
        run.fault()
        log.warning("request %s is cut: the proxy does not wait any longer", run.exchange.id)
        return True
    run.gone()
    if reason != GONE:
        log.warning("request %s is cut: its client did not take its answer in time", run.exchange.id)
    return True


def _caller(ask: Request, key: Key | None, gate: Gate, headers: Headers, at: float) -> Caller:
    controls = controls_of(ask, headers)
    direct = gate.may_go_direct(key)
    if key is None:
        return Caller("", at, headers, controls, direct)
    if key.tags:
        controls = controls._replace(tags=controls.tags | key.tags)
    return Caller(key.name, at, headers, controls, direct, key.routes)


def _patience(told: bytes) -> int:
    """What the client says of how long it will wait, in ns. Raises `Refusal` (400)."""
    try:
        text = told.decode("latin-1")
        seconds = float(text) if text.replace(".", "", 1).isdigit() else duration(text)
        if seconds <= 0:
            raise ValueError
    except ValueError as error:
        raise Refusal(
            400,
            f"x-weighbridge-timeout: not a duration: {told[:40].decode('latin-1')!r}. Write 30s, 500ms, or seconds.",
            code="invalid_timeout",
        ) from error
    return int(min(seconds, 1e6) * SECOND)


async def _read_body(client: Downstream, named: Named, limit: int) -> bytes:
    """The whole request body. Raises `Refusal` (408, 413, 415) or `Gone`. The connection bounds the time."""
    coding = named.get(b"content-encoding")
    if coding and coding.lower() != b"identity":
        raise Refusal(
            415,
            f"The request body is compressed ({coding.decode('latin-1')[:40]}). Send it uncompressed.",
            code="unsupported_content_encoding",
        )
    length = named.get(b"content-length")
    if length is not None and length.isdigit() and int(length) > limit * DISCARD_FACTOR:
        raise _too_large(limit)
    body, more = await client.receive()
    if not more and len(body) <= limit:
        return body
    parts, size = [body], len(body)
    while more:
        piece, more = await client.receive()
        size += len(piece)
        if size <= limit:
            parts.append(piece)
        elif size > limit * DISCARD_FACTOR:
            break
        else:
            parts.clear()
    if size > limit:
        raise _too_large(limit)
    return b"".join(parts)


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
    if exchange.trace is not None:
        headers += run.trace_headers()
    if exchange.attempts:
        last = exchange.winner or exchange.attempts[-1]
        overhead, upstream = run.spent_ms()
        overhead_ms = b"%.3f" % overhead
        headers += (
            (b"x-weighbridge-target", last.target.encode("ascii", "replace")),
            (b"x-weighbridge-attempts", b"%d" % len(exchange.attempts)),
            (b"x-weighbridge-overhead-ms", overhead_ms),
            (b"server-timing", b"proxy;dur=%b, upstream;dur=%.3f" % (overhead_ms, upstream)),
        )
        if not exchange.stream and (usd := run.spent_usd()) is not None:
            headers.append((b"x-weighbridge-cost-usd", plain_usd(usd).encode()))
        if last.dropped:
            headers.append((b"x-weighbridge-dropped", ",".join(last.dropped).encode()))
        headers += [(name, value) for name, value in run.upstream_headers() if name.startswith(_FORWARDED)]
    return headers


def _refused(refusal: Refusal) -> list[tuple[bytes, bytes]]:
    """The headers of an error that official SDKs act upon."""
    headers = [_JSON]
    if refusal.retry_after is not None:
        # Whole seconds, rounded up: RFC 9110 knows no fractions. The SDKs read the milliseconds first.
        headers.append((b"retry-after", b"%d" % -(-refusal.retry_after // 1)))
        headers.append((b"retry-after-ms", b"%d" % (refusal.retry_after * 1000)))
    if refusal.should_retry is not None:
        headers.append((b"x-should-retry", b"true" if refusal.should_retry else b"false"))
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    return headers
