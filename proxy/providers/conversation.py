"""OpenAI's messages as a system text and alternating turns: what Anthropic's Messages and Bedrock's Converse share.

In both, system text stands apart, turns alternate and begin with the user's, the results of all calls of a turn stand
first in one user turn, blank text is refused, an id may be used once, and signed thinking stands before what followed
it. A dialect says in which form a block is written.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import orjson

from proxy.errors import Refusal
from proxy.wire.chunk import Json

CLAUDE_THINKING = "anthropic-claude-v1"
"""`format` in `reasoning_details` of what Claude signed, as OpenRouter names it; good wherever Claude is served."""

_BEGINNING = "(The conversation begins with the assistant's words.)"


class Conversation(ABC):
    """Reads messages in order. `system` and `turns` are what the provider is sent.

    Raises `Refusal` (400) for content that cannot be put into its form.
    """

    __slots__ = ("_functions", "_ids", "_prefill", "_used", "names", "provider", "system", "turns")

    def __init__(self, messages: list[Json], provider: str, *, prefill: bool) -> None:
        self.provider = provider
        self._prefill = prefill
        self._ids: dict[str, str] = {}
        """A call's id as the client has it -> as the provider is told it; the last call of that id."""
        self._used: set[str] = set()
        self._functions: dict[str, str] = {}
        self.names: list[str] = []
        """Of the tools that were called, each once."""
        self.system: list[Json] = []
        self.turns: list[Json] = []
        for at, message in enumerate(messages):
            self._message(message, f"messages[{at}]", messages[at + 1 :])
        self._whole()

    # What a dialect says.

    @abstractmethod
    def text(self, text: str) -> Json: ...

    @abstractmethod
    def image(self, url: str, where: str) -> Json: ...

    @abstractmethod
    def file(self, file: Json, where: str) -> Json: ...

    def other(self, kind: object, part: Json, where: str) -> Json:
        """A part of a kind that is none of the above."""
        raise self.refusal(f"{where}.type", f"has no content of type {kind!r} here")

    @abstractmethod
    def thinking(self, details: object) -> list[Json]:
        """Signed thinking out of `reasoning_details`, as far as this provider can read it."""

    @abstractmethod
    def call(self, id: str, name: str, arguments: Json) -> Json: ...

    @abstractmethod
    def result(self, id: str, message: Json, where: str) -> None:
        """Puts the result of the call that the client names `id` into a user's turn, after other results."""

    @abstractmethod
    def id_of(self, id: str) -> str:
        """An id that the provider takes; the same one for the same id."""

    @abstractmethod
    def marked(self, blocks: list[Json], given: Json) -> list[Json]:
        """With the `cache_control` of a part or a message where the provider has it."""

    @abstractmethod
    def told(self, blocks: list[Json], where: str, following: list[Json]) -> None:
        """System text, with the messages after it."""

    # What they share.

    def refusal(self, param: str, what: str) -> Refusal:
        return Refusal(400, f"{self.provider} {what} (`{param}`).", param=param, code="unsupported_value")

    def add(self, role: str, blocks: list[Json]) -> None:
        if not blocks:
            return
        if self.turns and self.turns[-1]["role"] == role:
            self.turns[-1]["content"].extend(blocks)
        else:
            self.turns.append({"role": role, "content": blocks})

    def results(self) -> list[Json]:
        """The content of the user's turn that results go into."""
        if not self.turns or self.turns[-1]["role"] != "user":
            self.turns.append({"role": "user", "content": []})
        content: list[Json] = self.turns[-1]["content"]
        return content

    def known(self, id: str) -> str:
        """As the provider was told the client's `id` of a call."""
        return self._ids.get(id) or self.id_of(id)

    def content(self, message: Json, where: str) -> list[Json]:
        content = message.get("content")
        if type(content) is str:
            content = [{"type": "text", "text": content}]
        blocks = []
        for at, part in enumerate(content or ()):
            block = self._part(part, f"{where}.content[{at}]")
            if block is not None:
                blocks += self.marked([block], part)
        return blocks

    def _message(self, message: Json, where: str, following: list[Json]) -> None:
        role = message["role"]
        if role in ("system", "developer"):
            self.told(self.marked(self.content(message, where), message), where, following)
        elif role == "user":
            self.add("user", self.marked(self.content(message, where), message))
        elif role == "assistant":
            self.add("assistant", self.marked(self._assistant(message, where), message))
        elif role == "tool":
            self.result(str(message.get("tool_call_id") or ""), message, where)
        elif role == "function":
            self.result(self._functions.get(str(message.get("name")), ""), message, where)
        else:
            raise self.refusal(f"{where}.role", f"has no messages of role {role!r}")

    def _assistant(self, message: Json, where: str) -> list[Json]:
        blocks = self.thinking(message.get("reasoning_details"))
        blocks += self.content(message, where)
        if type(message.get("refusal")) is str and message["refusal"].strip():
            blocks.append(self.text(message["refusal"]))
        if type(message.get("audio")) is dict:
            raise self.refusal(f"{where}.audio", "has no audio of earlier answers")
        calls = message.get("tool_calls") or []
        if type(calls) is not list:
            raise wrong_type(f"{where}.tool_calls", "an array")
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
        return self.call(self._mint(str(call.get("id") or "")), name, as_object(given))

    def _mint(self, id: str) -> str:
        """An id that no earlier call of the conversation has: some models count from 0 anew in every turn."""
        taken = self.id_of(id)
        number = 1
        while taken in self._used:
            number += 1
            taken = self.id_of(f"{id or 'call'}_{number}")
        self._used.add(taken)
        self._ids[id] = taken
        return taken

    def _part(self, part: Any, where: str) -> Json | None:
        kind = part.get("type") if type(part) is dict else None
        if kind in ("text", "refusal"):
            text = part.get(kind)
            if type(text) is not str:
                raise wrong_type(f"{where}.{kind}", "a string")
            return self.text(text) if text.strip() else None
        if kind == "image_url":
            image = part.get("image_url")
            url = image.get("url") if type(image) is dict else image
            if type(url) is not str or not url:
                named = f"{where}.image_url.url"
                raise Refusal(400, f"`{named}` must be a string.", param=named, code="invalid_image_url")
            return self.image(url, f"{where}.image_url.url")
        if kind == "file":
            file = part.get("file")
            if type(file) is not dict:
                raise wrong_type(f"{where}.file", "an object")
            return self.file(file, f"{where}.file")
        return self.other(kind, part, where)

    def _whole(self) -> None:
        """What the turns must have as a whole: a user's words first, no blank end of the assistant's."""
        if not self.turns:
            if not any("text" in block for block in self.system):
                raise Refusal(400, "`messages` holds no text that is not blank.", param="messages")
            self.turns, self.system = [{"role": "user", "content": self.system}], []
        if self.turns[0]["role"] != "user":
            self.turns.insert(0, {"role": "user", "content": [self.text(_BEGINNING)]})
        last = self.turns[-1]
        if last["role"] == "assistant":
            if not self._prefill:
                raise self.refusal("messages", "does not go on with words put into this model's mouth")
            block = last["content"][-1]
            if type(block.get("text")) is str:
                block["text"] = block["text"].rstrip()


