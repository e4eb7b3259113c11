"""The benchmark's own load and mock upstream agree on what was asked and answered. Nothing is timed."""

import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def mock_port() -> Iterator[int]:
    command = [sys.executable, str(FOLDER / "mock_upstream.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as mock:
        try:
            assert mock.stdout is not None
            yield json.loads(mock.stdout.readline())["port"]
        finally:
            mock.kill()


def stats(port: int) -> dict[str, int]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/stats", timeout=10) as answer:
        counts: dict[str, int] = json.load(answer)
        return counts


def load(port: int, model: str, *more: str) -> dict[str, float]:
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    command = [sys.executable, str(FOLDER / "load.py"), url, "--model", model, "--connections", "4", *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


@pytest.mark.parametrize("stream", [False, True])
def test_every_request_of_the_built_in_load_is_counted_once_on_both_sides(mock_port: int, stream: bool) -> None:
    done = load(mock_port, "mock", "--requests", "50", *(["--stream"] if stream else []))
    assert (done["requests"], done["bad"]) == (50, 0)
    assert stats(mock_port) == {"requests": 50, "streams": 50 if stream else 0, "finished": 50}


def test_a_load_that_nobody_answers_counts_its_requests_as_bad() -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # bound and not listening: refused
        done = load(deaf.getsockname()[1], "mock", "--requests", "50")
    assert done["requests"] == 0
    assert done["bad"] == 4  # each of the four connections, once: nothing is tried for ever
