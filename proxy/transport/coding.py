"""Content codings that come although we ask for `identity`: undone step by step, in bounded memory."""

from __future__ import annotations

import zlib
from typing import Any

from proxy.transport.base import Headers

STEP = 1 << 20
"""Most bytes that one `feed` gives."""
LARGE = 64 << 20
RATIO = 100
"""Past `LARGE` decoded bytes, this many for each coded byte mean a bomb; ordinary JSON stays below 30."""

_GZIP = 16 + zlib.MAX_WBITS


class CodingError(Exception):
    """The coded bytes are broken, cut short, or unfold to an absurd size; or the coding is not known."""


class Decoder:
    """Undoes `gzip` (any number of members, RFC 1952) or `deflate` (zlib-wrapped, or bare as some servers send it)."""

    __slots__ = ("_bits", "_in", "_out", "_rest", "_stream", "pending")

    def __init__(self, *, gzip: bool) -> None:
        self._bits = _GZIP if gzip else 0
        self._stream: Any = None
        self._rest = b""
        self._in = 0
        self._out = 0
        self.pending = False
        """More decoded bytes can be had by `feed(b"")`."""

    @property
    def finished(self) -> bool:
        """Nothing is pending, and the coded bytes so far may end here."""
        return self._stream is None and not self._rest

    def feed(self, data: bytes) -> bytes:
        """At most `STEP` decoded bytes; the rest is kept for the next call. Raises `CodingError`."""
        self._in += len(data)
        rest = self._rest + data if self._rest else data
        pieces: list[bytes] = []
        room = STEP
        while room and (rest or self.pending):
            if self._stream is None:
                if not self._bits and len(rest) < 2:
                    break  # two bytes tell a zlib wrapper from a bare stream
                self._begin(rest)
            try:
                piece = self._stream.decompress(rest, room)
            except zlib.error as error:
                raise CodingError(f"broken compressed body: {error}") from None
            pieces.append(piece)
            room -= len(piece)
            self.pending = room == 0
            if self._stream.eof:
                rest = self._stream.unused_data
                self._stream = None
                self.pending = room == 0 and bool(rest)
            else:
                rest = self._stream.unconsumed_tail
        self._rest = rest
        self._out += STEP - room
        if self._out > LARGE and self._out > RATIO * self._in:
            raise CodingError(f"compressed body unfolds to more than {RATIO} times its size")
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def end(self) -> None:
        """The coded bytes are over. Raises `CodingError` if they stop half-way."""
        if not self.finished:
            raise CodingError("compressed body was cut short")

    def _begin(self, start: bytes) -> None:
        if not self._bits:
            wrapped = start[0] & 0x0F == 8 and (start[0] << 8 | start[1]) % 31 == 0  # RFC 1950, section 2.2
            self._bits = zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS
        elif self._bits != _GZIP:
            raise CodingError("bytes after the end of the compressed body")
        self._stream = zlib.decompressobj(self._bits)


def decoder_for(headers: Headers) -> Decoder | None:
    """None where the body is sent as it is. `headers` have lower-case names. Raises `CodingError` if unknown."""
    named = b",".join(value for name, value in headers if name == b"content-encoding")
    codings = [c for c in (part.strip().lower() for part in named.split(b",")) if c not in (b"", b"identity")]
    if not codings:
        return None
    if codings in ([b"gzip"], [b"x-gzip"]):
        return Decoder(gzip=True)
    if codings == [b"deflate"]:
        return Decoder(gzip=False)
    raise CodingError(f"unknown content coding {b', '.join(codings)[:100]!r}")
