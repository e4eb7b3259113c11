"""The official Node SDK, unmodified but for its base URL, through the proxy to simulated upstreams.

The checks themselves are in `node/`; they run once, in one Node process, and each of them is a test here.
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
NAMES = [
    name
    for script in ("answers.mjs", "retries.mjs")
    for name in re.findall(r"^    async '([^']+)'\(\)", (SCRIPTS / script).read_text(), re.MULTILINE)
]


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the scripts beside the installed SDK, for Node looks for packages from the script's own folder."""
    installed = Path(os.environ.get("WEIGHBRIDGE_NODE_DIR") or SCRIPTS) / "node_modules"
    if shutil.which("node") is None:
        missing("Node")
    if not (installed / "openai").is_dir():
        missing("the Node package openai")
    folder = tmp_path_factory.mktemp("node")
    for script in SCRIPTS.glob("*.mjs"):
        shutil.copy(script, folder)
    (folder / "node_modules").symlink_to(installed.resolve(), target_is_directory=True)
    return folder


@pytest.fixture(scope="module")
def outcome(scripts: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | None]:
    """Name of a check -> None, or what went wrong."""
    folder = tmp_path_factory.mktemp("node-sdk")
    with (
        processes.upstream(folder / "primary", "--seed", "7") as primary,
        processes.upstream(folder / "second", "--seed", "8") as second,
    ):
        config = {
            "providers": {
                name: {"dialect": "openai", "base_url": f"{one.base_url}/v1", "api_key": None}
                for name, one in (("primary", primary), ("second", second), ("fresh", primary))
            },
            "routes": {
                "healthy": {"targets": ["primary/m"]},
                "once": {"targets": ["primary/m"], "retries": {"per_target": 1, "per_request": 1}},
                "patient": {"targets": ["primary/m"]},
                "pair": {"targets": ["primary/m", "second/m"]},
                "fresh-pair": {"targets": ["fresh/m", "second/m"]},
            },
        }
        with processes.proxy(config, folder) as proxy:
            ran = subprocess.run(
                ["node", "sdk.mjs", f"{proxy.base_url}/v1", primary.base_url],
                cwd=scripts,
                capture_output=True,
                timeout=110,
            )
    assert ran.returncode == 0, ran.stderr.decode()
    told: dict[str, str | None] = json.loads(ran.stdout)
    assert list(told) == NAMES
    return told


@pytest.mark.parametrize("name", NAMES)
def test_node_sdk(outcome: dict[str, str | None], name: str) -> None:
    assert outcome[name] is None, outcome[name]
