"""`weighbridge check --live` against simulated upstreams: every dialect, and servers that cannot do everything."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from proxy.cli import main
from proxy.conformance import CELLS
from tests.processes import rows, upstream

DIALECTS = ("openai", "anthropic", "gemini", "bedrock", "cohere")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("live")
    with ExitStack() as stack:
        providers: dict[str, Any] = {
            "dead": {"dialect": "openai", "base_url": "http://127.0.0.1:9/v1", "api_key": None}
        }
        options = {name: ("--dialect", name, "--model", "m") for name in DIALECTS}
        options["old"] = ("--refuse", "stream_options", "--refuse", "logprobs", "--refuse", "response_format")
        for name, chosen in options.items():
            server = stack.enter_context(upstream(folder / name, *chosen))
            dialect = name if name in DIALECTS else "openai"
            base = server.base_url + ("/v1" if dialect == "openai" else "")
            section: dict[str, Any] = {"dialect": dialect, "base_url": base, "api_key": "k"}
            providers[name] = section | ({"region": "us-east-1"} if name == "bedrock" else {})
        path = folder / "weighbridge.json"
        targets = [f"{name}/m" for name in DIALECTS]
        storage = f"sqlite:///{folder / 'exchanges.db'}"
        routes = {"all": {"targets": targets}}
        path.write_text(json.dumps({"storage": storage, "providers": providers, "routes": routes}))
        yield path


def ask(config: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, Any]]:
    code = main(["check", "--config", str(config), "--live", "--format", "json", *more])
    told = json.loads(capsys.readouterr().out)["targets"]
    return code, {one["target"]: one for one in told}


def results(row: dict[str, Any]) -> list[str]:
    return [row["cells"][name]["result"] for name in CELLS]


def test_every_dialect(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = ask(config, capsys)
    assert code == 0
    no_logprobs = {"anthropic/m", "bedrock/m", "cohere/m"}
    for name in DIALECTS:
        row = told[f"{name}/m"]
        expected = ["refused" if cell == "logprobs" and f"{name}/m" in no_logprobs else "pass" for cell in CELLS]
        assert results(row) == expected, row
        assert row["calls"] == 8
        assert row["tokens"] > 0
    stored = rows(config.parent, "SELECT target, cell, result FROM v_conformance")
    assert {(one["target"], one["cell"]): one["result"] for one in stored} == {
        (target, cell): row["cells"][cell]["result"] for target, row in told.items() for cell in CELLS
    }
    again = ask(config, capsys, "--target", "cohere/m")[1]["cohere/m"]
    assert [again["cells"][cell]["before"] for cell in CELLS] == results(told["cohere/m"])


def test_a_server_that_refuses_stream_options_is_told_what_to_set(
    config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = ask(config, capsys, "--target", "old/m")
    row = told["old/m"]
    refused = {"usage", "schema", "logprobs", "errors"}
    assert results(row) == ["refused" if cell in refused else "pass" for cell in CELLS]
    assert "set `usage_in_stream: false` for providers.old" in row["cells"]["usage"]["reason"]
    assert code == 0


def test_one_that_does_not_answer_is_asked_once(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = ask(config, capsys, "--target", "dead/m")
    assert (code, told["dead/m"]["calls"], set(results(told["dead/m"]))) == (1, 1, {"fail"})
    assert main(["check", "--config", str(config), "--live", "--target", "dead/m"]) == 1
    shown = capsys.readouterr().out
    assert "dead/m  FAIL" in shown
    assert "plain: fail: connect" in shown
    assert "1 calls, 0 tokens, cost 0.000000 USD" in shown


def test_nothing_to_ask(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--config", str(config), "--live", "--target", "nobody/m"]) == 2
    assert "no target to ask" in capsys.readouterr().err
