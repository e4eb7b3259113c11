"""The canonical form of what an upstream answers: OpenAI chunks with the facts the proxy needs, read once.

A chunk keeps the bytes it came as, so that an upstream that already speaks OpenAI is passed on unchanged.
"""

from __future__ import annotations

from typing import Any

import orjson

from proxy.wire.sse import payload
from proxy.wire.usage import Usage as Usage
from proxy.wire.usage import usage_of as usage_of

Json = dict[str, Any]

COMMENT = 0
"""An SSE comment or an event without data: keeps sockets open, says nothing."""
META = 1
"""A chunk without content: the role, an empty delta, a filter result."""
CONTENT = 2
"""Content, reasoning, a refusal or a tool call: what the commit point waits for."""
FINISH = 3
"""A finish reason and no content."""
USAGE = 4
"""Usage alone (`choices: []`)."""
DONE = 5
"""The end marker `[DONE]`."""


class Chunk:
    """One event. `raw` is empty where the chunk was made by translation."""

    __slots__ = ("_body", "kind", "raw", "usage_key")

    def __init__(self, kind: int, raw: bytes, body: Json | None = None, usage_key: bool = False) -> None:
        self.kind = kind
        self.raw = raw
        self._body = body
        self.usage_key = usage_key
        """The object has a `usage` member (null included)."""

    @property
    def body(self) -> Json | None:
        """The object; None for comments and the end. Read only now where the decoder knew without what it says."""
        if self._body is None and self.kind == CONTENT:
            self._body = orjson.loads(payload(self.raw))
        return self._body


_THINKING = ("role", "reasoning_content", "reasoning", "reasoning_details", "thinking_blocks")


def answers(chunk: Chunk) -> bool:
    """Whether content is (also) something else than reasoning."""
    body = chunk.body
    choices = body.get("choices") if body is not None else None
    if not choices:
        return True
    deltas = [choice["delta"] for choice in choices if type(choice) is dict and type(choice.get("delta")) is dict]
    return any(delta.get("content") or any(delta[key] for key in delta if key not in _THINKING) for delta in deltas)
