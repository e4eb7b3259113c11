"""Who may call. Keys are held as SHA-256 digests, found by digest and compared in constant time."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from policies.allowance import Allowance
from proxy.config.known import is_loopback
from proxy.errors import Refusal

Headers = Sequence[tuple[bytes, bytes]]
Named = Mapping[bytes, bytes]
"""Headers by name in lower case: of several with one name the first."""


class Key(NamedTuple):
    """A client's key as the config names it; the secret itself is not kept."""

    name: str
    digest: bytes
    direct: bool
    """May ask for `provider/model`."""
    routes: frozenset[str] | None = None
    """The routes that it may ask for; None: all."""
    tags: frozenset[str] = frozenset()
    """Tags of all its requests."""
    rank: int = 1
    """0 goes first where there is a queue, 2 last, and is turned away first."""
    allowance: Allowance | None = None
    """What it may use; None: no limits."""


def by_name(headers: Headers) -> Named:
    return dict(reversed(headers))


class Gate:
    """The access rules. Without keys (allowed on a loopback bind only) everybody may ask for everything.

    `/` and `/api` are open on a loopback bind to requests that name a local host (so that a web page elsewhere
    cannot reach them by rebinding its name), else they need the admin token.
    """

    def __init__(
        self,
        keys: Sequence[Key],
        *,
        direct: str,
        admin_digest: bytes | None,
        metrics_open: bool,
        loopback: bool,
        closed: bool = False,
    ) -> None:
        """`closed`: nobody may call without a key, even though no key is good."""
        self._keys = {key.digest: key for key in keys}
        self._closed = closed or bool(keys)
        self._direct = direct
        self._admin = admin_digest
        self._metrics_open = metrics_open
        self._loopback = loopback

    def client(self, headers: Headers) -> Key | None:
        """The key that a request carries; None where no keys are configured. Raises `Refusal` (401, 403)."""
        return self.caller(by_name(headers))

    def caller(self, named: Named) -> Key | None:
        """As `client`."""
        if not self._closed:
            _not_from_elsewhere(named)
            return None
        given = named.get(b"authorization", b"")
        # Anthropic's clients send their key in a header of its own.
        secret = given[7:].strip() if given[:7].lower() == b"bearer " else named.get(b"x-api-key", b"").strip()
        if secret:
            digest = hashlib.sha256(secret).digest()
            key = self._keys.get(digest)
            if key is not None and hmac.compare_digest(digest, key.digest):
                return key
            raise _denied("The API key is not known to this proxy. Use a key from `keys` in its config.")
        raise _denied(
            "No API key was given. Send `Authorization: Bearer KEY` (or `x-api-key: KEY`) with a key of this proxy."
        )

    def may_go_direct(self, key: Key | None) -> bool:
        """Whether this caller may name a `provider/model` that is no route."""
        if self._direct == "auto":
            return key is None or key.direct
        return self._direct == "always"

    def admin(self, headers: Headers) -> None:
        """Raises `Refusal` (401, 403) unless the caller may look at records."""
        named = by_name(headers)
        if self._loopback and _names_local_host(named.get(b"host", b"")):
            return
        if self._admin is None:
            raise Refusal(
                403,
                "The API and the live page need an admin token here. Set `server.admin_token` in the config.",
                type="permission_error",
                code="no_admin_token",
            )
        given = named.get(b"authorization", b"")
        if given[:7].lower() == b"bearer " and hmac.compare_digest(
            hashlib.sha256(given[7:].strip()).digest(), self._admin
        ):
            return
        raise _denied("The admin token is missing or wrong. Send `Authorization: Bearer TOKEN`.")

    def metrics(self, headers: Headers) -> None:
        """Raises `Refusal` unless the caller may scrape."""
        if not self._metrics_open:
            self.admin(headers)


def not_from_elsewhere(headers: Headers) -> None:
    """Without keys, any web page open on this machine could spend money here: browsers say where a page is from."""
    _not_from_elsewhere(by_name(headers))


def _not_from_elsewhere(named: Named) -> None:
    origin = named.get(b"origin")
    if origin and not _names_local_host(origin.partition(b"://")[2]):
        raise Refusal(
            403,
            "A web page from another site may not use this proxy without a key. Configure `keys`.",
            type="permission_error",
            code="foreign_origin",
        )


def _names_local_host(host: bytes) -> bool:
    name = host.decode("latin-1").lower()
    return is_loopback(name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0])


def _denied(message: str) -> Refusal:
    return Refusal(401, message, code="invalid_api_key", should_retry=False)
