"""An answer in OpenAI's chat form, read back into what it says: for scorers, shadow pairs and benchmarks.

Takes the very bytes that a client would have been sent, streamed or not, so that what is judged is what was served.
"""

from __future__ import annotations

from typing import NamedTuple

import orjson

from proxy.wire.chunk import Json
from proxy.wire.sse import EventSplitter


class ToolCall(NamedTuple):
    id: str
    name: str
    arguments: str
    """JSON text as the model wrote it; may be broken."""


class Answer(NamedTuple):
    """The first choice of an answer. Empty where there was none."""

    text: str = ""
    reasoning: str = ""
    refusal: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    """None where the answer was cut off."""
    model: str | None = None
    fingerprint: str | None = None
    logprobs: tuple[float, ...] = ()
    """Of the text's tokens, where the request asked for them."""


def answer_of(data: bytes, *, stream: bool) -> Answer:
    """Never raises: bytes that are no answer give an empty one."""
    gathered = _Gathered()
    if stream:
        splitter = EventSplitter()
        for event in [*splitter.feed(data), splitter.rest()]:
            body = b"\n".join([line[5:].strip() for line in event.splitlines() if line.startswith(b"data:")])
            if body and body != b"[DONE]":
                gathered.take(body, "delta")
    else:
        gathered.take(data, "message")
    return gathered.answer()


class _Gathered:
    def __init__(self) -> None:
        self._texts: dict[str, list[str]] = {"content": [], "reasoning_content": [], "refusal": []}
        self._calls: dict[int, list[str]] = {}
        self._finish: str | None = None
        self._model: str | None = None
        self._fingerprint: str | None = None
        self._logprobs: list[float] = []

    def take(self, data: bytes, member: str) -> None:
        try:
            body = orjson.loads(data)
        except orjson.JSONDecodeError:
            return
        if not isinstance(body, dict) or not isinstance(body.get("choices"), list):
            return
        self._model = self._model or _text(body.get("model")) or None
        self._fingerprint = self._fingerprint or _text(body.get("system_fingerprint")) or None
        for choice in body["choices"]:
            if isinstance(choice, dict) and choice.get("index", 0) == 0:
                self._choice(choice, choice.get(member))

    def _choice(self, choice: Json, said: object) -> None:
        self._finish = choice.get("finish_reason") or self._finish
        logprobs = choice.get("logprobs")
        if isinstance(logprobs, dict):
            for token in logprobs.get("content") or ():
                if isinstance(token, dict) and isinstance(token.get("logprob"), int | float):
                    self._logprobs.append(float(token["logprob"]))
        if not isinstance(said, dict):
            return
        for name, parts in self._texts.items():
            parts.append(_text(said.get(name)))
        if not said.get("reasoning_content"):
            self._texts["reasoning_content"].append(_text(said.get("reasoning")))
        for place, call in enumerate(said.get("tool_calls") or ()):
            if isinstance(call, dict):
                self._call(call, call.get("index", place))

    def _call(self, call: Json, index: int) -> None:
        whole = self._calls.setdefault(index, ["", "", ""])
        function = call.get("function")
        whole[0] = whole[0] or _text(call.get("id"))
        if isinstance(function, dict):
            whole[1] = whole[1] or _text(function.get("name"))
            whole[2] += _text(function.get("arguments"))

    def answer(self) -> Answer:
        texts = {name: "".join(parts) for name, parts in self._texts.items()}
        return Answer(
            texts["content"],
            texts["reasoning_content"],
            texts["refusal"],
            tuple(ToolCall(*self._calls[index]) for index in sorted(self._calls)),
            self._finish,
            self._model,
            self._fingerprint,
            tuple(self._logprobs),
        )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
