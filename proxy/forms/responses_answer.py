"""The chunks of a chat completion as an answer in the form of OpenAI's Responses, streamed and whole.

Wire facts from OpenAI's API reference (responses, streaming events) and the types of its SDK: items come one after the
other, each added, filled and done; every event has a number; `response.completed` or `response.incomplete`, with the
whole response in it, tells that the answer has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from proxy.forms.carried import packed
from proxy.forms.delta import Call, text_in
from proxy.forms.in_order import InOrder
from proxy.wire.chunk import Chunk, Json, Usage
from proxy.wire.render import error_object

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_ECHOED: Json = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "service_tier": "default",
    "temperature": None,
    "tool_choice": "auto",
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}
"""Members of the request that the answer repeats, and what stands there where the request has none."""


class ResponsesWriter(InOrder):
    """Writes one answer. `id`: unique to the exchange; `asked`: the request's body; `created`: seconds since the epoch
    where the upstream tells none."""

    def __init__(self, id: str, asked: Json) -> None:
        super().__init__()
        self._id = id.partition("-")[2] or id
        self._asked = asked
        self._created = 0
        self._number = -1
        self._output: list[Json] = []
        """The items so far; the last one is open while `_opened`."""
        self._opened = False
        self._pieces: list[str] = []
        """What fills the open part."""
        self._details: list[Json] = []

    def answer(self) -> Json:
        return self._response(self._status())

    def broken(self, message: str, *, type: str, code: str) -> bytes:
        return broken_event(message, type=type, code=code, number=self._number + 1)

    def event(self, type: str, **members: Any) -> None:
        self._number += 1
        super().event(type, sequence_number=self._number, **members)

    def _read(self, body: Json, member: str) -> None:
        if not self._created and isinstance(body.get("created"), int):
            self._created = body["created"]
        super()._read(body, member)

    def begin(self) -> None:
        self.event("response.created", response=self._response("in_progress"))
        self.event("response.in_progress", response=self._response("in_progress"))

    # Items.

    def text(self, text: str) -> None:
        self._part("output_text", {"type": "output_text", "text": "", "annotations": [], "logprobs": []})
        self._pieces.append(text)
        self._in_part("response.output_text.delta", delta=text, logprobs=[])

    def refusal(self, text: str) -> None:
        self._part("refusal", {"type": "refusal", "refusal": ""})
        self._pieces.append(text)
        self._in_part("response.refusal.delta", delta=text)

    def thought(self, text: str) -> None:
        if not self._is_open("reasoning"):
            self.close()
            self._start({"id": self._item_id("rs"), "type": "reasoning", "summary": []})
            self._output[-1]["summary"].append({"type": "summary_text", "text": ""})
            self._of_item("response.reasoning_summary_part.added", summary_index=0, part=_summary(""))
        self._pieces.append(text)
        self._of_item("response.reasoning_summary_text.delta", summary_index=0, delta=text)

    def signed(self, details: list[Json]) -> None:
        if self._is_open("reasoning"):
            self._details += details
            self.close()
        else:
            self._carry(packed(details=details))

    def cited(self, citation: Json) -> None:
        if not self._is_open("message") or self._output[-1]["content"][-1]["type"] != "output_text":
            return
        noted = self._output[-1]["content"][-1]["annotations"]
        told = {
            "type": "url_citation",
            "start_index": _number(citation.get("start_index")),
            "end_index": _number(citation.get("end_index")),
            "title": text_in(citation.get("title")),
            "url": citation["url"],
        }
        noted.append(told)
        self._in_part("response.output_text.annotation.added", annotation_index=len(noted) - 1, annotation=told)

    def call(self, call: Call) -> None:
        if call.extra:
            self._carry(packed(calls={call.id: call.extra}))
        item = {"id": self._item_id("fc"), "type": "function_call", "status": "in_progress", "call_id": call.id}
        self._start({**item, "name": call.name, "arguments": ""})
        if call.arguments:
            self.arguments(call.arguments)

    def arguments(self, piece: str) -> None:
        self._pieces.append(piece)
        self._of_item("response.function_call_arguments.delta", delta=piece)

    def extras(self, members: Json) -> None:
        self.close()
        self._carry(packed(message=members))

    def close(self) -> None:
        if not self._opened:
            return
        item = self._output[-1]
        if item["type"] == "message":
            self._end_part()
        elif item["type"] == "reasoning" and item["summary"]:
            text = "".join(self._pieces)
            item["summary"][0]["text"] = text
            self._of_item("response.reasoning_summary_text.done", summary_index=0, text=text)
            self._of_item("response.reasoning_summary_part.done", summary_index=0, part=_summary(text))
        elif item["type"] == "function_call":
            # A call without arguments has an empty object of them.
            item["arguments"] = "".join(self._pieces) or "{}"
            told = {"arguments": item["arguments"], "name": item["name"]}
            self._of_item("response.function_call_arguments.done", **told)
        self._finish_item()

    def end(self) -> None:
        status = self._status()
        self.event(f"response.{status}", response=self._response(status))

    def _part(self, kind: str, part: Json) -> None:
        """The message is open, and in it a part of this kind."""
        if not self._is_open("message"):
            self.close()
            item = {"id": self._item_id("msg"), "type": "message", "status": "in_progress", "role": "assistant"}
            self._start({**item, "content": []})
        content = self._output[-1]["content"]
        if content and content[-1]["type"] == kind:
            return
        self._end_part()
        content.append(part)
        self._in_part("response.content_part.added", part=part)

    def _end_part(self) -> None:
        content = self._output[-1]["content"]
        if not content:
            return
        part, text = content[-1], "".join(self._pieces)
        self._pieces = []
        if part["type"] == "refusal":
            part["refusal"] = text
            self._in_part("response.refusal.done", refusal=text)
        else:
            part["text"] = text
            self._in_part("response.output_text.done", text=text, logprobs=[])
        self._in_part("response.content_part.done", part=part)

    def _carry(self, content: str) -> None:
        writing = self.writing
        self.close()
        self._start({"id": self._item_id("rs"), "type": "reasoning", "summary": []})
        self._finish_item(content)
        self.writing = writing

    def _start(self, item: Json) -> None:
        self.event("response.output_item.added", output_index=len(self._output), item=item)
        # Filled from here on; what was told of it is not.
        self._output.append({name: [] if value == [] else value for name, value in item.items()})
        self._opened = True

    def _finish_item(self, content: str | None = None) -> None:
        item = self._output[-1]
        if item["type"] == "reasoning":
            item["encrypted_content"] = packed(details=_untold(self._details)) if content is None else content
            self._details = []
        else:
            item["status"] = "completed"
        self._pieces = []
        self.writing = None
        self._opened = False
        self.event("response.output_item.done", output_index=len(self._output) - 1, item=item)

    def _is_open(self, kind: str) -> bool:
        return self._opened and self._output[-1]["type"] == kind

    def _of_item(self, type: str, **members: Any) -> None:
        self.event(type, item_id=self._output[-1]["id"], output_index=len(self._output) - 1, **members)

    def _in_part(self, type: str, **members: Any) -> None:
        self._of_item(type, content_index=len(self._output[-1]["content"]) - 1, **members)

    def _item_id(self, prefix: str) -> str:
        return f"{prefix}_{self._id}{len(self._output):02x}"

    # The response as a whole.

    def _status(self) -> str:
        return "incomplete" if self.finish in _INCOMPLETE else "completed"

    def _response(self, status: str) -> Json:
        asked = self._asked
        output = self._output if status != "in_progress" else []
        if status == "incomplete" and output and output[-1].get("status") == "completed":
            output = [*output[:-1], {**output[-1], "status": "incomplete"}]
        why = _INCOMPLETE.get(self.finish or "") if status == "incomplete" else None
        text, reasoning = asked.get("text") or {}, asked.get("reasoning") or {}
        return {
            "id": f"resp_{self._id}",
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": why} if why is not None else None,
            "model": self.model,
            "output": output,
            "previous_response_id": None,
            "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
            "store": False,
            "text": {"format": {"type": "text"}, **{name: value for name, value in text.items() if value is not None}},
            "tools": [_tool(tool) for tool in asked.get("tools") or ()],
            "usage": _usage(self.usage) if status != "in_progress" else None,
            **{name: default if asked.get(name) is None else asked[name] for name, default in _ECHOED.items()},
        }


class NativeResponses:
    """The upstream's own events, as they came; only their numbers are read, for an error that may have to follow."""

    def __init__(self) -> None:
        self._number = -1

    def stream(self, chunks: Sequence[Chunk]) -> bytes:
        for chunk in chunks:
            number = chunk.body.get("sequence_number") if chunk.body is not None else None
            if type(number) is int:
                self._number = number
        return b"".join([chunk.raw for chunk in chunks])

    def whole(self, chunk: Chunk) -> bytes:
        return chunk.raw

    def broken(self, message: str, *, type: str, code: str) -> bytes:
        return broken_event(message, type=type, code=code, number=self._number + 1)


def broken_event(message: str, *, type: str, code: str, number: int) -> bytes:
    """The members that the SDK's types know stand at the top, those that make it raise under `error`."""
    told = error_object(message, type=type, code=code)
    body = {"type": "error", "sequence_number": number, "code": code, "message": message, "param": None, **told}
    return b"event: error\ndata: %b\n\n" % orjson.dumps(body)


def _summary(text: str) -> Json:
    return {"type": "summary_text", "text": text}


def _untold(details: list[Json]) -> list[Json]:
    """Without what the summary itself tells."""
    return [{key: value for key, value in one.items() if key not in ("text", "index")} for one in details]


def _tool(tool: Json) -> Json:
    """With the members that the SDK's types want."""
    if tool.get("type") != "function":
        return tool
    return {"description": None, "parameters": None, "strict": None, **tool}


def _number(value: object) -> int:
    return value if type(value) is int else 0


def _usage(usage: Usage) -> Json:
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cache_read, "cache_write_tokens": usage.cache_write},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    }
