"""YAML 1.2 (core schema), JSON and TOML into plain values, with places; and everything they refuse."""

from __future__ import annotations

import math
from typing import Any

import pytest

from proxy.config import ConfigError
from proxy.config.source import Format, read


def value(text: str) -> Any:
    tree = read(text, "c.yaml", "yaml")
    assert not tree.problems
    return tree.value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *[
            (word, word)
            for word in ("on", "off", "yes", "no", "On", "NO", "y", "tRUE", "2026-11-01", "1_000", "12:30:45")
        ],
        *[(word, True) for word in ("true", "True", "TRUE")],
        *[(word, False) for word in ("false", "False", "FALSE")],
        *[(word, None) for word in ("null", "Null", "NULL", "~", "")],
        ("1", 1),
        ("-7", -7),
        ("+7", 7),
        ("007", 7),
        ("0o17", 15),
        ("0x1F", 31),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("4.", 4.0),
        ("-.inf", -math.inf),
        ("'1'", "1"),
        ('"null"', "null"),
        ("!!str 1", "1"),
        ("! 1", "1"),
        ("9" * 5000, "9" * 5000),
        ("|\n  1", "1"),
    ],
)
def test_scalars(text: str, expected: object) -> None:
    assert value(f"a: {text}") == {"a": expected}
    assert type(value(f"a: {text}")["a"]) is type(expected)


def test_nan() -> None:
    assert math.isnan(value("a: .nan")["a"])


def test_keys_are_text() -> None:
    assert value("{1: a, null: b, 4.10: c, true: d, on: e, 'x': f, 2026-11-01: g}") == dict(
        zip(["1", "null", "4.10", "true", "on", "x", "2026-11-01"], "abcdefg", strict=True)
    )


def test_anchors_aliases_and_merge_keys() -> None:
    text = """
base: &base {a: 1, b: 2}
more: &more {b: 3, c: 4}
one: *base
two: {<<: *base, b: 9}
three: {<<: [*base, *more], d: 5}
name: &name x
*name : by-alias
"""
    read_back = value(text)
    assert read_back["one"] == {"a": 1, "b": 2}
    assert read_back["two"] == {"a": 1, "b": 9}
    assert read_back["three"] == {"a": 1, "b": 2, "c": 4, "d": 5}
    assert read_back["x"] == "by-alias"
    read_back["one"]["a"] = 7
    assert read_back["base"]["a"] == 1


def test_places() -> None:
    tree = read("# first\na:\n  b:\n    - x\n    - {c: 4.10,\n       d: ~}\n", "c.yaml", "yaml")
    assert tree.where(()) == "c.yaml:2"
    assert tree.where(("a",)) == "c.yaml:2"
    assert tree.where(("a", "b")) == "c.yaml:3"
    assert tree.where(("a", "b", 1)) == "c.yaml:5"
    assert tree.where(("a", "b", 1, "d")) == "c.yaml:6"
    assert tree.where(("a", "b", 1, "missing", 3)) == "c.yaml:5"
    assert tree.text(("a", "b", 1, "c")) == "4.10"
    assert tree.text(("a", "b", 1, "d")) == "~"
    assert tree.text(("a", "b", 0)) is None
    assert tree.text(("nowhere", 3)) is None


def test_a_merged_value_stands_where_it_was_written() -> None:
    tree = read("base: &b\n  a: 1\nuse:\n  <<: *b\n", "c.yaml", "yaml")
    assert tree.where(("use", "a")) == "c.yaml:2"


def test_empty_texts() -> None:
    for text in ("", "\n", "# nothing\n", "---\n", "--- ~\n"):
        assert value(text) is None


def test_a_key_that_stands_twice_is_told_with_both_lines() -> None:
    tree = read("a: 1\nb: {c: 1,\n  c: 2}\na: 3\n", "c.yaml", "yaml")
    assert [str(problem) for problem in tree.problems] == [
        "c.yaml:3: b.c: stands twice (lines 2 and 3) (keep one of them)",
        "c.yaml:4: a: stands twice (lines 1 and 4) (keep one of them)",
    ]


LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)
)


@pytest.mark.parametrize(
    ("format", "text", "where", "message"),
    [
        ("yaml", "a: [1, 2", "c:1", "not YAML"),
        ("yaml", "a: 1\n b: 2\n", "c:2", "not YAML"),
        ("yaml", "a: '", "c:1", "not YAML"),
        ("yaml", "\tb: 1", "c:1", "not YAML"),
        ("yaml", "a: \x00", "c", "not YAML"),
        ("yaml", "a: !!python/object x", "c:1", "the tag"),
        ("yaml", "a: !secret x", "c:1", "the tag"),
        ("yaml", "a: !!int 5", "c:1", "the tag"),
        ("yaml", "a: !mine {b: 1}", "c:1", "the tag"),
        ("yaml", "x: 1\na: *nowhere", "c:2", "the anchor &nowhere is not defined before"),
        ("yaml", "a: &a [*a]", "c:1", "the anchor &a stands within itself"),
        ("yaml", "? [a]\n: 1", "c:1", "a key should be text"),
        ("yaml", "? {a: b}\n: 1", "c:1", "a key should be text"),
        ("yaml", "a: &a [x]\n*a : 1", "c:2", "a key should be text"),
        ("yaml", "a: {<<: 5}", "c:1", "<< takes a mapping"),
        ("yaml", "a: 1\n---\nb: 2", "c:2", "a second document"),
        ("yaml", "[" * 60 + "]" * 60, "c:1", "nested deeper"),
        ("yaml", LAUGHS, "c:6", "more than 100000 values"),
        ("yaml", "a: " + "x" * (1024 * 1024), "c", "larger than 1024 KiB"),
        ("yaml", 'a: "\\UFFFFFFFF"', "c", "not YAML"),
        ("json", '{"a": 1', "c:1", "not JSON"),
        ("json", '{\n"a" 1}', "c:2", "not JSON"),
        ("json", '{"a": NaN}', "c", "NaN is not JSON"),
        ("json", "[" * 100_000, "c", "nested deeper"),
        ("json", "[" * 60 + "]" * 60, "c", "nested deeper"),
        ("json", '{"a": "\\ud800"}', "c", "surrogate"),
        ("json", '{"\\udfff": 1}', "c", "surrogate"),
        ("json", '{"a": ' + "9" * 5000 + "}", "c", "not JSON"),
        ("toml", "a = ", "c", "not TOML"),
        ("toml", "a = 1\na = 2\n", "c:2", "not TOML"),
        ("toml", "a = " + "[" * 5000, "c", "nested deeper"),
    ],
)
def test_refused(format: Format, text: str, where: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(text, "c", format)
    [problem] = caught.value.problems
    assert problem.where == where
    assert message in problem.message
    assert "\n" not in str(problem)


def test_a_json_key_that_stands_twice() -> None:
    tree = read('{"a": {"b": 1, "b": 2}}', "c.json", "json")
    assert tree.value == {"a": {"b": 1}}
    assert [problem.message for problem in tree.problems] == ["stands twice in one object"]
