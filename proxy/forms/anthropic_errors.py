"""Errors as Anthropic words them, for clients that came by its paths."""

from __future__ import annotations

from typing import Any

import orjson

from proxy.errors import Refusal

_TYPES = {
    401: "authentication_error", 402: "billing_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 429: "rate_limit_error", 503: "overloaded_error", 504: "timeout_error",
    529: "overloaded_error",
}  # fmt: skip
_BROKEN = {"timeout": "timeout_error", "rate_limit_error": "rate_limit_error", "insufficient_quota": "billing_error"}
"""Our type of an error inside a stream -> Anthropic's; all others are `api_error`."""


class AnthropicForm:
    id_headers: tuple[bytes, ...] = (b"x-request-id", b"request-id")

    def refusal(self, refusal: Refusal, id: str) -> bytes:
        kind = _TYPES.get(refusal.status, "api_error" if refusal.status >= 500 else "invalid_request_error")
        told: dict[str, Any] = {"type": kind, "message": refusal.message, **refusal.more}
        if refusal.body is not None:
            # An upstream's word about the client's own fault, in OpenAI's members; its type may be Anthropic's already.
            given = orjson.loads(refusal.body)["error"]
            own = given.get("type")
            kept = {name: value for name, value in given.items() if name not in ("param", "code", "type")}
            told = {"type": own if own in _KNOWN else kind, **kept}
        return orjson.dumps({"type": "error", "error": told, "request_id": id})

    def broken(self, message: str, *, type: str, code: str) -> bytes:
        body = {"type": "error", "error": {"type": _BROKEN.get(type, "api_error"), "message": message}}
        return b"event: error\ndata: %b\n\n" % orjson.dumps(body)


_KNOWN = {*_TYPES.values(), "invalid_request_error", "api_error"}
ANTHROPIC = AnthropicForm()
