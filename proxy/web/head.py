"""The lines of an answer's head."""

from __future__ import annotations

from collections.abc import Sequence


def joined(status_line: bytes, headers: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Status line and header lines, without the empty line. RuntimeError where a header would break out of its line."""
    head = b"%b%b" % (status_line, b"".join([b"%b: %b\r\n" % header for header in headers]))
    ends = len(headers) + 1
    if head.count(b"\n") != ends or head.count(b"\r") != ends or b"\0" in head:
        raise RuntimeError("a header holds a line break or NUL")
    return head
