"""The chunks of a chat completion as an answer in Anthropic's form, streamed and whole.

Wire facts from Anthropic's API reference (streaming messages) and the types of its SDK: blocks come one after the
other, each with its number; usage at the end is cumulative and overwrites what the start said; `message_stop` tells
that the answer is whole.
"""

from __future__ import annotations

import re

import orjson

from proxy.forms.anthropic_errors import ANTHROPIC
from proxy.forms.carried import packed
from proxy.forms.delta import Call, text_in
from proxy.forms.in_order import InOrder
from proxy.wire.chunk import Json, Usage

_NOT_IN_ID = re.compile(r"[^a-zA-Z0-9_-]")
_STOPS = {"length": "max_tokens", "content_filter": "refusal"}
_CLAUDE = "anthropic-claude"


class MessagesWriter(InOrder):
    """Writes one answer. `id`: unique to the exchange."""

    def __init__(self, id: str) -> None:
        super().__init__()
        self._id = f"msg_{id.partition('-')[2] or id}"
        self._content: list[Json] = []
        """The blocks so far."""
        self._pieces: list[str] = []
        """What fills the open block."""
        self._opened = False
        self._details: list[Json] = []
        """Entries of `reasoning_details` that belong to the open block of thinking."""

    def answer(self) -> Json:
        whole = self._message(self._content)
        return {**whole, "stop_reason": self._stop(), "usage": _usage(self.usage)}

    def broken(self, message: str, *, type: str, code: str) -> bytes:
        return ANTHROPIC.broken(message, type=type, code=code)

    def begin(self) -> None:
        self.event("message_start", message={**self._message([]), "usage": {"input_tokens": 0, "output_tokens": 0}})

    def text(self, text: str) -> None:
        self._fill("text", text, "text_delta")

    def refusal(self, text: str) -> None:
        self.text(text)

    def thought(self, text: str) -> None:
        self._fill("thinking", text, "thinking_delta")

    def signed(self, details: list[Json]) -> None:
        """Signatures belong to the thinking that is open; those that come later get a block of their own."""
        if self._opened and self._content[-1]["type"] == "thinking":
            self._details += details
            self.close()
        elif len(details) == 1 and details[0].get("type") == "reasoning.encrypted" and _claudes(details[0]):
            self._carry(str(details[0]["data"]))
        else:
            self._carry(packed(details=details))

    def cited(self, citation: Json) -> None:
        if not self._opened or self._content[-1]["type"] != "text":
            return
        title = citation.get("title")
        told = {
            "type": "web_search_result_location",
            "cited_text": text_in(citation.get("cited_text")),
            "encrypted_index": "",
            "title": title if type(title) is str else None,
            "url": citation["url"],
        }
        self._content[-1].setdefault("citations", []).append(told)
        self._delta({"type": "citations_delta", "citation": told})

    def call(self, call: Call) -> None:
        id = _NOT_IN_ID.sub("_", call.id)
        if call.extra:
            self._carry(packed(calls={id: call.extra}))
        self._start({"type": "tool_use", "id": id, "name": call.name, "input": {}})
        if call.arguments:
            self.arguments(call.arguments)

    def arguments(self, piece: str) -> None:
        self._pieces.append(piece)
        self._delta({"type": "input_json_delta", "partial_json": piece})

    def extras(self, members: Json) -> None:
        self.close()
        self._carry(packed(message=members))

    def close(self) -> None:
        if not self._opened:
            return
        block, text = self._content[-1], "".join(self._pieces)
        kind = block["type"]
        if kind == "tool_use":
            block["input"] = _input(text)
        elif kind in ("text", "thinking"):
            block[kind] = text
        if kind == "thinking":
            block["signature"] = _signature(self._details)
            self._details = []
            self._delta({"type": "signature_delta", "signature": block["signature"]})
        self._pieces = []
        self.writing = None
        self._opened = False
        self.event("content_block_stop", index=len(self._content) - 1)

    def end(self) -> None:
        stop = {"stop_reason": self._stop(), "stop_sequence": None}
        self.event("message_delta", delta=stop, usage=_usage(self.usage))
        self.event("message_stop")

    def _fill(self, kind: str, text: str, delta: str) -> None:
        if not self._opened or self._content[-1]["type"] != kind:
            self.close()
            self._start({"type": kind, kind: "", **({"signature": ""} if kind == "thinking" else {})})
        self._pieces.append(text)
        self._delta({"type": delta, kind: text})

    def _carry(self, data: str) -> None:
        writing = self.writing
        self.close()
        self._start({"type": "redacted_thinking", "data": data})
        self.close()
        self.writing = writing

    def _start(self, block: Json) -> None:
        self.event("content_block_start", index=len(self._content), content_block=block)
        self._content.append(dict(block))
        self._opened = True

    def _delta(self, delta: Json) -> None:
        self.event("content_block_delta", index=len(self._content) - 1, delta=delta)

    def _stop(self) -> str:
        return _STOPS.get(self.finish or "stop") or ("tool_use" if self.calls else "end_turn")

    def _message(self, content: list[Json]) -> Json:
        return {
            "id": self._id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": None,
            "stop_sequence": None,
        }


def _signature(details: list[Json]) -> str:
    """Claude's own where it signed the thinking, so that it is good wherever Claude is served; else what we carry."""
    if len(details) == 1 and _claudes(details[0]) and details[0].get("type") == "reasoning.text":
        return str(details[0]["signature"])
    return packed(details=[{key: value for key, value in one.items() if key not in _TOLD} for one in details])


_TOLD = {"text", "index"}
"""Members of an entry that the thinking itself tells."""


def _claudes(entry: Json) -> bool:
    return str(entry.get("format") or "").startswith(_CLAUDE)


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
