"""What can be put under load: the mock itself, nginx, Weighbridge from a checkout, and the gateways found installed.

Nothing is installed here. A peer is found by an environment variable, or on PATH:

    BENCH_LITELLM      the `litellm` command            (PATH: litellm)
    BENCH_PORTKEY      the folder of the npm package @portkey-ai/gateway, `node` being on PATH
    BENCH_TENSORZERO   the Python of an environment with the `tensorzero` package
    BENCH_NGINX        the `nginx` command              (PATH, /usr/sbin)

A target's files (config, log, database) stand in a folder of its own below the run's temporary folder.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import string
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parent
KEY = "sk-bench-0123456789abcdef"
MODELS = ("mock", "mock-d5", "mock-n400-d5", "mock-w5000")
_PATH = "/v1/chat/completions"
_BEARER = {"authorization": f"Bearer {KEY}"}


class Target(NamedTuple):
    name: str
    command: list[str]
    """Empty for the mock itself."""
    url: str
    folder: Path
    version: str = ""
    headers: Mapping[str, str] = _BEARER
    env: Mapping[str, str] = {}
    cwd: Path | None = None
    """Default: its folder."""
    prefix: str = ""
    """Put before the model's name to make the gateway's own name for it."""
    address_file: Path | None = None
    """Where a target that picks its own port writes its base URL; `url` is then the path behind it."""
    database: Path | None = None
    """Weighbridge's store: every exchange must be found in it."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _url(port: int) -> str:
    return f"http://127.0.0.1:{port}{_PATH}"


def _fill(template: str, folder: Path, **values: object) -> Path:
    """A peer's config, written into its folder."""
    path = folder / template
    text = string.Template((HERE / "peers" / template).read_text()).substitute(folder=folder, key=KEY, **values)
    path.write_text(text)
    return path


def _printed(*command: str) -> str:
    """The last word that a command prints, to learn a version; `?` if it does not run."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return "?"
    words = (done.stdout + done.stderr).split()
    return words[-1] if words else "?"


def _installed(python: Path, package: str) -> str:
    return _printed(str(python), "-c", f"import importlib.metadata as m; print(m.version({package!r}))")


def direct(folder: Path, mock: int) -> Target:
    return Target("direct", [], _url(mock), folder)


def nginx(folder: Path, mock: int) -> Target | None:
    command = os.environ.get("BENCH_NGINX") or shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if not command:
        return None
    port = free_port()
    config = _fill("nginx.conf", folder, port=port, mock=mock)
    version = _printed(command, "-v").removeprefix("nginx/")
    return Target("nginx", [command, "-p", str(folder), "-c", str(config)], _url(port), folder, version)


def weighbridge(folder: Path, mock: int, checkout: Path = ROOT, name: str = "weighbridge") -> Target:
    """The full product: key check, route, record into SQLite and metrics; one worker.

    `python -m proxy` inside the checkout rather than an installed `weighbridge`, so that it is surely this code.
    """
    port = free_port()
    database = folder / "bench.db"
    config = {
        "server": {"host": "127.0.0.1", "port": port},
        "storage": f"sqlite:///{database}",
        "providers": {"mock": {"dialect": "openai", "base_url": f"http://127.0.0.1:{mock}/v1", "api_key": None}},
        "routes": {model: {"targets": [f"mock/{model}"]} for model in MODELS},
        "keys": [{"name": "bench", "key": "env:BENCH_KEY"}],
    }
    path = folder / "weighbridge.json"
    path.write_text(json.dumps(config, indent=1))
    command = [sys.executable, "-m", "proxy", "serve", "--config", str(path)]
    env = {"BENCH_KEY": KEY}
    return Target(name, command, _url(port), folder, _commit(checkout), env=env, cwd=checkout, database=database)


def _commit(checkout: Path) -> str:
    return _printed("git", "-C", str(checkout), "describe", "--always", "--dirty")


def litellm(folder: Path, mock: int) -> Target | None:
    command = os.environ.get("BENCH_LITELLM") or shutil.which("litellm")
    if not command:
        return None
    port = free_port()
    config = _fill("litellm.yaml", folder, mock=mock)
    line = [command, "--config", str(config), "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1"]
    # The price table from the package, not from the network; its own advice for production, and no log lines.
    env = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_MODE": "PRODUCTION", "LITELLM_LOG": "ERROR"}
    version = _installed(Path(command).parent / "python", "litellm")
    return Target("litellm", [*line, "--telemetry", "False"], _url(port), folder, version, env=env)


def portkey(folder: Path, mock: int) -> Target | None:
    package = Path(os.environ.get("BENCH_PORTKEY", "/nowhere"))
    node = shutil.which("node")
    script = package / "build" / "start-server.js"
    if not node or not script.exists():
        return None
    port = free_port()
    headers = {
        **_BEARER,
        "x-portkey-provider": "openai",
        "x-portkey-custom-host": f"http://127.0.0.1:{mock}/v1",
    }
    env = {"NODE_ENV": "production", "TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost"}
    version = str(json.loads((package / "package.json").read_text())["version"])
    return Target(
        "portkey", [node, str(script), f"--port={port}", "--headless"], _url(port), folder, version, headers, env
    )


def tensorzero(folder: Path, mock: int) -> Target | None:
    python = os.environ.get("BENCH_TENSORZERO")
    if not python:
        return None
    config = _fill("tensorzero.toml", folder, mock=mock)
    address = folder / "address"
    return Target(
        "tensorzero",
        [python, str(HERE / "peers" / "tensorzero_gateway.py"), str(config), str(address)],
        "/chat/completions",
        folder,
        _installed(Path(python), "tensorzero"),
        env={"RUST_LOG": "error"},
        prefix="tensorzero::model_name::",
        address_file=address,
    )


def found(folder: Path, mock: int, baseline: Path | None) -> list[Target]:
    """All targets that can be started here, in the order in which they take turns."""
    makers = (direct, nginx, weighbridge, tensorzero, portkey, litellm)
    targets = []
    for make in makers:
        own = folder / make.__name__
        own.mkdir(exist_ok=True)
        target = make(own, mock)
        if target is not None:
            targets.append(target)
    if baseline is not None:
        own = folder / "baseline"
        own.mkdir(exist_ok=True)
        after = next(i for i, target in enumerate(targets) if target.name == "weighbridge") + 1
        targets.insert(after, weighbridge(own, mock, baseline.resolve(), "baseline"))
    return targets
