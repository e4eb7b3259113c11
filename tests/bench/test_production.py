"""Captured requests as cases, and live traffic beside what a suite says: by the commands, over a real proxy's store."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from proxy.bench.production import drawn
from proxy.bench.suite import load
from proxy.config.problems import ConfigError
from tests import processes
from tests.bench.test_run import Bench, bench, results  # noqa: F401  (fixture)

SHORT, LONG, TOOLS = 24, 6, 3
TOOL = {"type": "function", "function": {"name": "weigh", "parameters": {"type": "object", "properties": {}}}}


class Served(NamedTuple):
    folder: Path
    config: Path
    upstream: processes.Upstream


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A store of requests that were served by the route `kept`, others by `silent`, and a few that failed."""
    folder = tmp_path_factory.mktemp("served")
    with processes.upstream(folder / "up", "--tokens", "5") as upstream:
        config: dict[str, Any] = {
            "storage": f"sqlite:///{folder / 'exchanges.db'}",
            "providers": {"local": {"base_url": f"{upstream.base_url}/v1", "api_key": None}},
            "routes": {
                "kept": {"targets": ["local/m"], "capture": {"bodies": "redacted"}},
                "silent": {"targets": ["local/m"]},
            },
            "prices": {"local/m": {"input": 1.0, "output": 2.0}},
        }
        path = folder / "weighbridge.json"
        path.write_text(json.dumps(config))
        with processes.proxy(config, folder) as proxy:

            def ask(model: str, content: str, **more: Any) -> int:
                messages = [{"role": "user", "content": content}]
                return proxy.ask("/v1/chat/completions", {"model": model, "messages": messages, **more}).status

            for n in range(SHORT):
                assert ask("kept", f"short {n}", stream=bool(n % 2)) == 200
            for n in range(LONG):
                assert ask("kept", f"long {n} " * 400) == 200
            for n in range(TOOLS):
                assert ask("kept", f"weigh {n}", tools=[TOOL]) == 200
            assert ask("silent", "not kept") == 200
            upstream.change(faults=["http_400"])
            assert ask("kept", "refused") == 400
            upstream.change(faults=["http_500"])
            assert ask("silent", "broken") >= 500
            upstream.change(faults=[])
            messages = {"model": "kept", "max_tokens": 9, "messages": [{"role": "user", "content": "another form"}]}
            assert proxy.ask("/v1/messages", messages).status == 200
        yield Served(folder, path, upstream)


def suite(folder: Path, **production: Any) -> Path:
    path = folder / "suite.json"
    scorers = ["truncation", {"kind": "exact", "field": "served"}]
    task = {"production": production, "scorers": scorers}
    path.write_text(json.dumps({"name": "slice", "targets": ["local/m"], "tasks": {"live": task}, "repeats": 1}))
    return path


def test_strata_take_turns_and_are_weighed_back(tmp_path: Path, served: Served, bench: Bench) -> None:  # noqa: F811
    plan = suite(tmp_path, route="kept", limit=12)
    done = bench("run", plan, "--config", served.config, "--format", "json")
    assert done.returncode in (0, 4), done.stderr
    rows = results(tmp_path)
    weights = Counter(row["weight"] for row in rows)
    # Twelve of three strata: all three with tools, and of the others five and four (or the reverse).
    assert weights[1.0] == TOOLS
    assert len(rows) == 12
    assert sum(row["weight"] for row in rows) == pytest.approx(SHORT + LONG + TOOLS)
    texts = [row for row in rows if row["scores"]["exact"] is not None]
    assert {row["scores"]["truncation"] for row in texts} == {1.0}
    asked_again = {row["case"] for row in rows}
    stored = processes.rows(served.folder, "SELECT id, route FROM v_exchanges WHERE origin = 'live'")
    assert asked_again <= {row["id"] for row in stored if row["route"] == "kept"}
    (run,) = (tmp_path / "bench-runs").iterdir()
    assert all("short" not in path.read_text(errors="replace") for path in run.iterdir())
    # The draw is repeated where a run goes on, and made anew where one begins.
    manifest = json.loads((run / "run.json").read_bytes())
    assert set(manifest["slices"]["live"]) == asked_again
    (run / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:5]))
    (run / "run.json").write_text(json.dumps({**manifest, "finished": None}))
    done = bench("run", plan, "--config", served.config, "--resume", "last")
    assert done.returncode in (0, 4), done.stderr
    assert {row["case"] for row in results(tmp_path)} == asked_again


