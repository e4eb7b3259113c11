"""A JSON value that satisfies a JSON schema, drawn by a random generator: the same seed, the same value."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from random import Random
from typing import Any

import orjson

from proxy.simulated.words import name, phrase

_DEPTH = 6
_LEAST = 10_000
"""Most items, characters or members that a schema may demand."""
_FORMATS = {
    "date-time": "2026-01-31T08:30:00Z",
    "date": "2026-01-31",
    "time": "08:30:00Z",
    "duration": "PT30M",
    "email": "scale@example.com",
    "hostname": "scale.example.com",
    "ipv4": "192.0.2.7",
    "ipv6": "2001:db8::7",
    "uuid": "7b0c2e5a-31f4-4c8e-9d55-0f6f3a1c2b4d",
    "uri": "https://example.com/scale",
}
_SAMPLES = (
    "a", "A", "1", "12", "123", "1234", "12345", "abc", "ABC", "AB", "Ab1", "A-1", "AB-123", "ab_12", "a.b",
    "2026-01-31", "08:30", "+15550100", "555-0100", "#a1b2c3", "1.0.0", "12.50", "a@example.com",
)  # fmt: skip


_WORK = 20_000
"""Most values drawn for one schema, alternatives that came to nothing included."""

Schema = dict[str, Any]


class Unsatisfiable(Exception):
    """No value can be made for the schema; the text says which part of it."""


def json_text(schema: object, rng: Random) -> str:
    """A value for `schema`, as JSON. Raises Unsatisfiable."""
    try:
        return orjson.dumps(instance(schema, rng)).decode()
    except (TypeError, AttributeError, ValueError, LookupError, ArithmeticError, re.error, RecursionError) as error:
        # The schema comes from the client and may hold anything anywhere: a text as `minimum`, a list as `properties`.
        raise Unsatisfiable(f"malformed: {error}") from error


def instance(schema: object, rng: Random) -> Any:
    """A value for `schema` (draft 2020-12, as far as model APIs use it). Raises Unsatisfiable."""
    return _Drawing(schema, rng).value(schema, 0)


class _Drawing:
    """One drawing of a value: the whole schema, for references, and how much work is left."""

    __slots__ = ("_left", "_makers", "_rng", "_root")

    def __init__(self, root: object, rng: Random) -> None:
        self._root = root
        self._rng = rng
        self._left = _WORK
        self._makers: dict[str, Callable[[Schema, int], Any]] = {
            "object": self._object,
            "array": self._array,
            "string": self._string,
            "number": self._number,
            "integer": self._integer,
            "boolean": lambda schema, depth: rng.random() < 0.5,
            "null": lambda schema, depth: None,
        }

    def value(self, schema: object, depth: int) -> Any:
        self._left -= 1
        if depth > 4 * _DEPTH or self._left < 0:
            raise Unsatisfiable("the schema is too deep, or refers to itself without end")
        if schema is True or schema == {}:
            return phrase(self._rng)
        if not isinstance(schema, dict):
            raise Unsatisfiable(f"a schema is an object, not {schema!r}"[:120])
        if "$ref" in schema:
            return self.value(self._referred(schema["$ref"]), depth + 1)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return self._rng.choice(schema["enum"])
        if "allOf" in schema:
            return self.value(self._merged(schema), depth + 1)
        for several in ("anyOf", "oneOf"):
            if several in schema:
                return self._first(schema, several, depth)
        kind = schema.get("type")
        if isinstance(kind, list):
            kind = next((one for one in kind if one != "null"), "null")
        if kind is None:
            kind = "object" if "properties" in schema else "array" if "items" in schema else "string"
        if kind not in self._makers:
            raise Unsatisfiable(f"unknown type {kind!r}")
        return self._makers[kind](schema, depth)

    def _referred(self, ref: object) -> object:
        if not isinstance(ref, str) or not ref.startswith("#"):
            raise Unsatisfiable(f"only references within the schema are followed, not {ref!r}")
        found = self._root
        for step in ref.lstrip("#").strip("/").split("/"):
            if step:
                step = step.replace("~1", "/").replace("~0", "~")
                if not isinstance(found, dict) or step not in found:
                    raise Unsatisfiable(f"the reference {ref!r} leads nowhere")
                found = found[step]
        return found

    def _merged(self, schema: Schema) -> Schema:
        """`allOf` as one schema: members of `properties` and `required` together, of the rest the last."""
        merged: Schema = {key: value for key, value in schema.items() if key != "allOf"}
        for part in schema["allOf"]:
            if isinstance(part, dict) and "$ref" in part:
                part = self._referred(part["$ref"])
            if not isinstance(part, dict):
                raise Unsatisfiable("a part of allOf is not an object")
            for key, value in part.items():
                if key == "properties":
                    merged[key] = {**merged.get(key, {}), **value}
                elif key == "required":
                    merged[key] = [*merged.get(key, []), *value]
                else:
                    merged[key] = value
        return merged

    def _first(self, schema: Schema, several: str, depth: int) -> Any:
        """The first option that works. Null comes last; deep down, where only plain values come to an end, first."""

        def null(option: object) -> bool:
            return isinstance(option, dict) and option.get("type") == "null"

        options = sorted(schema[several], key=null, reverse=depth >= _DEPTH)
        base = {key: value for key, value in schema.items() if key != several}
        reason = f"no way through {several}"
        for option in options:
            part = {**base, **option} if isinstance(option, dict) else option
            try:
                return self.value(part, depth + 1)
            except Unsatisfiable as error:
                reason = str(error)
        raise Unsatisfiable(reason)

    def _object(self, schema: Schema, depth: int) -> Schema:
        required = schema.get("required", [])
        made: Schema = {}
        for key, part in schema.get("properties", {}).items():
            if key in required or depth < _DEPTH:
                made[key] = self.value(part, depth + 1)
        extra = schema.get("additionalProperties", True)
        least = _capped(schema, "minProperties")
        for key in required:
            if key not in made:
                made[key] = self.value(extra if extra is not False else True, depth + 1)
        while len(made) < least:
            made[f"{name(self._rng)}{len(made)}"] = self.value(extra, depth + 1)
        return made

    def _array(self, schema: Schema, depth: int) -> list[Any]:
        made = [self.value(part, depth + 1) for part in schema.get("prefixItems", ())]
        least = _capped(schema, "minItems")
        aim = max(least, min(1 + self._rng.randrange(2), schema.get("maxItems", 2))) if depth < _DEPTH else least
        part = schema.get("items", True)
        tries = 50 * (aim + 1) if part is not False else 0
        while len(made) < aim and tries > 0:
            tries -= 1
            one = self.value(part, depth + 1)
            if not schema.get("uniqueItems") or one not in made:
                made.append(one)
        if len(made) < least:
            raise Unsatisfiable(f"fewer than {least} different items")
        return made

    def _string(self, schema: Schema, depth: int) -> str:
        least, most = _capped(schema, "minLength"), schema.get("maxLength", math.inf)
        if "pattern" in schema:
            for sample in _SAMPLES:
                if least <= len(sample) <= most and re.search(schema["pattern"], sample):
                    return sample
            raise Unsatisfiable(f"no sample text fits the pattern {schema['pattern']!r}")
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        text = phrase(self._rng)
        while len(text) < least:
            text += " " + phrase(self._rng)
        return text if len(text) <= most else text[: int(most)]

    def _number(self, schema: Schema, depth: int) -> float:
        low, high = _bounds(schema, 0.01)
        step = schema.get("multipleOf")
        if step:
            return float(self._whole(low, high, step) * step)
        return min(max(round(self._rng.uniform(low, high), 2), low), high)

    def _integer(self, schema: Schema, depth: int) -> int:
        low, high = _bounds(schema, 1)
        step = schema.get("multipleOf", 1)
        return int(self._whole(low, high, step) * step)

    def _whole(self, low: float, high: float, step: float) -> int:
        """How many times `step` lies between the bounds."""
        first, last = math.ceil(low / step), math.floor(high / step)
        if first > last:
            raise Unsatisfiable("no number between the bounds")
        return self._rng.randint(first, last)


def _capped(schema: Schema, member: str) -> int:
    least = int(schema.get(member, 0))
    if least > _LEAST:
        raise Unsatisfiable(f"{member} above {_LEAST}")
    return least


def _bounds(schema: Schema, gap: float) -> tuple[float, float]:
    """`gap` is how far from an exclusive bound the nearest value lies."""
    infinite = math.inf
    low: float = max(schema.get("minimum", -infinite), schema.get("exclusiveMinimum", -infinite) + gap)
    high: float = min(schema.get("maximum", infinite), schema.get("exclusiveMaximum", infinite) - gap)
    if low == -infinite:
        low = min(0.0, high - 100) if high < infinite else 0.0
    if high == infinite:
        high = low + 100
    if low > high:
        raise Unsatisfiable("the lower bound lies above the upper")
    return low, high
