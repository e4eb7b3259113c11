"""Values as people write them: durations, sizes, percentages, secrets. Each parser raises `Wrong`."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Never

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from proxy.config.problems import NotText, Wrong, did_you_mean

_NUMBER = r"[0-9]{1,15}(?:\.[0-9]{1,9})?"
_DURATION = re.compile("".join(rf"(?:({_NUMBER}) ?{unit} ?)?" for unit in ("d", "h", "m", "s", "ms")))
_SECONDS = (86400.0, 3600.0, 60.0, 1.0, 0.001)
_LONGEST = 366 * 86400.0
_SIZE = re.compile(rf"({_NUMBER}) ?([A-Za-z]+)")
_BYTES = {
    "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30,
}  # fmt: skip
_PERCENT = re.compile(rf"({_NUMBER}) ?%")
_MONEY = re.compile(rf"(?:USD ?|\$ ?)?({_NUMBER})(?: ?USD)?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OTHERS_VARIABLE = re.compile(r"\$\{.*\}|\$[A-Z_][A-Z0-9_]*|os\.environ/.*")
"""How other tools write an environment variable; taken for the secret itself it would be sent to the provider."""
_SECRET_LIMIT = 64 * 1024


def kind_of(value: object) -> str:
    """The name of a value's kind in the words of a config file, for messages that must not show the value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true/false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return f"a {type(value).__name__}"


def duration(value: object) -> float:
    """Seconds. `250ms`, `30s`, `1m30s`, `2h`, `7d`; a bare number has no unit and is refused, but for 0."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value == 0:
            return 0.0
        raise Wrong(f"a duration needs a unit: {value!r}", f"{value}s for seconds, {value}ms for milliseconds")
    if not isinstance(value, str):
        raise Wrong(f"should be a duration such as 30s, not {kind_of(value)}")
    text = value.strip()
    if text == "0":
        return 0.0
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        hint = f"{text}s for seconds" if re.fullmatch(_NUMBER, text) else "write it as 250ms, 30s, 1m30s, 2h or 7d"
        raise Wrong(f"not a duration: {value[:40]!r}", hint)
    seconds = sum(float(number) * unit for number, unit in zip(match.groups(), _SECONDS, strict=True) if number)
    if seconds > _LONGEST:
        raise Wrong(f"longer than a year: {value[:40]!r}")
    return seconds


def size(value: object) -> int:
    """Bytes. `512KiB` and `32MiB` count in 1024, `10MB` in 1000; a bare number is refused, but for 0."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        if value == 0:
            return 0
        raise Wrong(f"a size needs a unit: {value!r}", f"{value}B for bytes, or KiB, MiB, GiB, kB, MB, GB")
    if not isinstance(value, str):
        raise Wrong(f"should be a size such as 32MiB, not {kind_of(value)}")
    match = _SIZE.fullmatch(value.strip())
    unit = _BYTES.get(match[2].lower()) if match else None
    if match is None or unit is None:
        raise Wrong(f"not a size: {value[:40]!r}", "write it as 512KiB, 32MiB, 1GiB or 10MB")
    return round(float(match[1]) * unit)


def percentage(value: object) -> float:
    """A share from 0 to 1, written `5%` or `0.05`."""
    if isinstance(value, str) and (match := _PERCENT.fullmatch(value.strip())):
        share = float(match[1]) / 100
    elif isinstance(value, int | float) and not isinstance(value, bool):
        share = float(value)
    else:
        raise Wrong(f"should be a percentage such as 5% or 0.05, not {kind_of(value)}")
    if not 0 <= share <= 1 or math.isnan(share):
        raise Wrong(f"a percentage lies between 0% and 100% (0 and 1): {value!r}")
    return share


