"""Agents' loops with foreign clients, unmodified but for their base URL, through the proxy to every dialect.

The simulated upstreams of Anthropic, Gemini and Bedrock think, and demand their signed thinking back. OpenAI's SDK
brings it back; LangChain's, LiteLLM's and Vercel's clients lose it on the way, and the loop must work all the same.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.everyone import MODELS, World, everyone
from tests.parts.conftest import missing

pytestmark = pytest.mark.parts

HERE = Path(__file__).parent
PYTHON = ("openai", "langchain", "litellm")
CALLS = {"calls": ["get_time", "get_weather"], "text": False, "tokens": True}
WORDS = {"calls": [], "text": True, "tokens": True}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with everyone(tmp_path_factory.mktemp("loops")) as made:
        yield made


def _command(client: str, folder: Path) -> list[str]:
    if client != "vercel":
        home = Path(os.environ.get("WEIGHBRIDGE_CLIENTS_DIR") or HERE.parents[1] / ".venv-clients")
        if not (home / "bin/python").exists():
            missing(f"the environment {home.name} with {client}")
        return [str(home / "bin/python"), str(HERE / "clients/loops.py"), client]
    installed = Path(os.environ.get("WEIGHBRIDGE_NODE_DIR") or HERE / "node") / "node_modules"
    if shutil.which("node") is None or not (installed / "ai").is_dir():
        missing("Node with the package ai")
    shutil.copy(HERE / "node/loop.mjs", folder)
    (folder / "node_modules").symlink_to(installed.resolve(), target_is_directory=True)
    return ["node", str(folder / "loop.mjs")]


def _signed(world: World, model: str) -> int:
    """How often a signature came back to the upstream, in its last request."""
    last = json.dumps(world.upstreams[model].requests[-1].json)
    return (
        last.count('"signature"') + last.count('"thoughtSignature"') - last.count('"skip_thought_signature_validator"')
    )


@pytest.mark.parametrize("client", [*PYTHON, "vercel"])
def test_a_loop_through_every_dialect(world: World, client: str, tmp_path: Path) -> None:
    command = [*_command(client, tmp_path), f"{world.url}/v1", *MODELS]
    ran = subprocess.run(command, capture_output=True, timeout=240, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr.decode()
    told: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    assert told == {model: [CALLS, WORDS, CALLS, WORDS] for model in MODELS}
    if client == "openai":
        assert all(_signed(world, model) >= 2 for model in ("anthropic", "bedrock", "gemini"))
