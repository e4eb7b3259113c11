"""Requests about sound: `POST /v1/audio/speech` and `POST /v1/audio/transcriptions`. Their answers may be any bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from proxy.errors import Refusal
from proxy.forms.plain import PlainRequest
from proxy.wire import multipart
from proxy.wire.chunk import Json
from proxy.wire.render import BYTES, Form
from proxy.wire.request import Headers, Request, check_model, wrong


class SpeechRequest(PlainRequest):
    """Sound comes as it is made."""

    __slots__ = ()

    operation = "speech"
    form: ClassVar[Form] = BYTES
    needs = ("input",)
    headers: Headers = ((b"content-type", b"application/json"),)

    def __init__(self, raw: bytes, body: Json) -> None:
        super().__init__(raw, body)
        self.stream = True

    @property
    def wants_events(self) -> bool:  # type: ignore[override]
        return bool(self.body.get("stream_format") == "sse")

    @property
    def repeatable(self) -> bool:
        return False  # speech that was begun is paid for


class TranscriptionsRequest(Request):
    """A form of several parts: `file`, `model` and others."""

    __slots__ = ("headers",)

    operation = "transcriptions"
    form: ClassVar[Form] = BYTES

    def __init__(self, raw: bytes, body: Json, headers: Headers) -> None:
        super().__init__(raw, body)
        self.stream = body.get("stream") == "true"
        self.headers = headers

    @classmethod
    def parse(cls, raw: bytes, headers: Headers = ()) -> Self:
        kind = next((value for name, value in headers if name == b"content-type"), b"")
        mark = multipart.boundary(kind)
        if mark is None:
            message = "Send a multipart/form-data body with `file` and `model`."
            raise Refusal(415, message, code="unsupported_content_type")
        parts = multipart.parts(raw, mark)
        if "file" not in parts:
            raise wrong("file", "`file` is missing.", "invalid_value")
        body: Json = {}
        for name, (start, end, _) in parts.items():
            if name != "file":
                body[name] = raw[start:end].decode("utf-8", "replace")
        check_model(body)
        return cls(raw, body, [(b"content-type", kind)])

    @property
    def wants_events(self) -> bool:  # type: ignore[override]
        return self.stream

    @property
    def repeatable(self) -> bool:
        return False  # sound that was heard is paid for

    def for_upstream(
        self,
        model: str,
        *,
        ask_usage: bool = False,
        params: Mapping[str, Any] | None = None,
        force: Mapping[str, Any] | None = None,
    ) -> bytes:
        """The same form with another model's name."""
        mark = multipart.boundary(self.headers[0][1])
        assert mark is not None  # noqa: S101  (`parse` has seen it)
        start, end, _ = multipart.parts(self.raw, mark)["model"]
        return b"%b%b%b" % (self.raw[:start], model.encode(), self.raw[end:])
