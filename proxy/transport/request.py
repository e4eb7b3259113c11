"""A request as bytes: what is checked, and the order in which it goes on the wire (RFC 9112, sections 3 and 5)."""

from __future__ import annotations

import re
from collections.abc import Iterable

from proxy.transport.base import Head, Origin, UpstreamRequest

_TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(rb"[^\r\n\0]*")
_TARGET = re.compile(r"[!-~]+")
_OWN = frozenset((b"host", b"content-length", b"transfer-encoding"))
_BODILESS = frozenset(("GET", "HEAD"))
_DEFAULT_PORT = {"http": 80, "https": 443}


def authority(origin: Origin) -> bytes:
    """The value of Host: the port is left out where it is the scheme's own, IPv6 addresses stand in brackets."""
    host = origin.host.encode("ascii" if origin.host.isascii() else "idna")
    if b":" in host:
        host = b"[%s]" % host
    return host if origin.port == _DEFAULT_PORT.get(origin.scheme) else b"%s:%d" % (host, origin.port)


def checked(headers: Iterable[tuple[bytes, bytes]]) -> Iterable[tuple[bytes, bytes]]:
    """The same headers; ValueError (which names the header, never its value) if one could smuggle another."""
    for name, value in headers:
        if not _TOKEN.fullmatch(name):
            raise ValueError(f"{name!r} is no header name")
        if not _VALUE.fullmatch(value):
            raise ValueError(f"the value of header {name!r} holds a line break or NUL")
        if name.lower() in _OWN:
            raise ValueError(f"header {name!r} is written by the transport itself")
        yield name, value


def check_target(head: Head) -> None:
    """ValueError where method or path could end the request line early (RFC 9112, section 3)."""
    if not _TOKEN.fullmatch(head.method.encode()):
        raise ValueError(f"{head.method!r} is no method")
    if not (_TARGET.fullmatch(head.path) and head.path[0] == "/"):
        raise ValueError("the path must start with a slash and hold visible ASCII characters only")


def _lines(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    return b"".join(b"\r\n%s: %s" % pair for pair in checked(headers))


def serialise(request: UpstreamRequest, host: bytes) -> bytes:
    """Head and body in one piece, so that they leave in one write. Raises ValueError as `checked` does."""
    head, body, extra, _ = request
    if head.line is None or head.wire is None:
        check_target(head)
        head.wire = _lines(head.headers)
        head.line = f"{head.method} {head.path} HTTP/1.1\r\nhost: ".encode()
    lines = _lines(extra) if extra else b""
    if not body and head.method in _BODILESS:
        return b"%s%s%s%s\r\n\r\n" % (head.line, host, lines, head.wire)
    return b"%s%s%s%s\r\ncontent-length: %d\r\n\r\n%s" % (head.line, host, lines, head.wire, len(body), body)
