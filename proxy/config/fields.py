"""The kinds of value that settings have: each an annotated type that checks, converts and describes itself."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    Strict,
    StringConstraints,
    ValidationInfo,
    WithJsonSchema,
)

from proxy.config import known, values
from proxy.config.problems import NotText, Wrong
from proxy.config.values import Secret, kind_of

_PLACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:_-]*")


def text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise NotText(f"should be text, not {kind_of(value)}")


def _duration(value: object, info: ValidationInfo) -> float:
    if info.context is None and isinstance(value, float):
        return value
    return values.duration(value)


def _positive(value: float) -> float:
    if value <= 0:
        raise Wrong("should be longer than 0")
    return value


def _size(value: object, info: ValidationInfo) -> int:
    if info.context is None and isinstance(value, int):
        return value
    return values.size(value)


def _share(value: object, info: ValidationInfo) -> float:
    if info.context is None and isinstance(value, float):
        return value
    return values.percentage(value)


def _money(value: object, info: ValidationInfo) -> float:
    if info.context is None and isinstance(value, float):
        return value
    return values.money(value)


def _quantile(value: object, info: ValidationInfo) -> float:
    """`p95`, `p99.9`."""
    if info.context is None and isinstance(value, float):
        return value
    if isinstance(value, str) and (match := re.fullmatch(r"p(\d{1,2}(?:\.\d+)?)", value)) and float(match[1]) > 0:
        return float(match[1]) / 100
    raise Wrong(f"not a quantile: {str(value)[:40]!r}", "write p95 or p99")


def _not_empty(value: int) -> int:
    if value <= 0:
        raise Wrong("should be more than 0")
    return value


def _json(value: object) -> object:
    """Refuse what cannot be sent as JSON."""
    if isinstance(value, dict):
        for part in value.values():
            _json(part)
    elif isinstance(value, list):
        for part in value:
            _json(part)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise Wrong("infinity and NaN cannot be sent as JSON")
    elif value is not None and not isinstance(value, str | int):
        raise Wrong(f"{kind_of(value)} cannot be sent as JSON", "write it as text, in quotes")
    return value


def _parameter(name: str) -> str:
    if name in ("model", "messages", "stream"):
        raise Wrong(f"{name!r} is the request's own and cannot be set here")
    return name


def _nothing(value: object) -> object:
    """A section left empty (`keys:` and no more) is read as one left out."""
    return {} if value is None else value


def _at_least_one(value: tuple[Any, ...]) -> tuple[Any, ...]:
    # Not `min_length`: that also complains when every item was wrong.
    if not value:
        raise Wrong("should not be empty", "name at least one")
    return value


def _no_items(value: object) -> object:
    return () if value is None else value


def _target_text(value: str, info: ValidationInfo) -> str:
    provider, _, model = value.partition("/")
    if not provider or not model.strip():
        raise Wrong(f"not provider/model: {value[:80]!r}", "write it as in openai/gpt-5-mini")
    if not value.isprintable():
        raise Wrong(f"holds a line break or another control character: {value[:80]!r}")
    if info.context is not None:
        known.check_provider(provider, info.context)
    return value


def _base_url(value: str, info: ValidationInfo) -> str:
    return known.base_url(value, info.data.get("dialect", "openai"))


def _otlp_url(value: str) -> str:
    return known.base_url(value, "otlp")


def _place(value: str) -> str:
    if not _PLACE.fullmatch(value):
        raise Wrong(f"not a name that can stand in an address: {value[:40]!r}")
    return value


def _ca_file(value: str, info: ValidationInfo) -> str:
    if info.context is None:
        return value
    path = info.context.folder / value
    if not path.is_file():
        raise Wrong(f"there is no such file: {path}", "the path is relative to the config file")
    return str(path)


def _headers(value: dict[str, Secret]) -> dict[str, Secret]:
    seen: dict[str, str] = {}
    for name in value:
        if (other := seen.setdefault(name.lower(), name)) != name:
            raise Wrong(f"{other!r} and {name!r} are one header", "keep one of them")
    return value


def _storage(value: str) -> str | None:
    if value == "none":
        return None
    if value.startswith(("postgresql://", "postgres://")):
        raise Wrong("Postgres is not available in this version", "available: sqlite:///path/of/file.db, none")
    if not value.startswith("sqlite:///") or not value[10:].strip("/"):
        shown = _without_password(value)
        raise Wrong(f"not a store: {shown!r}", "write sqlite:///weighbridge.db, sqlite:////absolute/path.db or none")
    if any(character in value for character in "?#") or not value.isprintable():
        raise Wrong("the path of the store holds ?, # or a control character")
    return value


def _state(value: str) -> str:
    if value != "memory://":
        raise Wrong(f"{_without_password(value)!r} is not available in this version", "available: memory://")
    return value


def _without_password(url: str) -> str:
    """For errors: addresses of databases often hold one."""
    return re.sub(r"//.*@", "//...@", url, flags=re.DOTALL)[:80]


def _pattern(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise Wrong(f"not a regular expression: {value[:60]!r} ({error})") from None
    return value


Text = Annotated[str, BeforeValidator(text)]
Name = Annotated[
    str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$"), BeforeValidator(text)
]
Flag = Annotated[bool, Strict()]
Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]
_DURATION_SCHEMA = WithJsonSchema({"type": ["string", "integer"], "examples": ["250ms", "30s", "1m30s"]})
_SIZE_SCHEMA = WithJsonSchema({"type": ["string", "integer"], "examples": ["512KiB", "32MiB"]})
Duration = Annotated[float, BeforeValidator(_duration), _DURATION_SCHEMA]
Limit = Annotated[Duration, AfterValidator(_positive)]
Size = Annotated[int, BeforeValidator(_size), AfterValidator(_not_empty), _SIZE_SCHEMA]
Share = Annotated[
    float, BeforeValidator(_share), WithJsonSchema({"type": ["string", "number"], "examples": ["5%", 0.05]})
]
"""From 0 to 1."""
Money = Annotated[float, BeforeValidator(_money), WithJsonSchema({"type": ["string", "number"], "examples": ["5 USD"]})]
"""US dollars."""
Multiple = Annotated[
    float, BeforeValidator(values.multiple), WithJsonSchema({"type": ["string", "number"], "examples": ["50%", 2]})
]
"""A factor of 0 or more."""
Quantile = Annotated[
    float, BeforeValidator(_quantile), WithJsonSchema({"type": "string", "pattern": "^p[0-9.]+$", "examples": ["p95"]})
]
Params = Annotated[
    dict[Annotated[str, AfterValidator(_parameter)], Annotated[Any, AfterValidator(_json)]], BeforeValidator(_nothing)
]
Headers = Annotated[
    dict[Annotated[Text, AfterValidator(known.header_name)], Secret],
    BeforeValidator(_nothing),
    AfterValidator(_headers),
]
Pattern = Annotated[Text, AfterValidator(_pattern)]
"""A regular expression."""
EmptyIsDefault = BeforeValidator(_nothing)
"""For a section that is a mapping."""
EmptyIsNone = BeforeValidator(_no_items)
"""For a section that is a list."""
NotEmpty = AfterValidator(_at_least_one)
TargetText = Annotated[Text, AfterValidator(_target_text)]
BaseUrl = Annotated[Text, AfterValidator(_base_url)]
OtlpUrl = Annotated[Text, AfterValidator(_otlp_url)]
Place = Annotated[Text, AfterValidator(_place)]
CaFile = Annotated[Text, AfterValidator(_ca_file)]
Storage = Annotated[Text, AfterValidator(_storage)]
State = Annotated[Text, AfterValidator(_state)]
ProviderName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
