"""OpenAI messages as Anthropic turns.

Wire facts from Anthropic's API reference and the types of its SDK: system text stands apart; turns alternate and begin
with the user's; the results of all calls of a turn stand first in one user turn; blank text blocks are refused; ids
match `[a-zA-Z0-9_-]+`; signed thinking comes back unchanged, before what followed it.
"""

from __future__ import annotations

import binascii
import contextlib
import re
from collections.abc import Mapping
from typing import Any

import orjson

from proxy.errors import Refusal
from proxy.providers.anthropic_models import Model
from proxy.wire.chunk import Json

THINKING_FORMAT = "anthropic-claude-v1"
"""`format` of our entries in `reasoning_details`, as OpenRouter names it."""

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w.+=-]+)*?)(;base64)?,", re.ASCII)
_NOT_IN_ID = re.compile(r"[^a-zA-Z0-9_-]")
_IMAGES = {"image/jpeg", "image/png", "image/gif", "image/webp"}
_OWN_PARTS = {"image", "document", "search_result"}
"""Content that a client may give in Anthropic's own form."""
_BEGINNING = "(The conversation begins with the assistant's words.)"


class Turns:
    """Reads messages in order. `system` and `turns` are what Anthropic is sent.

    Raises `Refusal` (400) for content that cannot be put into Anthropic's form.
    """

    __slots__ = ("_functions", "_ids", "_model", "_provider", "_used", "names", "system", "turns")

    def __init__(self, messages: list[Json], model: Model, provider: str) -> None:
        self._model = model
        self._provider = provider
        self._ids: dict[str, str] = {}
        self._used: set[str] = set()
        self._functions: dict[str, str] = {}
        self.names: list[str] = []
        """Of the tools that were called, each once."""
        self.system: list[Json] = []
        self.turns: list[Json] = []
        for at, message in enumerate(messages):
            self._message(message, f"messages[{at}]", messages[at + 1 :])
        self._whole()

    def lacks_thinking(self) -> bool:
        """A tool's result is being handed in, and the turn that called it does not begin with its thinking."""
        if len(self.turns) < 2 or not any(block["type"] == "tool_result" for block in self.turns[-1]["content"]):
            return False
        called = [turn for turn in self.turns if turn["role"] == "assistant"]
        return bool(called) and called[-1]["content"][0]["type"] not in ("thinking", "redacted_thinking")

    def _message(self, message: Json, where: str, following: list[Json]) -> None:
        role = message["role"]
        if role in ("system", "developer"):
            self._told(_marked(self._content(message, where), message), following)
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

    def _told(self, blocks: list[Json], following: list[Json]) -> None:
        """System text: apart, or where it stands if the model takes it there (after a user's turn, before none)."""
        after = next((one["role"] for one in following if one["role"] not in ("system", "developer")), "assistant")
        last = self.turns[-1]["role"] if self.turns else None
        if self._model.system and last in ("user", "system") and after == "assistant":
            self._add("system", blocks)
        else:
            self.system.extend(blocks)

    def _add(self, role: str, blocks: list[Json]) -> None:
        if not blocks:
            return
        if self.turns and self.turns[-1]["role"] == role:
            self.turns[-1]["content"].extend(blocks)
        else:
            self.turns.append({"role": role, "content": blocks})

    def _result(self, id: str, message: Json, where: str) -> None:
        block: Json = {"type": "tool_result", "tool_use_id": self._ids.get(id, _NOT_IN_ID.sub("_", id))}
        content = self._content(message, where)
        if content:
            block["content"] = content
        if message.get("is_error") is True:
            block["is_error"] = True
        _marked([block], message)
        if not self.turns or self.turns[-1]["role"] != "user":
            self.turns.append({"role": "user", "content": []})
        blocks = self.turns[-1]["content"]
        results = sum(one["type"] == "tool_result" for one in blocks)
        blocks.insert(results, block)

    def _assistant(self, message: Json, where: str) -> list[Json]:
        blocks = thinking_blocks(message.get("reasoning_details"))
        blocks += self._content(message, where)
        if type(message.get("refusal")) is str and message["refusal"].strip():
            blocks.append({"type": "text", "text": message["refusal"]})
        if type(message.get("audio")) is dict:
            raise self._refusal(f"{where}.audio", "has no audio of earlier answers")
        calls = message.get("tool_calls") or []
        if type(calls) is not list:
            where = f"{where}.tool_calls"
            raise Refusal(400, f"`{where}` must be an array.", param=where, code="invalid_type")
        for at, call in enumerate(calls):
            blocks.append(self._call(call, f"{where}.tool_calls[{at}]"))
        legacy = message.get("function_call")
        if type(legacy) is dict:
            id = f"call_{len(self._used)}"
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
        id = str(call.get("id") or "")
        return {"type": "tool_use", "id": self._mint(id), "name": name, "input": _object(given)}

    def _mint(self, id: str) -> str:
        """An id that Anthropic takes, and that no earlier call of the conversation has."""
        clean = base = _NOT_IN_ID.sub("_", id) or "call"
        number = 1
        while clean in self._used:
            number += 1
            clean = f"{base}_{number}"
        self._used.add(clean)
        self._ids[id] = clean
        return clean

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
        if type(kind) is not str:
            kind = None
        if kind in ("text", "refusal"):
            text = part.get(kind)
            if type(text) is not str:
                raise Refusal(400, f"`{where}.{kind}` must be a string.", param=f"{where}.{kind}", code="invalid_type")
            return {"type": "text", "text": text} if text.strip() else None
        if kind == "image_url":
            image = part.get("image_url")
            return self._image(image.get("url") if type(image) is dict else image, f"{where}.image_url")
        if kind == "file":
            return self._file(part.get("file"), f"{where}.file")
        if kind in _OWN_PARTS:
            return dict(part)
        raise self._refusal(f"{where}.type", f"has no content of type {kind!r} here")

    def _image(self, url: object, where: str) -> Json:
        if type(url) is not str or not url:
            raise Refusal(400, f"`{where}.url` must be a string.", param=f"{where}.url", code="invalid_image_url")
        if not url.startswith("data:"):
            return {"type": "image", "source": {"type": "url", "url": url}}
        kind, data = self._data(url, f"{where}.url")
        kind = {"image/jpg": "image/jpeg"}.get(kind, kind)
        if kind not in _IMAGES:
            raise self._refusal(f"{where}.url", f"takes images as {', '.join(sorted(_IMAGES))}, not {kind or 'these'}")
        return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}

    def _file(self, file: object, where: str) -> Json:
        if not isinstance(file, Mapping):
            raise Refusal(400, f"`{where}` must be an object.", param=where, code="invalid_type")
        given, id, name = file.get("file_data"), file.get("file_id"), file.get("filename")
        if type(given) is not str or not given:
            if type(id) is str and id.startswith("file_"):
                return {"type": "document", "source": {"type": "file", "file_id": id}}
            raise self._refusal(where, "does not have files of another provider; send `file_data`")
        source: Json
        if given.startswith(("http://", "https://")):
            source = {"type": "url", "url": given}
        else:
            kind, data = self._data(given, where) if given.startswith("data:") else ("application/pdf", given)
            if kind in _IMAGES:
                return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}
            if kind.startswith("text/"):
                source = {"type": "text", "media_type": "text/plain", "data": self._plain(data, where)}
            elif kind == "application/pdf":
                source = {"type": "base64", "media_type": kind, "data": data}
            else:
                raise self._refusal(where, f"takes PDF, text and image files, not {kind or 'these'}")
        block = {"type": "document", "source": source}
        if type(name) is str and name:
            block["title"] = name
        return block

    def _data(self, url: str, where: str) -> tuple[str, str]:
        """Media type and base64 text of a data URL (RFC 2397)."""
        found = _DATA_URL.match(url)
        if found is None or not found[3]:
            raise Refusal(400, f"`{where}` must be a data URL in base64.", param=where, code="invalid_value")
        return (found[1] or "").lower(), url[found.end() :]

    def _plain(self, data: str, where: str) -> str:
        try:
            return binascii.a2b_base64(data).decode()
        except ValueError as error:
            raise Refusal(400, f"`{where}` is not text in UTF-8: {error}.", param=where) from error

    def _whole(self) -> None:
        """What the turns must have as a whole: a user's words first, no blank end of the assistant's."""
        if not self.turns:
            if not self.system:
                raise Refusal(400, "`messages` holds no text that is not blank.", param="messages")
            self.turns, self.system = [{"role": "user", "content": self.system}], []
        if self.turns[0]["role"] != "user":
            self.turns.insert(0, {"role": "user", "content": [{"type": "text", "text": _BEGINNING}]})
        last = self.turns[-1]
        if last["role"] == "assistant":
            if not self._model.prefill:
                raise self._refusal("messages", "does not go on with words put into the assistant's mouth")
            if last["content"][-1]["type"] == "text":
                last["content"][-1]["text"] = last["content"][-1]["text"].rstrip()

    def _refusal(self, param: str, what: str) -> Refusal:
        return Refusal(400, f"{self._provider} {what} (`{param}`).", param=param, code="unsupported_value")


