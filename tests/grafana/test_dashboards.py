"""The dashboards as files: made by their script, valid for Grafana's own model, and kept by the house's rules."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from tests.grafana.queries import queries

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "grafana" / "dashboards"
NAMES = sorted(path.name for path in FOLDER.glob("*.json"))
KINDS = {"row", "stat", "timeseries", "table", "heatmap", "state-timeline"}
UNITS = {"short", "locale", "s", "percentunit", "reqps", "cps", "currencyUSD"}
SCHEMA = Draft7Validator(json.loads(Path(__file__).with_name("dashboard.schema.json").read_text("utf-8")))


def read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / name).read_text("utf-8"))
    return found


def test_the_files_are_what_their_script_makes() -> None:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "grafana" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    made = {name: generate.text(found) for name, found in generate.dashboards().items()}
    assert made == {name: (FOLDER / name).read_text("utf-8") for name in NAMES}, "run python grafana/generate.py"


@pytest.mark.parametrize("name", NAMES)
def test_valid_for_grafanas_own_model(name: str) -> None:
    assert [error.message for error in SCHEMA.iter_errors(read(name))] == []


@pytest.mark.parametrize("broken", [{"panels": [{"type": 1}]}, {"graphTooltip": 7}, {"editable": "no"}])
def test_the_schema_can_say_no(broken: dict[str, Any]) -> None:
    assert list(SCHEMA.iter_errors({**read(NAMES[0]), **broken}))


@pytest.mark.parametrize("name", NAMES)
def test_every_panel_says_what_it_shows_in_which_unit_and_overlaps_none(name: str) -> None:
    dashboard = read(name)
    taken: set[tuple[int, int]] = set()
    titles = [panel["title"] for panel in dashboard["panels"]]
    assert len(set(titles)) == len(titles)
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(titles)
    for panel in dashboard["panels"]:
        grid, title = panel["gridPos"], panel["title"]
        places = {(grid["x"] + x, grid["y"] + y) for x in range(grid["w"]) for y in range(grid["h"])}
        assert not places & taken, title
        assert max(x for x, _ in places) < 24, title
        taken |= places
        assert panel["type"] in KINDS, title
        if panel["type"] == "row":
            continue
        assert panel["description"].endswith("."), title
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, title
        assert {prop["value"] for one in panel["fieldConfig"]["overrides"] for prop in one["properties"]
                if prop["id"] == "unit"} <= UNITS, title  # fmt: skip
        assert [target["refId"] for target in panel["targets"]] == [*"ABCDEFGH"[: len(panel["targets"])]], title
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"]), title


@pytest.mark.parametrize("name", NAMES)
def test_no_query_has_a_window_of_its_own(name: str) -> None:
    """A fixed window is too short for long ranges and too long for short ones."""
    for query in queries(read(name)):
        assert not re.search(r"\[\d", query.expr), query.where


@pytest.mark.parametrize("name", NAMES)
def test_no_table_shows_the_name_of_a_query(name: str) -> None:
    """Grafana heads a column with `Value #A` unless it is told otherwise."""
    for panel in read(name)["panels"]:
        if panel["type"] == "table":
            (renamed,) = (one["options"]["renameByName"] for one in panel["transformations"] if one["id"] == "organize")
            assert {f"Value #{target['refId']}" for target in panel["targets"]} <= set(renamed), panel["title"]


@pytest.mark.parametrize("name", NAMES)
def test_a_legend_names_only_what_its_query_keeps(name: str) -> None:
    for panel in read(name)["panels"]:
        for target in panel.get("targets", ()):
            for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
                assert re.search(rf"by \([^)]*\b{label}\b", target["expr"]), panel["title"]


def test_the_data_source_is_told_the_scrape_interval() -> None:
    """`$__rate_interval` is made of it; both files name it."""
    interval = re.search(r"scrape_interval: (\w+)", (ROOT / "grafana/prometheus/prometheus.yml").read_text())
    told = re.search(r"timeInterval: (\w+)", (ROOT / "grafana/provisioning/datasources/prometheus.yml").read_text())
    assert interval is not None
    assert told is not None
    assert interval[1] == told[1]
