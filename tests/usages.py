"""One answer of a dialect with the usage that is given, read by that dialect's own decoder."""

from __future__ import annotations

from typing import Any

import orjson

from proxy.assemble import DIALECTS
from proxy.providers.base import Endpoint, Minted
from proxy.providers.catalog import CATALOG
from proxy.wire.chat import ChatRequest
from proxy.wire.usage import Usage

_OPENAI = {
    "id": "a",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}],
}
_ANTHROPIC = {
    "id": "a",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [{"type": "text", "text": "x"}],
    "stop_reason": "end_turn",
}
_GEMINI = {"candidates": [{"content": {"parts": [{"text": "x"}], "role": "model"}, "finishReason": "STOP"}]}
_BEDROCK = {"output": {"message": {"role": "assistant", "content": [{"text": "x"}]}}, "stopReason": "end_turn"}
_COHERE = {
    "id": "a",
    "finish_reason": "COMPLETE",
    "message": {"role": "assistant", "content": [{"type": "text", "text": "x"}]},
}
_ANSWERS: dict[str, tuple[dict[str, Any], str]] = {
    "anthropic": (_ANTHROPIC, "usage"),
    "gemini": (_GEMINI, "usageMetadata"),
    "vertex": (_GEMINI, "usageMetadata"),
    "bedrock": (_BEDROCK, "usage"),
    "cohere": (_COHERE, "usage"),
}


def counted(provider: str, usage: Any, **more: Any) -> Usage | None:
    """`provider`: a row of the catalog; `more`: further members of the answer."""
    row = CATALOG[provider]
    endpoint = Endpoint(
        provider=provider,
        base_url=row.base_url or "https://x.test",
        model="m",
        verbatim=row.verbatim,
        usage_in_stream=True,
        quirks=row.quirks,
    )
    ask = ChatRequest.parse(b'{"model": "m", "messages": [{"role": "user", "content": "x"}]}')
    decoder = DIALECTS[row.dialect].decoder(ask, endpoint, Minted("chatcmpl-1", 1))
    answer, member = _ANSWERS.get(row.dialect, (_OPENAI, "usage"))
    decoder.feed(orjson.dumps({**answer, member: usage, **more}))
    decoder.close()
    return decoder.usage
