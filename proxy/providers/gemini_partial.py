"""Function calls whose arguments Vertex sends in pieces (`partialArgs`), put together.

Wire facts from the types of google-genai: each piece names its place by a JSON path (`$.city`, `$.days[0].name`) and
brings one value; a text goes on in later pieces of the same path. A call goes on while `willContinue` is true.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

from proxy.wire.chunk import Json

_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]|\[(['\"])(.*?)\3\]")
_LIST_LIMIT = 10_000
"""Entries of an array that a path may ask for."""


class PartialCall:
    __slots__ = ("_args", "_id", "_name", "signature")

    def __init__(self) -> None:
        self._name: str | None = None
        self._id: str | None = None
        self._args: Json = {}
        self.signature: str | None = None

    def add(self, call: Json, signature: str | None) -> bool:
        """The next piece; True when the call is whole."""
        self._name = self._name or call.get("name")
        self._id = self._id or call.get("id")
        self.signature = self.signature or signature
        if type(call.get("args")) is dict:
            self._args.update(call["args"])
        for piece in call.get("partialArgs") or ():
            if type(piece) is dict:
                self._put(piece)
        return call.get("willContinue") is not True

    def whole(self) -> Json:
        return {"name": self._name, "id": self._id, "args": self._args}

    def _put(self, piece: Json) -> None:
        steps = [
            int(number) if number else name or quoted
            for name, number, _, quoted in _STEP.findall(str(piece.get("jsonPath") or "").removeprefix("$"))
        ]
        value = _value(piece)
        if not steps or value is _NOTHING:
            return
        at: Any = self._args
        for step, after in pairwise(steps):
            at = _enter(at, step, [] if type(after) is int else {})
            if at is None:
                return
        last = steps[-1]
        before = _look(at, last)
        _set(at, last, before + value if type(before) is str and type(value) is str else value)


_NOTHING = object()


def _value(piece: Json) -> Any:
    for name in ("stringValue", "numberValue", "boolValue"):
        if name in piece:
            value = piece[name]
            whole = type(value) is float and value.is_integer() and abs(value) < 2**53
            return int(value) if whole else value
    return None if "nullValue" in piece else _NOTHING


def _look(at: Any, step: str | int) -> Any:
    if type(at) is list:
        return at[step] if type(step) is int and step < len(at) else None
    return at.get(str(step)) if type(at) is dict else None


def _set(at: Any, step: str | int, value: Any) -> None:
    if type(at) is list and type(step) is int and step <= _LIST_LIMIT:
        at.extend([None] * (step + 1 - len(at)))
        at[step] = value
    elif type(at) is dict:
        at[str(step)] = value


def _enter(at: Any, step: str | int, fresh: Any) -> Any:
    inner = _look(at, step)
    if type(inner) not in (dict, list):
        _set(at, step, fresh)
        inner = _look(at, step)
    return inner
