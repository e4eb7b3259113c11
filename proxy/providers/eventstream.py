"""AWS event streams: bytes in, whole checked messages out.

Wire facts from the Amazon event stream encoding specification (application/vnd.amazon.eventstream): a message is a
prelude (total length and header length, big-endian unsigned 32 bits each, and the CRC-32 of these eight bytes), the
headers, the payload, and the CRC-32 of everything before it. A header is a name (8-bit length), a type (8 bits) and a
value; the length of the value follows from the type, or stands before it in 16 bits.
"""

from __future__ import annotations

import struct
from binascii import crc32
from typing import NamedTuple

from proxy.wire.sse import EVENT_LIMIT

MESSAGE_LIMIT = EVENT_LIMIT
"""Bytes of one message."""
_HEADERS_LIMIT = 128 * 1024

_PRELUDE = struct.Struct("!III")
_U32 = struct.Struct("!I")
_U16 = struct.Struct("!H")
_FIXED = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Type -> bytes of the value: true, false, 8 to 64-bit integers, a timestamp, a UUID."""
_BYTES, _STRING = 6, 7


class BrokenMessage(ValueError):
    """The bytes are no message: a checksum or a length is wrong."""


class Message(NamedTuple):
    headers: dict[str, str]
    """Those of type string; others have no meaning to a chat."""
    payload: bytes


class MessageSplitter:
    """Cuts a byte stream into messages; what is not yet whole waits."""

    __slots__ = ("_buffer", "_need")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._need = 0
        """Length of the message that has begun; 0 until its prelude is whole and has been checked."""

    def feed(self, data: bytes) -> None:
        self._buffer += data

    def take(self) -> Message | None:
        """The next message; None until it is whole. Raises `BrokenMessage` as soon as the prelude is wrong."""
        buffer = self._buffer
        if not self._need:
            if len(buffer) < _PRELUDE.size:
                return None
            total, headers, check = _PRELUDE.unpack_from(buffer)
            if crc32(buffer[:8]) != check:
                raise BrokenMessage("the checksum of a message's prelude is wrong")
            if headers > _HEADERS_LIMIT or not 16 + headers <= total <= MESSAGE_LIMIT:
                raise BrokenMessage(f"a message of {total} bytes with {headers} bytes of headers")
            self._need = total
        if len(buffer) < self._need:
            return None
        whole = bytes(buffer[: self._need])
        del buffer[: self._need]
        self._need = 0
        return _parse(whole)

    @property
    def size(self) -> int:
        """Bytes that wait."""
        return len(self._buffer)

    @property
    def foreign(self) -> bool:
        """What waits begins as JSON does; a message would have to be of 2 GB for that."""
        return not self._need and self._buffer.startswith(b"{")

    @property
    def rest(self) -> bytes:
        """What came after the last whole message."""
        return bytes(self._buffer)


def _parse(whole: bytes) -> Message:
    if crc32(whole[:-4]) != _U32.unpack_from(whole, len(whole) - 4)[0]:
        raise BrokenMessage("the checksum of a message is wrong")
    end = 12 + _U32.unpack_from(whole, 4)[0]
    try:
        return Message(_headers(whole, end), whole[end:-4])
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise BrokenMessage(f"a header of a message cannot be read: {error}") from error


def _headers(whole: bytes, end: int) -> dict[str, str]:
    found: dict[str, str] = {}
    at = 12
    while at < end:
        start = at + 1
        at = start + whole[at]
        name = whole[start:at].decode()
        kind = whole[at]
        at += 1
        if kind in _FIXED:
            at += _FIXED[kind]
        elif kind in (_BYTES, _STRING):
            size = _U16.unpack_from(whole, at)[0]
            if kind == _STRING:
                found[name] = whole[at + 2 : at + 2 + size].decode()
            at += 2 + size
        else:
            raise BrokenMessage(f"a header of unknown type {kind}")
    if at != end:
        raise BrokenMessage("a header runs over the end of the headers")
    return found


def encode(headers: dict[str, str], payload: bytes) -> bytes:
    """One message with headers of type string."""
    block = b""
    for name, value in headers.items():
        raw, text = name.encode(), value.encode()
        block += b"%c%b%c%b%b" % (len(raw), raw, _STRING, _U16.pack(len(text)), text)
    lengths = struct.pack("!II", 16 + len(block) + len(payload), len(block))
    whole = lengths + _U32.pack(crc32(lengths)) + block + payload
    return whole + _U32.pack(crc32(whole))
