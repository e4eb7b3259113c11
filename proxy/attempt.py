"""One try at one target, end to end. Whatever happens, it leaves exactly one `Attempt`.

`open` sends the request and waits for the commit point: the first event with content, or the whole of an answer that
is not streamed. `more` goes on from there. Both raise `UpstreamError` for every failure of the upstream's side,
deadlines included, and `Gone` when the client left.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

import orjson

from policies.verdict import VERDICTS, Kind
from proxy.clock import Clock, Deadline
from proxy.condition import Begun
from proxy.errors import Refusal, TransportError, UpstreamError
from proxy.providers.base import Decoder, Minted, Speaker
from proxy.record import Attempt, Gaps
from proxy.transport.base import Connection, Headers, Reply, UpstreamRequest
from proxy.transport.request import authority
from proxy.upstreams import Target
from proxy.wire.chat import ChatRequest
from proxy.wire.chunk import COMMENT, CONTENT, DONE, FINISH, Chunk, Usage, answers
from proxy.wire.controls import unheeded
from proxy.wire.render import error_object
from proxy.wire.request import Request, Writer

log = logging.getLogger(__name__)

ERROR_BODY_LIMIT = 64 * 1024
"""Bytes of an upstream's error that are read; the rest says nothing more."""
HELD_LIMIT = 256 * 1024
"""Bytes held back before the commit point; an upstream that sends this much without content is not answering."""

MOST_DROPPED = 50
"""Parameters that were left out and are told by name; whoever sends more of them knows by then."""

TIMEOUT = b"x-weighbridge-timeout"
"""How long the client waits: what it says to us, and what we say to upstreams, in case that they heed it."""

GONE = "gone"
DRAIN = "drain"
DOWNSTREAM = "downstream"
SUPERSEDED = "superseded"


DROP = "drop"


class Gone(Exception):
    """The client left, or no longer reads."""


