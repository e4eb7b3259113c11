"""Requests about sound: `POST /v1/audio/speech` and `POST /v1/audio/transcriptions`. Their answers may be any bytes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from proxy.errors import Refusal
from proxy.forms.plain import PlainRequest
from proxy.wire.chunk import Json
from proxy.wire.render import BYTES, Form
from proxy.wire.request import Headers, Request, check_model, wrong

_BOUNDARY = re.compile(rb'boundary="?([^";,]{1,70})"?', re.IGNORECASE)
_NAME = re.compile(rb'\bname="([^"]*)"', re.IGNORECASE)


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
        found = _BOUNDARY.search(kind)
        if not kind.lower().startswith(b"multipart/form-data") or found is None:
            message = "Send a multipart/form-data body with `file` and `model`."
            raise Refusal(415, message, code="unsupported_content_type")
        parts = _parts(raw, found[1])
        if "file" not in parts:
            raise wrong("file", "`file` is missing.", "invalid_value")
        body: Json = {}
        for name, (start, end) in parts.items():
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
        found = _BOUNDARY.search(self.headers[0][1])
        assert found is not None  # noqa: S101  (`parse` has seen it)
        start, end = _parts(self.raw, found[1])["model"]
        return b"%b%b%b" % (self.raw[:start], model.encode(), self.raw[end:])


def _parts(raw: bytes, boundary: bytes) -> dict[str, tuple[int, int]]:
    """Name of a part -> where its content lies (RFC 7578, 2046). Raises `Refusal` (400) for what is no such form."""
    found: dict[str, tuple[int, int]] = {}
    mark = b"--" + boundary
    at = raw.find(mark)
    while at >= 0 and raw[at + len(mark) : at + len(mark) + 2] != b"--":
        head_end = raw.find(b"\r\n\r\n", at)
        following = raw.find(b"\r\n" + mark, head_end)
        if head_end < 0 or following < 0:
            raise Refusal(400, "The multipart/form-data body is not whole.", code="invalid_form")
        name = _NAME.search(raw, at, head_end)
        if name is not None:
            found[name[1].decode("utf-8", "replace")] = (head_end + 4, following)
        at = following + 2
    return found
