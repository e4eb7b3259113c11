"""Starts that cannot be, stores that cannot be written, keys, and configs that change: one clear message each."""

from __future__ import annotations

import asyncio
import json
import re
import resource
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests import processes
from tests.e2e.raw import Answer, chat, get, line, post, request
from tests.processes import Running, Upstream

AT_ONCE = 3
"""Processes that start at the same time."""
PUBLIC = "127.1"
"""An address of this machine alone that is not written as one, so the proxy has to take it for public."""


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    with processes.upstream(tmp_path_factory.mktemp("upstream"), "--tokens", "3") as running:
        yield running


def config(upstream: Running | None, **more: Any) -> dict[str, Any]:
    base_url = upstream.base_url if upstream else "http://127.0.0.1:9/v1"
    return {
        "providers": {"up": {"base_url": base_url, "api_key": None}},
        "routes": {"chat": {"targets": ["up/m"]}},
        **more,
    }


def metric(running: Running, name: str, **labels: str) -> float:
    """The value of one series."""
    found = 0.0
    for row in running.ask("/metrics").body.decode().splitlines():
        if re.match(rf"{name}(\{{|\s)", row) and all(f'{key}="{value}"' in row for key, value in labels.items()):
            found += float(row.rpartition(" ")[2])
    return found


def eventually(what: Callable[[], bool]) -> None:
    async def wait() -> None:
        async with asyncio.timeout(60):
            while not what():  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    asyncio.run(wait())


# ---- starts that cannot be


class Start(NamedTuple):
    text: str | None
    """Of the config; None leaves the file out."""
    says: list[str]
    options: list[str] = []  # noqa: RUF012  (never changed)


FIVE = """
server: {prot: 8080}
providers:
  up: {base_url: "ftp://example.com/v1", api_key: null}
routes:
  chat: {targets: [nobody/m], policy: odered}
defaults: {timeouts: {ttft: 30}}
"""
GOOD = "server: {port: 0}\nproviders: {up: {base_url: 'http://127.0.0.1:9/v1', api_key: null}}\n"
STARTS = {
    "five mistakes": Start(FIVE, ["prot", "port", "base_url", "nobody", "odered", "ordered", "30s", ".yaml:"]),
    "no file": Start(None, ["there is no such file"]),
    "no YAML": Start("server: {port: 0\n  routes: [", [".yaml:"]),
    "nothing": Start("", ["no providers"]),
    "a key that is not set": Start(
        "providers: {up: {base_url: 'http://127.0.0.1:9/v1', api_key: env:NOT_SET_HERE}}",
        ["NOT_SET_HERE", "is not set"],
    ),
    "public without keys": Start(GOOD, ["can be reached from other machines", "--insecure"], ["--host", "0.0.0.0"]),  # noqa: S104
    "a name without keys": Start(GOOD, ["can be reached from other machines"], ["--host", "weighbridge.invalid"]),
    "no such host": Start(GOOD, ["Cannot listen", "--port"], ["--insecure", "--host", "weighbridge.invalid"]),
    "an address of another machine": Start(GOOD, ["Cannot listen"], ["--insecure", "--host", "192.0.2.1"]),
    "a port too high": Start(GOOD, ["Cannot listen", "65535"], ["--port", "99999"]),
    "a port below zero": Start(GOOD, ["Cannot listen", "65535"], ["--port", "-1"]),
    "a port that is taken": Start(GOOD, ["Cannot listen", "--port"], ["--port", "TAKEN"]),
    "an option that is none": Start(GOOD, ["--prot"], ["--prot", "1"]),
}


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, subprocess.CompletedProcess[str]]:
    """How each of them ended."""
    folder = tmp_path_factory.mktemp("starts")
    with socket.create_server(("127.0.0.1", 0)) as taken, ThreadPoolExecutor(AT_ONCE) as pool:

        def start(name: str) -> subprocess.CompletedProcess[str]:
            one = STARTS[name]
            path = folder / f"{name.replace(' ', '-')}.yaml"
            if one.text is not None:
                path.write_text(one.text)
            options = [str(taken.getsockname()[1]) if option == "TAKEN" else option for option in one.options]
            return subprocess.run(
                [sys.executable, "-m", "proxy", "serve", "--config", str(path), *options],
                cwd=processes.REPOSITORY,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )

        return dict(zip(STARTS, pool.map(start, STARTS), strict=True))


