"""The canonical form of what an upstream answers: OpenAI chunks with the facts the proxy needs, read once.

A chunk keeps the bytes it came as, so that an upstream that already speaks OpenAI is passed on unchanged.
"""

from __future__ import annotations

from typing import Any, NamedTuple

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


class Usage(NamedTuple):
    """Tokens in disjoint classes: their sum is what the provider counted, and each is priced once.

    OpenAI counts cached tokens inside `prompt_tokens` and reasoning inside `completion_tokens`; the totals are
    properties here, so that no two numbers can disagree.
    """

    uncached_input: int
    cache_read: int
    cache_write: int
    output_text: int
    reasoning: int

    @property
    def input(self) -> int:
        return self.uncached_input + self.cache_read + self.cache_write

    @property
    def output(self) -> int:
        return self.output_text + self.reasoning


class Chunk:
    """One event. `raw` is empty where the chunk was made by translation; `body` is None for comments and the end."""

    __slots__ = ("body", "kind", "raw", "usage_key")

    def __init__(self, kind: int, raw: bytes, body: Json | None = None, usage_key: bool = False) -> None:
        self.kind = kind
        self.raw = raw
        self.body = body
        self.usage_key = usage_key
        """The object has a `usage` member (null included)."""


def _count(value: object) -> int:
    return value if type(value) is int and value > 0 else 0


def usage_of(usage: Json) -> Usage:
    """OpenAI's `usage` object in disjoint classes.

    Cached and written tokens are capped by the prompt and reasoning by the completion, since some hosts report more
    (161 cached of 31 prompt tokens was seen); negative and non-integer counts are read as 0.
    """
    prompt = _count(usage.get("prompt_tokens"))
    completion = _count(usage.get("completion_tokens"))
    details = usage.get("prompt_tokens_details")
    read = write = 0
    if type(details) is dict:
        read = min(_count(details.get("cached_tokens")), prompt)
        write = min(_count(details.get("cache_write_tokens")), prompt - read)
    details = usage.get("completion_tokens_details")
    reasoning = min(_count(details.get("reasoning_tokens")), completion) if type(details) is dict else 0
    return Usage(prompt - read - write, read, write, completion - reasoning, reasoning)
