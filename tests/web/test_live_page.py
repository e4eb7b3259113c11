"""The live page's files as they are served; what they do in a browser is in `tests/parts/test_live_page.py`."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from proxy.web.livepage import HEADERS, page_files


def test_everything_that_the_page_names_is_there() -> None:
    served = page_files()
    named = re.findall(r'(?:src|href)="page/([^"]+)"', served["index.html"].body.decode())
    for name, file in served.items():
        if name.endswith(".js") and name != "uplot.js":
            named += re.findall(r"from '\./([^']+)'", file.body.decode())
    assert set(named) | {"index.html"} == set(served)


def test_no_other_host_and_nothing_inline() -> None:
    for name, file in page_files().items():
        text = file.body.decode()
        if name.endswith((".html", ".css", ".js")) and name != "uplot.js":
            assert not re.search(r"https?://", text), name
            assert "innerHTML" not in text, name
    page = page_files()["index.html"].body.decode()
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=", page)


@pytest.mark.parametrize("directive", ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"])
def test_the_policy_of_the_page(directive: str) -> None:
    assert directive in HEADERS["content-security-policy"]
    assert "unsafe" not in HEADERS["content-security-policy"]


def test_the_licence_of_what_is_vendored_is_beside_it() -> None:
    licence = (files("proxy.web") / "page" / "uplot-LICENSE.txt").read_text("utf-8")
    assert licence.startswith("The MIT License (MIT)")
    assert "Leon Sorokin" in licence
