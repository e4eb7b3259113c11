"""OpenAI messages as the turns of Bedrock's Converse.

Wire facts from the Bedrock API reference (Message, ContentBlock, DocumentBlock, ToolResultBlock) and botocore's service
model: system text stands apart; turns alternate and begin with the user's; the results of all calls of a turn stand
first in one user turn; blank text is refused; ids match `[a-zA-Z0-9_.:-]{1,64}`; images and documents come as bytes
(base64 in JSON) or from S3, never by link; documents have distinct names of few characters.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Any
from urllib.parse import unquote_to_bytes

import orjson

from proxy.errors import Refusal
from proxy.wire.chunk import Json

CLAUDE_THINKING = "anthropic-claude-v1"
"""`format` in `reasoning_details` of what Claude signed; it is good on every platform that serves Claude."""
OWN_THINKING = "amazon-bedrock-v1"
"""`format` of what only Bedrock can read again."""

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w.+=-]+)*?)(;base64)?,", re.ASCII)
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
_BEGINNING = "(The conversation begins with the assistant's words.)"


class Turns:
    """Reads messages in order. `system` and `turns` are what Bedrock is sent.

    Raises `Refusal` (400) for content that cannot be put into Bedrock's form.
    """

    __slots__ = ("_documents", "_functions", "_ids", "_prefill", "_provider", "_used", "names", "system", "turns")

    def __init__(self, messages: list[Json], provider: str, *, prefill: bool) -> None:
        self._provider = provider
        self._prefill = prefill
        self._documents: set[str] = set()
        self._ids: dict[str, str] = {}
        """A call's id as the client has it -> as Bedrock is told it; the last call of that id."""
        self._used: set[str] = set()
        self._functions: dict[str, str] = {}
        self.names: list[str] = []
        """Of the tools that were called, each once."""
        self.system: list[Json] = []
        self.turns: list[Json] = []
        for at, message in enumerate(messages):
            self._message(message, f"messages[{at}]")
        self._whole()

    def lacks_thinking(self) -> bool:
        """A tool's result is being handed in, and the turn that called it does not begin with its thinking."""
        if len(self.turns) < 2 or not any("toolResult" in block for block in self.turns[-1]["content"]):
            return False
        called = [turn for turn in self.turns if turn["role"] == "assistant"]
        return bool(called) and "reasoningContent" not in called[-1]["content"][0]

    def _message(self, message: Json, where: str) -> None:
        role = message["role"]
        if role in ("system", "developer"):
            for block in _marked(self._content(message, where), message):
                if "text" not in block and "cachePoint" not in block:
                    raise self._refusal(f"{where}.content", "takes nothing but text in a system message")
                self.system.append(block)
        elif role == "user":
            self._add("user", _marked(self._content(message, where), message))
        elif role == "assistant":
            self._add("assistant", _marked(self._assistant(message, where), message))
        elif role == "tool":
            self._result(str(message.get("tool_call_id") or ""), message, where)
        elif role == "function":
            self._result(self._functions.get(str(message.get("name")), ""), message, where)
        else:
            raise self._refusal(f"{where}.role", f"has no messages of role {role!r}")

    def _add(self, role: str, blocks: list[Json]) -> None:
        if not blocks:
            return
        if self.turns and self.turns[-1]["role"] == role:
            self.turns[-1]["content"].extend(blocks)
        else:
            self.turns.append({"role": role, "content": blocks})

    def _result(self, id: str, message: Json, where: str) -> None:
        content = self._content(message, where)
        marks = [block for block in _marked(content, message) if "cachePoint" in block]
        result: Json = {
            "toolUseId": self._ids.get(id, tool_id(id)),
            "content": [block for block in content if "cachePoint" not in block],
        }
        if message.get("is_error") is True:
            result["status"] = "error"
        if not self.turns or self.turns[-1]["role"] != "user":
            self.turns.append({"role": "user", "content": []})
        blocks = self.turns[-1]["content"]
        place = max((at + 1 for at, block in enumerate(blocks) if "toolResult" in block), default=0)
        if blocks[place : place + 1] and "cachePoint" in blocks[place] and place:
            place += 1
        blocks[place:place] = [{"toolResult": result}, *marks[:1]]

    def _assistant(self, message: Json, where: str) -> list[Json]:
        blocks = _thinking(message.get("reasoning_details"))
        blocks += self._content(message, where)
        if type(message.get("refusal")) is str and message["refusal"].strip():
            blocks.append({"text": message["refusal"]})
        if type(message.get("audio")) is dict:
            raise self._refusal(f"{where}.audio", "has no audio of earlier answers")
        calls = message.get("tool_calls") or []
        if type(calls) is not list:
            raise Refusal(400, f"`{where}.tool_calls` must be an array.", param=f"{where}.tool_calls")
        for at, call in enumerate(calls):
            blocks.append(self._call(call, f"{where}.tool_calls[{at}]"))
        legacy = message.get("function_call")
        if type(legacy) is dict:
            id = f"{where}.function_call".replace("[", ".").replace("]", "")
            blocks.append(self._call({"id": id, "function": legacy}, f"{where}.function_call"))
            self._functions[str(legacy.get("name"))] = id
        return blocks

    def _call(self, call: Any, where: str) -> Json:
        called = call.get("function") or call.get("custom") if type(call) is dict else None
        if type(called) is not dict or type(called.get("name")) is not str:
            raise Refusal(400, f"`{where}` must be an object with a function's name.", param=where)
        name = called["name"]
        if name not in self.names:
            self.names.append(name)
        given = called["input"] if "input" in called else called.get("arguments")
        id = self._mint(str(call.get("id") or ""))
        return {"toolUse": {"toolUseId": id, "name": name, "input": _object(given)}}

    def _mint(self, id: str) -> str:
        """An id that Bedrock takes and that no earlier call of the conversation has: some models count from 0 anew."""
        taken = tool_id(id)
        number = 1
        while taken in self._used:
            number += 1
            taken = tool_id(f"{id}_{number}")
        self._used.add(taken)
        self._ids[id] = taken
        return taken

    def _content(self, message: Json, where: str) -> list[Json]:
        content = message.get("content")
        if type(content) is str:
            content = [{"type": "text", "text": content}]
        blocks = []
        for at, part in enumerate(content or ()):
            block = self._part(part, f"{where}.content[{at}]")
            if block is not None:
                blocks += _marked([block], part)
        return blocks

    def _part(self, part: Any, where: str) -> Json | None:
        kind = part.get("type") if type(part) is dict else None
        if kind in ("text", "refusal"):
            text = part.get(kind)
            if type(text) is not str:
                raise Refusal(400, f"`{where}.{kind}` must be a string.", param=f"{where}.{kind}", code="invalid_type")
            return {"text": text} if text.strip() else None
        if kind == "image_url":
            image = part.get("image_url")
            return self._image(image.get("url") if type(image) is dict else image, f"{where}.image_url")
        if kind == "file":
            return self._file(part.get("file"), f"{where}.file")
        if kind == "input_audio":
            audio = part.get("input_audio")
            if type(audio) is not dict or type(audio.get("data")) is not str or type(audio.get("format")) is not str:
                raise Refusal(400, f"`{where}.input_audio` needs `data` and `format`.", param=f"{where}.input_audio")
            return {"audio": {"format": audio["format"], "source": {"bytes": audio["data"]}}}
        raise self._refusal(f"{where}.type", f"has no content of type {kind!r} here")

    def _image(self, url: object, where: str) -> Json:
        if type(url) is not str or not url:
            raise Refusal(400, f"`{where}.url` must be a string.", param=f"{where}.url", code="invalid_image_url")
        if url.startswith("s3://"):
            ending = url.rpartition(".")[2].lower()
            return {"image": {"format": {"jpg": "jpeg"}.get(ending, ending), "source": {"s3Location": {"uri": url}}}}
        if not url.startswith("data:"):
            raise self._refusal(f"{where}.url", "takes images as data URLs, not by link")
        kind, data = _data(url, f"{where}.url")
        if kind not in _IMAGES:
            raise self._refusal(f"{where}.url", f"takes images as png, jpeg, gif or webp, not {kind or 'these'}")
        return {"image": {"format": _IMAGES[kind], "source": {"bytes": data}}}

    def _file(self, file: object, where: str) -> Json:
        if not isinstance(file, dict):
            raise Refusal(400, f"`{where}` must be an object.", param=where, code="invalid_type")
        given, name = file.get("file_data"), file.get("filename")
        title, _, ending = (name if type(name) is str else "").rpartition(".")
        if type(given) is not str or not given:
            raise self._refusal(where, "does not have files of another provider; send `file_data`")
        if given.startswith(("http://", "https://")):
            raise self._refusal(where, "takes files as data URLs, not by link")
        kind, data = _data(given, where) if given.startswith("data:") else ("", given)
        if kind in _IMAGES:
            return {"image": {"format": _IMAGES[kind], "source": {"bytes": data}}}
        known = _DOCUMENTS.get(kind)
        if known is None and ending.lower() in _DOCUMENTS.values():
            known = ending.lower()
        if known is None and kind.startswith("text/"):
            known = "txt"
        if known is None and kind not in ("", "application/octet-stream"):
            raise self._refusal(where, f"has no documents of type {kind}")
        return {"document": {"format": known or "pdf", "name": self._named(title or ending), "source": {"bytes": data}}}

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

    def _whole(self) -> None:
        """What the turns must have as a whole: a user's words first, no blank end of the assistant's."""
        if not self.turns:
            if not any("text" in block for block in self.system):
                raise Refusal(400, "`messages` holds no text that is not blank.", param="messages")
            self.turns, self.system = [{"role": "user", "content": self.system}], []
        if self.turns[0]["role"] != "user":
            self.turns.insert(0, {"role": "user", "content": [{"text": _BEGINNING}]})
        last = self.turns[-1]
        if last["role"] == "assistant":
            if not self._prefill:
                raise self._refusal("messages", "does not go on with words put into this model's mouth")
            if "text" in last["content"][-1]:
                last["content"][-1]["text"] = last["content"][-1]["text"].rstrip()

    def _refusal(self, param: str, what: str) -> Refusal:
        return Refusal(400, f"{self._provider} {what} (`{param}`).", param=param, code="unsupported_value")


