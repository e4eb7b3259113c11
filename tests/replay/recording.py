"""Recordings: one JSON object a line, each an HTTP exchange with a provider. `docs/replay.md` tells the format."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.replay.frames import json_array

CHAT_APIS = {
    "chat": None,  # the provider's catalog row tells the dialect
    "messages": "anthropic",
    "generateContent": "gemini",
    "streamGenerateContent": "gemini",
    "converse": "bedrock",
    "cohere-chat": "cohere",
}
"""The APIs that are replayed, and what they are spoken in."""

DIALECT_OF_PROVIDER = {"azure": "azure", "mistral": "mistral", "vertex": "vertex"}


@dataclass(frozen=True)
class Recording:
    id: str
    provider: str
    api: str
    kinds: tuple[str, ...]
    model: str
    request: dict[str, Any]
    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes
    """What came over the wire, as closely as the recording tells."""
    stream: bool
    cut: bool = False
    """The connection broke after the last byte."""

    @property
    def mapped(self) -> bool:
        return self.api in CHAT_APIS

    @property
    def family(self) -> str:
        """Whose form the answer has: decides how it is read here."""
        return CHAT_APIS[self.api] or ("mistral" if self.provider == "mistral" else "openai")

    @property
    def dialect(self) -> str:
        """The proxy's dialect that must read it."""
        return DIALECT_OF_PROVIDER.get(self.provider) or CHAT_APIS.get(self.api) or "openai"

    @property
    def choices_asked(self) -> int:
        asked = self.request.get("n")
        settings = self.request.get("generationConfig")
        if asked is None and isinstance(settings, dict):
            asked = settings.get("candidateCount")
        return asked if isinstance(asked, int) and asked > 0 else 1


def read(folder: Path) -> Iterator[Recording]:
    """Every recording in the folder's `*.jsonl`, or in one such file. Raises `ValueError` naming the line."""
    for path in sorted(folder.glob("*.jsonl")) if folder.is_dir() else [folder]:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    try:
                        yield parse(json.loads(line))
                    except (ValueError, KeyError, TypeError) as error:
                        raise ValueError(f"{path.name} line {number}: {error!r}") from error


def parse(line: dict[str, Any]) -> Recording:
    response = line["response"]
    kinds = line.get("kind") or ["text"]
    request = (line.get("request") or {}).get("body")
    body, stream = _wire(response)
    return Recording(
        id=line["id"],
        provider=line["provider"],
        api=line["api"],
        kinds=tuple([kinds] if isinstance(kinds, str) else kinds),
        model=line.get("model") or "",
        request=request if isinstance(request, dict) else {},
        status=response.get("status", 200),
        headers=tuple(
            (name.lower().encode(), str(value).encode()) for name, value in (response.get("headers") or {}).items()
        ),
        body=body,
        stream=stream,
    )


def _wire(response: dict[str, Any]) -> tuple[bytes, bool]:
    """The bytes of the answer, and whether it is a stream.

    A JSON array of chunks (Gemini without `alt=sse`) is framed as events, because the proxy always asks for those.
    """
    if response.get("sse") is not None:
        text: str = response["sse"]
        pieces = json_array(text)
        if pieces is not None:
            return b"".join(b"data: %s\r\n\r\n" % _dump(piece) for piece in pieces), True
        return text.encode(), True
    if response.get("b64") is not None:
        return base64.b64decode(response["b64"], validate=True), True
    body = response.get("body")
    if isinstance(body, str):
        return body.encode(), False
    return _dump(body), False


def _dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
