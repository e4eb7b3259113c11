"""What the client is told when an answer could not be had, or broke off. Never the upstream's own text, but for the
client's own faults."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

import orjson

from policies.allowance import Limit, Refused
from policies.base import Passed
from policies.verdict import VERDICTS, Kind
from proxy.attempt import DRAIN
from proxy.errors import Refusal, UpstreamError
from proxy.record import Attempt

_CLIENTS_FAULT = {Kind.BAD_REQUEST, Kind.UNSUPPORTED, Kind.CONTEXT_LENGTH, Kind.CONTENT_FILTER}
_KEPT = {500, 502, 503, 504}
"""Statuses of a failing upstream that mean the same when we say them; others (529, 424, ...) become 503."""

_WORDS: dict[Kind, tuple[str, str, str]] = {
    Kind.CONNECT: ("api_error", "upstream_unreachable", "could not be reached"),
    Kind.SERVER_ERROR: ("server_error", "upstream_error", "failed"),
    Kind.TIMEOUT: ("timeout", "upstream_timeout", "did not answer in time"),
    Kind.RATE_LIMIT: ("rate_limit_error", "rate_limit_exceeded", "is over its rate limit"),
    Kind.QUOTA: ("insufficient_quota", "insufficient_quota", "has no credit left"),
    Kind.AUTH: ("authentication_error", "upstream_auth", "refused the proxy's own credential"),
    Kind.UNKNOWN_MODEL: ("invalid_request_error", "model_not_found", "does not have the model"),
    Kind.BAD_REQUEST: ("invalid_request_error", "bad_request", "refused the request"),
    Kind.UNSUPPORTED: ("invalid_request_error", "unsupported_parameter", "cannot be asked this"),
    Kind.CONTEXT_LENGTH: ("invalid_request_error", "context_length_exceeded", "has too small a context window"),
    Kind.CONTENT_FILTER: ("invalid_request_error", "content_filter", "filtered the content"),
    Kind.MALFORMED: ("api_error", "upstream_bad_response", "sent something that is not an answer"),
    Kind.TRUNCATED: ("api_error", "upstream_truncated", "broke off its answer"),
    Kind.STALL: ("timeout", "upstream_stalled", "stopped in the middle of its answer"),
    Kind.SUPERSEDED: ("api_error", "superseded", "was slower than another one"),
    Kind.BUSY: ("service_unavailable_error", "overloaded", "has too much under way"),
    Kind.OVER_LIMIT: ("rate_limit_error", "key_over_limit", "was not asked, since the key is over its limit"),
    Kind.INTERNAL: ("api_error", "internal_error", "was not asked properly, by a fault of the proxy"),
}
"""Kind -> type and code of the error object, and what the last target did."""

_MEMBERS = {"message", "type", "param", "code"}

_HOPELESS = {Kind.AUTH, Kind.QUOTA, Kind.UNKNOWN_MODEL}
"""Trying again does not help, whatever the status makes an SDK believe."""


def exhausted(error: UpstreamError, attempts: Sequence[Attempt]) -> Refusal:
    """Every target that was worth trying failed; `error` is the last one's."""
    kind = error.kind
    if error.source == DRAIN:
        return shutting_down()
    kind_type, code, did = _WORDS[kind]
    status = VERDICTS[kind].status or (error.status or 502)
    if kind is Kind.SERVER_ERROR and status not in _KEPT:
        status = 503
    waits = [attempt.retry_after for attempt in attempts if attempt.retry_after is not None]
    listed = [{"target": one.target, "error": one.kind, "status": one.status} for one in attempts]
    if kind in _CLIENTS_FAULT and error.body is not None:
        return Refusal(status, "", body=_as_openai(error.body, kind_type, None if kind is Kind.BAD_REQUEST else code))
    count = len({one.target for one in attempts})
    lead = "The target" if count == 1 else f"All {count} targets failed; the last one"
    times = f" ({len(attempts)} attempts)" if len(attempts) > 1 else ""
    return Refusal(
        status,
        f"{lead}, {attempts[-1].target}, {did}{times}.",
        type=kind_type,
        code=code,
        retry_after=min(waits) if waits and status in (429, 503) else None,
        should_retry=False if kind in _HOPELESS else None,
        more={"attempts": listed},
    )


