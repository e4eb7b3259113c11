"""Data URLs (RFC 2397), in which clients send pictures and files."""

from __future__ import annotations

import base64
import re
from urllib.parse import unquote_to_bytes

from proxy.errors import Refusal

_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w.+=-]+)*?)(;base64)?,", re.ASCII)


def data_url(url: str, where: str) -> tuple[str, str]:
    """Media type (may be empty) and base64 text of a data URL.

    Raises `Refusal` (400) naming `where` for what is none.
    """
    found = _DATA_URL.match(url)
    if found is None:
        raise Refusal(400, f"`{where}` must be a data URL.", param=where, code="invalid_value")
    data = url[found.end() :]
    if not found[3]:
        data = base64.b64encode(unquote_to_bytes(data)).decode()
    return (found[1] or "").lower(), data
