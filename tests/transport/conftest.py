from __future__ import annotations

import pytest

LOWER = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def no_outbound_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own proxy must not come between the tests' client and server."""
    for name in (*LOWER, *(name.upper() for name in LOWER)):
        monkeypatch.delenv(name, raising=False)
