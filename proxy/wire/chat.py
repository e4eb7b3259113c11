"""A chat completion request, the form into which all others are translated where that is needed."""

from __future__ import annotations

from typing import ClassVar, Self

from proxy.wire.chunk import Json
from proxy.wire.request import (
    ARRAY,
    BOOLEAN,
    CHAT,
    INTEGER,
    NUMBER,
    OBJECT,
    STRING,
    Headers,
    Known,
    Request,
    Types,
    check_model,
    check_types,
    dumped,
    named,
    parse_object,
    wrong,
)

_TYPES: dict[str, Types] = {
    "temperature": NUMBER,
    "top_p": NUMBER,
    "frequency_penalty": NUMBER,
    "presence_penalty": NUMBER,
    "max_tokens": INTEGER,
    "max_completion_tokens": INTEGER,
    "n": INTEGER,
    "seed": ((int, float), "an integer"),  # one of more than 64 bits is read as a float here, and passed on as it came
    "top_logprobs": INTEGER,
    "stream": BOOLEAN,
    "logprobs": BOOLEAN,
    "store": BOOLEAN,
    "parallel_tool_calls": BOOLEAN,
    "user": STRING,
    "reasoning_effort": STRING,
    "service_tier": STRING,
    "verbosity": STRING,
    "prompt_cache_key": STRING,
    "prompt_cache_retention": STRING,
    "safety_identifier": STRING,
    "stop": ((str, list), "a string or an array of strings"),
    "tool_choice": ((str, dict), "a string or an object"),
    "function_call": ((str, dict), "a string or an object"),
    "tools": ARRAY,
    "functions": ARRAY,
    "modalities": ARRAY,
    "metadata": OBJECT,
    "logit_bias": OBJECT,
    "response_format": OBJECT,
    "stream_options": OBJECT,
    "audio": OBJECT,
    "prediction": OBJECT,
    "web_search_options": OBJECT,
}
"""Fields whose JSON type OpenAI's API reference has fixed for long; null always means "not given"."""
_BODY = Known({"model": (str,), "messages": (list,)} | {key: allowed for key, (allowed, _) in _TYPES.items()})
_MESSAGE = Known({"role": (str,), "content": (str, list), "name": (str,), "tool_calls": (list,)})
"""Of nearly every request, and of nearly every message."""


class ChatRequest(Request):
    """`POST /v1/chat/completions`."""

    __slots__ = ("n",)

    operation = CHAT
    translates = True
    translated = False
    """It was made from another form, so that no client wrote it for the very target that gets it."""
    dropped: tuple[str, ...] = ()
    """What the other form asked for and chat cannot say, by name."""
    twins: ClassVar = {"max_tokens": ("max_completion_tokens",), "max_completion_tokens": ("max_tokens",)}

    def __init__(self, raw: bytes, body: Json) -> None:
        self.raw = raw
        self.body = body
        self.model: str = body["model"]
        self._tokens = None
        self.onward = None
        self.stream: bool = body.get("stream") is True
        self.n: int = body.get("n") or 1
        options = body.get("stream_options")
        self.wants_usage: bool = bool(options and options.get("include_usage"))

    @classmethod
    def parse(cls, raw: bytes, headers: Headers = ()) -> Self:
        body = parse_object(raw, "`model` and `messages`")
        check_model(body)
        _check(body)
        return cls(raw, body)

    @property
    def reasons(self) -> bool:
        effort = self.body.get("reasoning_effort")
        return (effort is not None and effort != "none") or self.body.get("reasoning") is not None

    def as_chat(self) -> ChatRequest:
        return self


_TOOLS = frozenset({"tools", "functions"})


class TranslatedChat(ChatRequest):
    """One that was made from a request in another form. Raises `Refusal` (400) as `parse` does."""

    __slots__ = ("dropped",)

    translated = True

    def __init__(self, body: Json, dropped: tuple[str, ...]) -> None:
        _check(body)
        super().__init__(dumped(body), body)
        self.dropped = dropped


def _check(body: Json) -> None:
    messages = body.get("messages")
    if type(messages) is not list or not messages:
        raise wrong("messages", "`messages` must be a non-empty array of messages, each with a `role`.")
    for index, message in enumerate(messages):
        if type(message) is dict and message.get("role") is not None and _MESSAGE.holds(message):
            continue
        if type(message) is not dict or type(message.get("role")) is not str:
            raise wrong(f"messages[{index}]", f"`messages[{index}]` must be an object with a string `role`.")
        content = message.get("content")
        if content is not None and type(content) is not str and type(content) is not list:
            raise wrong(
                f"messages[{index}].content", f"`messages[{index}].content` must be a string or an array of parts."
            )
        calls = message.get("tool_calls")
        if calls is not None and type(calls) is not list:
            raise wrong(f"messages[{index}].tool_calls", f"`messages[{index}].tool_calls` must be an array of calls.")
    if not _BODY.holds(body):
        check_types(body, _TYPES)
    n = body.get("n")
    if n is not None and not 1 <= n <= 128:
        raise wrong("n", "`n` must be between 1 and 128.", "invalid_value")
    for key in () if _TOOLS.isdisjoint(body) else ("tools", "functions"):
        for index, tool in enumerate(body.get(key) or ()):
            if type(tool) is not dict:
                raise wrong(f"{key}[{index}]", f"`{key}[{index}]` must be an object, not {named(tool)}.")
