"""Verified TLS for the client side, with sessions kept from one connection to the next.

asyncio hands no `session=` to the `ssl` module, so the context does it by itself: it remembers the last session of
each host and port and offers it in `wrap_bio`, which both asyncio and uvloop call. With TLS 1.3 the server sends the
ticket after the handshake (RFC 8446, section 4.6.1), so the session is read when the first answer has come.
"""

from __future__ import annotations

import asyncio
import os
import ssl


class ServerName(str):
    """A host name that remembers its port on the way through the event loop: sessions belong to both."""

    __slots__ = ("port",)
    port: int

    def __new__(cls, host: str, port: int) -> ServerName:
        name = super().__new__(cls, host)
        name.port = port
        return name


class ResumingContext(ssl.SSLContext):
    """An `ssl.SSLContext` that offers the session last kept for a server. The servers of a config are few."""

    sessions: dict[tuple[str, int], ssl.SSLSession]

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        if isinstance(server_hostname, ServerName):
            session = self.sessions.get((str(server_hostname), server_hostname.port))
        return super().wrap_bio(incoming, outgoing, server_side, server_hostname, session)

    def keep(self, host: str, port: int, transport: asyncio.Transport) -> None:
        """Remember the connection's session, if the server gave a ticket for it."""
        session = transport.get_extra_info("ssl_object").session
        if session is not None and session.has_ticket:
            self.sessions[host, port] = session


def trust(ca_file: str | None = None) -> ResumingContext:
    """A context that verifies certificates and names, and speaks TLS 1.2 or later.

    Trusts `ca_file` (PEM) alone if given; else the system's store, where SSL_CERT_FILE and SSL_CERT_DIR are honoured;
    else, where that is empty, certifi's list. Raises OSError (`ssl.SSLError` included) for a file that cannot be read.
    """
    context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sessions = {}
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if ca_file is not None:
        context.load_verify_locations(cafile=ca_file)
        return context
    named = os.environ.get("SSL_CERT_FILE")
    if named and not os.path.isfile(named):  # OpenSSL would trust nothing, and say nothing
        raise FileNotFoundError(f"SSL_CERT_FILE names {named}, which is not there")
    context.load_default_certs()
    if not context.cert_store_stats()["x509_ca"] and not _certificates_on_demand():
        import certifi

        context.load_verify_locations(cafile=certifi.where())
    return context


def _certificates_on_demand() -> bool:
    """OpenSSL looks into its folder of hashed names only when it needs one, so the store's count leaves them out."""
    folder = ssl.get_default_verify_paths().capath
    return folder is not None and any(os.scandir(folder))
