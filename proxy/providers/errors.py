"""Errors as providers word them: read, classified, and their Retry-After found. Shared by every dialect."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime

import orjson

from policies.verdict import Kind
from proxy.errors import UpstreamError
from proxy.providers.base import Headers
from proxy.wire.chunk import Json
from proxy.wire.sse import payload

CONTEXT = re.compile(
    r"context_length_exceeded|maximum context length|prompt is too long|too many tokens|too_many_tokens"
    r"|input token count .* exceeds|exceeds? (the )?(available )?context|exceed_context_size|input tokens exceeded"
    r"|input is too long|too_many_prompt_tokens|exceeded max context length|range of input length|context window",
    re.IGNORECASE,
)
_QUOTA = {"insufficient_quota", "credit_balance_exhausted", "billing_hard_limit_reached", "billing_not_active"}
_FILTER = {"content_filter", "content_policy_violation", "data_inspection_failed"}
_AUTH = {"invalid_api_key", "authentication_error", "permission_error", "invalid_authentication"}
_LIMIT = {"rate_limit_exceeded", "rate_limit_error", "slow_down", "rate_limit_reached", "too_many_requests", "requests"}
_OVERLOAD = {"server_error", "server_is_overloaded", "overloaded_error", "overloaded", "service_unavailable"}
_MODEL = {"model_not_found", "deploymentnotfound"}


class ErrorFound(dict[str, str]):
    """`code`, `type` and `message` of an upstream's error, as text; empty where it had none."""


def error_in(body: bytes) -> ErrorFound | None:
    """The error object in a body; None where there is none. Handles the shapes that compatible servers use."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        if not body.startswith(b"data:"):
            return None
        try:
            found = orjson.loads(payload(body.rstrip() + b"\n\n"))
        except orjson.JSONDecodeError:
            return None
    if type(found) is list and found:
        found = found[0]
    if type(found) is not dict:
        return None
    inner = found.get("error", found)
    if type(inner) is str:
        return ErrorFound(code=_text(found.get("code")), type=_text(found.get("type")), message=inner)
    if type(inner) is not dict:
        inner = found
    message = inner.get("message") or inner.get("detail") or found.get("detail") or ""
    if not message and not inner.get("code") and not inner.get("type"):
        return None
    return ErrorFound(code=_text(inner.get("code")), type=_text(inner.get("type")), message=_text(message))


def is_error(body: Json) -> bool:
    return body.get("object") == "error" or body.get("type") == "error" or "detail" in body


def _text(value: object) -> str:
    if value is None:
        return ""
    return value if type(value) is str else orjson.dumps(value).decode()


def words(found: ErrorFound | None) -> str:
    return "" if found is None else " ".join(part for part in (found["type"], found["code"], found["message"]) if part)


def classify(status: int, found: ErrorFound | None) -> Kind:
    """Body first, status second: providers agree on neither, but the code says more than the status."""
    if found is not None:
        names = {found["code"].lower(), found["type"].lower()}
        if names & _QUOTA:
            return Kind.QUOTA
        if status not in (401, 403, 429) and (CONTEXT.search(found["code"]) or CONTEXT.search(found["message"])):
            return Kind.CONTEXT_LENGTH
        for known, kind in (
            (_FILTER, Kind.CONTENT_FILTER),
            (_MODEL, Kind.UNKNOWN_MODEL),
            (_AUTH, Kind.AUTH),
            (_LIMIT, Kind.RATE_LIMIT),
        ):
            if names & known:
                return kind
        if names & _OVERLOAD and status < 500:
            return Kind.SERVER_ERROR
    return _BY_STATUS.get(status) or (
        Kind.SERVER_ERROR if status >= 500 else Kind.BAD_REQUEST if status >= 400 else Kind.MALFORMED
    )


_BY_STATUS = {
    401: Kind.AUTH,
    402: Kind.QUOTA,
    403: Kind.AUTH,
    404: Kind.UNKNOWN_MODEL,
    408: Kind.TIMEOUT,
    409: Kind.SERVER_ERROR,
    413: Kind.CONTEXT_LENGTH,
    424: Kind.SERVER_ERROR,
    425: Kind.SERVER_ERROR,
    429: Kind.RATE_LIMIT,
    498: Kind.SERVER_ERROR,
    499: Kind.SERVER_ERROR,
}

_INSIDE = {Kind.CONTEXT_LENGTH, Kind.CONTENT_FILTER, Kind.RATE_LIMIT, Kind.QUOTA, Kind.AUTH}


def told_in_answer(found: ErrorFound | None, what: str) -> UpstreamError:
    """An error inside a 200. What was accepted and then broke is the upstream's fault unless it says otherwise."""
    kind = Kind.MALFORMED
    if found is not None:
        code = found["code"]
        kind = classify(int(code) if code.isdecimal() and len(code) == 3 else 200, found)
        if kind not in _INSIDE:
            kind = Kind.MALFORMED
    return UpstreamError(kind, "decoder", f"{what}: {words(found)}" if found else what, status=200)


def retry_after(headers: Headers) -> float | None:
    """Seconds to wait, from `retry-after-ms` or `retry-after` (seconds or an HTTP date, RFC 9110 section 10.2.3).

    A date is read against the answer's own `Date`, so that no clock of ours comes in.
    """
    fields = {name: value for name, value in headers if name in (b"retry-after", b"retry-after-ms", b"date")}
    for name, scale in ((b"retry-after-ms", 0.001), (b"retry-after", 1.0)):
        value = fields.get(name, b"").decode("ascii", "replace").strip()
        try:
            seconds = float(value) * scale
        except ValueError:
            continue
        # Azure says 0 milliseconds beside a second: a wait of no time says nothing where the other field may say more.
        if 0 <= seconds < 1e9 and (seconds or scale == 1.0 or b"retry-after" not in fields):
            return seconds
    try:
        until = parsedate_to_datetime(fields[b"retry-after"].decode("ascii"))
        since = parsedate_to_datetime(fields[b"date"].decode("ascii"))
        return max(0.0, (until - since).total_seconds())
    except (KeyError, ValueError, TypeError):
        return None


def check_text(event: bytes) -> None:
    """Lines that nobody here reads reach the client too, and official SDKs fail on what is not UTF-8."""
    try:
        event.decode()
    except UnicodeDecodeError as error:
        raise UpstreamError(Kind.MALFORMED, "decoder", f"an event is not text: {error}", status=200) from error
