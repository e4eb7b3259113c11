"""`POST /v1/messages`: requests in Anthropic's form.

A target that speaks it is asked in the very same words; all others are asked for a chat completion, made in
`messages_chat.py`, and `messages_answer.py` writes what they say back in Anthropic's words.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

from proxy.forms.anthropic_errors import ANTHROPIC
from proxy.forms.messages_answer import MessagesWriter
from proxy.forms.messages_chat import chat_of
from proxy.wire.chat import ChatRequest
from proxy.wire.chunk import Json
from proxy.wire.render import Form
from proxy.wire.request import (
    ARRAY,
    BOOLEAN,
    INTEGER,
    NUMBER,
    OBJECT,
    STRING,
    Headers,
    Request,
    Types,
    Writer,
    check_model,
    check_types,
    parse_object,
    wrong,
)  # fmt: skip

_TYPES: dict[str, Types] = {
    "max_tokens": INTEGER,
    "stream": BOOLEAN,
    "temperature": NUMBER,
    "top_p": NUMBER,
    "top_k": INTEGER,
    "stop_sequences": ARRAY,
    "system": ((str, list), "a string or an array of text blocks"),
    "tools": ARRAY,
    "tool_choice": OBJECT,
    "thinking": OBJECT,
    "metadata": OBJECT,
    "output_config": OBJECT,
    "service_tier": STRING,
}
_PASSED = (b"anthropic-version", b"anthropic-beta")


class MessagesRequest(Request):
    __slots__ = ("_chat", "headers")

    operation = "messages"
    form: ClassVar[Form] = ANTHROPIC
    translates = True
    twins: ClassVar = {"max_tokens": ("max_completion_tokens",)}

    def __init__(self, raw: bytes, body: Json, headers: Headers = ()) -> None:
        super().__init__(raw, body)
        self.headers: Headers = headers
        self._chat: ChatRequest | None = None

    @classmethod
    def parse(cls, raw: bytes, headers: Headers = ()) -> Self:
        body = parse_object(raw, "`model`, `max_tokens` and `messages`")
        check_model(body)
        check_types(body, _TYPES)
        _check(body, cls.operation == "messages")
        return cls(raw, body, [one for one in headers if one[0] in _PASSED])

    @property
    def reasons(self) -> bool:
        thinking = self.body.get("thinking")
        return thinking is not None and thinking.get("type") != "disabled"

    def as_chat(self) -> ChatRequest:
        if self._chat is None:
            self._chat = chat_of(self.body)
        return self._chat

    def writer(self, native: bool, id: str) -> Writer | None:
        return None if native else MessagesWriter(id)


def _check(body: Json, limited: bool) -> None:
    if limited and (body.get("max_tokens") is None or body["max_tokens"] < 1):
        raise wrong("max_tokens", "`max_tokens` is required and must be at least 1.", "invalid_value")
    messages = body.get("messages")
    if type(messages) is not list or not messages:
        raise wrong("messages", "`messages` must be a non-empty array of messages, each with a `role`.")
    for at, message in enumerate(messages):
        if type(message) is not dict or message.get("role") not in ("user", "assistant", "system"):
            raise wrong(f"messages[{at}].role", f"`messages[{at}].role` must be `user` or `assistant`.")
        _check_blocks(message.get("content"), f"messages[{at}].content")
    if body.get("system") is not None:
        _check_blocks(body["system"], "system")
    for at, tool in enumerate(body.get("tools") or ()):
        if type(tool) is not dict or (type(tool.get("name")) is not str and "type" not in tool):
            raise wrong(f"tools[{at}]", f"`tools[{at}]` must be an object with a `name`.")


def _check_blocks(content: Any, where: str) -> None:
    if type(content) is str:
        return
    if type(content) is not list:
        raise wrong(where, f"`{where}` must be a string or an array of content blocks.")
    for at, block in enumerate(content):
        if type(block) is not dict or type(block.get("type")) is not str:
            raise wrong(f"{where}[{at}]", f"`{where}[{at}]` must be an object with a `type`.")
