"""What a chat message or a piece of one holds, read leniently: some upstreams are passed on as they are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from proxy.wire.chunk import Json

_KEPT = {"reasoning_details", "extra_content"}
"""What the next turn must bring back."""


class Call:
    """A tool call, or a piece of one."""

    __slots__ = ("arguments", "extra", "id", "name", "number")

    def __init__(self, number: int, id: str, name: str, arguments: str, extra: Json) -> None:
        self.number = number
        self.id = id
        self.name = name
        self.arguments = arguments
        self.extra = extra


def text_in(value: Any) -> str:
    """Text as a string or as a list of parts."""
    if type(value) is str:
        return value
    if type(value) is list:
        return "".join([text_in(part.get("text")) for part in value if type(part) is dict])
    return ""


def objects_in(value: Any) -> list[Json]:
    """The objects of a list; none where it is no list."""
    return [one for one in value if type(one) is dict] if type(value) is list else []


def calls_in(message: Json) -> Iterator[Call]:
    """The tool calls of a message, or their pieces in a delta."""
    calls = message.get("tool_calls")
    for at, call in enumerate(calls if type(calls) is list else ()):
        if type(call) is not dict:
            continue
        number = call.get("index")
        function = call.get("function") or call.get("custom")
        told = function if type(function) is dict else {}
        given = told["input"] if "input" in told else told.get("arguments")
        arguments = given if type(given) is str else "" if given is None else orjson.dumps(given).decode()
        extra = {name: call[name] for name in _KEPT & call.keys() if call[name]}
        yield Call(
            number if type(number) is int else at, text_in(call.get("id")), text_in(told.get("name")), arguments, extra
        )


def extras_in(message: Json) -> Json:
    return {name: message[name] for name in _KEPT & message.keys() if message[name]}
