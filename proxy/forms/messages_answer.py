"""The chunks of a chat completion as an answer in Anthropic's form, streamed and whole.

Wire facts from Anthropic's API reference (streaming messages) and the types of its SDK: blocks come one after the
other, each with its number; usage at the end is cumulative and overwrites what the start said; `message_stop` tells
that the answer is whole. Both forms are made by the same steps, so that a stream put together equals the whole answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import orjson

from proxy.forms.anthropic_errors import ANTHROPIC
from proxy.forms.carried import packed
from proxy.forms.delta import Call, calls_in, extras_in, text_in
from proxy.wire.chunk import DONE, Chunk, Json, Usage, usage_of

_NOT_IN_ID = re.compile(r"[^a-zA-Z0-9_-]")
_STOPS = {"length": "max_tokens", "content_filter": "refusal"}
_CLAUDE = "anthropic-claude"


class MessagesWriter:
    """Writes one answer. `id`: unique to the exchange."""

    def __init__(self, id: str) -> None:
        self._id = f"msg_{id.partition('-')[2] or id}"
        self._model = ""
        self._usage = Usage(0, 0, 0, 0, 0)
        self._finish: str | None = None
        self._begun = False
        self._out: list[bytes] = []
        self._content: list[Json] = []
        """The blocks so far; text, thinking and input as lists of pieces under `_`."""
        self._open = False
        """The last block is not ended yet."""
        self._details: list[Json] = []
        """Entries of `reasoning_details` that belong to the open block of thinking."""
        self._calls: dict[int, Call] = {}
        """By the upstream's numbers."""
        self._writing: int | None = None
        """The call whose block is open."""
        self._waiting: list[int] = []

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
        content = []
        for block in self._content:
            text = "".join(block.pop("_", ()))
            kind = block["type"]
            if kind == "tool_use":
                block["input"] = _input(text)
            elif kind in ("text", "thinking"):
                block[kind] = text
            content.append(block)
        whole = self._message(content)
        return orjson.dumps({**whole, "stop_reason": self._stop(), "usage": _usage(self._usage)})

    def broken(self, message: str, *, type: str, code: str) -> bytes:
        return ANTHROPIC.broken(message, type=type, code=code)

    # What comes in.

    def _read(self, body: Json, member: str) -> None:
        if not self._begun:
            self._begun = True
            model = body.get("model")
            self._model = model if type(model) is str else ""
            start = {**self._message([]), "usage": {"input_tokens": 0, "output_tokens": 0}}
            self._event("message_start", message=start)
        usage = body.get("usage")
        if type(usage) is dict:
            self._usage = usage_of(usage)
        for choice in body.get("choices") or ():
            if choice.get("index", 0) != 0:
                continue
            told = choice.get(member)
            if type(told) is dict:
                self._delta(told)
            reason = choice.get("finish_reason")
            if type(reason) is str and reason:
                self._finish = reason

    def _delta(self, told: Json) -> None:
        extras = extras_in(told)
        thought = text_in(told.get("reasoning_content") or told.get("reasoning"))
        if thought:
            self._piece("thinking", thought, "thinking_delta")
        details = extras.pop("reasoning_details", None)
        if type(details) is list:
            self._signed([one for one in details if type(one) is dict])
        for text in (text_in(told.get("content")), text_in(told.get("refusal"))):
            if text:
                self._piece("text", text, "text_delta")
        self._cite(told.get("annotations"))
        for call in calls_in(told):
            self._call(call)
        if extras:
            self._carry(packed(message=extras))

    def _signed(self, details: list[Json]) -> None:
        """Signatures belong to the thinking that is open; those that come later get a block of their own."""
        # Text without a signature is told by the thinking itself.
        kept = [one for one in details if one.get("signature") or one.get("data") or one.get("summary")]
        if self._open and self._content[-1]["type"] == "thinking":
            self._details += kept
            if kept:
                self._close()
        elif len(kept) == 1 and kept[0].get("type") == "reasoning.encrypted" and _claudes(kept[0]):
            self._carry(str(kept[0]["data"]))
        elif kept:
            self._carry(packed(details=kept))

    def _cite(self, annotations: Any) -> None:
        if type(annotations) is not list or not (self._open and self._content[-1]["type"] == "text"):
            return
        for one in annotations:
            cited = one.get("url_citation") if type(one) is dict else None
            if type(cited) is dict and type(cited.get("url")) is str:
                told = {
                    "type": "web_search_result_location",
                    "cited_text": text_in(cited.get("cited_text")),
                    "encrypted_index": "",
                    "title": cited.get("title") if type(cited.get("title")) is str else None,
                    "url": cited["url"],
                }
                self._content[-1].setdefault("citations", []).append(told)
                self._delta_event({"type": "citations_delta", "citation": told})

    def _call(self, piece: Call) -> None:
        """A call is written as it comes; another one waits until the open one is whole, or for the end."""
        known = self._calls.get(piece.number)
        if known is None:
            known = self._calls[piece.number] = piece
            if self._writing is None or _is_whole(self._calls[self._writing].arguments):
                self._begin_call(piece.number)
            else:
                self._waiting.append(piece.number)
            return
        known.arguments += piece.arguments
        if self._writing == piece.number and piece.arguments:
            self._delta_event({"type": "input_json_delta", "partial_json": piece.arguments})

    # What goes out.

    def _begin_call(self, number: int) -> None:
        call = self._calls[number]
        self._close()
        id = _NOT_IN_ID.sub("_", call.id)
        if call.extra:
            self._carry(packed(calls={id: call.extra}))
        self._start({"type": "tool_use", "id": id, "name": call.name, "input": {}})
        self._writing = number
        if call.arguments:
            self._delta_event({"type": "input_json_delta", "partial_json": call.arguments})

    def _piece(self, kind: str, text: str, delta: str) -> None:
        if not self._open or self._content[-1]["type"] != kind:
            self._close()
            self._start({"type": kind, kind: "", **({"signature": ""} if kind == "thinking" else {})})
        self._content[-1]["_"].append(text)
        self._delta_event({"type": delta, kind: text})

    def _carry(self, data: str) -> None:
        self._close()
        self._start({"type": "redacted_thinking", "data": data})
        self._close()

    def _start(self, block: Json) -> None:
        self._event("content_block_start", index=len(self._content), content_block=block)
        self._content.append({**block, "_": []})
        self._open = True

    def _close(self) -> None:
        """Ends the open block, if one is."""
        if not self._open:
            return
        block = self._content[-1]
        if block["type"] == "thinking":
            block["signature"] = _signature(self._details)
            self._details = []
            self._delta_event({"type": "signature_delta", "signature": block["signature"]})
        elif self._writing is not None:
            block["_"] = [self._calls[self._writing].arguments]
        self._writing = None
        self._open = False
        self._event("content_block_stop", index=len(self._content) - 1)

    def _end(self) -> None:
        for number in self._waiting:
            self._begin_call(number)
        self._close()
        stop = {"stop_reason": self._stop(), "stop_sequence": None}
        self._event("message_delta", delta=stop, usage=_usage(self._usage))
        self._event("message_stop")

    def _stop(self) -> str:
        reason = self._finish or "stop"
        return _STOPS.get(reason) or ("tool_use" if self._calls else "end_turn")

    def _message(self, content: list[Json]) -> Json:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self._model,
            "content": content,
            "stop_reason": None,
            "stop_sequence": None,
        }

    def _delta_event(self, delta: Json) -> None:
        self._event("content_block_delta", index=len(self._content) - 1, delta=delta)

    def _event(self, type: str, **members: Any) -> None:
        self._out.append(b"event: %b\ndata: %b\n\n" % (type.encode(), orjson.dumps({"type": type, **members})))


