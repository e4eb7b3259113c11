"""The live page in a real Chromium, on real traffic with failures.

The checks themselves are in `node/livepage.mjs`; they run once, in one browser, and each of them is a test here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import processes
from tests.parts.conftest import missing

pytestmark = pytest.mark.parts

SCRIPTS = Path(__file__).with_name("node")
NAMES = re.findall(r"^  async '([^']+)'\(\)", (SCRIPTS / "livepage.mjs").read_text(), re.MULTILINE)
PUBLIC = "127.1"
"""An address of this machine alone that is not written as one, so the proxy has to take it for public."""
TOKEN = "an-admin-token"
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """Name of a check -> None, or what went wrong."""
    chromium = shutil.which("chromium") or missing("Chromium")
    if shutil.which("node") is None:
        missing("Node")
    installed = Path(os.environ.get("WEIGHBRIDGE_NODE_DIR") or SCRIPTS) / "node_modules"
    if not (installed / "playwright-core").is_dir():
        missing("the Node package playwright-core")
    folder = tmp_path_factory.mktemp("live-page")
    shutil.copy(SCRIPTS / "livepage.mjs", folder)
    (folder / "node_modules").symlink_to(installed.resolve(), target_is_directory=True)
    with (
        processes.upstream(folder / "bad", "--seed", "3", "--fault", "http_503:0.5", "--ttft", "5ms") as bad,
        processes.upstream(folder / "good", "--seed", "4", "--ttft", "5ms") as good,
    ):
        config = {
            "providers": {
                name: {"dialect": "openai", "base_url": f"{one.base_url}/v1", "api_key": None}
                for name, one in (("bad", bad), ("good", good))
            },
            "shadow": {"good-for-chat": {"route": "chat", "candidate": {"target": "good/m"}, "rate": "100%"}},
            "prices": {"bad/m": {"input": 0.1, "output": 0.4}, "good/m": {"input": 0.5, "output": 2}},
            "routes": {"chat": {"targets": ["bad/m", "good/m"]}},
        }
        locked = {
            **config,
            "server": {"admin_token": TOKEN},
            "keys": [{"name": "app", "key": "sk-app-0123456789abcdef", "rpm": 600, "budget": {"per_day": 5}}],
        }
        with (
            processes.proxy(config, folder / "open") as proxy,
            processes.mortal_proxy(locked, folder / "locked", "--host", PUBLIC) as other,
        ):
            send(proxy)
            ran = subprocess.run(
                ["node", "livepage.mjs", chromium, f"{proxy.base_url}/", f"{other.base_url}/", TOKEN],
                cwd=folder,
                capture_output=True,
                timeout=110,
            )
    assert ran.returncode == 0, ran.stderr.decode()
    told: dict[str, str | None] = json.loads(ran.stdout)
    assert list(told) == NAMES
    return told


def send(proxy: processes.Running) -> None:
    """Streams and whole answers, half of which fail over, and a request that is refused."""
    for number in range(40):
        chat = {"model": "chat", "messages": [{"role": "user", "content": "hello"}], "stream": number % 2 == 0}
        assert proxy.ask("/v1/chat/completions", chat).status == 200
    hostile = {"model": HOSTILE, "messages": [{"role": "user", "content": "hello"}]}
    assert proxy.ask("/v1/chat/completions", hostile).status == 404


@pytest.mark.parametrize("name", NAMES)
def test_live_page(outcome: dict[str, str | None], name: str) -> None:
    assert outcome[name] is None, outcome[name]