def thinking_blocks(details: object) -> list[Json]:
    """Signed thinking out of `reasoning_details`; what other providers signed means nothing to Anthropic.

    Clients that keep the pieces of a stream apart give several entries for one block; the signature ends it.
    """
    blocks: list[Json] = []
    text = ""
    for entry in details if type(details) is list else ():
        if type(entry) is not dict or not str(entry.get("format") or THINKING_FORMAT).startswith(THINKING_FORMAT):
            continue
        if entry.get("type") == "reasoning.encrypted" and entry.get("data"):
            blocks.append({"type": "redacted_thinking", "data": entry["data"]})
        elif entry.get("type") == "reasoning.text":
            text += entry["text"] if type(entry.get("text")) is str else ""
            if entry.get("signature"):
                blocks.append({"type": "thinking", "thinking": text, "signature": entry["signature"]})
                text = ""
    return blocks


def _marked(blocks: list[Json], given: Json) -> list[Json]:
    """With the `cache_control` of a part or a message on the last block that takes one."""
    mark = given.get("cache_control")
    if mark is not None:
        for block in reversed(blocks):
            if block["type"] not in ("thinking", "redacted_thinking"):
                block["cache_control"] = mark
                break
    return blocks


def _object(arguments: object) -> Json:
    """Arguments as the object that `input` must be; what is no object is wrapped, so that nothing is lost."""
    value = arguments
    if type(arguments) is str:
        # Models write broken JSON at times, and clients send it back.
        with contextlib.suppress(orjson.JSONDecodeError):
            value = orjson.loads(arguments) if arguments.strip() else {}
    if value is None:
        return {}
    return value if type(value) is dict else {"arguments": value}
