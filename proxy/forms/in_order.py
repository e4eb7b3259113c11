"""The chunks of a chat completion read one after the other, for forms in which one thing ends before the next begins.

Upstreams may interleave the pieces of parallel tool calls; Anthropic's blocks and OpenAI's Responses items come in
order. A call is written as it comes, and another one waits until the open one is whole, or for the end. A form says
what becomes of each step; the same steps make the whole answer, so that a stream put together equals it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import orjson

from proxy.forms.delta import Call, calls_in, extras_in, text_in
from proxy.wire.chunk import DONE, Chunk, Json, Usage, usage_of


class InOrder(ABC):
    def __init__(self) -> None:
        self.model = ""
        self.usage = Usage(0, 0, 0, 0, 0)
        self.finish: str | None = None
        """The first choice's finish reason, as chat has it."""
        self.calls: dict[int, Call] = {}
        """By the upstream's numbers."""
        self.writing: int | None = None
        """The call that is open."""
        self._waiting: list[int] = []
        self._begun = False
        self._out: list[bytes] = []

    def stream(self, chunks: Sequence[Chunk]) -> bytes:
        for chunk in chunks:
            if chunk.body is not None:
                self._read(chunk.body, "delta")
            if chunk.kind == DONE:
                self._end()
        out, self._out = self._out, []
        return b"".join(out)

    def whole(self, chunk: Chunk) -> bytes:
        assert chunk.body is not None  # noqa: S101  (an answer that is not streamed is an object)
        self._read(chunk.body, "message")
        self._end()
        return orjson.dumps(self.answer())

    # What a form says.

    @abstractmethod
    def begin(self) -> None:
        """The answer begins; `model` is known."""

    @abstractmethod
    def text(self, text: str) -> None: ...

    @abstractmethod
    def refusal(self, text: str) -> None: ...

    @abstractmethod
    def thought(self, text: str) -> None: ...

    @abstractmethod
    def signed(self, details: list[Json]) -> None:
        """Entries of `reasoning_details` that hold more than text."""

    @abstractmethod
    def cited(self, citation: Json) -> None:
        """Of the text that was written last; the members of OpenAI's `url_citation`."""

    @abstractmethod
    def call(self, call: Call) -> None:
        """A call begins, perhaps with some of its arguments."""

    @abstractmethod
    def arguments(self, piece: str) -> None:
        """Of the call that is open."""

    @abstractmethod
    def extras(self, members: Json) -> None:
        """Further members of the message that the next turn must bring back."""

    @abstractmethod
    def close(self) -> None:
        """Ends what is open, if anything is."""

    @abstractmethod
    def end(self) -> None:
        """The answer is whole."""

    @abstractmethod
    def answer(self) -> Json:
        """The answer that is not streamed, after `end`."""

    def event(self, type: str, **members: Any) -> None:
        """One more event, named by its type."""
        self._out.append(b"event: %b\ndata: %b\n\n" % (type.encode(), orjson.dumps({"type": type, **members})))

    # The steps.

    def _read(self, body: Json, member: str) -> None:
        if not self._begun:
            self._begun = True
            self.model = text_in(body.get("model"))
            self.begin()
        usage = body.get("usage")
        if type(usage) is dict:
            self.usage = usage_of(usage)
        for choice in body.get("choices") or ():
            if choice.get("index", 0) != 0:
                continue
            told = choice.get(member)
            if type(told) is dict:
                self._told(told)
            reason = choice.get("finish_reason")
            if type(reason) is str and reason:
                self.finish = reason

    def _told(self, told: Json) -> None:
        extras = extras_in(told)
        details = extras.pop("reasoning_details", None)
        if thought := text_in(told.get("reasoning_content") or told.get("reasoning")):
            self.thought(thought)
        # Text without a signature is told by the thinking itself.
        kept = [one for one in details if _signs(one)] if type(details) is list else []
        if kept:
            self.signed(kept)
        if text := text_in(told.get("content")):
            self.text(text)
        if refusal := text_in(told.get("refusal")):
            self.refusal(refusal)
        noted = told.get("annotations")
        for one in noted if type(noted) is list else ():
            cited = one.get("url_citation") if type(one) is dict else None
            if type(cited) is dict and type(cited.get("url")) is str:
                self.cited(cited)
        for call in calls_in(told):
            self._piece(call)
        if extras:
            self.extras(extras)

    def _piece(self, piece: Call) -> None:
        known = self.calls.get(piece.number)
        if known is None:
            self.calls[piece.number] = piece
            self._waiting.append(piece.number)
        else:
            known.arguments += piece.arguments
            if self.writing == piece.number and piece.arguments:
                self.arguments(piece.arguments)
        while self._waiting and (self.writing is None or is_whole(self.calls[self.writing].arguments)):
            self._open(self._waiting.pop(0))

    def _open(self, number: int) -> None:
        self.close()
        self.writing = number
        self.call(self.calls[number])

    def _end(self) -> None:
        for number in self._waiting:
            self._open(number)
        self.close()
        self.end()


def _signs(entry: object) -> bool:
    return type(entry) is dict and bool(entry.get("signature") or entry.get("data") or entry.get("summary"))


def is_whole(arguments: str) -> bool:
    """The text is JSON, as far as it goes."""
    try:
        orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return False
    return True
