"""Answers with an error status: what class they are, judged here by body first and status second."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from policies.verdict import Kind
from proxy.errors import Refusal, UpstreamError
from tests.replay.recording import Recording

_CONTEXT = re.compile(
    r"context_length_exceeded|maximum context length|prompt is too long|too many tokens|TOO_MANY_TOKENS"
    r"|input token count .* exceeds|exceeds? the (available )?context|exceed_context_size|Input Tokens Exceeded"
    r"|input is too long|too_many_prompt_tokens|exceeded max context length|Range of input length|context window",
    re.IGNORECASE,
)
_FILTER = re.compile(r"content_filter|content_policy_violation|data_inspection_failed|ResponsibleAIPolicyViolation")
_QUOTA = re.compile(
    r"insufficient_quota|credit_balance|enforced_spend_limit_reached|billing_error|credit balance is too low|"
    r"Insufficient Balance",
    re.IGNORECASE,
)
_KEY = re.compile(r"API_KEY_INVALID|API key not valid|invalid_api_key|authentication_error", re.IGNORECASE)
_MODEL = re.compile(r"invalid_model|model_not_found|DeploymentNotFound")
_DELAY = re.compile(r'"retryDelay":\s*"([\d.]+)s"')

_BY_STATUS = {
    401: {Kind.AUTH},
    402: {Kind.QUOTA},
    403: {Kind.AUTH},
    404: {Kind.UNKNOWN_MODEL, Kind.BAD_REQUEST},
    408: {Kind.TIMEOUT, Kind.SERVER_ERROR},
    413: {Kind.BAD_REQUEST, Kind.CONTEXT_LENGTH},
    429: {Kind.RATE_LIMIT},
    504: {Kind.TIMEOUT, Kind.SERVER_ERROR},
}


def kinds(recording: Recording) -> set[Kind]:
    """The classes that are right for it."""
    text = recording.body.decode("utf-8", errors="replace")
    status = recording.status
    if status < 500 and status != 429 and _CONTEXT.search(text):
        return {Kind.CONTEXT_LENGTH}
    if status < 500 and _FILTER.search(text):
        return {Kind.CONTENT_FILTER}
    if _QUOTA.search(text):
        return {Kind.QUOTA}
    if status in (400, 401, 403) and _KEY.search(text):
        return {Kind.AUTH}
    if status == 400 and _MODEL.search(text):
        return {Kind.UNKNOWN_MODEL, Kind.BAD_REQUEST}
    if status == 498 and recording.family == "cohere":
        return {Kind.CONTENT_FILTER}  # "blocked input or output" there; Groq means a lack of capacity
    if status == 413 and "rate_limit" in text:
        return {Kind.RATE_LIMIT}  # Groq: more tokens at once than the limit of a minute
    if "tool_use_failed" in text:
        return {Kind.BAD_REQUEST, Kind.MALFORMED}  # the model's own fault, told as if it were the request's
    if any(b"ModelNotReady" in value for _, value in recording.headers):
        return {Kind.RATE_LIMIT, Kind.SERVER_ERROR}
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    return {Kind.SERVER_ERROR} if status >= 500 or status in (424, 498) else {Kind.BAD_REQUEST}


def wait(recording: Recording) -> float | None:
    """Seconds until it may be asked again, from wherever the provider says it."""
    told = {name.lower(): value.decode() for name, value in recording.headers}
    found = [float(told[b"retry-after-ms"]) / 1000] if b"retry-after-ms" in told else []
    if re.fullmatch(r"[\d.]+", told.get(b"retry-after", "")):
        found.append(float(told[b"retry-after"]))
    delay = _DELAY.search(recording.body.decode("utf-8", errors="replace"))
    if delay:
        found.append(float(delay[1]))
    return max(found) if found else None


def faults(recording: Recording, error: UpstreamError, refusal: Refusal, body: bytes) -> Iterator[str]:
    right = kinds(recording)
    if error.kind not in right:
        yield f"status {recording.status} read as {error.kind}, not {' or '.join(sorted(right))}"
    if error.kind is Kind.RATE_LIMIT and error.retry_after != wait(recording):
        yield f"retry after {error.retry_after} instead of {wait(recording)}"
    if not 400 <= refusal.status <= 599:
        yield f"status {refusal.status} for the client"
    told: Any = json.loads(body).get("error")
    if not isinstance(told, dict):
        yield "no error object"
        return
    for name, allowed in (("message", str), ("type", str), ("param", str | None), ("code", str | None)):
        if name not in told or not isinstance(told[name], allowed):
            yield f"the error's `{name}` is {told.get(name, 'missing')!r}"
    if not told.get("message"):
        yield "the error has no message"
