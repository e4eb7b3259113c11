"""Virtual keys: who may call, made by command and kept as digests. The key itself is shown once and stored nowhere."""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import orjson

from policies.allowance import UNLIMITED, Allowed
from proxy.measure.store import faults
from proxy.measure.store.schema import SchemaError
from proxy.measure.store.upkeep import iso
from proxy.measure.store.writer import connect


class NoKey(Exception):
    """What the user can mend; the text says how."""


class StoredKey(NamedTuple):
    name: str
    digest: bytes
    """SHA-256 of the key."""
    begins: str
    """Its first characters, to tell keys apart by eye."""
    direct: bool
    routes: tuple[str, ...] | None
    """None: all."""
    tags: tuple[str, ...]
    created: str
    revoked: str | None
    """When; None while it is good."""
    terms: Allowed = UNLIMITED
    """What it may use."""


def create(
    path: Path,
    name: str,
    *,
    direct: bool = False,
    routes: Sequence[str] | None = None,
    tags: Sequence[str] = (),
    terms: Allowed = UNLIMITED,
) -> str:
    """Makes a key and gives it: it cannot be had again. Raises `NoKey`."""
    if not name.isprintable() or not 1 <= len(name) <= 200:
        raise NoKey("a key's name has 1 to 200 printable characters")
    secret = "wb-" + secrets.token_urlsafe(32)
    row = (
        name,
        hashlib.sha256(secret.encode()).digest(),
        secret[:9],
        direct,
        orjson.dumps(routes).decode() if routes is not None else None,
        orjson.dumps(tags).decode(),
        iso(time.time()) + "Z",
        orjson.dumps(terms._asdict()).decode(),
    )
    with _writing(path) as connection:
        try:
            connection.execute("INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, NULL, ?)", row)
        except sqlite3.IntegrityError:
            raise NoKey(f"there is a key named {name!r} (or was): take another name") from None
    return secret


def revoke(path: Path, name: str) -> None:
    """Its name stays taken, so that records tell whose they are. Raises `NoKey`."""
    with _writing(path) as connection:
        done = connection.execute(
            "UPDATE keys SET revoked = ? WHERE name = ? AND revoked IS NULL", (iso(time.time()) + "Z", name)
        )
        if not done.rowcount:
            raise NoKey(f"there is no key named {name!r} that could be revoked: see `weighbridge keys list`")


def stored(path: Path) -> list[StoredKey]:
    """All keys, revoked ones included; none where the file cannot be read. Raises nothing."""
    try:
        if not path.exists():
            return []
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)
        try:
            rows = connection.execute("SELECT * FROM keys ORDER BY created, name").fetchall()
        finally:
            connection.close()
    except (sqlite3.Error, OSError):
        return []
    return [
        StoredKey(
            name, digest, begins, bool(direct), None if routes is None else tuple(orjson.loads(routes)),
            tuple(orjson.loads(tags)), created, revoked,
            UNLIMITED if limits is None else Allowed(**orjson.loads(limits)),
        )
        for name, digest, begins, direct, routes, tags, created, revoked, limits in rows
    ]  # fmt: skip


@contextmanager
def _writing(path: Path) -> Iterator[sqlite3.Connection]:
    try:
        connection = connect(path)
    except (sqlite3.Error, OSError, SchemaError) as error:
        raise NoKey(faults.reason(path, error)) from error
    try:
        yield connection
    except sqlite3.Error as error:
        raise NoKey(faults.reason(path, error)) from error
    finally:
        connection.close()
