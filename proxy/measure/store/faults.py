"""What a failing store means and how to mend it, in words for the log, `/readyz` and the command line."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from proxy.measure.store.schema import SchemaError

# Primary result codes, https://sqlite.org/rescode.html; an extended code is its primary code with a suffix.
_MEANINGS = (
    ("SQLITE_FULL", "the disk is full: free some space"),
    ("SQLITE_READONLY", "it is read-only: make the file and its folder writable, or name another file under `storage`"),
    ("SQLITE_BUSY", "another process holds it locked: end that process, or name another file under `storage`"),
    ("SQLITE_LOCKED", "another process holds it locked: end that process, or name another file under `storage`"),
    ("SQLITE_NOTADB", "it is no SQLite database: name another file under `storage`"),
    ("SQLITE_CORRUPT", "it is damaged: move it away, a new one is begun"),
    ("SQLITE_IOERR", "the disk reports an error: look at the disk, or name another file under `storage`"),
)


class Moved(OSError):
    """The file under our connection is no longer the one at its path: what is written there would be lost."""


def is_disk_fault(error: BaseException) -> bool:
    """The store itself fails, and the same rows may be written later; otherwise a row is at fault."""
    if isinstance(error, sqlite3.Error):
        return (
            isinstance(error, sqlite3.OperationalError | sqlite3.InternalError) or type(error) is sqlite3.DatabaseError
        )
    return isinstance(error, OSError)


def reason(path: Path, error: BaseException, done: str = "stored in") -> str:
    """One line: which file, what is wrong, how to mend it. `done` is what cannot be done: stored in, read from."""
    return f"records cannot be {done} {path}: {_meaning(path, error)}"


def _meaning(path: Path, error: BaseException) -> str:
    if isinstance(error, SchemaError):
        return str(error)
    if isinstance(error, Moved):
        return "the file was moved or deleted; a new one is begun"
    code = getattr(error, "sqlite_errorname", None) or ""
    for prefix, meaning in _MEANINGS:
        if code.startswith(prefix):
            return meaning
    if path.is_dir():
        return "it is a folder: name a file under `storage`"
    if not path.parent.is_dir():
        return f"the folder {path.parent} does not exist: create it, or name another file under `storage`"
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if code.startswith("SQLITE_CANTOPEN"):
        folder = path.parent.absolute()
        return f"it cannot be opened: let this user write in {folder}, or name another file under `storage`"
    return f"{error}" or type(error).__name__
