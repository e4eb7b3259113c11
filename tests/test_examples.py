"""The examples work as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from proxy.config import ConfigError, load
from proxy.config.source import FORMATS

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
CONFIGS = sorted(path for path in EXAMPLES.glob("*") if path.suffix in FORMATS)


def test_there_are_examples() -> None:
    assert EXAMPLES / "weighbridge.yaml" in CONFIGS


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_an_example_loads_with_the_keys_that_it_names(path: Path) -> None:
    exported = re.findall(r"([A-Z_]+_(?:KEY|TOKEN))=…", path.read_text("utf-8"))
    assert exported
    config = load(path, {name: f"sk-example-{number}" for number, name in enumerate(exported)})
    assert config.warnings == ()
    assert config.routes
    with pytest.raises(ConfigError):
        load(path, {})


def test_the_config_of_the_demo_suite_needs_no_key() -> None:
    config = load(EXAMPLES / "suites" / "demo.yaml", {})
    assert config.warnings == ()
    assert set(config.prices) == {target.target for target in config.routes["chat"].targets}
