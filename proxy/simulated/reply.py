"""One answer as it will be put on the wire: parts with pauses, framing, and how the connection ends.

Dialects make a `Reply`, faults spoil it, `steps` turns it into writes, and a connection plays them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, auto
from http import HTTPStatus
from typing import NamedTuple


class Tag(Enum):
    """What a part of a stream is, so that a fault finds its place."""

    ROLE = auto()
    CONTENT = auto()
    FINISH = auto()
    USAGE = auto()
    DONE = auto()
    BODY = auto()
    """The whole of an answer that is not streamed, or anything else."""


class Framing(Enum):
    LENGTH = auto()
    CHUNKED = auto()
    NONE = auto()
    """Bytes as they are, without a head: no HTTP at all."""


class End(Enum):
    """What becomes of the connection after the last part."""

    KEEP = auto()
    FIN = auto()
    RESET = auto()
    HANG = auto()
    """Open and silent, until the client leaves or the simulator stops."""


@dataclass(slots=True)
class Part:
    data: bytes
    tag: Tag = Tag.BODY
    pause: float | None = None
    """Seconds before it is written; 0 is a write in a later turn of the event loop, None joins what stands before."""
    framed: bool = True
    """As an HTTP chunk, where the framing is chunked."""


@dataclass(slots=True)
class Reply:
    status: int
    headers: list[tuple[str, str]]
    parts: list[Part]
    stream: bool = False
    wait: float = 0.0
    """Seconds before the head."""
    framing: Framing = Framing.LENGTH
    length: int | None = None
    """The Content-Length that is claimed, where it is not the true one."""
    before: bytes = b""
    """Written ahead of the head."""
    terminated: bool = True
    """A chunked body gets its last chunk."""
    end: End = End.KEEP
    single_bytes: bool = False
    """Every byte is a write of its own."""

    def set_header(self, name: str, value: str) -> None:
        self.headers = [(known, old) for known, old in self.headers if known != name]
        self.headers.append((name, value))

    def body(self) -> bytes:
        return b"".join(part.data for part in self.parts)


class Step(NamedTuple):
    data: bytes
    pause: float | None


@dataclass(slots=True)
class Script:
    """What a connection does in answer to one request: writes in order, then the end."""

    steps: list[Step]
    end: End
    close: bool = field(default=False)
    """The answer is the last on its connection, though it ends as it should."""


def head(reply: Reply, *, close: bool) -> bytes:
    try:
        reason = HTTPStatus(reply.status).phrase
    except ValueError:
        reason = "Overloaded" if reply.status == 529 else "Unknown"
    lines = [f"HTTP/1.1 {reply.status} {reason}"]
    lines += [f"{name}: {value}" for name, value in reply.headers]
    if reply.framing is Framing.CHUNKED:
        lines.append("transfer-encoding: chunked")
    else:
        lines.append(f"content-length: {len(reply.body()) if reply.length is None else reply.length}")
    if close:
        lines.append("connection: close")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8")


def _pieces(reply: Reply, *, close: bool) -> list[Step]:
    chunked = reply.framing is Framing.CHUNKED
    pieces = []
    if reply.framing is not Framing.NONE:
        pieces.append(Step(reply.before + head(reply, close=close), reply.wait or None))
    for part in reply.parts:
        # An empty chunk would end the body.
        framed = chunked and part.framed and part.data
        data = b"%x\r\n%s\r\n" % (len(part.data), part.data) if framed else part.data
        pieces.append(Step(data, part.pause))
    if chunked and reply.terminated:
        pieces.append(Step(b"0\r\n\r\n", None))
    return pieces


def script(reply: Reply, *, close: bool) -> Script:
    """The writes for a reply; neighbours without a pause between them become one write."""
    pieces = _pieces(reply, close=close)
    if reply.single_bytes:
        singles = [
            Step(piece.data[at : at + 1], (piece.pause or 0.0) if at == 0 else 0.0)
            for piece in pieces
            for at in range(len(piece.data))
        ]
        return Script(singles, reply.end, close)
    joined: list[Step] = []
    gathered: list[bytes] = []
    pause: float | None = None
    for piece in pieces:
        if piece.pause is not None:
            if gathered:
                joined.append(Step(b"".join(gathered), pause))
            gathered, pause = [], piece.pause
        gathered.append(piece.data)
    if gathered or pause is not None:
        joined.append(Step(b"".join(gathered), pause))
    return Script(joined, reply.end, close)
