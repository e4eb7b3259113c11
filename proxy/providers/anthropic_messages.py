"""OpenAI messages as Anthropic turns.

Wire facts from Anthropic's API reference and the types of its SDK, beside those of `conversation.py`: ids match
`[a-zA-Z0-9_-]+`; some models take system text where it stands; images and documents come as base64 or by link.
"""

from __future__ import annotations

import binascii
import re

from proxy.errors import Refusal
from proxy.providers.anthropic_models import Model
from proxy.providers.conversation import CLAUDE_THINKING, Conversation, signed_thinking
from proxy.providers.data_url import data_url
from proxy.wire.chunk import Json

_NOT_IN_ID = re.compile(r"[^a-zA-Z0-9_-]")
_IMAGES = {"image/jpeg", "image/png", "image/gif", "image/webp"}
_OWN_PARTS = {"image", "document", "search_result"}
"""Content that a client may give in Anthropic's own form."""
_CLAUDE = (CLAUDE_THINKING,)


class Turns(Conversation):
    __slots__ = ("_model",)

    def __init__(self, messages: list[Json], model: Model, provider: str) -> None:
        self._model = model
        super().__init__(messages, provider, prefill=model.prefill)

    def lacks_thinking(self) -> bool:
        """A tool's result is being handed in, and the turn that called it does not begin with its thinking."""
        if len(self.turns) < 2 or not any(block["type"] == "tool_result" for block in self.turns[-1]["content"]):
            return False
        called = [turn for turn in self.turns if turn["role"] == "assistant"]
        return bool(called) and called[-1]["content"][0]["type"] not in ("thinking", "redacted_thinking")

    def told(self, blocks: list[Json], where: str, following: list[Json]) -> None:
        """Apart, or where it stands if the model takes it there (after a user's turn, before none)."""
        after = next((one["role"] for one in following if one["role"] not in ("system", "developer")), "assistant")
        last = self.turns[-1]["role"] if self.turns else None
        if self._model.system and last in ("user", "system") and after == "assistant":
            self.add("system", blocks)
        else:
            self.system.extend(blocks)

    def result(self, id: str, message: Json, where: str) -> None:
        block: Json = {"type": "tool_result", "tool_use_id": self.known(id)}
        content = self.content(message, where)
        if content:
            block["content"] = content
        if message.get("is_error") is True:
            block["is_error"] = True
        self.marked([block], message)
        blocks = self.results()
        blocks.insert(sum(one["type"] == "tool_result" for one in blocks), block)

    def call(self, id: str, name: str, arguments: Json) -> Json:
        return {"type": "tool_use", "id": id, "name": name, "input": arguments}

    def id_of(self, id: str) -> str:
        return _NOT_IN_ID.sub("_", id) or "call"

    def thinking(self, details: object) -> list[Json]:
        return [
            {"type": "redacted_thinking", "data": said}
            if signature is None
            else {"type": "thinking", "thinking": said, "signature": signature}
            for said, signature in signed_thinking(details, _CLAUDE, _CLAUDE)
        ]

    def marked(self, blocks: list[Json], given: Json) -> list[Json]:
        """On the last block that takes a mark."""
        mark = given.get("cache_control")
        if mark is not None:
            for block in reversed(blocks):
                if block["type"] not in ("thinking", "redacted_thinking"):
                    block["cache_control"] = mark
                    break
        return blocks

    def text(self, text: str) -> Json:
        return {"type": "text", "text": text}

    def image(self, url: str, where: str) -> Json:
        if not url.startswith("data:"):
            return {"type": "image", "source": {"type": "url", "url": url}}
        kind, data = data_url(url, where)
        kind = {"image/jpg": "image/jpeg"}.get(kind, kind)
        if kind not in _IMAGES:
            raise self.refusal(where, f"takes images as {', '.join(sorted(_IMAGES))}, not {kind or 'these'}")
        return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}

    def file(self, file: Json, where: str) -> Json:
        given, id, name = file.get("file_data"), file.get("file_id"), file.get("filename")
        if type(given) is not str or not given:
            if type(id) is str and id.startswith("file_"):
                return {"type": "document", "source": {"type": "file", "file_id": id}}
            raise self.refusal(where, "does not have files of another provider; send `file_data`")
        source: Json
        if given.startswith(("http://", "https://")):
            source = {"type": "url", "url": given}
        else:
            kind, data = data_url(given, where) if given.startswith("data:") else ("application/pdf", given)
            if kind in _IMAGES:
                return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}
            if kind.startswith("text/"):
                source = {"type": "text", "media_type": "text/plain", "data": _plain(data, where)}
            elif kind == "application/pdf":
                source = {"type": "base64", "media_type": kind, "data": data}
            else:
                raise self.refusal(where, f"takes PDF, text and image files, not {kind or 'these'}")
        block = {"type": "document", "source": source}
        if type(name) is str and name:
            block["title"] = name
        return block

    def other(self, kind: object, part: Json, where: str) -> Json:
        if type(kind) is str and kind in _OWN_PARTS:
            return dict(part)
        return super().other(kind, part, where)


def _plain(data: str, where: str) -> str:
    try:
        return binascii.a2b_base64(data).decode()
    except ValueError as error:
        raise Refusal(400, f"`{where}` is not text in UTF-8: {error}.", param=where) from error
