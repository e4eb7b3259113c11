"""pydantic's findings, in the words of a config file. Values are shown only where they cannot be secrets."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Sequence
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, Tag
from pydantic_core import ErrorDetails

from proxy.config.model import Config
from proxy.config.policy import SECTIONS, TAGS, Policy
from proxy.config.problems import NotText, Problem, Wrong, did_you_mean, path_text
from proxy.config.source import Tree
from proxy.config.values import kind_of
from proxy.providers.catalog import CATALOG

_SHOULD_BE = {
    "bool_type": "true or false",
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "dict_type": "a mapping (name: value)",
    "model_type": "a mapping (name: value)",
    "model_attributes_type": "a mapping (name: value)",
    "tuple_type": "a list",
}


def is_not_text(details: ErrorDetails) -> bool:
    return isinstance(details.get("ctx", {}).get("error"), NotText) or details["type"] == "string_type"


def bare(loc: Sequence[str | int]) -> list[str | int]:
    """A place as it is in the file: without what pydantic adds for keys and for the kinds of policies."""
    return [part for part in loc if part != "[key]" and part not in TAGS]


def problem(details: ErrorDetails, tree: Tree, root: type[BaseModel] = Config) -> Problem:
    """`root`: the model that the whole file is read as."""
    loc = bare(details["loc"])
    message, hint = _words(details, loc, root)
    if loc[:1] == ["providers"] and loc[2:] == ["api_key"] and "is not set" in message:
        hint = f"{hint}, or write api_key: null if it needs none"
    where = tree.where(loc)
    if loc[-3:-2] == ["targets"] and loc[-1] == "target":
        loc.pop()  # A target written as text has no such setting in the file.
    return Problem(where, path_text(loc), message, hint)


def _words(details: ErrorDetails, loc: Sequence[str | int], root: type[BaseModel]) -> tuple[str, str | None]:
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    wrong = context.get("error")
    if isinstance(wrong, Wrong):
        return wrong.message, wrong.hint
    if kind == "extra_forbidden":
        settings = settings_at([part for part in details["loc"] if part != "[key]"][:-1], root)
        return "unknown setting", did_you_mean(str(loc[-1]), settings) or f"known: {', '.join(settings)}"
    if kind == "missing":
        if loc[:1] == ["providers"] and loc[2:] == ["base_url"]:
            if loc[1] in CATALOG:
                return f"is missing: this dialect of {loc[1]!r} has no built-in address", None
            return f"is missing, and {loc[1]!r} is no name known by itself", did_you_mean(str(loc[1]), CATALOG)
        return "is missing", None
    if kind in _SHOULD_BE:
        return f"should be {_SHOULD_BE[kind]}, not {kind_of(value)}", _wrapped(kind, value)
    if kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", str(context.get("expected", "")))
        near = did_you_mean(value, allowed) if isinstance(value, str) else None
        return f"should be one of {', '.join(allowed)}, not {str(value)[:40]!r}", near
    if kind == "string_pattern_mismatch":
        return "holds a character that is not allowed there", None
    return details["msg"].replace("Input should", "should").replace("Tuple ", "").replace("String ", ""), None


def _wrapped(kind: str, value: object) -> str | None:
    if kind == "tuple_type" and isinstance(value, str):
        return "put it into [ ]"
    if kind == "bool_type" and isinstance(value, str):
        return "without quotes, and not on/off or yes/no"
    return None


def settings_at(loc: Sequence[str | int], root: type[BaseModel] = Config) -> list[str]:
    """The settings that may stand at a place of the config; none where anything may."""
    kind: Any = root
    for part in loc:
        kind = _plain(kind)
        if part in TAGS:
            kind = SECTIONS.get(str(part)[1:-1])
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            field = kind.model_fields.get(str(part))
            kind = field.annotation if field else None
        elif get_origin(kind) in (dict, tuple):
            kind = get_args(kind)[1 if get_origin(kind) is dict else 0]
        else:
            return []
    kind = _plain(kind)
    return list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else []


def _plain(kind: Any) -> Any:
    """A type without its annotations and without `| None`."""
    while True:
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        elif get_origin(kind) in (types.UnionType, typing.Union):
            kind = next(part for part in get_args(kind) if part is not types.NoneType)
            if any(isinstance(note, Tag) for note in get_args(kind)):
                return Policy
        else:
            return kind
