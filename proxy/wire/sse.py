"""Server-sent events: bytes in, whole events out.

Follows the event stream format of the WHATWG HTML standard (section 9.2) as far as chat APIs use it: lines end in LF,
CRLF or CR, an empty line ends an event, lines that start with a colon are comments, several `data` lines are joined
by LF, unknown fields are ignored. Events keep the bytes they came as. Works on bytes throughout, so that a character
cut in two by the network needs no care.
"""

from __future__ import annotations

import re

EVENT_LIMIT = 8 * 1024 * 1024
"""Bytes of one event; images inside a chunk run to a few MB, and a stream may not fill memory with one line."""

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r\n?|\n\r\n|\r\n\n")
_LINE = re.compile(rb"\r\n|\n|\r")


class EventTooLarge(ValueError):
    """An event passed `EVENT_LIMIT` without ending."""


class EventSplitter:
    """Cuts a byte stream into events, terminators included; what is not yet whole waits."""

    __slots__ = ("_parts", "_size")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The events that `data` completes. Raises `EventTooLarge`."""
        if not self._parts and data.endswith(b"\n\n") and data.count(b"\n\n") == 1 and b"\r" not in data:
            return [data]  # one event, whole: how models send them
        if self._parts:
            self._parts.append(data)
            self._size += len(data)
            if b"\n" not in data and b"\r" not in data:
                self._check()
                return []
            data = b"".join(self._parts)
            self._parts = []
            self._size = 0
        if b"\r" in data:
            return self._feed_mixed(data)
        end = data.rfind(b"\n\n")
        if end < 0:
            self._keep(data)
            return []
        if end + 2 < len(data):
            self._keep(data[end + 2 :])
        return [event + b"\n\n" for event in data[:end].split(b"\n\n")]

    def _feed_mixed(self, data: bytes) -> list[bytes]:
        events = []
        start = 0
        # A CR at the very end may be half of a CRLF: what follows it decides, so it waits.
        limit = len(data) - 1 if data.endswith(b"\r") else len(data)
        for match in _END.finditer(data, 0, limit):
            events.append(data[start : match.end()])
            start = match.end()
        if start < len(data):
            self._keep(data[start:])
        return events

    def rest(self) -> bytes:
        """What came after the last whole event; the stream has ended."""
        data = b"".join(self._parts)
        self._parts = []
        self._size = 0
        return data

    def _keep(self, data: bytes) -> None:
        self._parts.append(data)
        self._size += len(data)
        self._check()

    def _check(self) -> None:
        if self._size > EVENT_LIMIT:
            raise EventTooLarge(f"an event of more than {EVENT_LIMIT} bytes")


def payload(event: bytes) -> bytes:
    """The data of one event; empty for comments and events without data."""
    if event.startswith(b"data: ") and event.endswith(b"\n\n") and event.find(b"\n") == len(event) - 2:
        return event[6:-2]
    lines = []
    for line in _LINE.split(event.removeprefix(b"\xef\xbb\xbf")):
        if line.startswith(b"data:"):
            lines.append(line[6:] if line.startswith(b"data: ") else line[5:])
        elif line == b"data":
            lines.append(b"")
    return b"\n".join(lines)


def comments(event: bytes) -> bytes:
    """What clients may see of an event without data: its comments, which keep sockets open; empty if it has none.

    The standard says to drop such events whatever fields they have (`retry`, a name, an empty `data`), but official
    SDKs take them for JSON and fail.
    """
    lines = [line for line in _LINE.split(event.removeprefix(b"\xef\xbb\xbf")) if line]
    told = [line for line in lines if line.startswith(b":")]
    if len(told) == len(lines):
        return event
    return b"\n".join(told) + b"\n\n" if told else b""


def event_name(event: bytes) -> bytes:
    """The `event:` field; empty where there is none."""
    if b"event" not in event:
        return b""
    for line in _LINE.split(event):
        if line.startswith(b"event:"):
            return line[6:].strip()
    return b""
