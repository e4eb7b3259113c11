"""docs/policies.md names every policy and every reason, and its examples load."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from policies import POLICIES
from policies.base import Passed
from proxy.config import parse
from proxy.config.policy import policy_of
from proxy.explain import _WORDS

TEXT = (Path(__file__).parents[2] / "docs" / "policies.md").read_text("utf-8")


@pytest.mark.parametrize("kind", POLICIES)
def test_every_policy_has_its_section(kind: str) -> None:
    assert re.search(rf"^## .*`{kind}`", TEXT, re.MULTILINE)


@pytest.mark.parametrize("reason", Passed)
def test_every_reason_is_named_and_has_words(reason: Passed) -> None:
    assert f"`{reason}`" in TEXT
    assert _WORDS[reason]


def test_the_examples_load() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    config = parse(example, source="doc", format="yaml", env={})
    assert config.warnings == ()
    assert "tokens='>30000'" in repr(policy_of(config.routes["chat"].policy))


def test_the_simulation_of_one_s_own_figures_runs_as_the_page_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    (said,) = re.findall(r"```\n(ordered .*?)```", TEXT, re.DOTALL)
    exec(code.replace('"round_robin", "least_loaded", "fastest", ', ""), {})  # noqa: S102  (our own page)
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 2
    until = len("ordered                          100.00% answered")
    assert {line[:until] for line in shown} < {line[:until] for line in said.splitlines()}
