"""Why a connection did not come about, in words for the record."""

from __future__ import annotations

import socket
import ssl

from policies.verdict import Kind
from proxy.errors import TransportError


def not_connected(place: str, error: BaseException) -> TransportError:
    """From whatever DNS, TCP or TLS raised. `place` is host and port; nothing else of the request is told."""
    return TransportError(Kind.CONNECT, f"{place}: {_words(_root(error))}")


def _root(error: BaseException) -> BaseException:
    """The system's own error, where a library has put its own around it."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, (ssl.SSLError, ConnectionError, socket.gaierror)):
            return seen
        seen = seen.__cause__ or seen.__context__
    return error


def _words(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate refused: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or error}"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, (socket.gaierror, UnicodeError)):
        return f"the name is not known: {error}"
    return str(error) or type(error).__name__
