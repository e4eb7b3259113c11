"""The container's files: linted, bound to the loopback, and in step with each other."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.parts.conftest import missing

ROOT = Path(__file__).resolve().parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")


@pytest.fixture
def compose() -> dict[str, Any]:
    found: dict[str, Any] = YAML(typ="safe").load((ROOT / "docker-compose.yml").read_text("utf-8"))
    return found


@pytest.mark.parts
def test_the_dockerfile_passes_its_linter() -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or missing("hadolint")
    done = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_compose_file_is_valid() -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*command, str(ROOT / "docker-compose.yml")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_everything_is_published_on_the_loopback_alone(compose: dict[str, Any]) -> None:
    ports = [port for service in compose["services"].values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_images_are_pinned_and_mounts_are_there(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]), name
        for volume in service.get("volumes", ()):
            source, _, mode = volume.split(":") if volume.count(":") == 2 else (*volume.split(":"), "rw")
            if source.startswith("./"):
                assert (ROOT / source).exists(), source
                assert mode == "ro", source
            else:
                assert source in compose["volumes"], source


def test_the_images_version_is_the_packages(compose: dict[str, Any]) -> None:
    (version,) = re.findall(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    assert compose["services"]["weighbridge"]["image"] == f"weighbridge:{version}"


def test_it_runs_as_nobody_special_and_ends_on_a_signal() -> None:
    """The exec form makes the proxy the process that is sent SIGTERM; a number satisfies Kubernetes's runAsNonRoot."""
    last = DOCKERFILE.rpartition("FROM ")[2]
    assert re.search(r"^USER [1-9]\d{2}:\d+$", last, re.MULTILINE)
    commands = re.findall(r"^(?:\s*CMD|ENTRYPOINT) (\[.+\])$", last, re.MULTILINE)
    assert len(commands) == 3
    assert all(json.loads(command) for command in commands)


def test_what_the_image_is_made_of_is_let_through() -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        for source in sources.split():
            assert f"!{source}" in ignored, source
