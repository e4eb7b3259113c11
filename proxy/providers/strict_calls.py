"""Tool calls as compatible servers send them: without type, index, id or arguments, or with another's id."""

from __future__ import annotations

import orjson

from proxy.errors import UpstreamError
from proxy.providers.base import Minted
from proxy.providers.errors import error_in, told_in_answer
from proxy.providers.frame import malformed
from proxy.wire.chunk import Json


class Call:
    __slots__ = ("arguments", "id", "index", "name", "named", "told")

    def __init__(self, index: object, id: str, name: str) -> None:
        self.index = index
        """The upstream's number, as it was sent."""
        self.id = id
        self.named = bool(id)
        """The upstream gave it an id when it began."""
        self.name = name
        self.arguments = ""
        self.told = False


MEMBERS = {"index", "id", "type", "function", "custom"}


def failed(choice: Json, reason: str) -> UpstreamError:
    """OpenRouter tells the cause beside it."""
    found = error_in(orjson.dumps(choice)) if choice.get("error") else None
    return told_in_answer(found, f"finish reason `{reason}`")


def is_whole(call: Call) -> bool:
    """A call that was never told has no name. One that holds nothing at all is none."""
    if call.arguments.strip():
        raise malformed("a tool call without a name")
    return False


def owner(calls: list[Call], index: object, id: str, name: str) -> Call | None:
    """The call that a piece goes on with."""
    if index is None:
        same = next((call for call in calls if id and call.id == id and not name), None)
        return same or (calls[-1] if calls and not name and not id else None)
    known = next((call for call in reversed(calls) if call.index == index), None)
    if known is None or (id and name and known.id and known.name and known.id != id):
        return None
    if name and known.name and not (id or known.named) and _is_json(known.arguments):
        return None  # whole calls, all under one index and without ids (Gemini's compatible address)
    return known


def _is_json(text: str) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def own_id(calls: list[Call], number: int, minted: Minted) -> str:
    """The call's id; made where it has none or has another's."""
    id = calls[number].id
    taken = {call.id for place, call in enumerate(calls) if place != number and call.told}
    if not id:
        return f"call_{minted.id.removeprefix('chatcmpl-')}_{number}"
    return f"{id}_{number}" if id in taken else id
