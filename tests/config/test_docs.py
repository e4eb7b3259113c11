"""docs/config.md names every setting with its default, nothing that does not exist, and its examples load."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from proxy.config import Config, Policy, parse
from proxy.config.explain import _plain
from proxy.config.policy import SECTIONS
from proxy.config.schema import json_schema
from proxy.providers.catalog import CATALOG

DOCS = Path(__file__).parents[2] / "docs" / "config.md"
TEXT = DOCS.read_text(encoding="utf-8")
ROWS = {cells[0]: cells for line in TEXT.splitlines() if (cells := re.findall(r"(?<=\| )[^|]+(?= \|)", line))}
NAMES = {"providers": "NAME", "routes": "NAME", "shadow": "NAME", "prices": "TARGET"}
AS_OTHERS = ("shadow.NAME.candidates", "shadow.NAME.guardrails")
"""Their parts are those of `candidate` and `primary`."""


def settings(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting that holds a value of its own, as it is written in the documentation, and its default."""
    for name, field in model.model_fields.items():
        path = f"{prefix}{name}"
        kind = _plain(field.annotation)
        inner = [_plain(part) for part in getattr(kind, "__args__", ())]
        part = next((part for part in (kind, *inner) if isinstance(part, type) and issubclass(part, BaseModel)), None)
        if part is None or part is Policy or path in AS_OTHERS:
            yield path, field.get_default(call_default_factory=True)
        elif part is kind:
            yield from settings(part, f"{path}.")
        else:
            yield from settings(part, f"{path}.{NAMES[path]}." if path in NAMES else f"{path}[].")


SETTINGS = dict(settings(Config))
POLICIES = {
    f"{kind}.{path}": default for kind, one in SECTIONS.items() for path, default in settings(one) if path != "kind"
}


def shown(path: str, default: Any) -> str:
    if default is PydanticUndefined:
        return "required"
    if isinstance(default, Policy):
        return f"`{default.kind}`"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if default is None or default == "":
        return "none"
    if path == "shadow.NAME.guardrails":
        return f"`{', '.join(metric.kind for metric in default)}`"
    if path in ("fastest.explore", "cheapest.miss", "canary.margin", "canary.slower"):
        return f"`{default:.0%}`"
    if path in ("canary.hold", "canary.patience"):
        return f"`{default:g}s`" if default < 3600 else f"`{default / 86400:g}d`"
    if path == "canary.steps":
        return f"`[{', '.join(f'{step:.0%}' for step in default)}]`"
    if isinstance(default, tuple | dict):
        return "`[]`" if isinstance(default, tuple) else "`{}`"
    if path == "server.body_limit":
        return f"`{default // 2**20}MiB`"
    if path.startswith("retention.") or path == "capture.ttl":
        return f"`{default / 86400:g}d`"
    if ".timeouts." in path or path in (
        "server.drain",
        "providers.NAME.token_lasts",
        "batches.poll",
        "shadow.NAME.timeout",
        "shadow.NAME.late_above",
    ):
        return f"`{default:g}s`"
    return f"`{default:g}`" if isinstance(default, float) else f"`{default}`"


def test_the_walk_finds_what_is_there() -> None:
    assert {
        "server.host", "storage", "providers.NAME.headers", "defaults.timeouts.ttft", "routes.NAME.targets[].target",
        "routes.NAME.policy", "keys[].key", "prices.TARGET.steps[].above",
    } <= SETTINGS.keys()  # fmt: skip
    count = sum(len(part.get("properties", {})) for part in json_schema()["$defs"].values())
    assert len(SETTINGS) > count


@pytest.mark.parametrize("path", SETTINGS)
def test_every_setting_is_documented(path: str) -> None:
    # What route and target share with the defaults is described once, with the defaults.
    shared = re.sub(r"^routes\.NAME\.(targets\[\]\.)?(timeouts|retries|failover_on|hedge)\.", r"defaults.\2.", path)
    assert f"`{shared}`" in ROWS, f"{shared} is missing in {DOCS.name}"
    _, kind, default, meaning, example = ROWS[f"`{shared}`"]
    assert kind
    assert len(meaning) > 10
    assert example
    assert shown(shared, SETTINGS[shared]) in default


def test_nothing_else_is_documented() -> None:
    documented = {name.strip("`") for name in ROWS if re.fullmatch(r"`[a-z_]+(\.[A-Za-z_.\[\]]+)?`", name)}
    known = set(SETTINGS) | {f"routes.NAME.{part}" for part in ("timeouts", "retries", "failover_on", "hedge")}
    known |= {"routes.NAME.targets[].timeouts", *CATALOG, *SECTIONS, *POLICIES}
    assert documented - known == set()


@pytest.mark.parametrize("path", POLICIES)
def test_every_setting_of_a_policy_is_documented(path: str) -> None:
    assert f"`{path}`" in ROWS, f"{path} is missing in {DOCS.name}"
    _, kind, default, meaning, example = ROWS[f"`{path}`"]
    assert kind
    assert len(meaning) > 10
    assert example
    assert shown(path, POLICIES[path]) in default


@pytest.mark.parametrize("name", CATALOG)
def test_every_known_provider_is_documented(name: str) -> None:
    row = CATALOG[name]
    _, address, variables, note = ROWS[f"`{name}`"]
    assert row.base_url is None or f"`{row.base_url}`" in address
    for variable in row.variables:
        assert f"`{variable}`" in variables
    assert (f"{row.dialect} dialect" in note) is (row.dialect != "openai")
    assert ("optional" in variables) is not row.key_required


def test_every_policy_is_documented() -> None:
    for policy in SECTIONS:
        assert f"`{policy}`" in TEXT


EXAMPLES = re.findall(r"```(yaml|json|toml)\n(.*?)```", TEXT, re.DOTALL)


@pytest.mark.parametrize(("format", "text"), EXAMPLES, ids=range(len(EXAMPLES)))
def test_the_examples_load(format: Any, text: str, tmp_path: Path) -> None:
    (tmp_path / "deepseek.key").write_text("sk-file\n")
    (tmp_path / "ca.pem").write_text("")
    env = {name: f"sk-{name}" for name in re.findall(r"env:(\w+)", text)} | {"OPENAI_API_KEY": "a", "GROQ_API_KEY": "b"}
    assert parse(text, source="example", format=format, env=env, folder=tmp_path).providers
