"""`POST /v1/completions`: a prompt to be gone on with.

Targets that know only chat are asked for the answer to a user's message, where the prompt is one text and nothing is
asked that chat does not have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import orjson

from proxy.errors import Refusal
from proxy.forms.delta import text_in
from proxy.wire.chat import ChatRequest, TranslatedChat
from proxy.wire.chunk import DONE, Chunk, Json
from proxy.wire.render import END, error_event
from proxy.wire.request import (
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
    "prompt": ((str, list), "a string or an array"),
    "max_tokens": INTEGER,
    "n": INTEGER,
    "best_of": INTEGER,
    "temperature": NUMBER,
    "top_p": NUMBER,
    "frequency_penalty": NUMBER,
    "presence_penalty": NUMBER,
    "stream": BOOLEAN,
    "echo": BOOLEAN,
    "suffix": STRING,
    "stream_options": OBJECT,
    "stop": ((str, list), "a string or an array of strings"),
}
_SAME = (
    "temperature", "top_p", "frequency_penalty", "presence_penalty", "n", "seed", "stop", "user", "logit_bias",
    "stream",
)  # fmt: skip
_REFUSED = ("echo", "suffix", "logprobs")
_READ = {"model", "prompt", "max_tokens", "stream_options", "best_of", *_SAME, *_REFUSED}
_FINISHES = {"length": "length", "content_filter": "content_filter"}


class CompletionsRequest(Request):
    __slots__ = ("_chat",)

    operation = "completions"
    translates: ClassVar[bool] = True

    def __init__(self, raw: bytes, body: Json) -> None:
        super().__init__(raw, body)
        options = body.get("stream_options")
        self.wants_usage = bool(options and options.get("include_usage"))
        self._chat: ChatRequest | None = None

    @classmethod
    def parse(cls, raw: bytes, headers: Headers = ()) -> Self:
        body = parse_object(raw, "`model` and `prompt`")
        check_model(body)
        check_types(body, _TYPES)
        if body.get("prompt") is None:
            raise wrong("prompt", "`prompt` is missing.", "invalid_value")
        return cls(raw, body)

    def as_chat(self) -> ChatRequest:
        if self._chat is None:
            self._chat = _chat_of(self.body)
        return self._chat

    def writer(self, native: bool, id: str) -> Writer | None:
        return None if native else CompletionsWriter(id, self.wants_usage)


def _chat_of(body: Json) -> TranslatedChat:
    prompt: Any = body["prompt"]
    if type(prompt) is list and len(prompt) == 1 and type(prompt[0]) is str:
        prompt = prompt[0]
    if type(prompt) is not str:
        raise _cannot("prompt", "as tokens or as several texts")
    for name in _REFUSED:
        if body.get(name) not in (None, False, ""):
            raise _cannot(name, "")
    if (body.get("best_of") or 1) > (body.get("n") or 1):
        raise _cannot("best_of", "above `n`")
    made = {
        "model": body["model"],
        "messages": [{"role": "user", "content": prompt}],
        "max_completion_tokens": body.get("max_tokens"),
        **{name: body.get(name) for name in _SAME},
    }
    if made["stream"]:
        made["stream_options"] = {"include_usage": True}
    dropped = [name for name, value in body.items() if name not in _READ and value is not None]
    return TranslatedChat({name: value for name, value in made.items() if value is not None}, tuple(dropped))


def _cannot(param: str, how: str) -> Refusal:
    what = f"`{param}` {how}".rstrip()
    return Refusal(
        400, f"{what} is only possible with a target that has completions.", param=param, code="unsupported_parameter"
    )


class CompletionsWriter:
    """The answers of a chat as `text_completion` objects."""

    def __init__(self, id: str, wants_usage: bool) -> None:
        self._id = f"cmpl-{id.partition('-')[2] or id}"
        self._wants_usage = wants_usage

    def stream(self, chunks: Sequence[Chunk]) -> bytes:
        told = []
        for chunk in chunks:
            body = chunk.body
            if chunk.kind == DONE:
                told.append(END)
            elif body is not None:
                choices = [
                    _choice(one, text_in(one["delta"].get("content")))
                    for one in body.get("choices") or ()
                    if type(one.get("delta")) is dict and (one["delta"].get("content") or one.get("finish_reason"))
                ]
                usage = body.get("usage") if self._wants_usage else None
                if choices or usage:
                    told.append(b"data: %b\n\n" % orjson.dumps(self._object(body, choices, usage)))
        return b"".join(told)

    def whole(self, chunk: Chunk) -> bytes:
        assert chunk.body is not None  # noqa: S101  (an answer that is not streamed is an object)
        body = chunk.body
        choices = [_choice(one, text_in((one.get("message") or {}).get("content"))) for one in body["choices"]]
        return orjson.dumps(self._object(body, choices, body.get("usage")))

    def broken(self, message: str, *, type: str, code: str) -> bytes:
        return error_event(message, type=type, code=code)

    def _object(self, body: Json, choices: list[Json], usage: Any) -> Json:
        told = {
            "id": self._id,
            "object": "text_completion",
            "created": body.get("created") or 0,
            "model": body.get("model") or "",
            "choices": choices,
        }
        return {**told, "usage": usage} if usage is not None else told


def _choice(choice: Json, text: str) -> Json:
    reason = choice.get("finish_reason")
    finish = _FINISHES.get(reason, "stop") if type(reason) is str and reason else None
    return {"text": text, "index": choice.get("index", 0), "logprobs": None, "finish_reason": finish}
