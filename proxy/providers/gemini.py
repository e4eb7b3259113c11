"""Google's Gemini dialect (generateContent), as AI Studio and as Vertex AI speak it.

Wire facts from Google's API reference, from the types of google-genai and from recorded traffic. A stream has no end
marker: it is over when the connection ends after a finish reason. Keys go into a header, never into the address. On
Vertex the credential is an OAuth access token; `proxy.credentials` renews it, where the config says how.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote

import orjson

from policies.verdict import Kind
from proxy.errors import UpstreamError
from proxy.providers.base import ANSWER_LIMIT, Built, Decoder, Endpoint, Headers, Minted, Speaker
from proxy.providers.errors import ErrorFound, classify, retry_after, told_in_answer, words
from proxy.providers.frame import Gathered, json_in, malformed
from proxy.providers.gemini_answer import Reading, objects
from proxy.providers.gemini_embeddings import GeminiEmbeddings, VertexEmbeddings
from proxy.providers.gemini_request import build
from proxy.wire.chat import ChatRequest
from proxy.wire.chunk import COMMENT, CONTENT, DONE, Chunk, Json, Usage
from proxy.wire.scribe import Scribe
from proxy.wire.sse import EventSplitter, EventTooLarge, comments, payload

_BAD_KEY = {"API_KEY_INVALID", "API_KEY_EXPIRED", "ACCESS_TOKEN_EXPIRED", "CREDENTIALS_MISSING"}
_CREDIT = re.compile(r"spend(ing)? (cap|limit)|credits? (are|is|has|have been) depleted|prepay|billing account", re.I)
_ACCOUNT = re.compile(r"location is not supported|enable billing|free tier is not available", re.I)
_OF_STATUS = {
    "UNAUTHENTICATED": Kind.AUTH,
    "PERMISSION_DENIED": Kind.AUTH,
    "NOT_FOUND": Kind.UNKNOWN_MODEL,
    "RESOURCE_EXHAUSTED": Kind.RATE_LIMIT,
    "INTERNAL": Kind.SERVER_ERROR,
    "UNAVAILABLE": Kind.SERVER_ERROR,
    "ABORTED": Kind.SERVER_ERROR,
    "DEADLINE_EXCEEDED": Kind.SERVER_ERROR,
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)s")


def _of_gemini(to: Endpoint, method: str) -> str:
    version = "" if to.base_url.endswith(("/v1beta", "/v1alpha", "/v1")) else "/v1beta"
    return f"{version}/{_resource(to.model, 'models')}:{method}"


def _of_vertex(to: Endpoint, method: str) -> str:
    if to.model.startswith("endpoints/"):
        return f"/{_resource(to.model, 'endpoints')}:{method}"
    return f"/publishers/google/{_resource(to.model, 'models')}:{method}"


class Gemini:
    """AI Studio (generativelanguage.googleapis.com), with an API key."""

    dialect = "gemini"
    natives: ClassVar[Mapping[str, Speaker[Any]]] = {"embeddings": GeminiEmbeddings(_of_gemini)}

    def headers(self, to: Endpoint, credential: str | None, stream: bool) -> Headers:
        fixed = [
            (b"content-type", b"application/json"),
            (b"accept", b"text/event-stream" if stream else b"application/json"),
            (b"accept-encoding", b"identity"),
            (b"user-agent", b"weighbridge"),
        ]
        if credential is not None:
            fixed.append(self._credential(credential))
        return fixed + [(name.lower().encode(), value.encode()) for name, value in to.headers]

    def _credential(self, credential: str) -> tuple[bytes, bytes]:
        return b"x-goog-api-key", credential.encode()

    def path(self, to: Endpoint, stream: bool) -> str:
        return _of_gemini(to, _method(stream))

    def models_path(self, to: Endpoint) -> str:
        version = "" if to.base_url.endswith(("/v1beta", "/v1alpha", "/v1")) else "/v1beta"
        return f"{version}/models?pageSize=1000"

    def models_in(self, body: Any) -> list[Any]:
        return [one["name"].removeprefix("models/") for one in body["models"]]

    def build(self, ask: ChatRequest, to: Endpoint) -> Built:
        return build(ask, to)

    def decoder(self, ask: ChatRequest, to: Endpoint, minted: Minted) -> Decoder:
        return (StreamDecoder if ask.stream else BodyDecoder)(minted, to.model)

    def error(self, status: int, headers: Headers, body: bytes) -> UpstreamError:
        found = google_error(body)
        kind = _classify(status, found)
        text = words(found) or body[:500].decode("utf-8", "replace")
        waits = [wait for wait in (retry_after(headers), found.wait if found else None) if wait is not None]
        shown = None if found is None else _as_openai(found, kind)
        after = max(waits) if waits else None
        return UpstreamError(kind, "status", f"{status} {text}", status=status, retry_after=after, body=shown)


class Vertex(Gemini):
    """The same API at Vertex AI, under a project and a location that the base URL names, with a bearer token."""

    dialect = "vertex"
    natives: ClassVar[Mapping[str, Speaker[Any]]] = {"embeddings": VertexEmbeddings(_of_vertex)}

    def _credential(self, credential: str) -> tuple[bytes, bytes]:
        return b"authorization", b"Bearer " + credential.encode()

    def build(self, ask: ChatRequest, to: Endpoint) -> Built:
        return build(ask, to, vertex=True)

    def path(self, to: Endpoint, stream: bool) -> str:
        return _of_vertex(to, _method(stream))


def _resource(model: str, folder: str) -> str:
    """`models/NAME`; a model that names its folder itself (`tunedModels/NAME`) is taken at its word."""
    named, slash, name = model.partition("/")
    if slash and named in ("models", "tunedModels", "endpoints"):
        return f"{named}/{quote(name, safe='')}"
    return f"{folder}/{quote(model, safe='')}"


def _method(stream: bool) -> str:
    # Without `alt=sse` a stream would be one JSON array.
    return "streamGenerateContent?alt=sse" if stream else "generateContent"


class GoogleError(ErrorFound):
    """`code` is Google's status (`RESOURCE_EXHAUSTED`), `type` the reason from the details, where one is given."""

    wait: float | None = None
    """Seconds, from `RetryInfo.retryDelay`; Google sends no Retry-After header."""
    param: str | None = None
    status: int | None = None