def _signature(details: list[Json]) -> str:
    """Claude's own where it signed the thinking, so that it is good wherever Claude is served; else what we carry."""
    if len(details) == 1 and _claudes(details[0]) and details[0].get("type") == "reasoning.text":
        return str(details[0]["signature"])
    return packed(details=[{key: value for key, value in one.items() if key not in _TOLD} for one in details])


_TOLD = {"text", "index"}
"""Members of an entry that the thinking itself tells."""


def _claudes(entry: Json) -> bool:
    return str(entry.get("format") or "").startswith(_CLAUDE)


def _is_whole(arguments: str) -> bool:
    try:
        orjson.loads(arguments)
    except orjson.JSONDecodeError:
        return False
    return True


def _input(arguments: str) -> Json:
    """An object, whatever the model wrote."""
    try:
        value = orjson.loads(arguments) if arguments.strip() else {}
    except orjson.JSONDecodeError:
        value = arguments
    return value if type(value) is dict else {"arguments": value}


def _usage(usage: Usage) -> Json:
    return {
        "input_tokens": usage.uncached_input,
        "cache_creation_input_tokens": usage.cache_write,
        "cache_read_input_tokens": usage.cache_read,
        "output_tokens": usage.output,
        "output_tokens_details": {"thinking_tokens": usage.reasoning},
    }
