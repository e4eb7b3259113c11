"""JSON schemas as Anthropic's structured outputs take them.

From Anthropic's page on structured outputs: every object is closed (`additionalProperties: false`), bounds of numbers,
lengths and patterns are refused. What is refused is told in words, in the description: the model still knows it.
"""

from __future__ import annotations

from typing import Any

from proxy.wire.chunk import Json
from proxy.wire.request import dumped

_KEPT = {"type", "required", "enum", "const", "$ref", "description", "title", "default"}
_MAPS = {"properties", "$defs", "definitions"}
_LISTS = {"anyOf": "anyOf", "oneOf": "anyOf", "allOf": "allOf"}
_FORMATS = {"date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid"}
_SILENT = {"$schema", "$id", "$comment", "strict"}


class NotNarrow(ValueError):
    """The schema leaves open what Anthropic wants closed, so that it would say something else."""


def narrowed(schema: Any, *, root: bool = False) -> Json:
    """The schema in Anthropic's subset. `root`: an object without properties stands for no arguments.

    Raises `NotNarrow` for objects whose members are not named, and for schemas that are no objects.
    """
    if type(schema) is not dict:
        raise NotNarrow("a schema that is not an object")
    out: Json = {}
    told: Json = {}
    for key, value in schema.items():
        if key in _KEPT:
            out[key] = value
        elif key in _MAPS and type(value) is dict:
            out[key] = {name: narrowed(one) for name, one in value.items()}
        elif key in _LISTS and type(value) is list:
            out[_LISTS[key]] = [narrowed(one) for one in value]
        elif key == "items":
            out[key] = narrowed(value)
        elif (key == "format" and value in _FORMATS) or (key == "minItems" and value in (0, 1)):
            out[key] = value
        elif key not in _SILENT and key != "additionalProperties":
            told[key] = value
    kind = out.get("type")
    if kind == "object" or (type(kind) is list and "object" in kind) or "properties" in out:
        if schema.get("additionalProperties") not in (None, False) or not (out.get("properties") or root):
            raise NotNarrow("an object whose members are not named")
        out["additionalProperties"] = False
    if told:
        words = f"Also holds: {dumped(told).decode()}"
        out["description"] = f"{out['description']}\n\n{words}" if out.get("description") else words
    return out
