"""From a verdict to a canary by one command: the route as it was, but for the canary; with an audit row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from proxy.cli import main
from proxy.config import load
from proxy.config.shadow import Shadow
from proxy.measure.store.ledger import Batch, Ledger
from proxy.shadow.terms import experiments, terms_of
from tests.shadow.stored import store

WRITTEN = """\
# What apps ask for.
providers:
  local: {base_url: "http://127.0.0.1:9/v1", api_key: null}
  vendor: {like: openai, api_key: env:SHAD_TEST_KEY}   # another account
routes:
  chat:
    timeouts: {total: 60s}
    targets:
      - {target: local/a, weight: 3, params: {max_tokens: 100}}   # the old one
      - local/c
  search:
    policy: weighted
    targets: [local/a, local/c]
shadow:
  x:
    routes: [chat, search]
    candidate: {target: vendor/b, name: new, params: {temperature: 0}}
    primary: {kind: errors, margin: 0.03}
    guardrails: [{kind: ttft, slo: 2s, margin: 0.04}, cost]
"""


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHAD_TEST_KEY", "secret")


def written(folder: Path, text: str, suffix: str = "yaml") -> Path:
    path = folder / f"weighbridge.{suffix}"
    path.write_text(text)
    return path


def decided(folder: Path, path: Path, state: str = "promote") -> Ledger:
    """Its experiment has this verdict."""
    ((terms, _, _),) = experiments(load(path))
    ledger = store(folder, terms, [({}, [("errors", 1.0, 1.0, 100)])])
    batch = Batch()
    detail = json.dumps({"state": state, "label": "equivalent", "why": "so it is", "units": 1, "spent_usd": 0.1})
    batch.events.append(("2026-11-02T00:00:00.000Z", terms.name, terms.version, "verdict", detail))
    ledger.commit(batch)
    return ledger


def promote(folder: Path, path: Path, *more: str) -> int:
    return main(["shadow", "promote", "x", "--config", str(path), "--store", str(folder / "exchanges.db"), *more])


def audited(ledger: Ledger) -> list[dict[str, Any]]:
    return [json.loads(event.detail) for event in ledger.events(0) if event.event == "promoted"]


CANARY = {"kind": "canary", "candidate": "new", "margin": 0.03, "slo": 2.0, "slower": 0.04}


def test_it_is_written_into_the_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, WRITTEN)
    path.chmod(0o640)
    ledger = decided(tmp_path, path)
    assert promote(tmp_path, path, "--apply") == 0
    out, err = capsys.readouterr()
    assert str(path) in out
    assert "search's other conversations go to its first target" in err
    config = load(path)
    for name, targets in (("chat", ["local/a", "local/c", "new"]), ("search", ["local/a", "local/c", "new"])):
        route = config.routes[name]
        assert {key: getattr(route.policy, key) for key in CANARY} == CANARY
        assert [target.label for target in route.targets] == targets
        assert route.targets[-1].params == {"temperature": 0}
    assert (config.routes["chat"].targets[0].weight, config.routes["chat"].timeouts.total) == (3, 60)
    text = path.read_text()
    for comment in ("# What apps ask for.", "# another account", "# the old one"):
        assert comment in text
    assert "env:SHAD_TEST_KEY" in text
    assert "secret" not in text
    assert path.stat().st_mode & 0o777 == 0o640
    (row,) = audited(ledger)
    assert (row["by"], row["routes"], row["candidate"]) == ("command line", ["chat", "search"], "new")
    assert row["done"].startswith("written to")
    assert promote(tmp_path, path, "--apply") == 2, "not twice"
    assert "has a canary already" in capsys.readouterr().err
    assert len(audited(ledger)) == 1


def test_it_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, WRITTEN)
    ledger = decided(tmp_path, path)
    assert promote(tmp_path, path) == 0
    printed = capsys.readouterr().out
    assert path.read_text() == WRITTEN
    assert audited(ledger)[0]["done"] == "printed"
    before, rest = WRITTEN.split("routes:\n", 1)
    merged = before + printed.split("\n", 1)[1] + "shadow:\n" + rest.split("shadow:\n", 1)[1]
    assert load(written(tmp_path, merged)).routes["chat"].policy.kind == "canary", "what is printed is a config"


def test_json_too(tmp_path: Path) -> None:
    told = {
        "providers": {"local": {"base_url": "http://127.0.0.1:9/v1", "api_key": None}},
        "routes": {"chat": {"targets": ["local/a", "local/b"]}},
        "shadow": {"x": {"route": "chat", "candidate": "local/b", "primary": "errors"}},
    }
    path = written(tmp_path, json.dumps(told), "json")
    decided(tmp_path, path)
    assert promote(tmp_path, path, "--apply") == 0
    route = load(path).routes["chat"]
    assert route.policy.kind == "canary"
    assert [target.label for target in route.targets] == ["local/a", "local/b"], "it was there already"


def test_what_is_not_to_be_promoted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, WRITTEN)
    ledger = decided(tmp_path, path, "reject")
    assert promote(tmp_path, path, "--apply") == 2
    assert "it is reject" in capsys.readouterr().err
    assert path.read_text() == WRITTEN
    assert audited(ledger) == []


def test_another_prompt_cannot_be_handed_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, WRITTEN.replace("name: new,", "name: new, system: Be brief.,"))
    decided(tmp_path, path)
    assert promote(tmp_path, path, "--apply") == 0
    assert "asked with another prompt (system)" in capsys.readouterr().err


def test_one_of_several_candidates_made_over_the_api(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It stands in the records alone; what it was asked with goes into the config."""
    told = {
        "route": "chat",
        "candidates": {"old": "local/c", "new": {"target": "vendor/b", "force": {"max_tokens": 9}}},
        "primary": "errors",
    }
    path = written(tmp_path, WRITTEN[: WRITTEN.index("shadow:")])
    ((_, _), (terms, _)) = terms_of("y", Shadow.model_validate(told))
    assert terms.name == "y:new"
    ledger = store(tmp_path, terms, [({}, [("errors", 1.0, 1.0, 100)])])
    batch = Batch()
    batch.events.append(("2026-11-01T00:00:00.000Z", "y", "", "created", json.dumps(told)))
    verdict = json.dumps({"state": "promote", "label": "better", "why": "", "units": 1, "spent_usd": 0.1})
    batch.events.append(("2026-11-02T00:00:00.000Z", terms.name, terms.version, "verdict", verdict))
    ledger.commit(batch)
    assert main(["shadow", "list", "--config", str(path), "--store", str(tmp_path / "exchanges.db")]) == 0
    assert "y:new: vendor (" in capsys.readouterr().out, "who sees the prompts is told of these, too"
    command = ["shadow", "promote", "y:new", "--config", str(path), "--store", str(tmp_path / "exchanges.db")]
    assert main([*command, "--apply"]) == 0
    route = load(path).routes["chat"]
    assert (route.policy.kind, route.targets[-1].label, route.targets[-1].force) == (
        "canary",
        "vendor/b",
        {"max_tokens": 9},
    )