def google_error(body: bytes) -> GoogleError | None:
    """The error object in a body, alone or as the only entry of an array; None where there is none."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if type(found) is list and found:
        found = found[0]
    inner = found.get("error") if type(found) is dict else None
    if type(inner) is str:
        return GoogleError(code="", type="", message=inner)
    return read_error(inner) if type(inner) is dict else None


def read_error(inner: Json) -> GoogleError:
    number = inner.get("code")
    found = GoogleError(code=str(inner.get("status") or number or ""), type="", message=str(inner.get("message") or ""))
    found.status = number if type(number) is int else None
    for detail in objects(inner.get("details")):
        if type(detail.get("reason")) is str:
            found["type"] = detail["reason"]
        if type(detail.get("retryDelay")) is str and (match := _DURATION.fullmatch(detail["retryDelay"])):
            found.wait = float(match[1])
        for one in objects(detail.get("fieldViolations")):
            if found.param is None and type(one.get("field")) is str:
                found.param = one["field"]
    return found


def _classify(status: int, found: GoogleError | None) -> Kind:
    if found is None:
        return classify(status, None)
    message = found["message"]
    if found["type"] in _BAD_KEY or "API key not valid" in message or "API key expired" in message:
        return Kind.AUTH
    if status < 500 and _CREDIT.search(message):
        return Kind.QUOTA
    if found["code"] == "FAILED_PRECONDITION" and _ACCOUNT.search(message):
        return Kind.AUTH
    return _OF_STATUS.get(found["code"]) or classify(status, found)


def _as_openai(found: GoogleError, kind: Kind) -> bytes:
    """Google's words in OpenAI's form, for the client's own faults."""
    code = {Kind.CONTEXT_LENGTH: "context_length_exceeded", Kind.CONTENT_FILTER: "content_filter"}.get(kind)
    message = found["message"] or "The upstream refused the request."
    told = {
        "message": message,
        "type": "invalid_request_error",
        "param": found.param,
        "code": code or found["code"].lower() or None,
    }
    return orjson.dumps({"error": told})


def _in_answer(error: object) -> UpstreamError:
    """An error inside a 200."""
    if type(error) is not dict:
        return told_in_answer(None, "an error inside the answer")
    found = read_error(error)
    kind = _classify(found.status or 200, found)
    if kind not in (Kind.AUTH, Kind.QUOTA, Kind.RATE_LIMIT, Kind.CONTEXT_LENGTH, Kind.CONTENT_FILTER):
        kind = Kind.MALFORMED
    return UpstreamError(
        kind, "decoder", f"an error inside the answer: {words(found)}", status=200, retry_after=found.wait
    )


