"""Whatever is fed in: a config or a `ConfigError` of single lines, nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML
from ruamel.yaml.compat import StringIO

from proxy.config import Config, ConfigError, parse
from proxy.config.source import Format

ENV = {"OPENAI_API_KEY": "sk-secret-openai", "A": "sk-secret-a", "B": "broken\n"}
FORMATS: list[Format] = ["yaml", "json", "toml"]
RELAXED = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)

WORDS = st.sampled_from(
    [
        *("server", "host", "port", "admin_token", "direct", "metrics", "drain", "body_limit", "storage", "state"),
        *("providers", "dialect", "base_url", "api_key", "api_keys", "like", "http", "ca_file", "headers", "verbatim"),
        *("usage_in_stream", "defaults", "retries", "per_target", "per_request", "timeouts", "total", "ttft", "params"),
        *(
            "failover_on",
            "force",
            "breaker",
            "hedge",
            "routes",
            "policy",
            "kind",
            "targets",
            "target",
            "name",
            "weight",
        ),
        *("context_window", "aliases", "keys", "key", "shadow", "prices", "capture", "openai", "anthropic", "groq"),
        *("chat", "*", "env:A", "env:B", "env:MISSING", "file:missing", "openai/gpt", "groq/x", "http://x", "5s", "30"),
        *("https://[::1]:1/", "5%", "32MiB", "ordered", "fastest", "auto", "never", "<<", "=", "~", "null"),
    ]
)
SCALARS = WORDS | st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=5), inner, max_size=5),
    max_leaves=25,
)
SECTIONS = st.dictionaries(
    st.sampled_from(
        [
            *("server", "storage", "state", "providers", "defaults", "routes", "keys", "shadow", "prices", "capture"),
            "typo",
        ]
    ),
    VALUES
    | st.dictionaries(WORDS, st.dictionaries(WORDS, VALUES, max_size=4), max_size=3)
    | st.lists(st.dictionaries(WORDS, VALUES, max_size=3), max_size=3),
    max_size=6,
)
YAML_PIECES = st.lists(
    st.sampled_from(
        [
            *("a", "b: ", "- ", "\n", "  ", "{", "}", "[", "]", ", ", ": ", "&x ", "*x", "!!str ", "!t ", "<<: ", "'"),
            *('"', "|", ">", "#", "---", "...", "%YAML 1.1", "? ", "\t", "~", "null", "1e3", "providers: ", "openai"),
            *("\\x", "\u2028"),
        ]
    ),
    max_size=30,
).map("".join)


def check(text: str, format: Format) -> None:
    config: Config | None = None
    lines: list[str] = []
    try:
        config = parse(text, source="c", format=format, env=ENV)
    except ConfigError as error:
        lines = [str(problem) for problem in error.problems]
    if config is None:
        assert lines
    else:
        assert config.providers
        lines = [repr(config), config.model_dump_json(), *config.warnings]
        assert not [line for line in config.warnings if not line.isprintable()]
    assert not [line for line in lines if "sk-secret" in line]
    if config is None:
        assert not [line for line in lines if not line.isprintable()]
        assert "\n".join(lines).encode()


@pytest.mark.parametrize("format", FORMATS)
@RELAXED
@given(text=st.text(max_size=60))
def test_any_text(format: Format, text: str) -> None:
    check(text, format)


@RELAXED
@given(text=YAML_PIECES)
def test_anything_like_yaml(text: str) -> None:
    check(text, "yaml")


@RELAXED
@given(value=SECTIONS)
def test_any_json(value: Any) -> None:
    check(json.dumps(value), "json")


@RELAXED
@given(value=SECTIONS)
def test_any_yaml(value: Any) -> None:
    out = StringIO()
    YAML(typ="safe", pure=True).dump(value, out)
    check(out.getvalue(), "yaml")


@RELAXED
@given(changed=st.data())
def test_a_good_config_with_something_changed(changed: st.DataObject) -> None:
    config: dict[str, Any] = {
        "server": {"port": 1, "drain": "5s"},
        "providers": {"openai": {}, "mine": {"base_url": "http://x", "headers": {"x-a": "b"}}},
        "routes": {
            "chat": {"targets": ["openai/a", {"target": "mine/b"}], "timeouts": {"ttft": "1s"}, "params": {"n": 1}}
        },
        "keys": [{"name": "a", "key": "env:A"}],
    }
    place: Any = config
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = changed.draw(st.sampled_from(keys))
        if isinstance(place[key], dict | list) and place[key] and changed.draw(st.booleans()):
            place = place[key]
            continue
        place[key] = changed.draw(VALUES)
        break
    check(json.dumps(config), "json")
