"""docs/benchmarking.md names every setting and column; the examples load; the schema beside them is the one printed."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from proxy.bench import data, scorers
from proxy.bench.results import COLUMNS, LOAD_COLUMNS
from proxy.bench.suite import Suite, load, parse, schema
from proxy.config.explain import _plain

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "benchmarking.md").read_text(encoding="utf-8")
NAMED = {name for line in TEXT.splitlines() if line.startswith("| `") for name in re.findall(r"`([^`]+)`", line)}
SUITES = sorted(path for path in (ROOT / "examples" / "suites").glob("*.json") if "schema" not in path.name)
WHOLE = {"weights", "gates"}
"""Shown as one."""


def settings(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        path = f"{prefix}{field.alias or name}"
        kind: Any = _plain(field.annotation)
        inner = [_plain(part) for part in getattr(kind, "__args__", ())]
        part = next((one for one in (kind, *inner) if isinstance(one, type) and issubclass(one, BaseModel)), None)
        if part is None:
            yield path
        elif part is kind:
            yield from settings(part, f"{path}.")
        else:
            yield from settings(part, f"{path}.NAME." if kind is not part and _is_mapping(kind) else f"{path}[].")


def _is_mapping(kind: Any) -> bool:
    return getattr(kind, "__origin__", None) is dict


@pytest.mark.parametrize("name", sorted(settings(Suite)))
def test_every_setting_is_documented(name: str) -> None:
    assert name in NAMED, name


def test_every_column_and_scorer_is_documented() -> None:
    assert set(COLUMNS) | set(LOAD_COLUMNS) <= NAMED
    assert set(scorers.KINDS) <= NAMED


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.name)
def test_examples_load_with_their_data(path: Path) -> None:
    suite = load(path)
    cases = data.load(suite)
    assert cases
    scorers.check(suite, cases)


def test_the_example_in_the_docs_loads() -> None:
    (block,) = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
    suite = parse(block, folder=ROOT / "examples" / "suites")
    assert data.load(suite)


def test_the_schema_is_the_one_in_the_repository() -> None:
    kept = json.loads((ROOT / "examples" / "suites" / "suite.schema.json").read_text())
    assert kept == json.loads(json.dumps(schema()))
    from jsonschema import Draft202012Validator

    for path in SUITES:
        whole = {key: value for key, value in json.loads(path.read_text()).items() if key != "$schema"}
        Draft202012Validator(kept).validate(whole)


def test_the_answers_of_the_sums_are_right() -> None:
    for line in (ROOT / "examples" / "suites" / "sums.jsonl").read_text().splitlines():
        case = json.loads(line)
        left, sign, right = re.search(r"(\d+) ([+*-]) (\d+)", case["prompt"]).groups()  # type: ignore[union-attr]
        result = {"+": int(left) + int(right), "-": int(left) - int(right), "*": int(left) * int(right)}[sign]
        assert case["answer"] == str(result)
