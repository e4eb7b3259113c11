"""Programs from outside: where one is missing its tests are skipped, or fail where WEIGHBRIDGE_PARTS=required."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tests.parts import tiny_model
from tests.processes import Running, tail


def missing(part: str) -> NoReturn:
    """Skip, visibly, or fail where the parts are required."""
    message = f"{part} is not installed (see .ci/parts)"
    if os.environ.get("WEIGHBRIDGE_PARTS") == "required":
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope="session")
def llamacpp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A real llama.cpp server with a tiny random model, under the model name `tiny`."""
    if importlib.util.find_spec("xllamacpp") is None:
        missing("the Python package xllamacpp")
    folder = tmp_path_factory.mktemp("llamacpp")
    model = tiny_model.write(folder / "tiny.gguf")
    log = folder / "server.log"
    script = Path(__file__).with_name("llamacpp_server.py")
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, str(script), str(model)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
        )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        try:
            base_url = process.stdout.readline().decode().strip()
            assert base_url, f"llama.cpp did not start:\n{tail(log)}"
            yield Running(process, base_url, log)
            process.stdin.close()
            assert process.wait(30) == 0, tail(log)
        finally:
            process.kill()
            process.wait()