@pytest.mark.parametrize("name", STARTS)
def test_a_start_that_cannot_be(name: str, starts: dict[str, subprocess.CompletedProcess[str]]) -> None:
    ended = starts[name]
    assert ended.returncode == 2, ended
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr
    for words in STARTS[name].says:
        assert words in ended.stderr, ended.stderr
    assert len(ended.stderr.splitlines()) <= (14 if name == "five mistakes" else 4), ended.stderr


# ---- stores that cannot be


def no_folder(folder: Path) -> Path:
    return folder / "nowhere" / "exchanges.db"


def file_in_place_of_folder(folder: Path) -> Path:
    (folder / "file").write_text("I am no folder.")
    return folder / "file" / "exchanges.db"


def folder_in_place_of_file(folder: Path) -> Path:
    (folder / "exchanges.db").mkdir()
    return folder / "exchanges.db"


def read_only(folder: Path) -> Path:
    return Path("/proc/exchanges.db")  # nobody may create a file there, not even root


def no_database(folder: Path) -> Path:
    (folder / "exchanges.db").write_bytes(b"I am no database." * 1000)
    return folder / "exchanges.db"


def of_a_newer_version(folder: Path) -> Path:
    with closing(sqlite3.connect(folder / "exchanges.db")) as store:
        store.execute("CREATE TABLE exchanges (n)")
        store.execute(f"PRAGMA application_id = {0x57656967}")
        store.execute("PRAGMA user_version = 999")
    return folder / "exchanges.db"


def of_another_program(folder: Path) -> Path:
    with closing(sqlite3.connect(folder / "exchanges.db")) as store:
        store.execute("CREATE TABLE bookmarks (n)")
    return folder / "exchanges.db"


STORES = {
    no_folder: "does not exist: create it",
    file_in_place_of_folder: "does not exist: create it",
    folder_in_place_of_file: "it is a folder",
    **({read_only: "let this user write in"} if sys.platform == "linux" else {}),
    no_database: "it is no SQLite database",
    of_a_newer_version: "newer weighbridge (store version 999",
    of_another_program: "another program's database",
}


class Served(NamedTuple):
    ready: Any
    answers: list[int]
    read: Answer
    degraded: float
    dropped: float
    log: str
    status: int


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, upstream: Upstream) -> dict[Callable[[Path], Path], Served]:
    """What each proxy did whose store cannot be."""

    def serve(make: Callable[[Path], Path]) -> Served:
        folder = tmp_path_factory.mktemp(make.__name__)
        settings = config(upstream, storage=f"sqlite:///{make(folder)}")
        with processes.mortal_proxy(settings, folder) as proxy:
            ready = proxy.ask("/readyz")
            answers = [proxy.ask("/v1/chat/completions", chat("chat", stream)).status for stream in (False, True)]
            read = asyncio.run(get(proxy.port, "/api/exchanges"))
            degraded = metric(proxy, "weighbridge_store_degraded")
            dropped = metric(proxy, "weighbridge_records_dropped_total", sink="store", reason="store_unavailable")
            proxy.process.send_signal(signal.SIGTERM)
            status = proxy.process.wait(60)
        assert ready.status == 200
        return Served(ready.json(), answers, read, degraded, dropped, proxy.log.read_text(), status)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(STORES, pool.map(serve, STORES), strict=True))


@pytest.mark.parametrize("make", STORES, ids=lambda make: make.__name__)
def test_a_store_that_cannot_be(make: Callable[[Path], Path], served: dict[Callable[[Path], Path], Served]) -> None:
    one = served[make]
    assert one.answers == [200, 200], "requests are served all the same"
    (told,) = one.ready["degraded"]
    assert STORES[make] in told
    assert "exchanges.db" in told
    assert one.log.count(STORES[make]) == 1, one.log
    assert (one.degraded, one.dropped) == (1, 2)
    assert (one.read.status, one.read.error["code"]) == (503, "store_unavailable")
    assert STORES[make] in one.read.error["message"]
    assert "Traceback" not in one.log
    assert one.status == 0