def tool_id(id: str) -> str:
    """As it is where Bedrock takes it, else a digest: the same id gives the same one."""
    return id if _ID.fullmatch(id) else f"call_{hashlib.sha256(id.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def cache_point(mark: object) -> Json:
    """Anthropic's `cache_control`, which clients know from elsewhere, as a cache point after what it marks."""
    point = {"type": "default"}
    if type(mark) is dict and type(mark.get("ttl")) is str:
        point["ttl"] = mark["ttl"]
    return {"cachePoint": point}


def _marked(blocks: list[Json], given: Json) -> list[Json]:
    if given.get("cache_control") is not None and blocks and "cachePoint" not in blocks[-1]:
        blocks.append(cache_point(given["cache_control"]))
    return blocks


def _thinking(details: object) -> list[Json]:
    """Signed thinking out of `reasoning_details`; what other providers signed means nothing to Bedrock.

    Clients that keep the pieces of a stream apart give several entries for one block; the signature ends it.
    """
    blocks: list[Json] = []
    text = ""
    for entry in details if type(details) is list else ():
        if type(entry) is not dict:
            continue
        format = entry.get("format")
        if entry.get("type") == "reasoning.encrypted" and format == OWN_THINKING and entry.get("data"):
            blocks.append({"reasoningContent": {"redactedContent": entry["data"]}})
        elif entry.get("type") == "reasoning.text" and format in (OWN_THINKING, CLAUDE_THINKING, None):
            text += entry["text"] if type(entry.get("text")) is str else ""
            if entry.get("signature"):
                blocks.append({"reasoningContent": {"reasoningText": {"text": text, "signature": entry["signature"]}}})
                text = ""
    return blocks


def _object(arguments: object) -> Json:
    """Arguments as the object that Bedrock wants; what a model wrote that is none is kept under one name."""
    if type(arguments) is dict:
        return arguments
    if type(arguments) is not str:
        return {} if arguments is None else {"arguments": arguments}
    if not arguments.strip():
        return {}
    try:
        read = orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return {"arguments": arguments}
    return read if type(read) is dict else {"arguments": read}


def _data(url: str, where: str) -> tuple[str, str]:
    """Media type and base64 text of a data URL (RFC 2397)."""
    found = _DATA_URL.match(url)
    if found is None:
        raise Refusal(400, f"`{where}` must be a data URL.", param=where, code="invalid_value")
    kind, data = (found[1] or "").lower(), url[found.end() :]
    if not found[3]:
        return kind, base64.b64encode(unquote_to_bytes(data)).decode()
    try:
        binascii.a2b_base64(data, strict_mode=True)
    except ValueError as error:
        raise Refusal(400, f"`{where}` is not base64: {error}.", param=where, code="invalid_value") from error
    return kind, data
