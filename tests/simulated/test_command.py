"""`weighbridge upstream` as a process."""

from __future__ import annotations

import argparse
import http.client
import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from proxy.cli.upstream import add_arguments, run
from proxy.simulated import FAULTS

_MAIN = """
import argparse, sys
from proxy.cli.upstream import add_arguments, run
parser = argparse.ArgumentParser(prog="weighbridge upstream")
add_arguments(parser)
sys.exit(run(parser.parse_args()))
"""


@contextmanager
def _running(*options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", _MAIN, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/v1$", line.strip())
        assert found, line
        yield process, found[0]
    finally:
        process.kill()
        process.communicate()


def _ask(url: str, path: str, body: object = None) -> tuple[int, dict[str, object]]:
    port = int(url.split(":")[2].split("/")[0])
    with closing(http.client.HTTPConnection("127.0.0.1", port)) as connection:
        connection.request("GET" if body is None else "POST", path, None if body is None else json.dumps(body))
        with connection.getresponse() as answer:
            return answer.status, json.loads(answer.read())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_from_start_to_signal(number: signal.Signals) -> None:
    options = ["--name", "alpha", "--tokens", "3", "--model", "m", "--fault", "http_503#2", "--api-key", "k"]
    with _running(*options, "--seed", "5") as (process, url):
        body = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
        assert _ask(url, "/v1/chat/completions", body)[0] == 401
        status, answer = _ask(url, "/control", {"faults": ["http_503#1"]})
        assert (status, answer["name"], answer["seed"]) == (200, "alpha", 5)
        status, stats = _ask(url, "/stats")
        assert (stats["requests"], stats["rejected"]) == (1, 1)
        process.send_signal(number)
        out, err = process.communicate()
        assert (process.returncode, out, err) == (0, "", "")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--fault", "http_50"], "did you mean http_50"),
        (["--ttft", "soon"], "not a duration"),
        (["--tokens", "0"], "tokens run from 1"),
        (["--port", "70000"], "there is no port 70000"),
        (["--host", "192.0.2.1"], "cannot listen on 192.0.2.1:0"),
    ],
)
def test_mistakes(options: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert run(parser.parse_args(options)) == 2
    out, err = capsys.readouterr()
    what, mend = err.strip().split("\n")
    assert says in what
    assert mend
    assert out == ""


def test_a_port_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        parser = argparse.ArgumentParser()
        add_arguments(parser)
        assert run(parser.parse_args(["--port", str(port)])) == 2
    assert f"cannot listen on 127.0.0.1:{port}" in capsys.readouterr().err


def test_help_names_every_fault() -> None:
    parser = argparse.ArgumentParser(formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    shown = parser.format_help()
    assert "example:" in shown
    listed = re.findall(r"^  ([a-z0-9_]+)(?:\[=.*\])?$", shown.split("faults:\n")[1], re.MULTILINE)
    assert listed == list(FAULTS)
