"""Amazon Bedrock's Converse and ConverseStream.

Wire facts from the Bedrock API reference (Converse, ConverseStream), botocore's service model of bedrock-runtime, and
recorded traffic. A stream is a binary event stream; usage comes in a `metadata` event after `messageStop`; blocks of
text have no start; what kind an error is stands in the header `x-amzn-errortype` alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, ClassVar
from urllib.parse import quote

import orjson

from policies.verdict import Kind
from proxy.errors import Refusal, UpstreamError
from proxy.providers.base import Built, Decoder, Endpoint, Headers, Minted, Speaker
from proxy.providers.bedrock_answer import Answer
from proxy.providers.bedrock_embeddings import BedrockEmbeddings
from proxy.providers.bedrock_messages import OWN_THINKING
from proxy.providers.bedrock_request import answer_tool, body_of, is_claude
from proxy.providers.conversation import CLAUDE_THINKING
from proxy.providers.errors import CONTEXT, ErrorFound, classify, error_in, retry_after, told_in_answer, words
from proxy.providers.eventstream import BrokenMessage, Message, MessageSplitter
from proxy.providers.frame import Gathered, json_in, malformed
from proxy.providers.sigv4 import Identity, Signer
from proxy.wire.chat import ChatRequest
from proxy.wire.chunk import CONTENT, Chunk, Json, Usage
from proxy.wire.request import dumped, parameters
from proxy.wire.scribe import Scribe

_KINDS = {
    "throttlingexception": Kind.RATE_LIMIT,
    "toomanyrequestsexception": Kind.RATE_LIMIT,
    "modelnotreadyexception": Kind.SERVER_ERROR,
    "servicequotaexceededexception": Kind.QUOTA,
    "accessdeniedexception": Kind.AUTH,
    "unrecognizedclientexception": Kind.AUTH,
    "expiredtokenexception": Kind.AUTH,
    "invalidsignatureexception": Kind.AUTH,
    "signaturedoesnotmatchexception": Kind.AUTH,
    "incompletesignatureexception": Kind.AUTH,
    "missingauthenticationtokenexception": Kind.AUTH,
    "invalidclienttokenidexception": Kind.AUTH,
    "notauthorizedexception": Kind.AUTH,
    "resourcenotfoundexception": Kind.UNKNOWN_MODEL,
    "modeltimeoutexception": Kind.TIMEOUT,
    "modelerrorexception": Kind.SERVER_ERROR,
    "modelstreamerrorexception": Kind.SERVER_ERROR,
    "internalserverexception": Kind.SERVER_ERROR,
    "internalfailureexception": Kind.SERVER_ERROR,
    "serviceunavailableexception": Kind.SERVER_ERROR,
}
_NO_MODEL = re.compile(
    r"model identifier is invalid|on-demand throughput|access to the model|end of its life|model .* (not found|legacy)",
    re.IGNORECASE,
)
"""Messages of ValidationException and AccessDeniedException that are about the model, not about the request or key."""


class Bedrock:
    """The dialect. One object serves every target that speaks it."""

    dialect = "bedrock"
    natives: ClassVar[Mapping[str, Speaker[Any]]] = {"embeddings": BedrockEmbeddings()}

    def headers(self, to: Endpoint, credential: str | None, stream: bool) -> Headers:
        fixed = [
            (b"content-type", b"application/json"),
            (b"accept", b"application/vnd.amazon.eventstream" if stream else b"application/json"),
            (b"accept-encoding", b"identity"),
            (b"user-agent", b"weighbridge"),
        ]
        if credential is not None and Identity.read(credential) is None:
            fixed.append((b"authorization", b"Bearer " + credential.encode()))
        return fixed + [(name.lower().encode(), value.encode()) for name, value in to.headers]

    def path(self, to: Endpoint, stream: bool) -> str:
        return f"/model/{quote(to.model, safe='')}/converse{'-stream' if stream else ''}"

    def signer(self, to: Endpoint, credential: str | None) -> Callable[[str, str, str, bytes, float], Headers] | None:
        identity = Identity.read(credential) if credential is not None else None
        return Signer(identity, to.region, "bedrock").sign if identity is not None else None

    def build(self, ask: ChatRequest, to: Endpoint) -> Built:
        body, dropped = body_of(ask.filled(to.params, to.force), to)
        return Built(dumped(body), dropped, sent=parameters(body))

    def decoder(self, ask: ChatRequest, to: Endpoint, minted: Minted) -> Decoder:
        scribe = Scribe(minted.id, minted.created, to.model, stream=ask.stream)
        signed = CLAUDE_THINKING if is_claude(to.model) else OWN_THINKING
        tool = None
        with suppress(Refusal):  # `build` tells the client.
            tool = answer_tool(ask.filled(to.params, to.force), to)
        answer = Answer(scribe, signed, tool)
        return StreamDecoder(answer) if ask.stream else BodyDecoder(answer)

    def error(self, status: int, headers: Headers, body: bytes) -> UpstreamError:
        found = error_in(body) or ErrorFound(code="", type="", message="")
        named = next((value for name, value in headers if name == b"x-amzn-errortype"), b"").decode("utf-8", "replace")
        if not found["message"]:
            found["message"] = _other_message(body)
        found["type"] = error_name(named) or error_name(found["type"])
        told = words(found)
        return UpstreamError(
            kind_of(status, found),
            "status",
            f"{status} {told or body[:500].decode('utf-8', 'replace')}",
            status=status,
            retry_after=retry_after(headers),
            body=orjson.dumps({"message": found["message"]}) if found["message"] else None,
        )


def error_name(written: str) -> str:
    """`ValidationException` of `com.amazon.coral#ValidationException:http://internal...`."""
    return written.partition(":")[0].rpartition("#")[2].strip()


def kind_of(status: int, found: ErrorFound) -> Kind:
    """By the exception's name and its message; by status where the name is not known."""
    name = found["type"].lower()
    message = found["message"]
    if not name.endswith("exception"):
        name += "exception"
    if name in ("validationexception", "accessdeniedexception") and _NO_MODEL.search(message):
        return Kind.UNKNOWN_MODEL
    if name == "validationexception":
        return Kind.CONTEXT_LENGTH if status == 413 or CONTEXT.search(message) else Kind.BAD_REQUEST
    return _KINDS.get(name) or classify(status, found)


