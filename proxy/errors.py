"""The errors of the upstream side, mapped once at the boundary where they arise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policies.verdict import Kind

_DETAIL_LIMIT = 2048


class UpstreamError(Exception):
    """Why an attempt failed, in the words of `policies.verdict`.

    `source` names the room that saw it (`transport`, `decoder`, `status`, `deadline`). `retry_after` is in seconds.
    `detail` is for the record only and cut at 2 kB: the upstream's text is never shown to a client, except for the
    client's own faults, where `body` is the upstream's error object, rendered in OpenAI's form.
    """

    def __init__(
        self,
        kind: Kind,
        source: str,
        detail: str = "",
        *,
        status: int | None = None,
        retry_after: float | None = None,
        body: bytes | None = None,
    ) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.source = source
        self.detail = detail[:_DETAIL_LIMIT]
        self.status = status
        self.retry_after = retry_after
        self.body = body


class TransportError(UpstreamError):
    """The connection failed. `sent`: the request had been written; `answered`: a byte of the answer had come."""

    def __init__(
        self, kind: Kind, detail: str, *, sent: bool = False, answered: bool = False, replayed: bool = False
    ) -> None:
        super().__init__(kind, "transport", detail)
        self.sent = sent
        self.answered = answered
        self.replayed = replayed


class Refusal(Exception):
    """What the client is told instead of an answer; becomes an OpenAI error body. `message` tells how to mend it.

    `retry_after` is in seconds. `should_retry` answers the official SDKs' question whether trying again helps (sent
    as `x-should-retry`); None leaves them to their own rule by status. `body` is an upstream's error passed on
    unchanged; `more` holds further members of the error object.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
        should_retry: bool | None = None,
        body: bytes | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.param = param
        self.code = code
        self.retry_after = retry_after
        self.should_retry = should_retry
        self.body = body
        self.more = more or {}
