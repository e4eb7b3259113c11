"""Which client a provider gets, and that an outbound proxy is really used."""

from __future__ import annotations

import asyncio
import sys
from typing import NamedTuple

import pytest

from policies.verdict import Kind
from proxy.errors import TransportError
from proxy.transport.base import Origin
from proxy.transport.choose import Client, Transports, outbound_proxy
from proxy.transport.httpx_ import HttpxTransport
from proxy.transport.pool import Http1Transport
from tests.transport.byteserver import answers
from tests.transport.rig import OK, WAYS, Rig, play

PROXY = "http://proxy.test:3128"


class Wish(NamedTuple):
    base_url: str = "https://api.example.test/v1"
    http: Client = "auto"
    ca_file: str | None = None


@pytest.mark.parametrize(
    ("variables", "url", "proxied"),
    [
        ({}, "https://api.example.test/v1", False),
        ({"HTTPS_PROXY": PROXY}, "https://api.example.test/v1", True),
        ({"https_proxy": PROXY}, "https://api.example.test/v1", True),
        ({"HTTPS_PROXY": PROXY}, "http://api.example.test/v1", False),
        ({"HTTP_PROXY": PROXY}, "http://api.example.test:8000/v1", True),
        ({"HTTP_PROXY": PROXY, "REQUEST_METHOD": "GET"}, "http://api.example.test/v1", False),
        ({"ALL_PROXY": PROXY}, "https://api.example.test/v1", True),
        ({"HTTPS_PROXY": ""}, "https://api.example.test/v1", False),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "api.example.test"}, "https://api.example.test/v1", False),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "localhost, .example.test"}, "https://api.example.test/v1", False),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "example.test"}, "https://api.example.test/v1", False),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "ample.test"}, "https://api.example.test/v1", True),
        ({"HTTP_PROXY": PROXY, "NO_PROXY": "127.0.0.1"}, "http://127.0.0.1:8000/v1", False),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "*"}, "https://api.example.test/v1", False),
    ],
)
def test_proxy_variables(variables: dict[str, str], url: str, proxied: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert (outbound_proxy(url) == PROXY) is proxied
    assert isinstance(Transports().for_provider(Wish(url)), HttpxTransport) is proxied
    assert isinstance(Transports().for_provider(Wish(url, "native")), Http1Transport)
    assert isinstance(Transports().for_provider(Wish(url, "httpx")), HttpxTransport)


def test_transports_are_shared() -> None:
    transports = Transports(limit=7)
    first = transports.for_provider(Wish())
    assert isinstance(first, Http1Transport)
    assert first.limit == 7
    assert transports.for_provider(Wish("http://another.test")) is first
    private = transports.for_provider(Wish(ca_file="/etc/private.pem"))
    assert private is not first
    assert transports.for_provider(Wish(ca_file="/etc/private.pem")) is private
    httpx = transports.for_provider(Wish(http="httpx"))
    assert httpx is not first
    assert transports.for_provider(Wish("http://another.test", http="httpx")) is httpx


def test_all_are_closed_together() -> None:
    async def main() -> None:
        transports = Transports()
        made = [transports.for_provider(Wish(http=client)) for client in ("native", "httpx")]  # type: ignore[arg-type]
        await transports.aclose()
        for transport in made:
            with pytest.raises(TransportError, match="the transport was closed"):
                await transport.connect(Origin("http", "127.0.0.1", 1))

    asyncio.run(main())


def test_requests_go_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async def act(rig: Rig) -> None:
        monkeypatch.setenv("HTTP_PROXY", f"http://user:secret@127.0.0.1:{rig.server.port}")
        rig.origin = Origin("http", "api.example.test", 8080)
        assert (await rig.answer())[1] == b"ok"
        (request,) = rig.server.requests
        assert request.startswith(b"POST http://api.example.test:8080/v1/chat/completions HTTP/1.1\r\n")
        assert b"host: api.example.test:8080\r\n" in request.lower()
        assert b"proxy-authorization: basic " in request.lower()

    play(WAYS[2], answers(OK), act)


def test_a_proxy_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed tunnel is a failed connection; the proxy's password is not told."""

    async def act(rig: Rig) -> None:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:secret@127.0.0.1:{rig.server.port}")
        rig.origin = Origin("https", "api.example.test", 443)
        with pytest.raises(TransportError) as caught:
            await rig.ask()
        assert caught.value.kind is Kind.CONNECT
        assert not caught.value.answered
        assert "secret" not in caught.value.detail
        assert rig.server.requests[0].startswith(b"CONNECT api.example.test:443 HTTP/1.1\r\n")

    play(WAYS[2], answers(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n"), act)


def test_socks_needs_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    monkeypatch.setitem(sys.modules, "socksio", None)

    async def act(rig: Rig) -> None:
        with pytest.raises(TransportError, match=r"httpx\[socks\]") as caught:
            await rig.ask()
        assert caught.value.kind is Kind.CONNECT

    play(WAYS[2], answers(OK), act)
