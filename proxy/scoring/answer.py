"""An answer as scorers see it, read from the chunks that crossed the engine, whatever the operation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import orjson

from proxy.wire.chunk import Chunk, Json


class Call(NamedTuple):
    """A tool that the model wants called. It is compared and never called."""

    name: str
    arguments: str
    """As the model wrote them: JSON, if all is well."""


class Answer(NamedTuple):
    text: str = ""
    calls: tuple[Call, ...] = ()
    refusal: str = ""
    """Said in the field that exists for it."""
    finish_reason: str | None = None
    failed: bool = False
    """There was no answer, or only a part of one."""

    @property
    def empty(self) -> bool:
        return not (self.text.strip() or self.calls or self.refusal)


FAILED = Answer(failed=True)


def said(operation: str, chunks: Sequence[Chunk], *, stream: bool) -> Answer:
    """The answer in its first choice. `operation`: in whose words the chunks are (`chat` for all translated ones)."""
    bodies = [chunk.body for chunk in chunks if chunk.body is not None]
    read = _READERS.get((operation, stream), _chat_stream if stream else _chat_whole)
    return read(bodies)


def _chat_whole(bodies: Sequence[Json]) -> Answer:
    choice = _first(bodies[0]) if bodies else None
    if choice is None:
        return FAILED
    message = _object(choice.get("message"))
    calls = [_call(call.get("function")) for call in _objects(message.get("tool_calls"))]
    if isinstance(message.get("function_call"), dict):
        calls.append(_call(message["function_call"]))
    return Answer(
        _text(message.get("content")), tuple(calls), _text(message.get("refusal")), choice.get("finish_reason")
    )


def _chat_stream(bodies: Sequence[Json]) -> Answer:
    text, refusal = [], []
    calls: dict[int, list[str]] = {}
    finish = None
    for body in bodies:
        choice = _first(body)
        if choice is None:
            continue
        delta = _object(choice.get("delta"))
        text.append(_text(delta.get("content")))
        refusal.append(_text(delta.get("refusal")))
        for place, call in enumerate(_objects(delta.get("tool_calls"))):
            index = call.get("index")
            _add(calls, index if isinstance(index, int) else place, call.get("function"))
        if isinstance(delta.get("function_call"), dict):
            _add(calls, 0, delta["function_call"])
        finish = choice.get("finish_reason") or finish
    made = tuple(Call(name, arguments) for _, (name, arguments) in sorted(calls.items()))
    return Answer("".join(text), made, "".join(refusal), finish)


def _completion(bodies: Sequence[Json]) -> Answer:
    choices = [choice for body in bodies if (choice := _first(body)) is not None]
    finish = next((choice["finish_reason"] for choice in reversed(choices) if choice.get("finish_reason")), None)
    return Answer("".join([_text(choice.get("text")) for choice in choices]), finish_reason=finish)


def _response(bodies: Sequence[Json]) -> Answer:
    """OpenAI's responses; a stream repeats the whole of it in its last event."""
    last = bodies[-1] if bodies else {}
    whole = _object(last.get("response")) or last
    text, refusal, calls = [], [], []
    for item in _objects(whole.get("output")):
        if item.get("type") == "function_call":
            calls.append(_call(item))
        for part in _objects(item.get("content")):
            text.append(_text(part.get("text")) if part.get("type") == "output_text" else "")
            refusal.append(_text(part.get("refusal")))
    status = whole.get("status")
    finish = "length" if status == "incomplete" else "tool_calls" if calls else "stop"
    return Answer("".join(text), tuple(calls), "".join(refusal), finish, failed=status in ("failed", None))


_STOPS = {"max_tokens": "length", "tool_use": "tool_calls", "refusal": "content_filter", None: None}


def _message_whole(bodies: Sequence[Json]) -> Answer:
    """Anthropic's messages."""
    if not bodies:
        return FAILED
    text, calls = [], []
    for block in _objects(bodies[0].get("content")):
        if block.get("type") == "text":
            text.append(_text(block.get("text")))
        elif block.get("type") == "tool_use":
            calls.append(Call(_text(block.get("name")), _dumped(block.get("input"))))
    return Answer("".join(text), tuple(calls), finish_reason=_STOPS.get(bodies[0].get("stop_reason"), "stop"))


def _message_stream(bodies: Sequence[Json]) -> Answer:
    text, finish = [], None
    calls: dict[int, list[str]] = {}
    for body in bodies:
        block, delta = _object(body.get("content_block")), _object(body.get("delta"))
        index = body.get("index")
        if block.get("type") == "tool_use" and isinstance(index, int):
            calls[index] = [_text(block.get("name")), ""]
        text.append(_text(block.get("text")) + _text(delta.get("text")))
        if isinstance(index, int) and index in calls:
            calls[index][1] += _text(delta.get("partial_json"))
        if delta.get("stop_reason"):
            finish = _STOPS.get(delta["stop_reason"], "stop")
    return Answer("".join(text), tuple(Call(n, a or "{}") for _, (n, a) in sorted(calls.items())), finish_reason=finish)


_READERS: dict[tuple[str, bool], Callable[[Sequence[Json]], Answer]] = {
    ("completions", False): _completion,
    ("completions", True): _completion,
    ("responses", False): _response,
    ("responses", True): _response,
    ("messages", False): _message_whole,
    ("messages", True): _message_stream,
}


def _first(body: Json) -> Json | None:
    """The choice with index 0."""
    for choice in _objects(body.get("choices")):
        if choice.get("index") in (0, None):
            return choice
    return None


def _object(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> Iterable[Json]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    return "".join([_text(part.get("text")) for part in _objects(value)])


def _call(function: object) -> Call:
    function = _object(function)
    return Call(_text(function.get("name")), _dumped(function.get("arguments")))


def _dumped(value: object) -> str:
    if isinstance(value, str):
        return value
    return orjson.dumps(value).decode() if value is not None else "{}"


def _add(calls: dict[int, list[str]], index: int, function: object) -> None:
    part = calls.setdefault(index, ["", ""])
    part[0] += _text(_object(function).get("name"))
    part[1] += _text(_object(function).get("arguments"))
