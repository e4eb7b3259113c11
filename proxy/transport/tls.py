"""Verified TLS for the client side, with sessions kept from one connection to the next.

asyncio hands no `session=` to the `ssl` module, so a context of our own does it in `wrap_bio`, which both asyncio and
uvloop call. With TLS 1.3 the server sends its ticket after the handshake (RFC 8446, section 4.6.1), so the session is
read when the first answer has come.
"""

from __future__ import annotations

import asyncio
import os
import ssl


class ResumingContext(ssl.SSLContext):
    """What one origin's connections are opened with: a shared context, and the last session of this origin.

    All work is the shared context's, so the certificates are in memory once. If a loop ever used this one itself, it
    would find no certificate to trust, and refuse.
    """

    shared: ssl.SSLContext
    session: ssl.SSLSession | None

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        return self.shared.wrap_bio(incoming, outgoing, server_side, server_hostname, session or self.session)

    def keep(self, transport: asyncio.Transport) -> None:
        """Remember the connection's session, if the server gave a ticket for it."""
        session = transport.get_extra_info("ssl_object").session
        if session is not None and session.has_ticket:
            self.session = session


def resuming(shared: ssl.SSLContext) -> ResumingContext:
    """A context for one origin. Cheap, unlike the shared one."""
    context = ResumingContext(ssl.PROTOCOL_TLS_CLIENT)
    context.shared = shared
    context.session = None
    return context


def trust(ca_file: str | None = None) -> ssl.SSLContext:
    """A context that verifies certificates and names, and speaks TLS 1.2 or later.

    Trusts `ca_file` (PEM) alone if given; else the system's store, where SSL_CERT_FILE and SSL_CERT_DIR are honoured;
    else, where that is empty, certifi's list. Raises OSError (`ssl.SSLError` included) for a file that cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
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
    return folder is not None and bool(os.listdir(folder))
