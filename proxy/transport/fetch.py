"""Fetches what a client's link leads to, without letting the client reach what only this machine can reach.

The name is resolved once; every address it has must be a public one, and the connection goes to an address that was
looked at, never to the name again (a resolver that changes its mind gains nothing). Redirects are not followed. Time
and size are bounded. Numbers in other spellings (`0x7f.1`, `2130706433`) are names like any other: the resolver turns
them into addresses, and those are looked at.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit

import httptools

IP = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Awaitable[list[tuple[int, Any]]]]
"""Name and port -> (family, socket address) of each of its addresses."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_READ = 65_536


class Fetched(NamedTuple):
    kind: str
    """Media type, in lower case, without parameters."""
    data: bytes


class NotFetched(Exception):
    """Why the link was not followed or did not lead to a file; the text may be shown to the client."""


def is_public(address: IP) -> bool:
    """An address that anybody on the internet could reach: the whole of it, and what is wrapped in it."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
        if address in _NAT64:
            inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if any(one is not None and not is_public(one) for one in inner):
            return False
    return address.is_global and not address.is_multicast and not address.is_reserved


async def resolved(host: str, port: int) -> list[tuple[int, Any]]:
    loop = asyncio.get_running_loop()
    return [(info[0], info[4]) for info in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class Fetcher:
    """`schemes`: those that links may have. `limit`: bytes of a file. `seconds`: for everything together."""

    def __init__(
        self,
        *,
        schemes: frozenset[str] = frozenset({"https"}),
        limit: int = 20 * 2**20,
        seconds: float = 10.0,
        resolve: Resolve = resolved,
        allow: Callable[[IP], bool] = is_public,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._schemes = schemes
        self._limit = limit
        self._seconds = seconds
        self._resolve = resolve
        self._allow = allow
        self._context = context

    async def fetch(self, url: str) -> Fetched:
        """Raises `NotFetched`."""
        parts = self._checked(url)
        try:
            async with asyncio.timeout(self._seconds):
                return await self._get(parts)
        except TimeoutError:
            raise NotFetched(f"it did not come within {self._seconds:g} s") from None
        except (OSError, UnicodeError, asyncio.IncompleteReadError) as error:
            raise NotFetched(f"the connection failed ({type(error).__name__})") from None
        except httptools.HttpParserError:
            raise NotFetched("what came is no HTTP answer") from None

    def _checked(self, url: str) -> SplitResult:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise NotFetched("it is no address") from None
        if parts.scheme not in self._schemes:
            raise NotFetched(f"only {' and '.join(sorted(self._schemes))} links are fetched")
        if not parts.hostname or parts.username is not None or port == 0 or len(url) > 4096:
            raise NotFetched("it is no address that can be fetched")
        if any(ord(letter) <= 0x20 or ord(letter) >= 0x7F for letter in url):
            raise NotFetched("it holds characters that must be escaped")
        return parts

    async def _get(self, parts: SplitResult) -> Fetched:
        host = parts.hostname or ""
        secure = parts.scheme == "https"
        port = parts.port or (443 if secure else 80)
        addresses = await self._resolve(host, port)
        for _, address in addresses:
            if not self._allow(ipaddress.ip_address(str(address[0]).partition("%")[0])):
                raise NotFetched("it leads to an address that is not public")
        if not addresses:
            raise NotFetched("its name has no address")
        family, address = addresses[0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, address)
            context = (self._context or ssl.create_default_context()) if secure else None
            name = host if secure else None
            reader, writer = await asyncio.open_connection(sock=sock, ssl=context, server_hostname=name)
        except BaseException:
            sock.close()
            raise
        try:
            writer.write(_request(parts))
            return await self._answer(reader)
        finally:
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader) -> Fetched:
        answer = _Answer(self._limit)
        parser = httptools.HttpResponseParser(answer)
        while not answer.ended:
            data = await reader.read(_READ)
            if not data:
                if answer.length is not None or not answer.headed or answer.chunked:
                    raise NotFetched("it broke off")
                break
            parser.feed_data(data)
            if answer.headed and parser.get_status_code() != 200:
                raise NotFetched(f"its server answered {parser.get_status_code()}; redirects are not followed")
            if answer.size > self._limit:
                raise NotFetched(f"it is larger than {self._limit} bytes")
        return Fetched(answer.kind, b"".join(answer.parts))


def _request(parts: SplitResult) -> bytes:
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    lines = [
        f"GET {path} HTTP/1.1",
        f"Host: {parts.netloc}",
        "Accept: image/*, application/pdf",
        "Accept-Encoding: identity",
        "User-Agent: weighbridge",
        "Connection: close",
    ]
    return "\r\n".join([*lines, "", ""]).encode("ascii")


class _Answer:
    """What the parser tells of one answer."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.parts: list[bytes] = []
        self.size = 0
        self.kind = ""
        self.length: int | None = None
        self.chunked = False
        self.headed = False
        self.ended = False

    def on_header(self, name: bytes, value: bytes) -> None:
        match name.lower():
            case b"content-type":
                self.kind = value.decode("latin-1").partition(";")[0].strip().lower()
            case b"content-length" if value.isdigit():
                self.length = int(value)
                self.size = self.length if self.length > self._limit else self.size
            case b"transfer-encoding":
                self.chunked = True

    def on_headers_complete(self) -> None:
        self.headed = True

    def on_body(self, data: bytes) -> None:
        self.parts.append(data)
        self.size += len(data)

    def on_message_complete(self) -> None:
        self.ended = True
