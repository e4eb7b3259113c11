"""What a provider wants to see again next turn, carried in the places where other forms keep their own signatures.

Thinking that a provider signed, and signatures on tool calls, have no place in Anthropic's or in OpenAI's Responses
form but one that clients bring back unread: a thinking block's `signature`, a redacted block's `data`, a reasoning
item's `encrypted_content`. What we put there begins with `PREFIX`, so that it is known again, and is never handed to
an upstream that would take it for a signature of its own.
"""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any, NamedTuple

import orjson

from proxy.wire.chunk import Json
from proxy.wire.request import CARRIED

PREFIX = CARRIED.decode()


class Carried(NamedTuple):
    details: list[Json]
    """Entries of the message's `reasoning_details`."""
    message: Json
    """Further members of the message."""
    calls: dict[str, Json]
    """Tool call id -> further members of the call."""


def packed(details: list[Json] | None = None, message: Json | None = None, calls: dict[str, Json] | None = None) -> str:
    """Text for a signature's place; the bare prefix where there is nothing to carry."""
    told = {name: value for name, value in (("d", details), ("m", message), ("c", calls)) if value}
    return PREFIX + (urlsafe_b64encode(orjson.dumps(told)).decode() if told else "")


def unpacked(text: object) -> Carried | None:
    """None for what is not ours. What is ours but broken carries nothing."""
    if type(text) is not str or not text.startswith(PREFIX):
        return None
    told: Any = {}
    try:
        told = orjson.loads(urlsafe_b64decode(text[len(PREFIX) :]) or b"{}")
    except (binascii.Error, ValueError):
        told = {}
    if type(told) is not dict:
        told = {}
    details, message, calls = told.get("d"), told.get("m"), told.get("c")
    return Carried(
        [one for one in details if type(one) is dict] if type(details) is list else [],
        message if type(message) is dict else {},
        {id: one for id, one in calls.items() if type(one) is dict} if type(calls) is dict else {},
    )


class Signatures:
    """Gathers what one message of the past carried, from all its blocks."""

    __slots__ = ("calls", "details", "message", "text")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.details: list[Json] = []
        self.message: Json = {}
        self.calls: dict[str, Json] = {}

    def add(self, text: str, signed: object, foreign: Json | None = None) -> None:
        """A thought and what stood in its signature's place; `foreign`: the entry for a signature that is not ours."""
        if text:
            self.text.append(text)
        carried = unpacked(signed)
        if carried is None:
            if foreign is not None:
                self.details.append(foreign)
            return
        for entry in carried.details:
            lacks = entry.get("type") == "reasoning.text" and "text" not in entry
            self.details.append({**entry, "text": text} if lacks else entry)
        self.message.update(carried.message)
        self.calls.update(carried.calls)

    def members(self) -> Json:
        """Members for the assistant's message."""
        told: Json = dict(self.message)
        if self.text:
            told["reasoning_content"] = "".join(self.text)
        if self.details:
            told["reasoning_details"] = self.details
        return told
