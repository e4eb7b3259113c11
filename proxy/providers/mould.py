"""The next piece of text, known without reading it as JSON.

Of the hundreds of events of a stream nearly all differ in nothing but the text they say. So from one that has been
read, and was nothing but text, a mould is made: its bytes around the text. What is those very bytes again around some
other text of JSON says just that: what was found of the one holds of the other.
"""

from __future__ import annotations

import re

_text = re.compile(rb'(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u(?![dD][89a-fA-F])[0-9a-fA-F]{4}))++').fullmatch
"""The inside of a JSON string (RFC 8259, section 7) that is not empty, without surrogates: half a pair of them would be
no character.
"""
_SAYS = re.compile(rb'"content": ?"')
_PADS = re.compile(rb'"obfuscation": ?"')
"""OpenAI pads its events with so many random letters that their size does not tell the text's."""


class Mould:
    __slots__ = ("_begin", "_between", "_head", "_rest", "_tail", "usage_key")

    def __init__(self, head: bytes, between: bytes, tail: bytes, usage_key: bool) -> None:
        self._head = head
        """What stands before the text."""
        self._begin = len(head)
        self._between = between
        """What stands between the text and the padding; empty where there is none."""
        self._tail = tail
        self._rest = len(tail)
        self.usage_key = usage_key
        """See `Chunk`."""

    @classmethod
    def of(cls, event: bytes, usage_key: bool) -> Mould | None:
        """From an event that is one line, holds one JSON object, and says the text of one choice and nothing else.

        None where the text is not certain to be what is found.
        """
        begin = _begin(event, _SAYS)
        end = event.find(b'"', begin)
        if not begin or not _text(event, begin, end) or b'"obfuscation"' in event[:begin]:
            return None
        head, tail = event[:begin], event[end:]
        pad = _begin(tail, _PADS)
        if not pad:
            return cls(head, b"", tail, usage_key)
        return cls(head, tail[:pad], tail[tail.find(b'"', pad) :], usage_key)

    def fits(self, event: bytes) -> bool:
        """The event is the one this was made of, with another text (and padding) that is not empty."""
        if not event.startswith(self._head) or not event.endswith(self._tail):
            return False
        end = len(event) - self._rest
        if self._between:
            between = self._between
            cut = event.find(between, self._begin)  # it begins with a quote, so no text holds it
            if cut < 0 or not _text(event, cut + len(between), end):
                return False
            end = cut
        return _text(event, self._begin, end) is not None and (event.isascii() or _is_utf8(event))


def _begin(event: bytes, member: re.Pattern[bytes]) -> int:
    """Where the text of the member begins; 0 unless there is one such. Within a text, its quotes would be escaped."""
    found = member.findall(event)
    return event.index(found[0]) + len(found[0]) if len(found) == 1 else 0


def _is_utf8(event: bytes) -> bool:
    try:
        event.decode()
    except UnicodeDecodeError:
        return False
    return True
