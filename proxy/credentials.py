"""Bearer tokens that expire: from a command, a file, or a Google key, renewed before they end.

A request that comes shortly before the end starts the renewal and goes on with the token in hand; only one that finds
none, or one that has ended, waits. Whoever comes meanwhile waits for the same renewal. What a source does (run a
program, ask Google) is done in a thread. A failure is AUTH, with what went wrong, and is not tried again for some
seconds.
"""

from __future__ import annotations

import asyncio
import base64
import subprocess
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from policies.verdict import Kind
from proxy.errors import UpstreamError
from proxy.transport.base import Headers

EARLY = 300.0
"""Seconds before its end at which a token is renewed, or a tenth of its life if that is less."""
PAUSE = 5.0
"""Seconds after a failed renewal in which nobody tries again."""
COMMAND_SECONDS = 60.0

_SCOPE = "https://www.googleapis.com/auth/cloud-platform"


class Told(NamedTuple):
    token: str
    expires: float | None
    """Seconds since the epoch; None where the source does not say."""


Source = Callable[[], Told]
"""Runs in a thread. Raises `SourceError`, `OSError`."""


class SourceError(Exception):
    """Why there is no token; in words, without any secret."""


class Token:
    """One token that many targets share. `lasts`: seconds for which one that names no end is believed."""

    def __init__(self, source: Source, lasts: float, now: Callable[[], float] = time.time) -> None:
        self._source = source
        self._lasts = lasts
        self._now = now
        self._value = ""
        self._renew_at = self._ends_at = self._failed_at = 0.0
        self._failure = ""
        self._renewing: asyncio.Task[None] | None = None

    async def header(self) -> Headers:
        """The header of one request. Raises `UpstreamError` (AUTH) where there is no token."""
        now = self._now()
        if now >= self._renew_at:
            may = self._renewing is not None or now >= self._failed_at + PAUSE
            renewing = self._begin() if may else None
            if now >= self._ends_at:
                if renewing is not None:
                    await asyncio.shield(renewing)
                if self._now() >= self._ends_at:
                    raise UpstreamError(Kind.AUTH, "credentials", f"no token: {self._failure}")
        return ((b"authorization", b"Bearer " + self._value.encode()),)

    def _begin(self) -> asyncio.Task[None]:
        if self._renewing is None:
            self._renewing = asyncio.create_task(self._renew())
        return self._renewing

    async def _renew(self) -> None:
        try:
            told = await asyncio.to_thread(self._source)
        except (SourceError, OSError) as error:
            self._failed_at, self._failure = self._now(), str(error)
        else:
            self._take(told)
        finally:
            self._renewing = None

    def _take(self, told: Told) -> None:
        now = self._now()
        ends = told.expires if told.expires is not None else now + self._lasts
        if ends <= now:
            self._failed_at, self._failure = now, "the token that came had already expired"
            return
        self._value, self._ends_at = told.token, ends
        self._renew_at = ends - min(EARLY, (ends - now) / 10)


def from_command(command: Sequence[str]) -> Source:
    """What a program prints: the token alone, or JSON as `az account get-access-token` and others write it."""

    def run() -> Told:
        try:
            done = subprocess.run(  # noqa: S603  (the config names the program; no shell reads it)
                list(command), capture_output=True, timeout=COMMAND_SECONDS, stdin=subprocess.DEVNULL
            )
        except subprocess.TimeoutExpired:
            raise SourceError(f"`{command[0]}` did not end within {COMMAND_SECONDS:g} s") from None
        if done.returncode != 0:
            words = done.stderr.decode("utf-8", "replace").strip().splitlines()
            why = f": {words[-1][:200]}" if words else ""
            raise SourceError(f"`{command[0]}` ended with status {done.returncode}{why}")
        return read(done.stdout, f"`{command[0]}`")

    return run


def from_file(path: str) -> Source:
    """A file that another program keeps fresh."""
    return lambda: read(Path(path).read_bytes(), path)


def from_google(path: str) -> Source:
    """A key file of a service account or a user; `default`: whatever google-auth finds on this machine."""
    kept: list[Any] = []

    def renew() -> Told:
        try:
            import google.auth.exceptions
            import google.auth.transport.requests
        except ImportError:
            raise SourceError("google-auth is not installed: pip install 'weighbridge[vertex]'") from None
        try:
            if not kept:
                kept.append(_google_credentials(path))
            kept[0].refresh(google.auth.transport.requests.Request())
        except (google.auth.exceptions.GoogleAuthError, ValueError) as error:
            raise SourceError(f"Google: {str(error)[:200]}") from None
        expiry: datetime | None = kept[0].expiry
        ends = None if expiry is None else (expiry - datetime(1970, 1, 1)).total_seconds()  # it is naive UTC
        return Told(kept[0].token, ends)

    return renew


def _google_credentials(path: str) -> Any:
    import google.auth
    import google.oauth2.credentials
    import google.oauth2.service_account

    if path == "default":
        return google.auth.default(scopes=[_SCOPE])[0]
    told = orjson.loads(Path(path).read_bytes())
    kind = told.get("type") if isinstance(told, dict) else None
    if kind == "service_account":
        account: Any = google.oauth2.service_account.Credentials
        return account.from_service_account_info(told, scopes=[_SCOPE])
    if kind == "authorized_user":
        user: Any = google.oauth2.credentials.Credentials
        return user.from_authorized_user_info(told, scopes=[_SCOPE])
    raise ValueError(f"a key file of type {kind!r}; known are service_account and authorized_user")


def read(raw: bytes, where: str) -> Told:
    """A token and its end, from what a program printed or a file holds. Raises `SourceError`."""
    text = raw.decode("utf-8", "replace").strip()
    told: dict[str, Any] = {}
    if text.startswith("{"):
        try:
            told = orjson.loads(text)
        except orjson.JSONDecodeError:
            raise SourceError(f"{where} gave JSON that cannot be read") from None
        names = ("accessToken", "access_token", "token", "id_token")
        text = next((told[name] for name in names if isinstance(told.get(name), str)), "")
    if not text or not text.isascii() or any(letter.isspace() for letter in text):
        raise SourceError(f"{where} gave no token")
    return Told(text, _end(told) or _claimed(text))


def _end(told: dict[str, Any]) -> float | None:
    """From `expires_on` (epoch), `expires_in` (seconds) or a date with its zone."""
    for name, base in (("expires_on", 0.0), ("expires_in", time.time())):
        try:
            return base + float(told[name])
        except (KeyError, TypeError, ValueError):
            continue
    for name in ("expiry", "expirationTimestamp", "expireTime"):
        try:
            when = datetime.fromisoformat(told[name])
        except (KeyError, TypeError, ValueError):
            continue
        if when.tzinfo is not None:
            return when.timestamp()
    return None


def _claimed(token: str) -> float | None:
    """The `exp` of a JSON web token; it is only read, since whoever takes the token checks it."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = orjson.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    ends = claims.get("exp") if isinstance(claims, dict) else None
    return float(ends) if isinstance(ends, int | float) else None