class Try:
    __slots__ = (
        "_answered",
        "_begun",
        "_clock",
        "_connection",
        "_deadline",
        "_decoder",
        "_due_ns",
        "_failed",
        "_hurried",
        "_minted",
        "_replay",
        "_reply",
        "_stall_ns",
        "ask",
        "attempt",
        "target",
        "tells",
        "writer",
    )

    def __init__(
        self,
        target: Target,
        ask: Request,
        attempt: Attempt,
        clock: Clock,
        deadline: Deadline,
        minted: Minted,
        replay: bool = True,
        tells: bool = False,
        hurried: bool = False,
    ) -> None:
        self.target = target
        self.ask = ask
        self.attempt = attempt
        self._clock = clock
        self._deadline = deadline
        self._minted = minted
        self._decoder: Decoder = _UNREAD
        self.tells = tells
        """The client said how long it waits: the upstream is told what is left of that."""
        self._hurried = hurried
        """The client gives it less time than the config does."""
        self.writer: Writer | None = None
        """Puts the answer into the client's form; None where it has that already."""
        self._connection: Connection | None = None
        self._replay = replay
        self._reply: Reply | None = None
        self._due_ns = 0
        self._stall_ns = target.timeouts.stall
        self._failed: UpstreamError | None = None
        self._begun = Begun(0, False, None)
        self._answered = False

    @property
    def headers(self) -> Headers:
        """Headers of the upstream's answer; none before it came."""
        return self._reply.headers if self._reply is not None else ()

    async def open(self, first_ns: int) -> list[Chunk]:
        """Chunks up to the commit point. `first_ns`: how long the first content (or byte) may take, in ns."""
        condition = self.target.condition
        self._begun = condition.begin(self.attempt, self.ask)
        try:
            chunks = await self._open(first_ns)
            self._answered = True
            condition.answered(self.attempt, self.ask.stream, self._begun.probe)
            return chunks
        except UpstreamError as error:
            if error.kind is Kind.TRUNCATED:
                # Nothing has been sent on yet: for the client this is no cut answer, it is none at all.
                error.kind = Kind.MALFORMED
            self._fail(error)
            raise
        except asyncio.CancelledError:
            end = self._interrupted()
            if isinstance(end, UpstreamError):
                self._fail(end)
            raise end from None
        except Refusal as refusal:
            unsaid = _unsupported(refusal)
            self._fail(unsaid)
            raise unsaid from None
        except Exception as fault:
            if self._reply is not None:
                unreadable = self._unreadable(fault)
                self._fail(unreadable)
                raise unreadable from fault
            self._fail(UpstreamError(Kind.INTERNAL, "attempt", "an unexpected fault of the proxy"))
            raise

    async def more(self, blocked_ns: int) -> list[Chunk]:
        """The next chunks of a stream; an empty list when it has ended well.

        `blocked_ns`: how long the client kept us from reading on; the upstream is not to blame for that. A failure
        waits until the chunks that came before it have been handed out.
        """
        if self._failed is not None:
            failed, self._failed = self._failed, None
            try:
                raise failed
            finally:
                del failed  # as below
        if self._decoder.ended:
            self._succeed()
            return []
        self._due_ns += blocked_ns
        self._deadline.limit("stall", self._due_ns)
        reply, decoder = self._reply, self._decoder
        assert reply is not None  # noqa: S101  (more() follows open())
        try:
            while True:
                data, at = await reply.read()
                chunks = decoder.feed(data) if data else decoder.close()
                self.attempt.answer_bytes += len(data)
                if chunks:
                    self._mark(chunks, at)
                    return chunks
                if not data:
                    return chunks
        except UpstreamError as error:
            broken = self._after_content(error)
        except asyncio.CancelledError:
            end = self._interrupted()
            if not isinstance(end, UpstreamError):
                raise end from None
            broken = end
        except Exception as fault:
            broken = self._after_content(self._unreadable(fault))
        if broken.kind is Kind.STALL or isinstance(broken, TransportError):
            # The end marker is all that is missing, if every choice has its finish reason.
            with contextlib.suppress(UpstreamError):
                return self._decoder.close(cut=True)
        pending, self._decoder.pending = self._decoder.pending, []
        self._fail(broken)
        if not pending:
            try:
                raise broken from None
            finally:
                del broken  # its traceback leads back here: a cycle would keep megabytes that were read
        self._failed = broken
        self._mark(pending, self._clock.now())
        return pending

    def cost(self) -> float | None:
        """USD for what has been reported so far; None where that, or the price, is not known."""
        usage, price = self._decoder.usage, self.target.price
        return price.charge(usage, self._decoder.model).usd if usage is not None and price is not None else None

    def finish(self) -> None:
        """The answer has been handed on whole."""
        self._succeed()

    def follow(self, deadline: Deadline) -> None:
        """From now on it goes by the deadline of another task, which will read on."""
        self._deadline = deadline

    def supersede(self) -> None:
        """Another attempt had content first: ends this one, whose task is not the caller's."""
        self._deadline.interrupt(SUPERSEDED)

    def abandon(self, kind: Kind, detail: str) -> None:
        """Ends a try that is still open, for a reason that is not the upstream's."""
        if not self.attempt.marks.end:
            self._fail(UpstreamError(kind, "downstream", detail))

    async def _open(self, first_ns: int) -> list[Chunk]:
        target, attempt, deadline, ask = self.target, self.attempt, self._deadline, self.ask
        stream = ask.stream
        native = target.speaker(ask.operation)
        self.writer = ask.writer(native is not None, self._minted.id)
        speaker: Speaker[Any] = native or target.provider
        lost: tuple[str, ...] = ()
        if native is None:
            ask = chat = ask.as_chat()
            lost = chat.dropped
        if self.ask.onward is not None and not target.endpoint.quirks.routes:
            lost = (*lost, *unheeded(self.ask.onward))
        now = attempt.marks.received
        if target.media is not None and isinstance(ask, ChatRequest) and target.media.may_hold_links(ask):
            ask = await target.media.inlined(ask)
            now = self._clock.now()
        token: Headers = ()
        if target.token is not None:
            token = await target.token.header()
            now = self._clock.now()
        self._decoder = speaker.decoder(ask, target.endpoint, self._minted)
        built = speaker.build(ask, target.endpoint)
        dropped = (*lost, *built.dropped) if lost else built.dropped
        if dropped and target.unsupported != DROP:
            raise _not_dropped(dropped, target)
        attempt.request_bytes = len(built.body)
        if dropped:
            attempt.dropped = tuple([_printable(name) for name in dropped[:MOST_DROPPED]])
        attempt.sent = built.sent
        connection = target.transport.idle(target.origin)
        if connection is None:
            deadline.limit("connect", now + target.timeouts.connect)
            connection = await target.transport.connect(target.origin)
            now = self._clock.now()
        self._connection = connection
        deadline.limit("first", now + first_ns)
        head, extra = target.head(ask.operation, stream), built.headers
        if target.sign is not None:
            host = authority(target.origin).decode()
            extra = (*extra, *target.sign(head.method, host, head.path, built.body, self._clock.wall()))
        if token:
            extra = (*extra, *token)
        if attempt.trace_headers:
            extra = (*extra, *attempt.trace_headers)
        if self.tells:
            extra = (*extra, (TIMEOUT, b"%dms" % max(1, deadline.remaining(now) // 1_000_000)))
        self._reply = reply = await connection.send(UpstreamRequest(head, built.body, extra, self._replay))
        marks = attempt.marks
        marks.sent = reply.sent_ns
        marks.first_byte = marks.headers = reply.first_byte_ns
        attempt.replayed = reply.replayed
        attempt.status = reply.status
        target.condition.heard(reply.headers, self._begun, self._clock)
        if reply.status != 200:
            raise await self._refused(reply)
        return await (self._first_content(reply) if stream else self._whole(reply))

    async def _whole(self, reply: Reply) -> list[Chunk]:
        feed = self._decoder.feed
        while True:
            data, at = await reply.read()
            if not data:
                break
            self.attempt.answer_bytes += len(data)
            feed(data)
            self._deadline.limit("stall", at + self._stall_ns)
        chunks = self._decoder.close()
        marks = self.attempt.marks
        marks.first_content = marks.first_answer = marks.last_content = at
        return chunks

    async def _first_content(self, reply: Reply) -> list[Chunk]:
        held: list[Chunk] = []
        size = 0
        while True:
            data, at = await reply.read()
            chunks = self._decoder.feed(data) if data else self._decoder.close()
            self.attempt.answer_bytes += len(data)
            for chunk in chunks:
                if chunk.kind == CONTENT or chunk.kind == FINISH:
                    self._mark(chunks, at)
                    held.extend(chunks)
                    return held
            if not data or self._decoder.ended:
                raise UpstreamError(Kind.MALFORMED, "decoder", "a stream without content", status=200)
            held.extend([chunk for chunk in chunks if chunk.kind != COMMENT])
            size += sum([len(chunk.raw) for chunk in chunks if chunk.kind != COMMENT])
            # Some forms begin by repeating the request, twice over.
            if size > HELD_LIMIT + 4 * self.attempt.request_bytes:
                raise UpstreamError(Kind.MALFORMED, "decoder", "too many events without content", status=200)

    def _mark(self, chunks: list[Chunk], at: int) -> None:
        """Times of content, and from them when the next must come; comments do not move it."""
        count = 0
        for chunk in chunks:
            if chunk.kind == CONTENT:
                count += 1
        if not count:
            if any(chunk.kind in (FINISH, DONE) for chunk in chunks):
                self._due_ns = at + self._stall_ns
            return
        attempt = self.attempt
        marks, gaps = attempt.marks, attempt.gaps
        if gaps is None:
            gaps = attempt.gaps = Gaps()
            marks.first_content = at
            if count > 1:
                gaps.add(0, count - 2)
        else:
            gaps.add(at - marks.last_content, count - 1)
        if not marks.first_answer and any(chunk.kind == CONTENT and answers(chunk) for chunk in chunks):
            marks.first_answer = at
        gaps.chunks += count
        marks.last_content = at
        self._due_ns = at + self._stall_ns

    async def _refused(self, reply: Reply) -> UpstreamError:
        parts: list[bytes] = []
        size = 0
        try:
            while size < ERROR_BODY_LIMIT:
                data, _ = await reply.read()
                if not data:
                    break
                parts.append(data)
                size += len(data)
        except TransportError:
            pass  # the status has been seen; a body that breaks off adds nothing but its first part
        self.attempt.answer_bytes = size
        return self.target.provider.error(reply.status, reply.headers, b"".join(parts))

    def _interrupted(self) -> BaseException:
        """What a cancellation means, by who asked for it. What is not the upstream's doing is recorded here."""
        reason = self._deadline.taken()
        if reason is None:
            self._fail(UpstreamError(Kind.INTERNAL, "attempt", "the proxy was stopped"))
            return asyncio.CancelledError()
        if reason in (GONE, DOWNSTREAM):
            self._fail(UpstreamError(Kind.DOWNSTREAM_CLOSED, "downstream", reason))
            return Gone(reason)
        committed = self._due_ns > 0
        if reason == SUPERSEDED:
            return UpstreamError(Kind.SUPERSEDED, "hedge", "another attempt had content first")
        if reason == "connect":
            return UpstreamError(Kind.CONNECT, "deadline", "no connection before the deadline")
        if reason == DRAIN:
            return UpstreamError(Kind.INTERNAL, DRAIN, "the proxy is shutting down")
        self.attempt.hurried = self._hurried and self._was_short(reason)
        whose = "the client's own limit" if self.attempt.hurried else f"the {reason} deadline"
        if committed:
            return UpstreamError(Kind.STALL, "deadline", f"no content before {whose}", status=200)
        return UpstreamError(Kind.TIMEOUT, "deadline", f"no answer before {whose}")

    def _was_short(self, reason: str) -> bool:
        """The limit that passed was shorter than the target's own; else one client could open its breaker for all."""
        if reason != "first":
            return reason == "total"
        timeouts = self.target.timeouts
        own = timeouts.answer if not self.ask.stream else timeouts.ttft_reasoning if self.ask.reasons else timeouts.ttft
        return self._clock.now() - (self.attempt.marks.sent or self.attempt.marks.received) < own

    def _unreadable(self, fault: Exception) -> UpstreamError:
        """A decoder's own fault. It should have said what is wrong with the answer; that it is no answer is certain."""
        log.error("an answer of %s could not be read", self.target.name, exc_info=fault)
        return UpstreamError(Kind.MALFORMED, "decoder", f"{type(fault).__name__}: {fault}", status=200)

    @staticmethod
    def _after_content(error: UpstreamError) -> UpstreamError:
        """Whatever breaks after content has left a cut answer; its own words stay in the detail."""
        if error.kind in (Kind.TRUNCATED, Kind.STALL):
            return error
        return UpstreamError(Kind.TRUNCATED, error.source, f"{error.kind}: {error.detail}", status=error.status)

    def _succeed(self) -> None:
        attempt = self.attempt
        if attempt.marks.end:
            return
        self._seal()
        if self._reply is not None:
            self._reply.release()

    def _fail(self, error: UpstreamError) -> None:
        attempt = self.attempt
        if attempt.marks.end:
            return
        if isinstance(error, TransportError):
            attempt.replayed = attempt.replayed or error.replayed
        self.target.hide(error)
        attempt.kind = error.kind
        attempt.outcome = VERDICTS[error.kind].outcome
        attempt.detail = error.detail
        attempt.retry_after = error.retry_after
        self._seal()
        if self._reply is not None:
            if attempt.status is not None and attempt.status != 200 and self._reply.complete:
                self._reply.release()
            else:
                self._reply.abort()
        elif self._connection is not None:
            self._connection.discard()

    def _seal(self) -> None:
        attempt, decoder = self.attempt, self._decoder
        attempt.marks.end = self._clock.now()
        attempt.response_model = decoder.model
        attempt.finish_reason = decoder.finish_reason
        usage = attempt.usage = decoder.usage
        if usage is not None:
            attempt.usage_source = "provider" if decoder.ended else "partial"
            price = self.target.price
            if price is not None:
                attempt.cost_usd, attempt.cost_source, attempt.price_version = price.charge(usage, decoder.model)
        self.target.condition.end(attempt, self._begun, self._answered)


class _Unread:
    """The decoder of a request that was never sent."""

    model: str | None = None
    finish_reason: str | None = None
    usage: Usage | None = None
    ended = False
    pending: list[Chunk] = []  # noqa: RUF012  (nothing is ever put in)

    def feed(self, data: bytes) -> list[Chunk]:
        return []

    def close(self, cut: bool = False) -> list[Chunk]:
        return []


_UNREAD = _Unread()


def _printable(name: str) -> str:
    """A name that the client made up, as headers and records can hold it: one line, in ASCII, not endless."""
    return name[:64] if name.isascii() and name.isprintable() else ascii(name[:64])[1:-1]


def _unsupported(refusal: Refusal, kind: Kind = Kind.UNSUPPORTED) -> UpstreamError:
    """What a dialect cannot say is no fault of the target's; another one may take it."""
    body = error_object(refusal.message, type=refusal.type, param=refusal.param, code=refusal.code)
    return UpstreamError(kind, "build", refusal.message, status=400, body=orjson.dumps(body))


def _not_dropped(dropped: tuple[str, ...], target: Target) -> UpstreamError:
    names = ", ".join([f"`{name}`" for name in dropped])
    refusal = Refusal(
        400,
        f"The target {target.name} does not take {names}, and the route does not let it be left out (`unsupported`).",
        param=dropped[0],
        code="unsupported_parameter",
    )
    return _unsupported(refusal, Kind.UNSUPPORTED if target.unsupported == "skip" else Kind.BAD_REQUEST)
