"""Runs code that a model wrote against tests, in a process of its own with little to spend. Only where asked for.

The process has limits on CPU, memory, files and children, an empty environment and a temporary folder, and no network
where the system lets a process do without one (Linux, user namespaces). It is a fence against accidents and clumsy
attacks, not a jail: run suites that execute code in a container or on a machine that holds nothing of value.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import resource
import secrets
import signal
import sys
import tempfile
from functools import lru_cache

CPU_SECONDS = 5
MEMORY_BYTES = 512 * 2**20
FILE_BYTES = 2**20

_FENCED = re.compile(r"```(?:python|py)?\s*\n(.*?)```", re.DOTALL)


def code_in(text: str) -> str:
    """The fenced Python blocks of an answer put together, or the whole answer."""
    found = _FENCED.findall(text)
    return "\n\n".join(found) if found else text


async def passes(text: str, tests: str, seconds: float = 10.0) -> float:
    """1 if the answer's code followed by `tests` ends without an error within the limits, else 0."""
    passed = secrets.token_hex(8)  # said after the last test: code that ends the process early does not pass
    with tempfile.TemporaryDirectory(prefix="weighbridge-code-") as folder:
        path = os.path.join(folder, "answer.py")
        with open(path, "w", encoding="utf-8", errors="replace") as file:  # noqa: ASYNC230  (a small local file)
            file.write(f"{code_in(text)}\n\n{tests}\n\nprint({passed!r})\n")
        command = [*_without_network(), sys.executable, "-I", "-S", "-B", path]
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=folder,
            env={"PATH": "/usr/bin:/bin"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=_limit,
        )
        try:
            async with asyncio.timeout(seconds):
                said = await _last(process)
                return float(await process.wait() == 0 and said.split()[-1:] == [passed.encode()])
        except TimeoutError:
            return 0.0
        finally:
            # Also what the code left running: all of it is in the session that began with it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()


async def _last(process: asyncio.subprocess.Process) -> bytes:
    """The end of what the process printed; the rest is thrown away as it comes."""
    assert process.stdout is not None  # noqa: S101
    kept = b""
    while part := await process.stdout.read(65536):
        kept = (kept + part)[-256:]
    return kept


def _limit() -> None:
    for what, most in (
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


@lru_cache(maxsize=1)
def _without_network() -> tuple[str, ...]:
    """How a program is started without any network, if this system can; found out once."""
    import shutil
    import subprocess

    unshare = shutil.which("unshare")
    if unshare is None:
        return ()
    command = (unshare, "--net", "--map-root-user")
    tried = subprocess.run([*command, "true"], capture_output=True, check=False)  # noqa: S603  (our own words)
    return command if tried.returncode == 0 else ()