# ---- a disk that is full while serving


@pytest.mark.skipif(sys.platform != "linux", reason="limits the files of a running process")
def test_a_disk_that_fills_while_serving(upstream: Upstream, tmp_path: Path) -> None:
    def limit(proxy: Running, size: int) -> None:
        _, most = resource.prlimit(proxy.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(proxy.process.pid, resource.RLIMIT_FSIZE, (size, most))

    def ask(proxy: Running, times: int) -> None:
        async def main() -> None:
            async with line(proxy.port) as one:
                for _ in range(times):
                    await one.send(request(chat("chat")))
                    assert (await one.answer()).status == 200

        asyncio.run(main())

    def degraded(proxy: Running) -> bool:
        return bool(proxy.ask("/readyz").json()["degraded"])

    with processes.mortal_proxy(config(upstream), tmp_path) as proxy:
        ask(proxy, 5)
        eventually(lambda: proxy.ask("/readyz").json()["store"] == {"committed": 5, "pending": 0})
        free, _ = resource.prlimit(proxy.process.pid, resource.RLIMIT_FSIZE)
        # The log is a file too: it keeps its room.
        limit(proxy, 8192)
        ask(proxy, 50)
        eventually(lambda: degraded(proxy))
        ready = proxy.ask("/readyz")
        assert ready.status == 200, "a full disk is no reason to take a replica out"
        assert len(ready.json()["degraded"]) == 1
        assert metric(proxy, "weighbridge_store_degraded") == 1
        ask(proxy, 10)
        limit(proxy, free)
        eventually(lambda: not degraded(proxy))
        eventually(lambda: proxy.ask("/readyz").json()["store"] == {"committed": 65, "pending": 0})
        assert metric(proxy, "weighbridge_records_written_total") == 65
        limit(proxy, 8192)
        ask(proxy, 20)
        eventually(lambda: degraded(proxy))
        proxy.process.send_signal(signal.SIGTERM)
        assert proxy.process.wait(60) == 0
    log = proxy.log.read_text()
    assert "Traceback" not in log, log
    stored = len(processes.rows(tmp_path, "SELECT id FROM v_exchanges"))
    (lost,) = re.findall(r"(\d+) records are lost", log)
    assert stored + int(lost) == 85, "every loss is counted, and told at the end"


# ---- keys


KEYS = {"server": {"admin_token": "look", "metrics": "token"}, "keys": [{"name": "app", "key": "open sesame"}]}


def bearer(key: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {key}")]


def test_who_may_do_what(upstream: Upstream, tmp_path: Path) -> None:
    with processes.mortal_proxy(config(upstream, **KEYS), tmp_path, "--host", PUBLIC) as proxy:

        def status(path: str, headers: list[tuple[str, str]], body: Any = None) -> int:
            answer = asyncio.run(post(proxy.port, body, path, headers, "GET" if body is None else "POST"))
            if answer.status >= 400:
                assert answer.error["message"]
            if answer.status == 401:
                assert answer.headers["www-authenticate"] == "Bearer"
                assert answer.error["code"] == "invalid_api_key"
            return answer.status

        here = "/v1/chat/completions"
        assert status(here, bearer("open sesame"), chat("chat")) == 200
        assert status("/v1/models", bearer("open sesame")) == 200
        wrong = ([], bearer("open"), bearer("look"), bearer(""), [("authorization", "Basic b3Blbg==")], bearer("\xe9"))
        for headers in wrong:
            assert status(here, headers, chat("chat")) == 401
            assert status("/v1/models", headers) == 401
        assert status(here, bearer("open sesame"), chat("up/m")) == 404, "this key may not name a provider"
        for path in ("/api/exchanges", "/api/stats", "/metrics"):
            assert status(path, bearer("look")) == 200
            for headers in ([], bearer("open sesame"), [*bearer("wrong"), ("host", "localhost")]):
                assert status(path, headers) == 401
        assert status("/healthz", []) == status("/readyz", []) == 200
        kept = asyncio.run(get(proxy.port, "/api/exchanges", bearer("look"))).json()["exchanges"]
        assert {one["key"] for one in kept if one["status"] == 200} == {"app"}
        assert {one["outcome"] for one in kept if one["status"] == 401} == {"client_error"}
        written = proxy.log.read_text() + (tmp_path / "exchanges.db").read_bytes().decode("latin-1")
        assert "open sesame" not in written
        assert "Traceback" not in written


def test_insecure_is_accepted_and_a_foreign_page_sees_nothing(upstream: Upstream, tmp_path: Path) -> None:
    with processes.mortal_proxy(config(upstream), tmp_path, "--host", PUBLIC, "--insecure") as proxy:
        assert proxy.ask("/v1/chat/completions", chat("up/m")).status == 200
        answer = asyncio.run(get(proxy.port, "/api/exchanges"))
        assert (answer.status, answer.error["code"]) == (403, "no_admin_token")


# ---- a config that changes


def test_a_config_that_changes_while_serving(tmp_path: Path) -> None:
    def models(proxy: Running) -> list[str]:
        listed = [one["id"] for one in proxy.ask("/v1/models").json()["data"]]
        return [name for name in listed if "/" not in name]

    def write(settings: dict[str, Any]) -> None:
        path.write_text(json.dumps(settings))

    def hang_up(proxy: Running) -> None:
        proxy.process.send_signal(signal.SIGHUP)

    with (
        processes.upstream(tmp_path / "slow", "--itl", "150ms", "--tokens", "20") as slow,
        processes.mortal_proxy(config(slow), tmp_path) as proxy,
    ):
        path = tmp_path / "weighbridge.json"
        good = json.loads(path.read_text())
        assert models(proxy) == ["chat"]

        async def stream_over_a_change() -> Answer:
            async with line(proxy.port) as one:
                await one.send(request(chat("chat", stream=True)))
                await one.reader.readuntil(b"\r\n\r\n")
                write({**good, "routes": {"talk": {"targets": ["up/m"]}}})
                hang_up(proxy)
                async with asyncio.timeout(60):
                    while (await get(proxy.port, "/v1/models")).json()["data"][0]["id"] != "talk":  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
                body = await one.reader.readuntil(b"0\r\n\r\n")
                return Answer(200, {}, body, b"[DONE]" in body)

        assert asyncio.run(stream_over_a_change()).whole, "what runs keeps the old config"
        assert proxy.ask("/v1/chat/completions", chat("chat")).status == 404

        write({**good, "routes": {"talk": {"targets": ["nobody/m"]}, "walk": {"targets": []}}})
        hang_up(proxy)
        eventually(lambda: "the old one stays" in proxy.log.read_text())
        log = proxy.log.read_text()
        assert "nobody" in log
        assert "routes.walk.targets" in log
        assert models(proxy) == ["talk"]

        path.write_text("{")
        eventually(lambda: proxy.log.read_text().count("the old one stays") >= 2)
        path.unlink()
        hang_up(proxy)
        eventually(lambda: proxy.log.read_text().count("the old one stays") >= 3)
        assert models(proxy) == ["talk"]

        write({**good, "routes": {"chat": {"targets": ["up/m"], "aliases": ["small"]}}})
        eventually(lambda: models(proxy) == ["chat", "small"])
        assert metric(proxy, "weighbridge_requests_total") == 2, "what was counted stays"
        assert "Traceback" not in proxy.log.read_text()


# ---- metrics


def test_metrics_in_the_form_that_is_asked_for(upstream: Upstream, tmp_path: Path) -> None:
    with processes.proxy(config(upstream), tmp_path) as proxy:
        assert proxy.ask("/v1/chat/completions", chat("chat")).status == 200
        plain = proxy.ask("/metrics")
        assert plain.headers["content-type"].startswith("text/plain")
        assert "weighbridge_requests_total{" in plain.body.decode()
        scraper = {"accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"}
        openmetrics = proxy.ask("/metrics", headers=scraper)
        assert openmetrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
        assert openmetrics.body.endswith(b"# EOF\n")
        assert b'outcome="ok"' in openmetrics.body
        odd = proxy.ask("/metrics", headers={"accept": "application/x-unknown;;;q=z"})
        assert odd.status == 200
