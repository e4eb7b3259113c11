"""Errors of compatible servers in words of their own: classes by code, and waits told in the body."""

from __future__ import annotations

from typing import Any

import orjson

from policies.verdict import Kind
from proxy.errors import UpstreamError
from proxy.providers.errors import error_in

_CODES = {
    "arrearage": Kind.QUOTA,  # Qwen: the account is overdue
    "exceeded_current_quota_error": Kind.QUOTA,  # Moonshot
    "1113": Kind.QUOTA,  # Z.ai: the balance is used up
    "1301": Kind.CONTENT_FILTER,  # Z.ai: sensitive content
    "1261": Kind.CONTEXT_LENGTH,  # Z.ai: the prompt is too long
    "invalid_model": Kind.UNKNOWN_MODEL,  # Mistral
    "datainspectionfailed": Kind.CONTENT_FILTER,  # Qwen
    "responsibleaipolicyviolation": Kind.CONTENT_FILTER,  # Azure
    "tool_use_failed": Kind.MALFORMED,  # Groq: the model wrote a call that cannot be read; the request was sound
}


def compatible_error(error: UpstreamError, body: bytes) -> UpstreamError:
    """The error, with its class mended by what only the body tells."""
    found = error_in(body)
    if found is None:
        return error
    for name in (found["code"].lower(), found["type"].lower()):
        if name in _CODES:
            error.kind = _CODES[name]
        elif name.startswith("throttling"):  # Qwen: Throttling.RateQuota, Throttling.AllocationQuota
            error.kind = Kind.RATE_LIMIT
    if error.retry_after is None:
        error.retry_after = _told_wait(orjson.loads(body))
    return error


def _told_wait(body: Any) -> float | None:
    """Seconds, as OpenRouter passes on what the server behind it said: `error.metadata`."""
    inner = body.get("error") if type(body) is dict else None
    metadata = inner.get("metadata") if type(inner) is dict else None
    if type(metadata) is not dict:
        return None
    headers = metadata.get("headers")
    for value in (metadata.get("retry_after_seconds"), headers.get("Retry-After") if type(headers) is dict else None):
        try:
            seconds = float(str(value))
        except ValueError:
            continue
        if 0 <= seconds < 1e9:
            return seconds
    return None
