"""The live page's files. They hold no figures, so anybody may have them; what they show is asked of `/api` in turn."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import NamedTuple

TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
HEADERS = {
    # Nothing from other hosts, nothing inline: were a client's text ever taken for markup, it still could do nothing.
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cache-control": "no-cache",
}


class File(NamedTuple):
    body: bytes
    media_type: str


@cache
def page_files() -> dict[str, File]:
    """Name -> file, read once."""
    found = {}
    for path in (files("proxy.web") / "page").iterdir():
        media_type = TYPES.get(path.name.rpartition(".")[2])
        if media_type is not None:
            found[path.name] = File(path.read_bytes(), media_type)
    return found
