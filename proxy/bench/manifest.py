"""What a run is made of, so that it can be told from another: hashes, versions, the commit of the suite."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from proxy import __version__
from proxy.bench import scorers
from proxy.bench.data import Case, digest, slices_of
from proxy.bench.suite import Suite

Json = dict[str, Any]


def manifest(suite: Suite, cases: Sequence[Case], tag: str | None) -> Json:
    now = datetime.now(UTC)
    return {
        "id": _id(now),
        "kind": "run",
        "suite_name": suite.name,
        "suite": suite.digest,
        "suite_text": _without_keys(suite.written),
        "tag": tag,
        "started": now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "finished": None,
        "invalid": [],
        "cases": len(cases),
        "data": digest(cases),
        "scorers": scorers.digest(suite),
        "slices": slices_of(suite, cases),
        "sampling": suite.sampling,
        "stream": suite.stream,
        "seed": suite.seed,
        "commit": _git(suite.folder, "rev-parse", "HEAD"),
        "commit_tag": _git(suite.folder, "describe", "--tags", "--exact-match"),
        "changed": bool(_git(suite.folder, "status", "--porcelain")),
        "version": __version__,
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in ("numpy", "scipy", "statsmodels", "pyarrow")},
    }


def imported(suite_text: Json, rows: Sequence[Json], tag: str | None) -> Json:
    """For a run that took place elsewhere."""
    now = datetime.now(UTC)
    started = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    asked = sorted({(row["task"], row["case"]) for row in rows})
    return {
        "id": _id(now),
        "kind": "run",
        "imported": True,
        "suite_name": suite_text["name"],
        "suite": "",
        "suite_text": suite_text,
        "tag": tag,
        "started": started,
        "finished": started,
        "invalid": [],
        "cases": len(asked),
        "data": hashlib.sha256(repr(asked).encode()).hexdigest(),
        "scorers": hashlib.sha256(repr(sorted({name for row in rows for name in row["scores"]})).encode()).hexdigest(),
        "sampling": None,
        "stream": None,
        "version": __version__,
    }


def _id(now: datetime) -> str:
    return f"{now:%Y%m%d-%H%M%S}-{os.urandom(2).hex()}"


def _without_keys(written: Json) -> Json:
    """A run's files hold no key, nor need one to be read again."""
    targets = [
        {name: value for name, value in one.items() if name != "api_key"} if isinstance(one, dict) else one
        for one in written.get("targets", [])
    ]
    return {**written, "targets": targets}


def _git(folder: Path, *words: str) -> str:
    """What git says of the folder of the suite; empty where it says nothing."""
    try:
        done = subprocess.run(  # noqa: S603  (our own words)
            ["git", "-C", str(folder), *words],  # noqa: S607
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