class Told(Protocol):
    def broken(self, message: str, *, type: str, code: str) -> bytes: ...


def unavailable(reason: Passed, seconds: float, targets: Sequence[str]) -> Refusal:
    """No target may be asked now, and it would take too long to wait for one; `seconds` until the first of them."""
    if reason is Passed.BUSY:
        return overloaded(seconds)
    names = targets[0] if len(targets) == 1 else f"all {len(targets)} targets of the route"
    if reason is Passed.BREAKER:
        return Refusal(
            503,
            f"Only a share of the requests is sent while {names} keep{'s' if len(targets) == 1 else ''} failing; "
            f"try again in {seconds:.0f} s.",
            type="service_unavailable_error",
            code="upstream_failing",
            retry_after=seconds,
        )
    return Refusal(
        429,
        f"The rate limit of {names} is used up; there is room again in {seconds:.1f} s.",
        type="rate_limit_error",
        code="rate_limit_exceeded",
        retry_after=seconds,
    )


def overloaded(seconds: float) -> Refusal:
    """As much is under way and waiting as may be."""
    return Refusal(
        503,
        f"Too many requests are under way; try again in {seconds:.0f} s.",
        type="service_unavailable_error",
        code="overloaded",
        retry_after=seconds,
    )


def over_limit(refused: Refused, key: str, spent: float, renews: float | None, at: float) -> Refusal:
    """The key's own limits leave no room.

    For a budget: the USD that are spent, and when it renews (None: never); both moments in seconds since the epoch.
    """
    limit, seconds, most = refused.limit, refused.seconds, refused.most
    if seconds is not None:
        what = "requests" if limit is Limit.RPM else "tokens"
        return Refusal(
            429,
            f"The key `{key}` may use {most:,.0f} {what} a minute (`{limit}`); there is room again in {seconds:.1f} s.",
            type="rate_limit_error",
            code=f"key_{limit}_exceeded",
            retry_after=seconds,
        )
    whole = {"day": "a day (UTC)", "month": "a month (UTC)"}.get(refused.span, "in all")
    if renews is None:
        renewed = "it does not renew: whoever runs the proxy can raise it"
    else:
        renewed = f"it renews at {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(renews))}"
    return Refusal(
        429,
        f"The budget of the key `{key}` is spent: {spent:.4f} of {most:g} USD {whole}; {renewed}.",
        type="insufficient_quota",
        code="key_budget_exceeded",
        retry_after=None if renews is None else renews - at,
        should_retry=False,
    )


def broken_off(error: UpstreamError, form: Told) -> bytes:
    """The event that ends a stream which can no longer be finished."""
    kind_type, code, did = _WORDS[error.kind]
    who = f"The upstream {did}."
    if error.source == DRAIN:
        kind_type, code, who = "service_unavailable_error", "shutting_down", "The proxy is shutting down."
    return form.broken(f"{who} What came before this is not the whole answer.", type=kind_type, code=code)


def shutting_down() -> Refusal:
    return Refusal(
        503,
        "The proxy is shutting down; send the request again in a moment.",
        type="service_unavailable_error",
        code="shutting_down",
        retry_after=1.0,
    )


def _as_openai(body: bytes, kind_type: str, code: str | None) -> bytes:
    """The upstream's error about the client's own fault: unchanged if it has OpenAI's form, else put into it."""
    whole = orjson.loads(body)
    if isinstance(whole, list) and whole:
        whole = whole[0]
    inner = whole.get("error", whole)
    if (
        isinstance(inner, dict)
        and inner is not whole
        and inner.keys() >= _MEMBERS
        and (code is None or isinstance(inner["code"], str))
    ):
        return body
    known: dict[str, Any] = inner if isinstance(inner, dict) else {"message": inner}
    message = known.get("message") or known.get("detail") or "The upstream refused the request."
    put = {
        **{key: value for key, value in known.items() if key != "object"},
        "message": message if isinstance(message, str) else orjson.dumps(message).decode(),
        "type": known.get("type") or kind_type,
        "param": known.get("param"),
        "code": known.get("code") if code is None or isinstance(known.get("code"), str) else code,
    }
    return orjson.dumps({"error": put})
