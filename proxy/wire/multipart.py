"""multipart/form-data bodies (RFC 7578, RFC 2046): where each part lies."""

from __future__ import annotations

import re
from typing import NamedTuple

from proxy.errors import Refusal

_BOUNDARY = re.compile(rb'boundary="?([^";,]{1,70})"?', re.IGNORECASE)
_NAME = re.compile(rb'\bname="([^"]*)"', re.IGNORECASE)
_FILENAME = re.compile(rb'\bfilename="([^"]*)"', re.IGNORECASE)


class Part(NamedTuple):
    start: int
    end: int
    filename: str


def boundary(content_type: bytes) -> bytes | None:
    """None where it is no such form."""
    found = _BOUNDARY.search(content_type)
    return found[1] if found is not None and content_type.lower().startswith(b"multipart/form-data") else None


def parts(raw: bytes, boundary: bytes) -> dict[str, Part]:
    """Name of a part -> where its content lies. Raises `Refusal` (400) for what is no such form."""
    found: dict[str, Part] = {}
    mark = b"--" + boundary
    at = raw.find(mark)
    while at >= 0 and raw[at + len(mark) : at + len(mark) + 2] != b"--":
        head_end = raw.find(b"\r\n\r\n", at)
        following = raw.find(b"\r\n" + mark, head_end)
        if head_end < 0 or following < 0:
            raise Refusal(400, "The multipart/form-data body is not whole.", code="invalid_form")
        name, filename = _NAME.search(raw, at, head_end), _FILENAME.search(raw, at, head_end)
        if name is not None:
            told = filename[1].decode("utf-8", "replace") if filename is not None else ""
            found[name[1].decode("utf-8", "replace")] = Part(head_end + 4, following, told)
        at = following + 2
    return found
