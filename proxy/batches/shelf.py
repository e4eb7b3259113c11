"""Files and batches on disk. Synchronous: call it from a thread."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

Json = dict[str, Any]

_ID = re.compile(r"(?:file|batch)[-_][0-9a-f]{24}")


class Shelf:
    """A folder that only its owner may read: files hold prompts and answers, as whoever uploads them asks for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, about: Json, content: bytes | None = None) -> None:
        """Writes what is known of a file or batch, and a file's content before it."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if content is not None:
            self._replace(f"{about['id']}.data", content)
        self._replace(f"{about['id']}.json", orjson.dumps(about, option=orjson.OPT_INDENT_2))

    def about(self, id: str) -> Json | None:
        if not _ID.fullmatch(id):
            return None
        try:
            whole: Json = orjson.loads((self.folder / f"{id}.json").read_bytes())
        except FileNotFoundError:
            return None
        return whole

    def content(self, id: str) -> bytes | None:
        if not _ID.fullmatch(id):
            return None
        try:
            return (self.folder / f"{id}.data").read_bytes()
        except FileNotFoundError:
            return None

    def remove(self, id: str) -> bool:
        if self.about(id) is None:
            return False
        for name in (f"{id}.json", f"{id}.data"):
            (self.folder / name).unlink(missing_ok=True)
        return True

    def every(self, kind: str) -> Iterator[Json]:
        """Everything of a kind (`file` or `batch`), newest first."""
        found = []
        if self.folder.is_dir():
            found = [self.about(path.stem) for path in self.folder.glob(f"{kind}[-_]*.json")]
        known = [one for one in found if one is not None]
        yield from sorted(known, key=lambda one: (one["created_at"], one["id"]), reverse=True)

    def _replace(self, name: str, content: bytes) -> None:
        path = self.folder / name
        temporary = path.with_suffix(path.suffix + ".part")
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