def _other_message(body: bytes) -> str:
    """Some errors of AWS's front doors spell it `Message`, or wrap it into `Output`."""
    try:
        read = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    found = read.get("Message") if type(read) is dict else None
    return found if type(found) is str else ""


class _Decoder:
    """The facts of an answer, taken over from what was read."""

    __slots__ = ("_answer", "ended", "finish_reason", "model", "pending", "usage")

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self.ended = False
        self.finish_reason: str | None = None
        self.model: str | None = None
        self.pending: list[Chunk] = []
        self.usage: Usage | None = None

    def _take(self) -> list[Chunk]:
        """What the scribe has written, the facts being brought up to date."""
        answer = self._answer
        self.model, self.usage = answer.model, answer.usage
        self.finish_reason = answer.scribe.finish_reason()
        return answer.scribe.take()


class StreamDecoder(_Decoder):
    """A stream is whole once `messageStop` has come; usage follows it."""

    __slots__ = ("_foreign", "_messages")

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self._messages = MessageSplitter()
        self._foreign = False
        """The answer is no event stream."""

    def feed(self, data: bytes) -> list[Chunk]:
        messages = self._messages
        messages.feed(data)
        try:
            if self._foreign or messages.foreign:
                self._foreign = True
                if messages.size > 64 * 1024:
                    raise malformed("JSON in place of an event stream")
                return []
            while not self.ended and (message := messages.take()) is not None:
                self._read(message)
        except BrokenMessage as error:
            self.pending = self._take()
            raise malformed(str(error)) from error
        except UpstreamError:
            self.pending = self._take()
            raise
        return self._take()

    def close(self, cut: bool = False) -> list[Chunk]:
        if self.ended:
            return []
        if self._foreign:
            raise _told(error_in(self._messages.rest), "JSON in place of an event stream")
        if not self._answer.stopped:
            raise UpstreamError(Kind.TRUNCATED, "decoder", "the stream ended before messageStop", status=200)
        self._end()
        return self._take()

    def _end(self) -> None:
        self.ended = True
        self._answer.scribe.end(self._answer.usage)

    def _read(self, message: Message) -> None:
        if message.headers.get(":message-type", "event") != "event":
            raise _in_stream(message)
        try:
            event = orjson.loads(message.payload)
        except orjson.JSONDecodeError as error:
            raise malformed(f"an event is not JSON: {error}") from error
        if type(event) is not dict:
            raise malformed("an event is not a JSON object")
        name = message.headers.get(":event-type")
        at = event.get("contentBlockIndex", 0)
        if type(at) is not int:
            raise malformed("`contentBlockIndex` is not a number")
        answer = self._answer
        if name == "contentBlockDelta":
            answer.delta(at, _object(event, "delta"))
        elif name == "contentBlockStart":
            answer.start(at, _object(event, "start"))
        elif name == "contentBlockStop":
            answer.stop(at)
        elif name == "messageStop":
            answer.message_stop(event.get("stopReason"))
        elif name == "metadata":
            answer.metadata(event)
            if answer.stopped:
                self._end()


def _object(event: Json, name: str) -> Json:
    found = event.get(name)
    if type(found) is not dict:
        raise malformed(f"`{name}` is not an object")
    return found


def _in_stream(message: Message) -> UpstreamError:
    """An exception (`:exception-type`, a message in the payload) or an error (`:error-code`, `:error-message`)."""
    headers = message.headers
    found = error_in(message.payload) or ErrorFound(code="", type="", message=headers.get(":error-message", ""))
    found["type"] = error_name(headers.get(":exception-type") or headers.get(":error-code") or "")
    return _told(found, "an exception inside the stream")


def _told(found: ErrorFound | None, what: str) -> UpstreamError:
    """As `told_in_answer`, by Bedrock's names."""
    error = told_in_answer(found, what)
    kind = kind_of(200, found) if found is not None else error.kind
    if kind in (Kind.CONTEXT_LENGTH, Kind.RATE_LIMIT, Kind.QUOTA, Kind.AUTH):
        error.kind = kind
    return error


class BodyDecoder(_Decoder):
    """An answer that is not streamed: the bytes are gathered and read once."""

    __slots__ = ("_whole",)

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self._whole = Gathered()

    def feed(self, data: bytes) -> list[Chunk]:
        return self._whole.take(data)

    def close(self, cut: bool = False) -> list[Chunk]:
        raw = self._whole.raw()
        body = json_in(raw)
        output: Any = body.get("output") if type(body) is dict else None
        message = output.get("message") if type(output) is dict else None
        if type(message) is not dict or type(message.get("content")) is not list:
            raise _told(error_in(raw), "an answer without a message")
        for at, block in enumerate(message["content"]):
            if type(block) is not dict:
                raise malformed("a content block is not an object")
            self._answer.block(at, block)
        self._answer.message_stop(body.get("stopReason"))
        self._answer.metadata(body)
        self.ended = True
        self._take()
        whole = self._answer.scribe.body(self.usage)
        return [Chunk(CONTENT, orjson.dumps(whole), whole)]
