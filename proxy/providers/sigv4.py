"""AWS Signature Version 4: the headers that prove who sends a request. Pure; the time is an argument.

From AWS's documentation "Create a signed AWS API request" (AWS4-HMAC-SHA256). Only what Bedrock needs: POST with the
body at hand, every path encoded twice (as all services but S3 want it), credentials in the header.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import NamedTuple
from urllib.parse import quote

Headers = Sequence[tuple[bytes, bytes]]

_CREDENTIAL = re.compile(r"(?P<id>[A-Z0-9]{16,128}):(?P<secret>[^:\s]+)(?::(?P<token>\S+))?")


class Identity(NamedTuple):
    access_key_id: str
    secret: str
    token: str | None = None
    """Of temporary credentials."""

    @classmethod
    def read(cls, credential: str) -> Identity | None:
        """From `ACCESS_KEY_ID:SECRET_ACCESS_KEY[:SESSION_TOKEN]`; None for anything else, such as an API key."""
        match = _CREDENTIAL.fullmatch(credential)
        return cls(match["id"], match["secret"], match["token"]) if match else None


class Signer:
    """Signs requests to one service in one region."""

    __slots__ = ("_identity", "_key", "_region", "_service")

    def __init__(self, identity: Identity, region: str, service: str) -> None:
        self._identity = identity
        self._region = region
        self._service = service
        self._key: tuple[str, bytes] = ("", b"")

    def sign(self, method: str, host: str, path: str, body: bytes, at: float) -> list[tuple[bytes, bytes]]:
        """The headers to add to a request. `host` is the value of its Host header, `path` stands as it is sent, with
        its query; `at`: seconds since the epoch, which must be within five minutes of AWS's own clock."""
        stamp = timestamp(at)
        signed = {"host": host, "x-amz-date": stamp}
        if self._identity.token is not None:
            signed["x-amz-security-token"] = self._identity.token
        signature, names, scope = self.signature(method, path, signed, body, stamp)
        told = (
            f"AWS4-HMAC-SHA256 Credential={self._identity.access_key_id}/{scope}, "
            f"SignedHeaders={names}, Signature={signature}"
        )
        headers = {**signed, "authorization": told}
        del headers["host"]
        return [(name.encode(), value.encode()) for name, value in headers.items()]

    def signature(
        self, method: str, path: str, headers: dict[str, str], body: bytes, stamp: str
    ) -> tuple[str, str, str]:
        """The signature, the names that it covers, and its scope. Names of `headers` are in lower case."""
        plain, _, query = path.partition("?")
        names = ";".join(sorted(headers))
        canonical = "\n".join(
            (
                method,
                quote(plain or "/", safe="/-_.~"),
                "&".join(sorted(query.split("&"))),
                *(f"{name}:{' '.join(headers[name].split())}" for name in sorted(headers)),
                "",
                names,
                hashlib.sha256(body).hexdigest(),
            )
        )
        scope = f"{stamp[:8]}/{self._region}/{self._service}/aws4_request"
        told = "\n".join(("AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(canonical.encode()).hexdigest()))
        return _mac(self._day_key(stamp[:8]), told).hex(), names, scope

    def _day_key(self, day: str) -> bytes:
        if self._key[0] != day:
            key = b"AWS4" + self._identity.secret.encode()
            for part in (day, self._region, self._service, "aws4_request"):
                key = _mac(key, part)
            self._key = (day, key)
        return self._key[1]


def timestamp(at: float) -> str:
    """`at` (seconds since the epoch) as AWS writes it, `20150830T123600Z`: arithmetic alone, without a calendar."""
    days, seconds = divmod(int(at), 86_400)
    # Days since 1 March of the year 0, in eras of 400 years: the leap day is then the last of its year.
    era, day = divmod(days + 719_468, 146_097)
    year = (day - day // 1_460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    day -= (153 * month + 2) // 5
    year += 400 * era + (month >= 10)
    month += 3 if month < 10 else -9
    hour, minute = divmod(seconds // 60, 60)
    return f"{year:04}{month:02}{day + 1:02}T{hour:02}{minute:02}{seconds % 60:02}Z"


def _mac(key: bytes, text: str) -> bytes:
    return hmac.digest(key, text.encode(), hashlib.sha256)
