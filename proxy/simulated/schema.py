"""A JSON value that satisfies a JSON schema, drawn by a random generator: the same seed, the same value."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from random import Random
from typing import Any

from proxy.simulated.words import name, phrase

_DEPTH = 6
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


class Unsatisfiable(Exception):
    """No value can be made for the schema; the text says which part of it."""


def instance(schema: object, rng: Random, root: object = None, depth: int = 0) -> Any:
    """A value for `schema` (draft 2020-12, as far as model APIs use it). Raises Unsatisfiable."""
    root = schema if root is None else root
    if schema is True or schema == {}:
        return phrase(rng)
    if not isinstance(schema, dict):
        raise Unsatisfiable(f"a schema is an object, not {schema!r}"[:120])
    if depth > 4 * _DEPTH:
        raise Unsatisfiable("the schema refers to itself without end")
    if "$ref" in schema:
        return instance(_referred(schema["$ref"], root), rng, root, depth + 1)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return rng.choice(schema["enum"])
    if "allOf" in schema:
        return instance(_merged(schema, root), rng, root, depth + 1)
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return _first(schema, several, rng, root, depth)
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((one for one in kind if one != "null"), "null")
    if kind is None:
        kind = "object" if "properties" in schema else "array" if "items" in schema else "string"
    maker = _MAKERS.get(kind) if isinstance(kind, str) else None
    if maker is None:
        raise Unsatisfiable(f"unknown type {kind!r}")
    return maker(schema, rng, root, depth)


def _referred(ref: object, root: object) -> object:
    if not isinstance(ref, str) or not ref.startswith("#"):
        raise Unsatisfiable(f"only references within the schema are followed, not {ref!r}")
    found = root
    for step in ref.lstrip("#").strip("/").split("/"):
        if step:
            step = step.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or step not in found:
                raise Unsatisfiable(f"the reference {ref!r} leads nowhere")
            found = found[step]
    return found


def _merged(schema: dict[str, Any], root: object) -> dict[str, Any]:
    merged: dict[str, Any] = {key: value for key, value in schema.items() if key != "allOf"}
    for part in schema["allOf"]:
        while isinstance(part, dict) and "$ref" in part:
            part = _referred(part["$ref"], root)
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


def _first(schema: dict[str, Any], several: str, rng: Random, root: object, depth: int) -> Any:
    # Deep down only plain values come to an end, so null is put first there.
    options = sorted(schema[several], key=lambda one: not (isinstance(one, dict) and one.get("type") == "null"))
    if depth < _DEPTH:
        options.sort(key=lambda one: isinstance(one, dict) and one.get("type") == "null")
    base = {key: value for key, value in schema.items() if key != several}
    reason = f"no way through {several}"
    for option in options:
        part = {**base, **option} if isinstance(option, dict) else option
        try:
            return instance(part, rng, root, depth + 1)
        except Unsatisfiable as error:
            reason = str(error)
    raise Unsatisfiable(reason)


def _object(schema: dict[str, Any], rng: Random, root: object, depth: int) -> dict[str, Any]:
    required = schema.get("required", [])
    properties = schema.get("properties", {})
    made = {}
    for key, part in properties.items():
        if key in required or depth < _DEPTH:
            made[key] = instance(part, rng, root, depth + 1)
    extra = schema.get("additionalProperties", True)
    for key in required:
        if key not in made:
            made[key] = instance(extra if extra is not False else True, rng, root, depth + 1)
    while len(made) < schema.get("minProperties", 0):
        made[f"{name(rng)}{len(made)}"] = instance(extra, rng, root, depth + 1)
    return made


def _array(schema: dict[str, Any], rng: Random, root: object, depth: int) -> list[Any]:
    made = [instance(part, rng, root, depth + 1) for part in schema.get("prefixItems", ())]
    least = schema.get("minItems", 0)
    aim = max(least, min(1 + rng.randrange(2), schema.get("maxItems", 2))) if depth < _DEPTH else least
    part = schema.get("items", True)
    tries = 0
    while len(made) < aim and part is not False:
        one = instance(part, rng, root, depth + 1)
        if not schema.get("uniqueItems") or one not in made:
            made.append(one)
        tries += 1
        if tries > 50 * (aim + 1):
            break
    if len(made) < least:
        raise Unsatisfiable(f"fewer than {least} different items")
    return made


def _string(schema: dict[str, Any], rng: Random, root: object, depth: int) -> str:
    least, most = schema.get("minLength", 0), schema.get("maxLength", math.inf)
    if "pattern" in schema:
        for sample in _SAMPLES:
            if least <= len(sample) <= most and re.search(schema["pattern"], sample):
                return sample
        raise Unsatisfiable(f"no sample text fits the pattern {schema['pattern']!r}")
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]]
    text = phrase(rng)
    while len(text) < least:
        text += " " + phrase(rng)
    return text if len(text) <= most else text[: int(most)]


def _number(schema: dict[str, Any], rng: Random, root: object, depth: int) -> float:
    low, high = _bounds(schema, 0.01)
    value = round(rng.uniform(low, high), 2)
    step = schema.get("multipleOf")
    if step:
        value = math.ceil(low / step) * step
    return min(max(value, low), high)


def _integer(schema: dict[str, Any], rng: Random, root: object, depth: int) -> int:
    low, high = (math.ceil(_bounds(schema, 1)[0]), math.floor(_bounds(schema, 1)[1]))
    step = schema.get("multipleOf", 1)
    low, high = math.ceil(low / step), math.floor(high / step)
    if low > high:
        raise Unsatisfiable("no integer between the bounds")
    return int(rng.randint(low, high) * step)


def _bounds(schema: dict[str, Any], gap: float) -> tuple[float, float]:
    low = schema.get("minimum", schema.get("exclusiveMinimum", -math.inf))
    high = schema.get("maximum", schema.get("exclusiveMaximum", math.inf))
    if low == schema.get("exclusiveMinimum"):
        low += gap
    if high == schema.get("exclusiveMaximum"):
        high -= gap
    if low == -math.inf:
        low = min(0.0, high - 100) if high < math.inf else 0.0
    if high == math.inf:
        high = low + 100
    if low > high:
        raise Unsatisfiable("the lower bound lies above the upper")
    return low, high


def _boolean(schema: dict[str, Any], rng: Random, root: object, depth: int) -> bool:
    return rng.random() < 0.5


def _null(schema: dict[str, Any], rng: Random, root: object, depth: int) -> None:
    return None


_MAKERS: dict[str, Callable[[dict[str, Any], Random, object, int], Any]] = {
    "object": _object,
    "array": _array,
    "string": _string,
    "number": _number,
    "integer": _integer,
    "boolean": _boolean,
    "null": _null,
}