def money(value: object) -> float:
    """US dollars, 0 or more. `5 USD`, `$5`, `0.25`; a bare number is dollars, since nothing else is meant anywhere."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        amount = float(value)
    elif isinstance(value, str) and (match := _MONEY.fullmatch(value.strip())):
        amount = float(match[1])
    else:
        shown = repr(value[:40]) if isinstance(value, str) else kind_of(value)
        raise Wrong(f"should be an amount such as 5 USD, not {shown}")
    if not 0 <= amount < math.inf:
        raise Wrong(f"an amount of money is 0 or more: {value!r}")
    return amount


def multiple(value: object) -> float:
    """A factor of 0 or more: `50%`, `0.5`, `2`."""
    if isinstance(value, str) and (match := _PERCENT.fullmatch(value.strip())):
        value = float(match[1]) / 100
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise Wrong("should be a factor such as 50% or 2")
    return float(value)


class Secret:
    """Text that shows itself only to a caller of `reveal`: not in repr, str, dumps, pickles or errors."""

    __slots__ = ("_value", "origin")

    def __init__(self, value: str, origin: str = "literal") -> None:
        self._value = value
        self.origin = origin
        """Where it came from: `env:NAME`, `file:PATH` or `literal`."""

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "********"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __deepcopy__(self, memo: dict[int, Any]) -> Secret:
        return self

    def __reduce__(self) -> Never:
        raise TypeError("a secret cannot be pickled")

    @classmethod
    def _read(cls, value: object, info: ValidationInfo) -> Secret:
        return value if isinstance(value, Secret) else _resolved(value, info)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            cls._read, serialization=core_schema.plain_serializer_function_ser_schema(repr)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "examples": ["env:NAME", "file:PATH"]}


class KeyDigest:
    """What is kept of a client's key: enough to recognise it, not enough to use it."""

    __slots__ = ("digest", "origin")

    def __init__(self, digest: bytes, origin: str = "literal") -> None:
        self.digest = digest
        """SHA-256 of the key's UTF-8 bytes, 32 bytes."""
        self.origin = origin

    @classmethod
    def of(cls, secret: Secret) -> KeyDigest:
        return cls(hashlib.sha256(secret.reveal().encode()).digest(), secret.origin)

    def __repr__(self) -> str:
        return "********"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyDigest) and other.digest == self.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    @classmethod
    def _read(cls, value: object, info: ValidationInfo) -> KeyDigest:
        if isinstance(value, KeyDigest):
            return value
        return cls.of(value if isinstance(value, Secret) else _resolved(value, info))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            cls._read, serialization=core_schema.plain_serializer_function_ser_schema(repr)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "examples": ["env:NAME", "file:PATH"]}


def _resolved(value: object, info: ValidationInfo) -> Secret:
    if info.context is None:
        raise Wrong("should be a Secret where no config file is read")
    return resolve_secret(value, info.context.env, info.context.folder)


def resolve_secret(value: object, env: Mapping[str, str], folder: Path) -> Secret:
    """`env:NAME`, `file:PATH` (relative to `folder`; surrounding white space cut off) or the secret itself.

    `env:A:B` is the value of A, a colon and the value of B, as AWS's pairs of keys are written here.

    A secret ends up in an HTTP header, so it is refused when it is empty or holds anything but visible ASCII and
    spaces between: a stray line break would otherwise be found out with the first request.
    """
    if not isinstance(value, str):
        raise NotText(f"should be text (env:NAME or file:PATH), not {kind_of(value)}")
    if value.startswith("env:"):
        secret = Secret(":".join(_from_env(name, env) for name in value[4:].split(":")), value)
    elif value.startswith("file:"):
        secret = Secret(_from_file(value[5:], folder), value)
    elif _OTHERS_VARIABLE.fullmatch(value):
        raise Wrong("an environment variable is not written so", "write env:NAME")
    else:
        secret = Secret(value)
    origin = "the secret" if secret.origin == "literal" else secret.origin
    text = secret.reveal()
    if not text.strip():
        raise Wrong(f"{origin} is empty")
    if text != text.strip():
        raise Wrong(f"{origin} begins or ends with white space or a line break", "cut it off")
    if not (text.isascii() and text.isprintable()):
        raise Wrong(f"{origin} holds a line break, a control character or a letter outside ASCII", "copy it again")
    return secret


def _from_env(name: str, env: Mapping[str, str]) -> str:
    if not _VARIABLE.fullmatch(name):
        raise Wrong(f"not the name of an environment variable: {name[:40]!r}", "write env:NAME")
    if name not in env:
        near = did_you_mean(name, env, closeness=0.9)
        raise Wrong(f"the environment variable {name} is not set", f"set {name}{f', or {near}' if near else ''}")
    return env[name]


def _from_file(name: str, folder: Path) -> str:
    try:
        path = folder / Path(name).expanduser()
        with path.open("rb") as file:
            raw = file.read(_SECRET_LIMIT + 1)
    except OSError as error:
        raise Wrong(f"the file {name} cannot be read: {error.strerror or error}") from None
    except (ValueError, RuntimeError):
        # A NUL in the name, or `~` with no home folder.
        raise Wrong(f"not a usable file name: {name[:80]!r}") from None
    if len(raw) > _SECRET_LIMIT:
        raise Wrong(f"the file {path} is too large for a secret")
    try:
        return raw.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        raise Wrong(f"the file {path} is not UTF-8 text") from None
