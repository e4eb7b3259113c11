"""The dashboards and the alert rules against a real Prometheus: nothing they ask for is empty, nothing is misnamed.

Grafana itself is not run (there is none to install here): its queries are asked as it would ask them.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from socket import socket
from typing import Any

import pytest

from tests import processes
from tests.grafana import brownout
from tests.grafana.queries import Span, ask, problems, queries, scraped, unknown_names
from tests.parts.conftest import missing

pytestmark = pytest.mark.parts

GRAFANA = processes.REPOSITORY / "grafana"
RULES = GRAFANA / "prometheus" / "rules.yml"
FILES = sorted((GRAFANA / "dashboards").glob("*.json"))
DASHBOARDS = {path.name: json.loads(path.read_text("utf-8")) for path in FILES}
RULE_TESTS = sorted((GRAFANA / "prometheus").glob("*_test.yml"))
_LIMIT_S = 60.0
_CHAT = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    for program in ("prometheus", "promtool"):
        if shutil.which(program) is None:
            missing(program)


@contextmanager
def prometheus(folder: Path, data: Path, target: int | None = None) -> Iterator[str]:
    """Serves `data`; scrapes the port `target` five times a second. Gives its address."""
    folder.mkdir(parents=True, exist_ok=True)
    with closing(socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = {"job_name": "weighbridge", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
    config = {"global": {"scrape_interval": "200ms"}, "scrape_configs": [job] if target else []}
    (folder / "prometheus.json").write_text(json.dumps(config))
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.json'}",
                f"--storage.tsdb.path={data}",
                "--storage.tsdb.retention.time=30d",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    base = f"http://127.0.0.1:{port}"
    try:
        await_true(lambda: answers(base), folder / "prometheus.log")
        yield base
    finally:
        process.terminate()
        process.wait(_LIMIT_S)


def answers(base: str) -> bool:
    try:
        return bool(ask(base, "query", query="1"))
    except OSError:
        return False


def await_true(ready: Any, log: Path) -> None:
    until = time.monotonic() + _LIMIT_S
    while not ready():
        assert time.monotonic() < until, processes.tail(log)
        time.sleep(0.05)


def test_the_rules_are_well_formed() -> None:
    told = promtool("check", "rules", "--lint=all", "--lint-fatal", str(RULES))
    assert "SUCCESS" in told


def test_the_scrape_config_is_well_formed() -> None:
    assert "is valid prometheus config file" in promtool("check", "config", str(RULES.with_name("prometheus.yml")))


def test_every_alert_fires_and_keeps_still() -> None:
    assert promtool("test", "rules", *map(str, RULE_TESTS)).count("SUCCESS") == len(RULE_TESTS) == 2


def test_no_alert_is_without_both_cases() -> None:
    tests = "".join(path.read_text() for path in RULE_TESTS)
    for name in re.findall(r"alert: (\w+)", RULES.read_text()):
        assert re.search(rf"alertname: {name}, exp_alerts: \[\]", tests), f"{name}: no case in which it keeps still"
        assert re.search(rf"alertname: {name}\n +exp_alerts:\n", tests), f"{name}: no case in which it fires"


def promtool(*arguments: str) -> str:
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def brown_out(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Span]]:
    """Three generated hours, from blocks."""
    folder = tmp_path_factory.mktemp("brown-out")
    start, end = brownout.write(folder / "metrics.txt", int(time.time()) // brownout.STEP * brownout.STEP)
    promtool("tsdb", "create-blocks-from", "openmetrics", str(folder / "metrics.txt"), str(folder / "data"))
    with prometheus(folder, folder / "data") as base:
        yield base, Span(start, end, 60, "2m")


@pytest.mark.parametrize("name", DASHBOARDS)
def test_no_query_is_empty_in_a_brown_out(brown_out: tuple[str, Span], name: str) -> None:
    base, span = brown_out
    assert problems(DASHBOARDS[name], base, span) == []


def test_an_empty_query_is_noticed(brown_out: tuple[str, Span]) -> None:
    base, span = brown_out
    text = json.dumps(DASHBOARDS["overview.json"]).replace("weighbridge_failovers_total", "weighbridge_failover_total")
    assert problems(json.loads(text), base, span) == ["Failovers/A: empty"]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Span, str]]:
    """A proxy before two simulated upstreams, one of which fails, scraped for some seconds and started anew once.

    The span is what was scraped; beside it the last scrape itself.
    """
    folder = tmp_path_factory.mktemp("live")
    with (
        closing(socket()) as free,
        processes.upstream(folder / "bad", "--seed", "3", "--fault", "http_503:0.5", "--ttft", "5ms") as bad,
        processes.upstream(folder / "good", "--seed", "4", "--ttft", "5ms") as good,
    ):
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        config = {
            "server": {"port": port},
            "providers": {
                name: {"dialect": "openai", "base_url": f"{one.base_url}/v1", "api_key": None}
                for name, one in (("bad", bad), ("good", good))
            },
            "shadow": {"trial": {"route": "chat", "candidate": {"target": "good/m"}, "rate": "100%"}},
            "routes": {"chat": {"targets": ["bad/m", "good/m"]}, "alone": {"targets": ["bad/m"]}},
        }
        start = time.time()
        with prometheus(folder, folder / "data", port) as base:
            for _ in range(2):
                with processes.proxy(config, folder / "proxy") as proxy:
                    for round in range(4):
                        for number in range(10):
                            assert proxy.ask("/v1/chat/completions", {**_CHAT, "stream": number % 3 > 0}).status == 200
                            proxy.ask("/v1/chat/completions", {**_CHAT, "model": "alone"})  # is tried again, or fails
                        seen = 20 * (round + 1)
                        # Two scrapes after it: a rate needs them.
                        await_true(lambda seen=seen: scraped_requests(base) >= seen, folder / "prometheus.log")
                    exposition = proxy.ask("/metrics").body.decode()
            yield base, Span(start, time.time(), 1, "4s"), exposition


def scraped_requests(base: str) -> float:
    result = ask(base, "query", query="sum(weighbridge_requests_total)")["result"]
    return float(result[0]["value"][1]) if result else 0.0


@pytest.mark.parametrize("name", DASHBOARDS)
def test_no_query_is_empty_on_a_real_run(live: tuple[str, Span, str], name: str) -> None:
    base, span, _ = live
    assert problems(DASHBOARDS[name], base, span) == []


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_real_scrape_has_every_metric_and_label_of_the_dashboards(live: tuple[str, Span, str], name: str) -> None:
    known = scraped(live[2])
    for query in queries(DASHBOARDS[name]):
        assert unknown_names(query.expr, known) == [], query.where


def test_a_real_scrape_has_every_metric_and_label_of_the_rules(live: tuple[str, Span, str]) -> None:
    known = scraped(live[2])
    expressions = re.findall(r"expr: (?:\|\n)?((?:.+|\n {10})+)", RULES.read_text())
    assert len(expressions) == len(re.findall(r"expr:", RULES.read_text()))
    for expr in expressions:
        assert unknown_names(expr, {**known, "up": {"job", "instance"}}) == []


def test_a_wrong_name_or_label_is_noticed(live: tuple[str, Span, str]) -> None:
    known = scraped(live[2])
    wrong = 'sum by (model) (rate(weighbridge_requests_total{provider="x"}[5m])) / sum(weighbridge_request_total)'
    assert unknown_names(wrong, known) == [
        "weighbridge_requests_total{provider}",
        "weighbridge_request_total",
        "by (model)",
    ]
