"""Text of a config file -> plain values, and where in the text each of them stands.

YAML is read as 1.2 with its core schema: `true`/`false`, `null`, numbers, and everything else is text (`on`, `no`,
dates). Mapping keys are always text. JSON and TOML are read by the standard library; they tell no lines.
"""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple, Never

from proxy.config.problems import ConfigError, Problem, path_text

Format = Literal["yaml", "json", "toml"]
FORMATS: dict[str, Format] = {".yaml": "yaml", ".yml": "yaml", ".json": "json", ".toml": "toml"}
MOST_BYTES = 1024 * 1024
_DEEPEST = 40
_MOST_VALUES = 100_000
_TEXT_TAG = "tag:yaml.org,2002:str"
_PLAIN_TAGS = (None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")

# YAML 1.2.2, section 10.3.2 (core schema).
_NULL = re.compile(r"null|Null|NULL|~|")
_BOOL = re.compile(r"(true|True|TRUE)|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]{1,400}|0o[0-7]{1,400}|0x[0-9a-fA-F]{1,400}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


class Spot:
    """Where a value stands, and those within it."""

    __slots__ = ("line", "parts", "text")

    def __init__(self, line: int, text: str | None = None) -> None:
        self.line = line
        self.text = text
        """As written, where an unquoted scalar was read as something else than text."""
        self.parts: dict[str | int, Spot] = {}

    def at(self, line: int) -> Spot:
        """The same value seen from the line of its key, or of an alias."""
        spot = Spot(line, self.text)
        spot.parts = self.parts
        return spot


class Tree(NamedTuple):
    source: str
    value: Any
    root: Spot | None
    """None where the format tells no lines."""
    problems: list[Problem]
    """Those after which reading could go on (a key that stands twice)."""

    def where(self, loc: Sequence[str | int]) -> str:
        """`file:line` of the setting, or of the nearest one around it."""
        spot = self.root
        if spot is None:
            return self.source
        for part in loc:
            if part not in spot.parts:
                break
            spot = spot.parts[part]
        return f"{self.source}:{spot.line}"

    def text(self, loc: Sequence[str | int]) -> str | None:
        """How the scalar there is written, if it was not read as text."""
        spot = self.root
        for part in loc:
            spot = spot.parts.get(part) if spot else None
        return spot.text if spot else None


def read(text: str, source: str, format: Format) -> Tree:
    """Raises `ConfigError` if the text is not of that format, too large, too deep or holds what JSON cannot."""
    if len(text) > MOST_BYTES:
        raise ConfigError([too_large(source)])
    tree = {"yaml": _yaml, "json": _json, "toml": _toml}[format](text, source)
    _check(tree)
    return tree


def too_large(source: str) -> Problem:
    return Problem(source, "", f"larger than {MOST_BYTES // 1024} KiB")


def _refused(where: str, message: str, hint: str | None = None) -> ConfigError:
    return ConfigError([Problem(where, "", message, hint)])


def _check(tree: Tree) -> None:
    todo: list[tuple[Any, int]] = [(tree.value, 0)]
    seen = 0
    while todo:
        value, depth = todo.pop()
        seen += 1
        if depth > _DEEPEST:
            raise _refused(tree.source, f"nested deeper than {_DEEPEST} levels")
        if seen > _MOST_VALUES:
            raise _refused(tree.source, f"more than {_MOST_VALUES} values")
        if isinstance(value, dict):
            todo.extend((part, depth + 1) for part in value.values())
            todo.extend((key, depth + 1) for key in value)
        elif isinstance(value, list):
            todo.extend((part, depth + 1) for part in value)
        elif isinstance(value, str) and any("\ud800" <= character <= "\udfff" for character in value):
            raise _refused(tree.source, "holds half of a surrogate pair (\\ud800 to \\udfff), which is no letter")


def _json(text: str, source: str) -> Tree:
    problems: list[Problem] = []

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key, value in items:
            if key in values:
                problems.append(Problem(source, path_text([key]), "stands twice in one object", "keep one of them"))
            values.setdefault(key, value)
        return values

    def constant(name: str) -> Never:
        raise _refused(source, f"{name} is not JSON")

    try:
        value = json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except json.JSONDecodeError as error:
        raise _refused(f"{source}:{error.lineno}", f"not JSON: {error.msg} (column {error.colno})") from None
    except ValueError as error:
        raise _refused(source, f"not JSON: {error}") from None
    except RecursionError:
        raise _refused(source, f"nested deeper than {_DEEPEST} levels") from None
    return Tree(source, value, None, problems)


def _toml(text: str, source: str) -> Tree:
    import tomllib

    try:
        return Tree(source, tomllib.loads(text), None, [])
    except ValueError as error:
        line = re.search(r"\(at line (\d+), column (\d+)\)", str(error))
        where = f"{source}:{line[1]}" if line else source
        raise _refused(where, f"not TOML: {error}") from None
    except RecursionError:
        raise _refused(source, f"nested deeper than {_DEEPEST} levels") from None


def _yaml(text: str, source: str) -> Tree:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    composer = _Composer(source, YAML(typ="safe", pure=True).parse(text))
    try:
        value, spot = composer.document()
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{source}:{mark.line + 1}" if mark else source
        column = f" (column {mark.column + 1})" if mark else ""
        raise _refused(where, f"not YAML: {error.problem or error.context}{column}") from None
    except (YAMLError, ValueError, OverflowError, RecursionError) as error:
        # The last three: escapes and directives with absurd numbers, and nesting.
        raise _refused(source, f"not YAML: {str(error).splitlines()[0] if str(error) else 'too deep'}") from None
    return Tree(source, value, spot, composer.problems)


class _Composer:
    """Builds values from the parser's events; every event comes through `_next`, which bounds their number."""

    def __init__(self, source: str, events: Iterator[Any]) -> None:
        self.source = source
        self.events = events
        self.problems: list[Problem] = []
        self.anchors: dict[str, tuple[Any, Spot, int] | None] = {}
        """Value, place and number of values; None while it is being built."""
        self.count = 0

    def document(self) -> tuple[Any, Spot]:
        next(self.events)  # start of the stream
        event = next(self.events)
        if type(event).__name__ == "StreamEndEvent":
            return None, Spot(1)
        value, spot = self._value(next(self.events), [])
        next(self.events)  # end of the document
        if type(after := next(self.events)).__name__ != "StreamEndEvent":
            raise self._refused(after, "a second document (---); a config is one document")
        return value, spot

    def _refused(self, event: Any, message: str, hint: str | None = None) -> ConfigError:
        return _refused(f"{self.source}:{event.start_mark.line + 1}", message, hint)

    def _value(self, event: Any, path: list[str | int]) -> tuple[Any, Spot]:
        before = self.count
        self._counted(event, 1)
        if len(path) > _DEEPEST:
            raise self._refused(event, f"nested deeper than {_DEEPEST} levels")
        name = type(event).__name__
        if name == "AliasEvent":
            return self._alias(event)
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        if name == "ScalarEvent":
            built = self._scalar(event)
        else:
            if str(event.tag or "!") not in _PLAIN_TAGS:
                raise self._refused(event, f"the tag {event.tag} has no meaning here", "leave it out")
            built = self._mapping(event, path) if name == "MappingStartEvent" else self._sequence(event, path)
        if event.anchor is not None:
            self.anchors[event.anchor] = (*built, self.count - before)
        return built

    def _counted(self, event: Any, values: int) -> None:
        self.count += values
        if self.count > _MOST_VALUES:
            raise self._refused(event, f"more than {_MOST_VALUES} values", "aliases count with all that they repeat")

    def _alias(self, event: Any) -> tuple[Any, Spot]:
        anchored = self.anchors.get(event.anchor)
        if anchored is None:
            what = "stands within itself" if event.anchor in self.anchors else "is not defined before"
            raise self._refused(event, f"the anchor &{event.anchor} {what}")
        value, spot, values = anchored
        self._counted(event, values)
        return copy.deepcopy(value), spot

    def _scalar(self, event: Any) -> tuple[Any, Spot]:
        line, text, tag = event.start_mark.line + 1, event.value, event.tag and str(event.tag)
        if tag not in (None, "!", _TEXT_TAG):
            raise self._refused(event, f"the tag {tag} has no meaning here", "leave it out")
        value = _core(text) if tag is None and not event.style else text
        return value, Spot(line, None if isinstance(value, str) else text)

    def _sequence(self, event: Any, path: list[str | int]) -> tuple[list[Any], Spot]:
        values: list[Any] = []
        spot = Spot(event.start_mark.line + 1)
        while type(item := next(self.events)).__name__ != "SequenceEndEvent":
            line = item.start_mark.line + 1
            value, place = self._value(item, [*path, len(values)])
            spot.parts[len(values)] = place.at(line)
            values.append(value)
        return values, spot

    def _mapping(self, event: Any, path: list[str | int]) -> tuple[dict[str, Any], Spot]:
        values: dict[str, Any] = {}
        spot = Spot(event.start_mark.line + 1)
        merged: list[tuple[Any, Any, Spot]] = []
        while type(head := next(self.events)).__name__ != "MappingEndEvent":
            key = self._key(head)
            line = head.start_mark.line + 1
            value, place = self._value(next(self.events), [*path, key])
            if key == "<<" and type(head).__name__ == "ScalarEvent" and not head.style:
                merged.append((head, value, place))
            elif key in values:
                first = spot.parts[key].line
                self.problems.append(
                    Problem(
                        f"{self.source}:{line}",
                        path_text([*path, key]),
                        f"stands twice (lines {first} and {line})",
                        "keep one of them",
                    )
                )
            else:
                values[key] = value
                spot.parts[key] = place.at(line)
        for head, value, place in merged:
            self._merge(head, value, place, values, spot)
        return values, spot

    def _key(self, event: Any) -> str:
        self._counted(event, 1)
        if type(event).__name__ == "AliasEvent":
            key, spot = self._alias(event)
            key = key if isinstance(key, str) else spot.text
        elif type(event).__name__ == "ScalarEvent":
            key = event.value
            if event.anchor is not None:
                self.anchors[event.anchor] = (*self._scalar(event), 1)
        else:
            key = None
        if key is None:
            raise self._refused(event, "a key should be text, not a list or a mapping")
        return str(key)

    def _merge(self, event: Any, value: Any, place: Spot, values: dict[str, Any], spot: Spot) -> None:
        """`<<: *anchor` (or a list of them): fills in what the mapping does not say itself; earlier ones win."""
        parts = [(value, place)]
        if isinstance(value, list):
            parts = [(part, place.parts[index]) for index, part in enumerate(value)]
        for part, where in parts:
            if not isinstance(part, dict):
                raise self._refused(event, "<< takes a mapping or a list of mappings")
            for key in part:
                if key not in values:
                    values[key] = part[key]
                    spot.parts[key] = where.parts[key]


def _core(text: str) -> Any:
    """A plain scalar by the core schema; numbers too long to be meant as such are text."""
    if _NULL.fullmatch(text):
        return None
    if match := _BOOL.fullmatch(text):
        return match[1] is not None
    if _INT.fullmatch(text):
        return int(text, 8 if text.startswith("0o") else 16 if text.startswith("0x") else 10)
    if _FLOAT.fullmatch(text) and math.isfinite(number := float(text)):
        return number
    if match := _SPECIAL.fullmatch(text):
        return float("nan") if match[3] else float(f"{match[1]}inf")
    return text
