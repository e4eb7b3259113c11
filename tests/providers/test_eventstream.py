from __future__ import annotations

import struct
from binascii import crc32

import pytest

from proxy.providers.eventstream import MESSAGE_LIMIT, BrokenMessage, Message, MessageSplitter, encode

# The smallest message, and one with a header, as the encoding's specification has them.
EMPTY = bytes.fromhex("000000100000000005c248eb7d98c8ff")
HEADED = encode({":event-type": "messageStart", "ünï": "wért"}, b'{"role":"assistant"}')


def take_all(pieces: list[bytes]) -> list[Message]:
    splitter = MessageSplitter()
    found = []
    for piece in pieces:
        splitter.feed(piece)
        while (message := splitter.take()) is not None:
            found.append(message)
    assert splitter.rest == b""
    return found


def test_messages_in_any_pieces() -> None:
    whole = EMPTY + HEADED + EMPTY
    expected = [
        Message({}, b""),
        Message({":event-type": "messageStart", "ünï": "wért"}, b'{"role":"assistant"}'),
        Message({}, b""),
    ]
    assert take_all([whole]) == expected
    assert take_all([whole[at : at + 1] for at in range(len(whole))]) == expected


def framed(block: bytes, payload: bytes = b"") -> bytes:
    lengths = struct.pack("!II", 16 + len(block) + len(payload), len(block))
    whole = lengths + struct.pack("!I", crc32(lengths)) + block + payload
    return whole + struct.pack("!I", crc32(whole))


def test_headers_of_every_type() -> None:
    values = [b"\x00", b"\x01", b"\x02\x07", b"\x03ab", b"\x04abcd", b"\x05abcdefgh", b"\x06\x00\x02ab",
              b"\x07\x00\x02hi", b"\x08abcdefgh", b"\x09" + b"u" * 16]  # fmt: skip
    block = b"".join(b"\x02n%d%b" % (number, value) for number, value in enumerate(values))
    assert take_all([framed(block, b"x")]) == [Message({"n7": "hi"}, b"x")]


@pytest.mark.parametrize("block", [b"\x02a", b"\x01a\x0a", b"\x01a\x07\xff\xff", b"\x01\xff\x00", b"\x01a\x04ab"])
def test_broken_headers(block: bytes) -> None:
    with pytest.raises(BrokenMessage):
        take_all([framed(block)])


def test_every_flipped_bit_is_seen() -> None:
    for at in range(len(HEADED)):
        broken = bytearray(HEADED)
        broken[at] ^= 0x10
        with pytest.raises(BrokenMessage):
            take_all([bytes(broken)])


def test_a_wrong_prelude_is_told_before_the_rest_comes() -> None:
    for total, headers in ((MESSAGE_LIMIT + 1, 0), (15, 0), (40, 30), (MESSAGE_LIMIT, 200_000)):
        lengths = struct.pack("!II", total, headers)
        splitter = MessageSplitter()
        splitter.feed(lengths + struct.pack("!I", crc32(lengths)))
        with pytest.raises(BrokenMessage):
            splitter.take()
