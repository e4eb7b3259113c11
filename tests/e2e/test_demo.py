"""`weighbridge demo` as a user runs it, and the comparison of counts that its last chapter rests on."""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from proxy.cli import demo
from proxy.demo import story
from proxy.demo.apps import Plain, Sdk, Seen, app
from proxy.demo.audit import Metered, Store, compare, read_metrics, read_store
from proxy.demo.processes import PROVIDERS
from proxy.demo.story import SICK
from proxy.demo.tally import quantile
from proxy.simulated.faults import faults_of, pick
from tests.processes import REPOSITORY, proxy, upstream

_LIMIT_S = 100.0
_FIRST_TURNS = 12
"""Requests that even a very slow machine gets through in two seconds."""


@contextmanager
def started(folder: Path, *options: str, program: Sequence[str] = ("-m", "proxy")) -> Iterator[subprocess.Popen[str]]:
    """The demo with its output in a pipe and its files below `folder`; killed if the test fails."""
    process = subprocess.Popen(
        [sys.executable, *program, "demo", *options],
        cwd=REPOSITORY,
        env={**os.environ, "TMPDIR": str(folder), "PYTHONIOENCODING": "utf-8", "COLUMNS": "80"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def refuses(port: int) -> bool:
    with closing(socket.socket()) as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


def ports(folder: Path) -> list[int]:
    """Of every child, from their logs."""
    (made,) = folder.glob("weighbridge-demo-*")
    texts = [(made / f"{name}.log").read_text("utf-8") for name in (*PROVIDERS, "proxy")]
    return [int(found[1]) for text in texts if (found := re.search(r"http://127\.0\.0\.1:(\d+)", text))]


def test_it_shows_a_brown_out_that_no_client_sees(tmp_path: Path) -> None:
    with started(tmp_path, "--seconds", "6") as process:
        output, errors = process.communicate(timeout=_LIMIT_S)
    assert process.returncode == 0, output + errors
    assert errors == ""

    sent, recorded = found(r"requests +([\d,]+) sent by clients += ([\d,]+) records, id for id", output)
    whole, successes = found(r" ([\d,]+) answered whole += ([\d,]+) records of success", output)
    records, metered = found(r" ([\d,]+) records += ([\d,]+) in the metrics", output)
    assert sent == recorded == whole == successes == records == metered
    at_providers = r"([\d,]+) \+ ([\d,]+) \+ ([\d,]+)"
    attempts = found(rf"attempts +{at_providers} records += {at_providers} counted by providers", output)
    assert attempts[:3] == attempts[3:]
    assert attempts == found(rf"\n +{at_providers} records += {at_providers} in the metrics", output)
    (port,) = found(r"Watch it live, in a browser: http://127\.0\.0\.1:(\d+)/\n", output)
    assert port in ports(tmp_path)
    failed, seen_failing, of = found(r"([\d,]+) attempts failed; ([\d,]+) of ([\d,]+) requests failed", output)
    assert failed > 0
    assert (seen_failing, of) == (0, sent)
    assert found(r"failovers +(\d+) +(\d+) +(\d+)", output)[1] > 0

    (folder,) = tmp_path.glob("weighbridge-demo-*")
    assert str(folder / "weighbridge.db") in output
    with closing(sqlite3.connect(folder / "weighbridge.db")) as connection:
        assert connection.execute("SELECT count(*) FROM v_exchanges WHERE origin = 'live'").fetchone() == (sent,)
        query = "SELECT count(*) FROM v_attempts WHERE error_kind IS NOT NULL AND origin = 'live'"
        assert connection.execute(query).fetchone() == (failed,)
        (units,) = connection.execute("SELECT sum(scored) FROM v_shadow_pairs").fetchone()
    assert 0 < found(r"6 Shadow +([\d,]+) conversations with the candidate: ", output)[0] <= units
    assert not [line for line in output.splitlines() if len(line) > 80 and str(tmp_path) not in line]
    assert "\x1b" not in output
    assert len(ports(tmp_path)) == 4
    assert all(refuses(port) for port in ports(tmp_path))


def found(pattern: str, text: str) -> list[int]:
    match = re.search(pattern, text)
    assert match is not None, f"{pattern!r} is not in:\n{text}"
    return [int(group.replace(",", "")) for group in match.groups()]


def test_the_brown_out_shows_itself_in_its_first_requests() -> None:
    """So that the run above cannot pass by chance with nothing failing. The primary's seed is 1."""
    faults = faults_of(SICK["faults"])  # type: ignore[arg-type]
    assert [pick(faults, 1, turn) for turn in range(1, _FIRST_TURNS)].count(None) < _FIRST_TURNS - 1


def test_being_told_to_stop_ends_every_child(tmp_path: Path) -> None:
    with started(tmp_path, "--seconds", "60") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("2 Normal"):
                break
        assert not any(refuses(port) for port in ports(tmp_path))
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=_LIMIT_S)
    assert process.returncode == 130
    assert errors == ""
    assert "Stopped. What was recorded until then: " in output
    assert all(refuses(port) for port in ports(tmp_path))


@pytest.mark.parametrize(
    ("options", "terminal", "keeps"),
    [
        ([], True, True),
        ([], False, False),
        (["--seconds", "5"], True, False),
        (["--seconds", "5", "--keep"], False, True),
    ],
)
def test_when_it_goes_on_serving(
    options: list[str], terminal: bool, keeps: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bare, it stays for whoever looks on, and ends where nobody does: in a pipe, in CI."""
    told: dict[str, Any] = {}
    monkeypatch.setattr(story, "tell", lambda screen, children, **given: told.update(given) or story.Verdict(True, 0))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    monkeypatch.setattr(demo, "_end_as_by_ctrl_c", lambda: None)
    parser = argparse.ArgumentParser()
    demo.add_arguments(parser)
    assert demo.run(parser.parse_args(options)) == 0
    assert told["keep"] is keeps
    assert told["seconds"] == (5 if options else 20)


def test_a_demo_that_is_killed_leaves_no_child(tmp_path: Path) -> None:
    with started(tmp_path, "--seconds", "60") as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("2 Normal"):
                break
        process.kill()
    until = time.monotonic() + _LIMIT_S
    while not all(refuses(port) for port in ports(tmp_path)):
        assert time.monotonic() < until, "the children have outlived the demo"
        time.sleep(0.05)


def test_a_port_in_use_is_told_in_two_lines(tmp_path: Path) -> None:
    with (
        closing(socket.create_server(("127.0.0.1", 0))) as taken,
        started(tmp_path, "--port", str(taken.getsockname()[1])) as process,
    ):
        _, errors = process.communicate(timeout=_LIMIT_S)
    assert process.returncode == 2
    assert errors.startswith("Cannot listen on 127.0.0.1:")
    assert len(errors.splitlines()) == 2


def test_it_needs_nothing_that_the_core_does_not_bring(tmp_path: Path) -> None:
    """`pip install .` and `weighbridge demo`: the official SDK is used where it is, and not missed where it is not."""
    without = "import sys; sys.modules['openai'] = None; from proxy.cli import main; sys.exit(main())"
    with started(tmp_path, "--seconds", "3", program=("-c", without)) as process:
        output, errors = process.communicate(timeout=_LIMIT_S)
    assert process.returncode == 0, output + errors
    assert errors == ""
    assert "clients ask by plain HTTP, without the SDK, most for a stream." in output
    assert not [line for line in output.splitlines() if len(line) > 80 and str(tmp_path) not in line]


def test_the_sdk_is_taken_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(app("http://127.0.0.1:1/v1"), Sdk)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert isinstance(app("http://127.0.0.1:1/v1"), Plain)


@pytest.mark.parametrize(
    ("faults", "stream", "whole"),
    [
        ([], False, True),
        ([], True, True),
        (["http_503"], False, False),
        (["http_503"], True, False),
        (["cut_mid_stream=after:3"], True, False),
        (["html_502"], True, False),
        (["comments"], True, True),
    ],
)
def test_both_apps_see_the_same(tmp_path: Path, faults: list[str], stream: bool, whole: bool) -> None:
    body = {"model": "up/m", "messages": [{"role": "user", "content": "Hello"}]}

    async def seen(base_url: str) -> list[Seen]:
        apps = (Sdk(base_url), Plain(base_url))
        try:
            return [await one.ask(body, stream=stream) for one in apps]
        finally:
            for one in apps:
                await one.aclose()

    with upstream(tmp_path / "up", "--tokens", "8") as up:
        config = {"providers": {"up": {"base_url": up.base_url, "api_key": None}}, "defaults": {"breaker": False}}
        with proxy(config, tmp_path / "proxy") as running:
            up.change(faults=faults)
            by_sdk, by_hand = asyncio.run(seen(f"{running.base_url}/v1"))
    for one in (by_sdk, by_hand):
        assert (one.error is None) is whole, one
        assert one.id is not None
    assert by_sdk.target == by_hand.target
    assert by_sdk.id != by_hand.id


@pytest.mark.parametrize(
    "options", [{"seconds": 2.9}, {"seconds": float("nan")}, {"seconds": float("inf")}, {"port": -1}]
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert demo.run(argparse.Namespace(**{"seconds": 20.0, "port": 0, "keep": False, **options})) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


# The comparison: everything equal, and each way in which it may not be.

SEEN = [Seen("a", "primary", None), Seen("b", "second", None), Seen("c", None, "503")]
STORE = Store(4, frozenset("abc"), 0, 2, Counter(primary=3, second=2))
METERED = Metered(4, Counter(primary=3, second=2))
UPSTREAM = {"primary": 3, "second": 2, "third": 0}


def agreement(**other: Any) -> list[bool]:
    given = {"seen": SEEN, "store": STORE, "metered": METERED, "upstream": UPSTREAM, **other}
    return [check.agree for check in compare(**given)]


def test_equal_counts_agree() -> None:
    """One of the four exchanges is another caller's."""
    assert agreement() == [True] * 5


@pytest.mark.parametrize(
    ("other", "disagrees"),
    [
        ({"seen": SEEN[:2]}, {0}),
        ({"seen": [*SEEN, Seen("d", "primary", None)]}, {0, 1}),
        ({"seen": [*SEEN[:2], Seen(None, None, "no connection")]}, {0}),
        ({"seen": [*SEEN[:2], Seen("d", None, "503")]}, {0}),
        ({"seen": [SEEN[0], Seen("b", "second", "cut"), SEEN[2]]}, {1}),
        ({"store": STORE._replace(repeated=1)}, {0}),
        ({"store": STORE._replace(exchanges=5)}, {2}),
        ({"metered": METERED._replace(requests=3)}, {2}),
        ({"metered": METERED._replace(attempts=Counter(primary=2, second=3))}, {4}),
        ({"upstream": {"primary": 2, "second": 3, "third": 0}}, {3}),
        ({"upstream": {"primary": 3, "second": 2, "third": 1}}, {3}),
        ({"store": STORE._replace(attempts=Counter(primary=3, second=1))}, {3, 4}),
    ],
)
def test_counts_that_differ_do_not_agree(other: dict[str, Any], disagrees: set[int]) -> None:
    assert {place for place, agree in enumerate(agreement(**other)) if not agree} == disagrees


def test_the_metrics_are_summed_over_their_labels() -> None:
    exposition = (
        "# HELP weighbridge_requests_total Requests answered.\n"
        'weighbridge_requests_total{outcome="ok",route="chat",target="primary"} 7.0\n'
        'weighbridge_requests_total{outcome="timeout",route="chat",target="none"} 2.0\n'
        'weighbridge_attempts_total{error_kind="none",outcome="ok",route="chat",target="primary"} 7.0\n'
        'weighbridge_attempts_total{error_kind="timeout",outcome="timeout",route="chat",target="primary"} 1.0\n'
        'weighbridge_attempts_total{error_kind="none",outcome="ok",route="chat",target="third"} 0.0\n'
        'weighbridge_request_duration_seconds_count{target="primary"} 9.0\n'
    )
    assert read_metrics(exposition) == Metered(9, Counter(primary=8))


def test_a_store_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(sqlite3.OperationalError):
        read_store(tmp_path / "none.db")


def test_a_quantile_is_shown_only_where_samples_lie_beyond_it() -> None:
    samples = [float(value) for value in range(1, 101)]
    Random(1).shuffle(samples)
    assert [quantile(samples, q) for q in (0.5, 0.95, 0.99)] == [50.0, 95.0, 99.0]
    assert quantile(samples[:99], 0.99) is None
    assert quantile([1.0] * 20, 0.95) == 1.0
    assert quantile([1.0] * 19, 0.95) is None
    assert quantile([1.0, 2.0], 0.5) == 1.0
    assert quantile([1.0], 0.5) is None
    assert quantile([], 0.5) is None