def wrong_type(where: str, wanted: str) -> Refusal:
    return Refusal(400, f"`{where}` must be {wanted}.", param=where, code="invalid_type")


def as_object(arguments: object, name: str = "arguments") -> Json:
    """A call's arguments as the object that these providers want.

    Models write broken JSON at times, and clients send it back: what is no object is kept under `name`.
    """
    value = arguments
    if type(arguments) is str:
        if not arguments.strip():
            return {}
        try:
            value = orjson.loads(arguments)
        except orjson.JSONDecodeError:
            return {name: arguments}
    if value is None:
        return {}
    return value if type(value) is dict else {name: value}


def signed_thinking(
    details: object, texts: tuple[str, ...], encrypted: tuple[str, ...]
) -> Iterator[tuple[str, str | None]]:
    """Out of `reasoning_details`: text with its signature, or what is encrypted with None, of the formats given.

    Clients that keep the pieces of a stream apart give several entries for one block; the signature ends it.
    """
    text = ""
    for entry in details if type(details) is list else ():
        if type(entry) is not dict:
            continue
        format = str(entry.get("format") or CLAUDE_THINKING)
        if entry.get("type") == "reasoning.encrypted" and format.startswith(encrypted) and entry.get("data"):
            yield entry["data"], None
        elif entry.get("type") == "reasoning.text" and format.startswith(texts):
            text += entry["text"] if type(entry.get("text")) is str else ""
            if entry.get("signature"):
                yield text, entry["signature"]
                text = ""
