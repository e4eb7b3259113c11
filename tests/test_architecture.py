"""The house rules, run: floors, one-door rules (see .importlinter), pure rooms, a light start."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

PURE = sorted(
    [
        *(ROOT / "policies").rglob("*.py"),
        *(ROOT / "proxy/wire").rglob("*.py"),
        *(ROOT / "proxy/providers").rglob("*.py"),
        *(ROOT / "proxy/forms").rglob("*.py"),
        *(ROOT / "proxy/pictures").rglob("*.py"),
        ROOT / "proxy/measure/timing.py",
        ROOT / "proxy/measure/stats.py",
        ROOT / "proxy/measure/report.py",
        *(ROOT / f"proxy/scoring/{name}.py" for name in ("text", "form")),
    ]
)
FORBIDDEN = {
    "asyncio", "time", "datetime", "random", "secrets", "uuid", "os", "io", "pathlib", "socket", "threading",
    "subprocess", "sqlite3", "httpx", "httptools", "starlette", "uvicorn", "logging", "urllib.request",
}  # fmt: skip
BUILT_IN = {"open", "print", "input", "__import__", "exec", "eval"}
ALLOWED = {("random", "Random")}
"""The type of a source of chance that is handed in; drawing from the module itself is not allowed."""


def _impure(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in FORBIDDEN]
        elif isinstance(node, ast.ImportFrom) and node.module:
            top = node.module.split(".")[0]
            if top in FORBIDDEN or node.module in FORBIDDEN:
                found += [f"{node.module}.{a.name}" for a in node.names if (node.module, a.name) not in ALLOWED]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in BUILT_IN:
            found.append(f"{node.func.id}()")
        elif isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.Global):
            found.append(type(node).__name__)
    return found


@pytest.mark.parametrize("path", PURE, ids=lambda path: str(path.relative_to(ROOT)))
def test_pure_rooms_touch_no_clock_chance_or_io(path: Path) -> None:
    assert _impure(path) == []


@pytest.mark.parametrize(
    "code", ["import time", "from os import environ", "async def f(): pass", "open('x')", "from random import random"]
)
def test_the_purity_check_can_fail(tmp_path: Path, code: str) -> None:
    (tmp_path / "x.py").write_text(code)
    assert _impure(tmp_path / "x.py") != []


def test_policies_import_the_standard_library_only() -> None:
    for path in (ROOT / "policies").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for name in names:
                top = name.split(".")[0]
                assert top == "policies" or top in sys.stdlib_module_names, f"{path.name} imports {name}"


def test_serving_imports_nothing_heavy() -> None:
    """The modules that `serve` loads; a time would say the same, but not on a busy machine."""
    code = "import sys, proxy.app, proxy.cli.serve, proxy.web.server; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & {"rich", "openai", "numpy", "scipy", "pyarrow", "pandas", "h2", "hypothesis", "opentelemetry"}
    assert "proxy.simulated" not in done.stdout.split()


def test_importing_does_no_work() -> None:
    """Importing the application reads no file but modules, opens no socket, starts no thread."""
    code = """
import sys, threading
seen = []
def hook(event, args):
    if event in ("socket.connect", "socket.bind", "subprocess.Popen", "sqlite3.connect", "os.mkdir"):
        seen.append(event)
sys.addaudithook(hook)
import proxy.app, proxy.cli.serve
assert not seen, seen
assert threading.active_count() == 1
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_no_machine_path_or_download_address_is_committed() -> None:
    files = subprocess.run(["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=True).stdout.split()
    marks = ("/wo" + "rk/", "files.pyth" + "onhosted", "registry.npm" + "js", "extra-" + "index-url")
    for name in files:
        path = ROOT / name
        if path.is_file() and path.suffix not in {".png", ".woff2"}:
            text = path.read_text("utf-8", "replace")
            assert not [mark for mark in marks if mark in text], name
