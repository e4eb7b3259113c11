"""The next piece of text, known without reading it as JSON.

Of the hundreds of events of a stream nearly all differ in nothing but the text they say. So from one that has been
read, and was nothing but text, a mould is made: its bytes around the text. What is those very bytes again around some
other text of JSON says just that: what was found of the one holds of the other.
"""

from __future__ import annotations

import re
from typing import NamedTuple

_text = re.compile(rb'(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u(?![dD][89a-fA-F])[0-9a-fA-F]{4}))++').match
"""The inside of a JSON string (RFC 8259, section 7) that is not empty, without surrogates: half a pair of them would be
no character.
"""
_SAYS = re.compile(rb'"content": ?"')
_PADS = re.compile(rb'"obfuscation": ?"')
"""OpenAI pads its events with so many random letters that their size does not tell the text's."""


class Mould(NamedTuple):
    pieces: tuple[bytes, ...]
    """What stands before each text."""
    tail: bytes
    """What stands behind the last."""
    usage_key: bool
    """See `Chunk`."""

    @classmethod
    def of(cls, event: bytes, usage_key: bool) -> Mould | None:
        """From an event that is one line, holds one JSON object, and says the text of one choice and nothing else.

        None where its text is empty, or not certain to be what is found.
        """
        begin = _begin(event, _SAYS)
        end = _end(event, begin)
        if not begin or end == begin or event[end : end + 1] != b'"' or b'"obfuscation"' in event[:begin]:
            return None
        tail = event[end:]
        pad = _begin(tail, _PADS)
        if pad == 0:
            return cls((event[:begin],), tail, usage_key)
        return cls((event[:begin], tail[:pad]), tail[_end(tail, pad) :], usage_key)

    def fits(self, event: bytes) -> bool:
        """The event is the one this was made of, with another text that is not empty."""
        at = 0
        for piece in self.pieces:
            if not event.startswith(piece, at):
                return False
            begin = at + len(piece)
            text = _text(event, begin)
            if text is None:
                return False
            at = text.end()
        return event[at:] == self.tail and (event.isascii() or _is_utf8(event))


def _begin(event: bytes, member: re.Pattern[bytes]) -> int:
    """Where the text of the member begins; 0 unless there is one such. Within a text, its quotes would be escaped."""
    found = member.findall(event)
    return event.index(found[0]) + len(found[0]) if len(found) == 1 else 0


def _end(event: bytes, begin: int) -> int:
    """Where the text that begins there ends."""
    text = _text(event, begin)
    return text.end() if text is not None else begin


def _is_utf8(event: bytes) -> bool:
    try:
        event.decode()
    except UnicodeDecodeError:
        return False
    return True
