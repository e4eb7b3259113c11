"""Which HTTP client a provider gets: our own, unless something is asked for that only httpx can do."""

from __future__ import annotations

from typing import Literal, Protocol
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

from proxy.transport.base import Transport
from proxy.transport.pool import Http1Transport

Client = Literal["auto", "native", "httpx"]


class Wishes(Protocol):
    """What a provider's config says of its connections."""

    @property
    def base_url(self) -> str: ...
    @property
    def http(self) -> Client: ...
    @property
    def ca_file(self) -> str | None: ...


def outbound_proxy(url: str) -> str | None:
    """The proxy that the environment names for `url`: HTTPS_PROXY or HTTP_PROXY by scheme, else ALL_PROXY.

    None where NO_PROXY lists the host. Lower-case names win over upper-case ones, and HTTP_PROXY is not believed
    under CGI, where a client could set it (the rules of `urllib.request`).
    """
    parts = urlsplit(url)
    proxies = getproxies_environment()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.hostname or "", proxies):
        return None
    return proxy


class Transports:
    """One transport for each way of connecting, shared by every provider that wants the same."""

    def __init__(self, *, limit: int = 1000) -> None:
        self._limit = limit
        self._made: dict[tuple[str, str | None], Transport] = {}

    def for_provider(self, provider: Wishes) -> Transport:
        """`auto` takes httpx where an outbound proxy applies to the provider's address."""
        client = provider.http
        if client == "auto":
            client = "native" if outbound_proxy(provider.base_url) is None else "httpx"
        key = client, provider.ca_file
        if key not in self._made:
            self._made[key] = self._make(client, provider.ca_file)
        return self._made[key]

    def _make(self, client: Client, ca_file: str | None) -> Transport:
        if client == "httpx":
            from proxy.transport.httpx_ import HttpxTransport  # costs 0.1 s to import, and few need it

            return HttpxTransport(limit=self._limit, ca_file=ca_file)
        return Http1Transport(limit=self._limit, ca_file=ca_file)

    async def aclose(self) -> None:
        for transport in self._made.values():
            await transport.aclose()
