"""The same recordings, spoilt or written otherwise: what the network and failing providers do to answers.

Whether a spoilt answer must be refused is for the reader of recordings to say, as with any other.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from random import Random
from typing import Any

from tests.replay.recording import Recording

_ERRORS: dict[str, Any] = {
    "openai": {"error": {"message": "Overloaded", "type": "server_error", "param": None, "code": None}},
    "anthropic": {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}},
    "gemini": {"error": {"code": 503, "message": "Overloaded", "status": "UNAVAILABLE"}},
}
_ERRORS["mistral"] = _ERRORS["openai"]
_END = re.compile(rb"data: ?\[DONE\]\s*")


def harmed(recording: Recording) -> Iterator[Recording]:
    """Each with its own id and the harm as its only kind; nothing for answers with an error status."""
    if recording.status != 200 or not recording.mapped:
        return
    if not recording.stream:
        ways = _bodies(recording)
    elif recording.family == "bedrock":
        ways = _frames(recording)
    else:
        ways = _events(recording)
    for name, body in ways:
        yield replace(
            recording, id=f"{recording.id}#{name}", kinds=(name.split("-")[0],), body=body, cut="-in-" in name
        )


def _bodies(recording: Recording) -> Iterator[tuple[str, bytes]]:
    yield "cut", recording.body[: len(recording.body) // 2]
    yield "empty", b""
    yield "html", b"<html><body>502 Bad Gateway</body></html>"
    if recording.family in _ERRORS:
        yield "error", json.dumps(_ERRORS[recording.family]).encode()


def _events(recording: Recording) -> Iterator[tuple[str, bytes]]:
    body = recording.body
    plain = body.replace(b"\r\n", b"\n")
    events = [event + b"\n\n" for event in plain.rstrip(b"\n").split(b"\n\n")]
    middle = Random(recording.id).randrange(len(events))
    yield "crlf", plain.replace(b"\n", b"\r\n")
    yield "cr", plain.replace(b"\n", b"\r")
    yield "comments", b": ping\n\n".join([b"", *events])
    yield "spaceless", plain.replace(b"data: ", b"data:")
    yield "trimmed", plain.rstrip(b"\n")
    yield "endless", _END.sub(b"", plain)
    for name, event in (("garbage", b'data: {"id": \n\n'), ("error", _error(recording.family))):
        if event:
            yield name, b"".join([*events[:middle], event, *events[middle:]])
    for number in sorted({1, middle, len(events) - 1} & set(range(1, len(events)))):
        yield f"cut-{number}", b"".join(events[:number])
        yield f"cut-in-{number}", b"".join(events[:number]) + events[number][: len(events[number]) // 2]


def _error(family: str) -> bytes:
    if family not in _ERRORS:
        return b""
    named = b"event: error\n" if family == "anthropic" else b""
    return named + b"data: %s\n\n" % json.dumps(_ERRORS[family]).encode()


def _frames(recording: Recording) -> Iterator[tuple[str, bytes]]:
    frames, rest = [], recording.body
    while rest:
        total = struct.unpack(">I", rest[:4])[0]
        frames.append(rest[:total])
        rest = rest[total:]
    middle = Random(recording.id).randrange(1, len(frames) - 1)
    for number in sorted({1, middle, len(frames) - 1}):
        yield f"cut-{number}", b"".join(frames[:number])
    yield "cut-in-1", b"".join(frames[:1]) + frames[1][: len(frames[1]) // 2]
    spoilt = bytearray(frames[middle])
    spoilt[-6] ^= 0x20
    yield "garbage", b"".join([*frames[:middle], bytes(spoilt), *frames[middle + 1 :]])
