"""Framings, read here without the proxy's own code: server-sent events and Amazon's binary event stream."""

from __future__ import annotations

import json
import re
import struct
import zlib
from dataclasses import dataclass
from typing import Any


class Broken(Exception):
    """The recording itself is no whole answer: cut, garbled, or an error told inside it. It must be refused."""


@dataclass(frozen=True)
class Event:
    name: str
    data: str
    terminated: bool = True
    """An empty line followed; false only for what stands at the very end of a cut stream."""


def events(raw: bytes) -> list[Event]:
    """Server-sent events (WHATWG HTML, section 9.2.6); comments and events without data are left out."""
    found: list[Event] = []
    name = ""
    data: list[str] = []
    for line in re.split("\r\n|\n|\r", raw.decode("utf-8", errors="replace").removeprefix("\ufeff")):
        if not line:
            if data:
                found.append(Event(name, "\n".join(data)))
            name, data = "", []
        elif not line.startswith(":"):
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "data":
                data.append(value)
            elif field == "event":
                name = value
    if data:
        found.append(Event(name, "\n".join(data), terminated=False))
    return found


def json_events(raw: bytes) -> list[tuple[str, Any]]:
    """(name, parsed data) up to the end marker. Raises `Broken` for data that is not JSON.

    The remains of an event at the end of a cut stream are left out: whether the answer is whole without them is
    decided by what came before.
    """
    parsed: list[tuple[str, Any]] = []
    for event in events(raw):
        if event.data.strip() == "[DONE]":
            break
        if not event.data.strip():
            continue
        try:
            parsed.append((event.name, json.loads(event.data)))
        except ValueError:
            if event.terminated:
                raise Broken(f"an event that is not JSON: {event.data[:60]!r}") from None
    return parsed


def json_array(text: str) -> list[Any] | None:
    """The elements, if the text is a JSON array of chunks and no event stream."""
    if not text.lstrip().startswith("["):
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, list) else None


def json_body(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        raise Broken("the body is not JSON") from None


def messages(raw: bytes) -> list[tuple[dict[str, str], Any]]:
    """(headers, parsed payload) of each frame of `application/vnd.amazon.eventstream`.

    A frame is: total length and header length (u32, big-endian), CRC-32 of these eight bytes, headers, payload, CRC-32
    of all before it. Only string headers (type 7) occur here. Raises `Broken` for a bad sum or a cut frame.
    """
    found = []
    while raw:
        if len(raw) < 16:
            raise Broken("a frame is cut")
        total, header_length, prelude_sum = struct.unpack(">III", raw[:12])
        if zlib.crc32(raw[:8]) != prelude_sum or total < 16:
            raise Broken("a frame's prelude has a bad sum")
        if len(raw) < total:
            raise Broken("a frame is cut")
        frame, raw = raw[:total], raw[total:]
        if zlib.crc32(frame[:-4]) != struct.unpack(">I", frame[-4:])[0]:
            raise Broken("a frame has a bad sum")
        payload = frame[12 + header_length : -4]
        found.append((_headers(frame[12 : 12 + header_length]), json_body(payload) if payload else {}))
    return found


def _headers(raw: bytes) -> dict[str, str]:
    found = {}
    while raw:
        length = raw[0]
        name, kind = raw[1 : 1 + length].decode(), raw[1 + length]
        if kind != 7:
            raise Broken(f"a header of type {kind}")
        size = struct.unpack(">H", raw[2 + length : 4 + length])[0]
        found[name] = raw[4 + length : 4 + length + size].decode()
        raw = raw[4 + length + size :]
    return found