@pytest.mark.parametrize(
    ("wanted", "count"),
    [
        ({"tools": True}, TOOLS),
        ({"tools": False}, SHORT + LONG),
        ({"shortest": 500}, LONG),
        ({"longest": 500, "tools": False}, SHORT),
        ({}, SHORT + LONG + TOOLS),
    ],
    ids=str,
)
def test_what_is_chosen(tmp_path: Path, served: Served, wanted: dict[str, Any], count: int) -> None:
    from proxy.bench import data

    cases = data.load(load(suite(tmp_path, **wanted)), served.folder / "exchanges.db")
    assert len(cases) == count
    assert all(case.fields["served"] or case.params["tools"] for case in cases)


def test_where_nothing_was_kept_that_is_said(tmp_path: Path, served: Served, bench: Bench) -> None:  # noqa: F811
    done = bench("run", suite(tmp_path, route="silent"), "--config", served.config, "--dry-run")
    assert done.returncode == 2
    assert "no captured chat of route 'silent'" in done.stderr
    assert "2 live requests were served" in done.stderr
    assert "bodies: redacted" in done.stderr


def test_sameness_cannot_decide(tmp_path: Path) -> None:
    path = tmp_path / "suite.json"
    task = {"production": {}, "scorers": [{"kind": "exact", "field": "served"}]}
    path.write_text(json.dumps({"name": "slice", "targets": ["local/m"], "tasks": {"live": task}}))
    with pytest.raises(ConfigError, match="sameness, not success"):
        load(path)


def test_live_traffic_stands_beside_the_suite(tmp_path: Path, served: Served, bench: Bench) -> None:  # noqa: F811
    path = tmp_path / "suite.json"
    task = {"data": [{"prompt": "Hello"}, {"prompt": "Good-bye"}], "scorers": ["errors"]}
    path.write_text(json.dumps({"name": "s", "targets": ["silent", "kept"], "tasks": {"t": task}, "repeats": 1}))
    done = bench("run", path, "--config", served.config, "--format", "json")
    assert done.returncode in (0, 4), done.stderr
    live = {one["target"]: one for one in json.loads(done.stdout)["traffic"]}
    assert {one["origin"] for one in live.values()} == {"live"}
    stored = processes.rows(served.folder, "SELECT route, outcome FROM v_exchanges WHERE origin = 'live'")
    for route, one in live.items():
        mine = [row["outcome"] for row in stored if row["route"] == route]
        counted = [outcome for outcome in mine if outcome != "client_error"]
        assert one["requests"] == len(mine)
        assert one["errors"]["n"] == len(counted)
        assert one["errors"]["value"] == pytest.approx(sum(outcome != "ok" for outcome in counted) / len(counted))
        assert one["cost_usd"] > 0
    assert live["silent"]["errors"]["value"] == 0.5
    assert live["silent"]["p95"]["value"] == "inf"
    for form in ("md", "table", "html"):
        shown = bench("report", "--format", form).stdout
        assert "ot of this suite" in shown
        assert "50.0%" in shown
    assert json.loads(bench("report", "--config", served.config, "--format", "json").stdout)["traffic"]


def test_weights_lead_back_to_the_mix() -> None:
    found = [
        {"id": f"{kind}{n}", "route": kind, "characters": 10, "params": {}}
        for kind, count in (("often", 90), ("seldom", 10))
        for n in range(count)
    ]
    taken = drawn(found, 20, seed=1)
    assert Counter(row["route"] for row in taken) == {"often": 10, "seldom": 10}
    assert {row["route"]: row["weight"] for row in taken} == {"often": 9.0, "seldom": 1.0}
    assert drawn(found, 20, seed=1) == taken
    assert drawn(found, 20, seed=2) != taken
    assert sum(row["weight"] for row in drawn(found, 7, seed=1)) == pytest.approx(100)
