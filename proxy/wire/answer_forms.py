"""Answers in the other forms in which clients ask (responses, messages, completions), read back into what they say."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import orjson

from proxy.wire.answer import Answer, ToolCall, answer_of
from proxy.wire.chunk import Json
from proxy.wire.sse import EventSplitter, EventTooLarge


def answer_in(operation: str, data: bytes, *, stream: bool) -> Answer:
    """The bytes that a client was sent for `operation`. Never raises; what is no whole answer has no finish reason."""
    read = _READERS.get(operation)
    return answer_of(data, stream=stream) if read is None else read(_bodies(data, stream), stream)


def _bodies(data: bytes, stream: bool) -> list[Json]:
    if not stream:
        return [_parsed(data)]
    splitter = EventSplitter()
    try:
        events = [*splitter.feed(data), splitter.rest()]
    except EventTooLarge:
        return []
    lines = [line[5:] for event in events for line in event.splitlines() if line.startswith(b"data:")]
    return [_parsed(line) for line in lines]


def _completion(bodies: Sequence[Json], stream: bool) -> Answer:
    choices = [choice for body in bodies for choice in _objects(body.get("choices")) if not choice.get("index")]
    finish = next((choice["finish_reason"] for choice in reversed(choices) if choice.get("finish_reason")), None)
    return Answer("".join([_text(choice.get("text")) for choice in choices]), finish_reason=finish)


def _response(bodies: Sequence[Json], stream: bool) -> Answer:
    """OpenAI's responses; the last event of a stream repeats the whole of it."""
    whole = _object(bodies[-1].get("response")) if stream and bodies else _first(bodies)
    text, refusal, calls = [], [], []
    for item in _objects(whole.get("output")):
        if item.get("type") == "function_call":
            calls.append(ToolCall(_text(item.get("call_id")), _text(item.get("name")), _text(item.get("arguments"))))
        for part in _objects(item.get("content")):
            text.append(_text(part.get("text")) if part.get("type") == "output_text" else "")
            refusal.append(_text(part.get("refusal")))
    ends = {"completed": "tool_calls" if calls else "stop", "incomplete": "length"}
    return Answer("".join(text), "", "".join(refusal), tuple(calls), ends.get(_text(whole.get("status"))))


_STOPS = {"max_tokens": "length", "tool_use": "tool_calls", "refusal": "content_filter"}


def _message(bodies: Sequence[Json], stream: bool) -> Answer:
    """Anthropic's messages: a stream is first put together to what it would have been whole."""
    if not stream:
        return _blocks(_objects(_first(bodies).get("content")), _first(bodies).get("stop_reason"))
    blocks: dict[int, Json] = {}
    stop = None
    for body in bodies:
        index, delta = body.get("index"), _object(body.get("delta"))
        if isinstance(body.get("content_block"), dict) and isinstance(index, int):
            blocks[index] = dict(body["content_block"])
        elif isinstance(index, int) and index in blocks:
            block = blocks[index]
            block["text"] = _text(block.get("text")) + _text(delta.get("text"))
            block["json"] = _text(block.get("json")) + _text(delta.get("partial_json"))
        stop = delta.get("stop_reason") or stop
    return _blocks([block for _, block in sorted(blocks.items())], stop)


def _blocks(blocks: Sequence[Json], stop: object) -> Answer:
    text = [_text(block.get("text")) for block in blocks if block.get("type") == "text"]
    calls = []
    for block in blocks:
        if block.get("type") == "tool_use":
            arguments = _text(block.get("json")) or orjson.dumps(block.get("input") or {}).decode()
            calls.append(ToolCall(_text(block.get("id")), _text(block.get("name")), arguments))
    finish = _STOPS.get(stop, "stop") if isinstance(stop, str) else None
    return Answer("".join(text), tool_calls=tuple(calls), finish_reason=finish)


_READERS: dict[str, Callable[[Sequence[Json], bool], Answer]] = {
    "completions": _completion,
    "responses": _response,
    "messages": _message,
}


def _parsed(data: bytes) -> Json:
    try:
        return _object(orjson.loads(data))
    except orjson.JSONDecodeError:
        return {}


def _first(bodies: Sequence[Json]) -> Json:
    return bodies[0] if bodies else {}


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> list[Json]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
