"""`POST /v1/responses`: requests in the form of OpenAI's Responses.

A target that has it is asked in the very same words; all others are asked for a chat completion, made in
`responses_chat.py`, and `responses_answer.py` writes what they say back.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

from proxy.forms.responses_answer import NativeResponses, ResponsesWriter
from proxy.forms.responses_chat import chat_of
from proxy.wire.chat import ChatRequest
from proxy.wire.chunk import Json
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
)

_TYPES: dict[str, Types] = {
    "input": ((str, list), "a string or an array of items"),
    "instructions": ((str, list), "a string"),
    "stream": BOOLEAN,
    "store": BOOLEAN,
    "background": BOOLEAN,
    "parallel_tool_calls": BOOLEAN,
    "max_output_tokens": INTEGER,
    "max_tool_calls": INTEGER,
    "top_logprobs": INTEGER,
    "temperature": NUMBER,
    "top_p": NUMBER,
    "tools": ARRAY,
    "include": ARRAY,
    "tool_choice": ((str, dict), "a string or an object"),
    "text": OBJECT,
    "reasoning": OBJECT,
    "metadata": OBJECT,
    "previous_response_id": STRING,
    "conversation": ((str, dict), "a string or an object"),
    "prompt": OBJECT,
    "truncation": STRING,
    "service_tier": STRING,
    "user": STRING,
}


class ResponsesRequest(Request):
    __slots__ = ("_chat",)

    operation = "responses"
    translates: ClassVar[bool] = True

    def __init__(self, raw: bytes, body: Json) -> None:
        super().__init__(raw, body)
        self._chat: ChatRequest | None = None

    @classmethod
    def parse(cls, raw: bytes, headers: Headers = ()) -> Self:
        body = parse_object(raw, "`model` and `input`")
        check_model(body)
        check_types(body, _TYPES)
        for name in ("input", "tools"):
            for at, item in enumerate(body[name] if type(body.get(name)) is list else ()):
                _check_item(item, f"{name}[{at}]")
        return cls(raw, body)

    @property
    def reasons(self) -> bool:
        reasoning = self.body.get("reasoning") or {}
        return reasoning.get("effort") not in (None, "none")

    @property
    def repeatable(self) -> bool:
        """What is stored, goes on in the background or adds to a conversation would be there twice."""
        body = self.body
        return not (body.get("store") or body.get("background") or body.get("conversation"))

    def as_chat(self) -> ChatRequest:
        if self._chat is None:
            self._chat = chat_of(self.body)
        return self._chat

    def writer(self, native: bool, id: str) -> Writer | None:
        return NativeResponses() if native else ResponsesWriter(id, self.body)


def _check_item(item: Any, where: str) -> None:
    if type(item) is not dict:
        raise wrong(where, f"`{where}` must be an object.")
