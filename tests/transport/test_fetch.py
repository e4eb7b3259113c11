"""Links that clients send: followed to public addresses only, within bounds, and never twice resolved."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trustme

from proxy.transport.fetch import IP, Fetched, Fetcher, NotFetched, is_public, resolved

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.5.4", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",  # noqa: S104
        "224.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "240.0.0.1", "::", "::1", "fe80::1", "fd00:ec2::254",
        "ff02::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::", "2001:db8::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"])
def test_addresses_that_are(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


async def _nobody(host: str, port: int) -> list[tuple[int, Any]]:
    raise AssertionError("nothing may be resolved")


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/a.png", "ftp://example.com/a", "file:///etc/passwd", "https://", "https://:443/",
        "https://user:secret@example.com/", "https://example.com:0/", "https://example.com:99999/",
        "https://exa mple.com/",
        "https://example.com/a b", "https://example.com/\r\nHost: x", "https://" + "a" * 5000, "HTTPS//example.com",
    ],
)  # fmt: skip
def test_links_that_are_never_followed(url: str) -> None:
    with pytest.raises(NotFetched):
        asyncio.run(Fetcher(resolve=_nobody).fetch(url))


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/a.png", "https://2130706433/a.png", "https://0x7f000001/", "https://127.1/", "https://[::1]/",
        "https://[::ffff:127.0.0.1]/", "https://169.254.169.254/latest/meta-data/", "https://localhost/a.png",
        "https://0/", "https://[::]/", "https://017700000001/",
    ],
)  # fmt: skip
def test_the_machine_and_its_network_are_out_of_reach(url: str) -> None:
    """By the real resolver, which also reads the odd spellings of numbers."""
    with pytest.raises(NotFetched, match=r"not public|connection failed"):
        asyncio.run(Fetcher().fetch(url))


def test_a_name_with_one_private_address_among_public_ones_is_refused() -> None:
    async def both(host: str, port: int) -> list[tuple[int, Any]]:
        return [(socket.AF_INET, ("8.8.8.8", port)), (socket.AF_INET, ("10.0.0.1", port))]

    with pytest.raises(NotFetched, match="not public"):
        asyncio.run(Fetcher(resolve=both).fetch("https://example.com/"))


Serve = Callable[[bytes], Awaitable[bytes]]


async def _fetched(
    answer: bytes, *, hang: bool = False, tls: ssl.SSLContext | None = None, **more: Any
) -> tuple[Fetched, list[str], bytes]:
    """From a server on this machine, which is taken for a public one; what was resolved; what was asked."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            asked.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(answer)
            if hang:
                await reader.read()
        finally:
            writer.close()

    names: list[str] = []
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]

    async def once(host: str, _: int) -> list[tuple[int, Any]]:
        """A resolver that changes its mind: the second time it would name the metadata service."""
        names.append(host)
        return [(socket.AF_INET, ("127.0.0.1", port) if len(names) == 1 else ("169.254.169.254", port))]

    def allowed(address: IP) -> bool:
        return address.is_loopback

    scheme = "https" if tls else "http"
    options = {"schemes": frozenset({scheme}), "limit": 1000, "seconds": 5.0, **more}
    async with server:
        fetcher = Fetcher(resolve=once, allow=allowed, **options)
        found = await fetcher.fetch(f"{scheme}://pictures.example:{port}/a.png?x=1")
    return found, names, asked[0]


def _answer(body: bytes, *lines: str, status: str = "200 OK") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode() + body


def test_a_file_is_fetched_from_the_address_that_was_looked_at() -> None:
    whole = _answer(PNG, "Content-Type: Image/PNG; q=1", f"Content-Length: {len(PNG)}")
    found, names, asked = asyncio.run(_fetched(whole))
    assert found == Fetched("image/png", PNG)
    assert names == ["pictures.example"]
    assert asked.startswith(b"GET /a.png?x=1 HTTP/1.1\r\nHost: pictures.example:")
    assert b"authorization" not in asked.lower()


@pytest.mark.parametrize(
    "answer",
    [
        _answer(b"5\r\nhello\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
        _answer(b"hello", "Content-Type: image/png"),
    ],
)
def test_other_framings(answer: bytes) -> None:
    assert asyncio.run(_fetched(answer))[0].data == b"hello"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (_answer(b"", "Location: http://169.254.169.254/", "Content-Length: 0", status="302 Found"), "redirects"),
        (_answer(b"no", "Content-Length: 2", status="404 Not Found"), "answered 404"),
        (_answer(bytes(2000), "Content-Length: 2000"), "larger"),
        (_answer(b"", "Content-Length: 99999999999"), "larger|broke off"),
        (
            _answer(b"".join(b"64\r\n" + bytes(100) + b"\r\n" for _ in range(20)), "Transfer-Encoding: chunked"),
            "larger",
        ),
        (_answer(bytes(2000)), "larger"),
        (_answer(b"hel", "Content-Length: 5"), "broke off"),
        (_answer(b"5\r\nhel", "Transfer-Encoding: chunked"), "broke off"),
        (b"HTTP/1.1 200 OK\r\nX: ", "broke off"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "no HTTP"),
        (b"", "broke off"),
    ],
)
def test_what_is_no_file(answer: bytes, why: str) -> None:
    with pytest.raises(NotFetched, match=why):
        asyncio.run(_fetched(answer))


def test_one_that_does_not_come_is_given_up() -> None:
    with pytest.raises(NotFetched, match="did not come"):
        asyncio.run(_fetched(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", hang=True, seconds=0.05))


def test_the_real_resolver_reads_numbers() -> None:
    assert asyncio.run(resolved("127.0.0.1", 80))[0] == (socket.AF_INET, ("127.0.0.1", 80))


@pytest.mark.parametrize("name", ["pictures.example", "other.example"])
def test_certificates_are_those_of_the_name(name: str) -> None:
    authority = trustme.CA()
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert(name).configure_cert(server)
    authority.configure_trust(client)
    asking = _fetched(_answer(b"ok", "Content-Length: 2"), tls=server, context=client)
    if name == "pictures.example":
        assert asyncio.run(asking)[0].data == b"ok"
    else:
        with pytest.raises(NotFetched, match="SSLCertVerificationError"):
            asyncio.run(asking)