class _Decoder:
    """What both decoders share: the reading, and the facts that the record asks for."""

    __slots__ = ("_reading", "_scribe", "ended", "finish_reason", "model", "pending", "usage")

    def __init__(self, minted: Minted, model: str, *, stream: bool) -> None:
        self._scribe = Scribe(minted.id, minted.created, model, stream=stream)
        self._reading = Reading(self._scribe, minted.id)
        self.ended = False
        self.model: str | None = None
        self.finish_reason: str | None = None
        self.usage: Usage | None = None
        self.pending: list[Chunk] = []

    def _read(self, body: object) -> None:
        if type(body) is not dict:
            raise malformed("a response is not a JSON object")
        if body.get("error"):
            raise _in_answer(body["error"])
        self._reading.read(body)
        self.model, self.usage = self._reading.model, self._reading.usage

    def _read_all(self, raw: bytes) -> None:
        """One JSON text: a response, or an array of the responses of a stream."""
        found = json_in(raw)
        for body in found if type(found) is list else (found,):
            self._read(body)

    def _finish(self, *, stream: bool) -> None:
        self._reading.close(stream=stream)
        self.finish_reason = self._scribe.finish_reason()
        self.ended = True


class StreamDecoder(_Decoder):
    """Events, each a response object; or, where `alt=sse` was lost on the way, one JSON array of them."""

    __slots__ = ("_array", "_begun", "_events", "_size")

    def __init__(self, minted: Minted, model: str) -> None:
        super().__init__(minted, model, stream=True)
        self._events = EventSplitter()
        self._array: list[bytes] | None = None
        self._begun = False
        self._size = 0

    def feed(self, data: bytes) -> list[Chunk]:
        if not self._begun and data.strip():
            self._begun = True
            if data.lstrip().startswith(b"["):
                self._array = []
        if self._array is not None:
            self._gather(self._array, data)
            return []
        chunks: list[Chunk] = []
        try:
            for event in self._events.feed(data):
                chunks.extend(self._event(event))
        except EventTooLarge as error:
            self.pending = chunks
            raise malformed(str(error)) from error
        except UpstreamError:
            self.pending = chunks + self._scribe.take()
            raise
        return chunks

    def close(self, cut: bool = False) -> list[Chunk]:
        if self.ended:
            return []
        chunks: list[Chunk] = []
        try:
            rest = self._events.rest()
            if self._array is not None and not cut:
                self._read_all(b"".join(self._array))
            elif rest.strip() and not cut:
                # The last empty line may be missing; the event itself must be whole.
                if rest.lstrip().startswith(b"{"):
                    self._alone(rest)
                chunks = self._event(rest.rstrip(b"\r\n") + b"\n\n")
            if chunks and chunks[-1].kind == DONE:
                return chunks  # it was the end marker of a gateway before Google
            self._finish(stream=True)
        except UpstreamError:
            self.pending = chunks + self._scribe.take()
            raise
        self._scribe.end(self.usage)
        return chunks + self._scribe.take()

    def _gather(self, parts: list[bytes], data: bytes) -> None:
        parts.append(data)
        self._size += len(data)
        if self._size > ANSWER_LIMIT:
            raise malformed(f"an answer of more than {ANSWER_LIMIT} bytes")

    def _event(self, event: bytes) -> list[Chunk]:
        data = payload(event)
        if self.ended:
            return []
        if not data:
            return [Chunk(COMMENT, comments(event))]
        if data.strip() == b"[DONE]":
            # Google sends none, but gateways before it do.
            return self.close(cut=True)
        try:
            body = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise malformed(f"an event is not JSON: {error}") from error
        for one in body if type(body) is list else (body,):
            self._read(one)
        return self._scribe.take()

    def _alone(self, raw: bytes) -> None:
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            body = None
        if type(body) is dict and body.get("error"):
            raise _in_answer(body["error"])
        raise malformed("JSON in place of an event stream")


class BodyDecoder(_Decoder):
    """An answer that is not streamed: the bytes are gathered and read once."""

    __slots__ = ("_whole",)

    def __init__(self, minted: Minted, model: str) -> None:
        super().__init__(minted, model, stream=False)
        self._whole = Gathered()

    def feed(self, data: bytes) -> list[Chunk]:
        return self._whole.take(data)

    def close(self, cut: bool = False) -> list[Chunk]:
        self._read_all(self._whole.raw())
        self._finish(stream=False)
        body = self._scribe.body(self.usage)
        return [Chunk(CONTENT, orjson.dumps(body), body)]
