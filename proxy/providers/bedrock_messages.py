"""OpenAI messages as the turns of Bedrock's Converse.

Wire facts from the Bedrock API reference (Message, ContentBlock, DocumentBlock, ToolResultBlock) and botocore's service
model, beside those of `conversation.py`: ids match `[a-zA-Z0-9_.:-]{1,64}`; images and documents come as bytes (base64
in JSON) or from S3, never by link; documents have distinct names of few characters.
"""

from __future__ import annotations

import binascii
import hashlib
import re

from proxy.errors import Refusal
from proxy.providers.conversation import CLAUDE_THINKING, Conversation, signed_thinking, wrong_type
from proxy.providers.data_url import data_url
from proxy.wire.chunk import Json

OWN_THINKING = "amazon-bedrock-v1"
"""`format` of what only Bedrock can read again."""

_ID = re.compile(r"[a-zA-Z0-9_.:-]{1,64}")
_NOT_IN_NAME = re.compile(r"[^a-zA-Z0-9\s()\[\]-]+")
_IMAGES = {"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
_DOCUMENTS = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
}


class Turns(Conversation):
    __slots__ = ("_documents",)

    def __init__(self, messages: list[Json], provider: str, *, prefill: bool) -> None:
        self._documents: set[str] = set()
        super().__init__(messages, provider, prefill=prefill)

    def lacks_thinking(self) -> bool:
        """A tool's result is being handed in, and the turn that called it does not begin with its thinking."""
        if len(self.turns) < 2 or not any("toolResult" in block for block in self.turns[-1]["content"]):
            return False
        called = [turn for turn in self.turns if turn["role"] == "assistant"]
        return bool(called) and "reasoningContent" not in called[-1]["content"][0]

    def told(self, blocks: list[Json], where: str, following: list[Json]) -> None:
        for block in blocks:
            if "text" not in block and "cachePoint" not in block:
                raise self.refusal(f"{where}.content", "takes nothing but text in a system message")
            self.system.append(block)

    def result(self, id: str, message: Json, where: str) -> None:
        content = self.content(message, where)
        marks = [block for block in self.marked(content, message) if "cachePoint" in block]
        result: Json = {
            "toolUseId": self.known(id),
            "content": [block for block in content if "cachePoint" not in block],
        }
        if message.get("is_error") is True:
            result["status"] = "error"
        blocks = self.results()
        place = max((at + 1 for at, block in enumerate(blocks) if "toolResult" in block), default=0)
        if blocks[place : place + 1] and "cachePoint" in blocks[place] and place:
            place += 1
        blocks[place:place] = [{"toolResult": result}, *marks[:1]]

    def call(self, id: str, name: str, arguments: Json) -> Json:
        return {"toolUse": {"toolUseId": id, "name": name, "input": arguments}}

    def id_of(self, id: str) -> str:
        """As it is where Bedrock takes it, else a digest."""
        if _ID.fullmatch(id):
            return id
        return f"call_{hashlib.sha256(id.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"

    def thinking(self, details: object) -> list[Json]:
        return [
            {"reasoningContent": {"redactedContent": said}}
            if signature is None
            else {"reasoningContent": {"reasoningText": {"text": said, "signature": signature}}}
            for said, signature in signed_thinking(details, (OWN_THINKING, CLAUDE_THINKING), (OWN_THINKING,))
        ]

    def marked(self, blocks: list[Json], given: Json) -> list[Json]:
        """As a cache point after what is marked."""
        if given.get("cache_control") is not None and blocks and "cachePoint" not in blocks[-1]:
            blocks.append(cache_point(given["cache_control"]))
        return blocks

    def text(self, text: str) -> Json:
        return {"text": text}

    def image(self, url: str, where: str) -> Json:
        if url.startswith("s3://"):
            ending = url.rpartition(".")[2].lower()
            return {"image": {"format": {"jpg": "jpeg"}.get(ending, ending), "source": {"s3Location": {"uri": url}}}}
        if not url.startswith("data:"):
            raise self.refusal(where, "takes images as data URLs, not by link")
        kind, data = _data(url, where)
        if kind not in _IMAGES:
            raise self.refusal(where, f"takes images as png, jpeg, gif or webp, not {kind or 'these'}")
        return {"image": {"format": _IMAGES[kind], "source": {"bytes": data}}}

    def file(self, file: Json, where: str) -> Json:
        given, name = file.get("file_data"), file.get("filename")
        title, _, ending = (name if type(name) is str else "").rpartition(".")
        if type(given) is not str or not given:
            raise self.refusal(where, "does not have files of another provider; send `file_data`")
        if given.startswith(("http://", "https://")):
            raise self.refusal(where, "takes files as data URLs, not by link")
        kind, data = _data(given, where) if given.startswith("data:") else ("", given)
        if kind in _IMAGES:
            return {"image": {"format": _IMAGES[kind], "source": {"bytes": data}}}
        known = _DOCUMENTS.get(kind)
        if known is None and ending.lower() in _DOCUMENTS.values():
            known = ending.lower()
        if known is None and kind.startswith("text/"):
            known = "txt"
        if known is None and kind not in ("", "application/octet-stream"):
            raise self.refusal(where, f"has no documents of type {kind}")
        return {"document": {"format": known or "pdf", "name": self._named(title or ending), "source": {"bytes": data}}}

    def other(self, kind: object, part: Json, where: str) -> Json:
        if kind != "input_audio":
            return super().other(kind, part, where)
        audio = part.get("input_audio")
        if type(audio) is not dict or type(audio.get("data")) is not str or type(audio.get("format")) is not str:
            raise wrong_type(f"{where}.input_audio", "an object with `data` and `format`")
        return {"audio": {"format": audio["format"], "source": {"bytes": audio["data"]}}}

    def _named(self, title: str) -> str:
        """A name as Bedrock takes it, that no other document of the request has."""
        base = " ".join(_NOT_IN_NAME.sub("-", title).split())[:180] or "document"
        name = base
        number = 1
        while name in self._documents:
            number += 1
            name = f"{base} {number}"
        self._documents.add(name)
        return name


def cache_point(mark: object) -> Json:
    """Anthropic's `cache_control`, which clients know from elsewhere, as a cache point after what it marks."""
    point = {"type": "default"}
    if type(mark) is dict and type(mark.get("ttl")) is str:
        point["ttl"] = mark["ttl"]
    return {"cachePoint": point}


def _data(url: str, where: str) -> tuple[str, str]:
    """Checked, since Bedrock's own error for broken base64 does not say where it is."""
    kind, data = data_url(url, where)
    try:
        binascii.a2b_base64(data, strict_mode=True)
    except ValueError as error:
        raise Refusal(400, f"`{where}` is not base64: {error}.", param=where, code="invalid_value") from error
    return kind, data
