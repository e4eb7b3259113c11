"""The command `weighbridge check`: what it prints, where, and with which exit status."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pytest

from proxy.cli import check
from proxy.prices.table import built_in
from tests.config.test_load import ENV, EXAMPLE, FIVE


def run(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    check.add_arguments(parser)
    return check.run(parser.parse_args(argv))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "GROQ_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ENV.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def test_a_good_config(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "weighbridge.yaml").write_text(EXAMPLE)
    assert run() == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines() == [
        "config   weighbridge.yaml",
        "listens  127.0.0.1:8081",
        "records  sqlite:///weighbridge.db",
        "metrics  open",
        "direct   provider/model for no key (server.direct: auto, and no key has direct: true)",
        "",
        "PROVIDER  DIALECT  BASE URL                   KEYS                NOTES",
        "openai    openai   https://api.openai.com/v1  env:OPENAI_API_KEY",
        "local     openai   http://127.0.0.1:8000/v1   none",
        "",
        "ROUTE       POLICY   TRIES                 #  TARGET             SETTINGS",
        "chat, fast  ordered  3 a target, 2 in all  1  openai/gpt-5-mini  total 300s; ttft 10s; stall 5s; "
        'max_tokens=10; seed=2; temperature=0.5; user:="proxy" (forced); fails over on bad_request',
        "                                           2  local/llama        total 300s; ttft 1s; stall 5s; seed=2; "
        'temperature=0.5; max_completion_tokens=1024; user:="proxy" (forced); weight 2; fails over on bad_request',
        "*           ordered  3 a target, 5 in all  1  openai/gpt-5-mini  stall 5s; max_tokens=10; seed=1",
        "",
        f"PRICE OF           INPUT  CACHE READ  CACHE WRITE  OUTPUT  {'MORE':51}  FROM",
        "openai/gpt-5-mini  0.25   0.025       0.25         2       "
        "each search 0.01; tiers flex, priority, fast, batch  table",
        f"local/llama        -      -           -            -       {'-':51}  "
        "no price is known: give one under `prices`, or it is counted as unpriced",
        f"USD per million tokens; what a provider reports itself is preferred; table: {built_in().version}",
        "",
        "KEY  MAY ASK FOR",
        "app  every route",
        "",
        "warning: routes.chat.targets[1].weight: has no effect with the policy 'ordered'",
    ]
    for secret in ENV.values():
        assert secret not in out


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "direct   any provider/model of openai"),
        ("server: {direct: never}", "direct   provider/model needs a route (server.direct: never)"),
        ("keys: [{name: app, key: env:APP_KEY, direct: true}]", "direct   provider/model for the keys app"),
        ("keys: [{name: app, key: env:APP_KEY, direct: true}]", "app  every route, and provider/model"),
        ("server: {direct: always}\nkeys: [{name: app, key: env:APP_KEY}]", "app  every route, and provider/model"),
        ("server: {direct: never}\nkeys: [{name: app, key: env:APP_KEY, direct: true}]", "app  every route"),
        (
            "keys: [{name: app, key: env:APP_KEY, rpm: 600, tpm: 100000, budget: {per_day: 5 USD, total: 90}}]",
            "app  every route  600 requests a minute, 100,000 tokens a minute, 5 USD a day, 90 USD in all",
        ),
        (
            "keys: [{name: app, key: env:APP_KEY, budget: 5}]\nroutes: {c: {targets: [openai/of-nobody]}}",
            "no price is known of openai/of-nobody: budgets are charged 20 in and 100 out, USD per million tokens",
        ),
        (
            "keys: [{name: app, key: env:APP_KEY, budget: 5}]\nstorage: none",
            "warning: keys: `storage` is none, so the budgets of app begin anew at each start",
        ),
        ("storage: none", "records  none are kept"),
        ("server: {metrics: token, admin_token: env:ADMIN}", "metrics  need the admin token"),
        ("", "no routes"),
        ("", "no keys: whoever reaches the proxy may call"),
        (
            "routes: {c: {targets: [{target: openai/x, name: big, context_window: 8000, timeouts: {stall: 250ms}}]}}",
            "c      ordered  2 a target, 4 in all  1  openai/x as big  stall 250ms; context 8000 tokens",
        ),
    ],
)
def test_lines(folder: Path, capsys: pytest.CaptureFixture[str], text: str, line: str) -> None:
    (folder / "c.yaml").write_text(f"providers: {{openai: }}\n{text}")
    assert run("--config", "c.yaml") == 0
    assert line in capsys.readouterr().out.splitlines()


def test_provider_notes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "ca.pem").write_text("")
    (folder / "c.yaml").write_text(
        "providers: {x: {like: groq, api_keys: [env:ADMIN, sk-x], http: httpx, ca_file: ca.pem, headers: {x-a: b}}}"
    )
    assert run("--config", "c.yaml") == 0
    out = capsys.readouterr().out
    assert "env:ADMIN, in the file  like groq; http httpx; ca_file ca.pem; headers x-a\n" in out


def test_the_environment_serves_without_a_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    assert "config   environment\n" in capsys.readouterr().out


def test_a_bad_config(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "c.yaml").write_text(FIVE)
    assert run("--config", "c.yaml") == 2
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert [line.split(": ")[0] for line in lines[:5]] == [f"c.yaml:{line}" for line in (1, 4, 8, 11, 13)]
    assert lines[5:] == ["5 problems; see docs/config.md"]


def test_names_cannot_write_to_the_terminal(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "c.yaml").write_text('providers: {openai: }\nroutes: {"a\\u202eb": {targets: [openai/x]}}')
    assert run("--config", "c.yaml") == 0
    assert "a\\u202eb" in capsys.readouterr().out
    (folder / "c.yaml").write_text('providers: {openai: }\nroutes: {"b": {targets: ["openai/\\e[31mx"]}}')
    assert run("--config", "c.yaml") == 2
    assert "openai/\\x1b[31mx" in capsys.readouterr().err


def test_a_very_long_name_does_not_widen_the_table_for_all(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "c.yaml").write_text(
        f"providers: {{openai: }}\nroutes: {{c: {{targets: [openai/{'x' * 300}, openai/y], force: {{seed: 1}}}}}}"
    )
    assert run("--config", "c.yaml") == 0
    assert "2  openai/y  seed:=1 (forced)" in capsys.readouterr().out


def test_the_schema(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--schema") == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert schema["additionalProperties"] is False
    definitions = schema["$defs"]

    def references(part: object) -> list[str]:
        if isinstance(part, dict):
            own = [part["$ref"]] if "$ref" in part else []
            return own + [reference for value in part.values() for reference in references(value)]
        return [reference for value in part for reference in references(value)] if isinstance(part, list) else []

    assert {reference.removeprefix("#/$defs/") for reference in references(schema)} <= set(definitions)
    # A known provider needs no setting at all, and a target may be plain text.
    mapping, nothing = definitions["Provider"]["anyOf"]
    assert "required" not in mapping
    assert nothing == {"type": "null"}
    assert {"type": "string"} in definitions["Target"]["anyOf"]
    assert {"const": "weighted", "type": "string"} in definitions["WeightedPolicy"]["anyOf"]
    assert definitions["Server"]["properties"]["drain"]["default"] == "30s"
    assert definitions["Server"]["properties"]["body_limit"]["default"] == "32MiB"


def test_yaml_is_imported_for_yaml_only() -> None:
    code = """
import sys
from proxy.config import parse
assert "ruamel" not in " ".join(sys.modules), "at import"
parse('{"providers": {"ollama": {}}}', source="c", format="json", env={})
assert "ruamel" not in " ".join(sys.modules), "for JSON"
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
