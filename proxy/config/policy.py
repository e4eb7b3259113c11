"""A policy's own frozen fields as settings: what `policies/` declares is what a config may say, and nothing else.

Each policy class becomes a section whose settings are the class's fields, described by their `Setting`. A third
party's `module:Class` goes the same way when a config names it.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    StringConstraints,
    Tag,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    create_model,
    model_validator,
)
from pydantic_core import CoreSchema

from policies import POLICIES
from policies.base import Policy as Rule
from policies.base import Setting
from proxy.config.fields import EmptyIsNone, Flag, Limit, Number, Share, Text, Whole
from proxy.config.problems import Wrong, did_you_mean
from proxy.config.section import Section
from proxy.config.values import kind_of

CUSTOM = "[custom]"
_CUSTOM = r"^[\w.]+:\w+$"


class Part(Section):
    """Settings that become an object of `policies/`, which may find fault with them."""

    makes: ClassVar[Callable[..., Any] | None] = None

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.makes is not None:
            try:
                made(self)
            except ValueError as error:
                raise Wrong(str(error)) from None
        return self


class Policy(Part):
    """What all policies' sections have; `makes` is the class that decides."""

    kind: Text = Field(default="ordered", description="How a target is chosen.")

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        # Its name alone, or a mapping.
        written = handler(schema)
        kind = handler.resolve_ref_schema(written)["properties"]["kind"]
        return {"anyOf": [{name: kind[name] for name in ("const", "type", "pattern") if name in kind}, written]}


class Custom(Policy):
    """A third party's, named as `module:Class`; its settings are known when it is loaded."""

    model_config = ConfigDict(extra="allow")
    kind: Annotated[Text, StringConstraints(pattern=_CUSTOM)] = Field(description="Your own, as module:Class.")


_FORMS: dict[str, Any] = {
    "share": Share,
    "duration": Limit,
    "number": Number,
    "whole": Whole,
    "text": Text,
    "flag": Flag,
    "texts": dict[Text, Text],
}


def made(section: Part) -> Any:
    """The object that decides (or a part of it), with the section's settings in its fields."""
    cls: Any = type(section).makes
    return cls(**{name: _value(getattr(section, name)) for name in _names(cls)})


def _names(cls: Any) -> list[str]:
    return [field.name for field in fields(cls) if field.init]


def _value(value: Any) -> Any:
    if isinstance(value, Part):
        return made(value)
    return tuple(_value(one) for one in value) if isinstance(value, tuple) else value


def section_of(cls: type, name: str, base: type[Section], **first: Any) -> type[Any]:
    """A section with a setting for each field of a frozen dataclass."""
    described = get_type_hints(cls, include_extras=True)
    settings: dict[str, Any] = dict(first)
    for field in fields(cls) if is_dataclass(cls) else ():
        kind = described[field.name]
        notes = get_args(kind)[1:] if get_origin(kind) is Annotated else ()
        setting = next((note for note in notes if isinstance(note, Setting)), None)
        bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
        default = field.default if field.default_factory is MISSING else field.default_factory()
        more = {} if default is MISSING else {"default": default}
        settings[field.name] = (
            _kind(bare, setting),
            Field(description=setting.meaning if setting else field.name, **more),
        )
    made_: Any = create_model(name, __base__=base, **settings)
    made_.makes = cls
    found: type[Any] = made_
    return found


def _kind(bare: Any, setting: Setting | None) -> Any:
    """The settings type of a field's Python type."""
    args = get_args(bare)
    if NoneType in args:
        (inner,) = [arg for arg in args if arg is not NoneType]
        return _kind(inner, setting) | None
    if get_origin(bare) is tuple:
        item: Any = _kind(args[0], setting)
        return Annotated[tuple.__class_getitem__((item, ...)), EmptyIsNone]
    if isinstance(bare, type) and is_dataclass(bare):
        return section_of(bare, bare.__name__, Part)
    if setting is None:
        return bare
    if setting.form == "policy":
        return Annotated[Any, BeforeValidator(_nested), WithJsonSchema({"type": ["string", "object"]})]
    if setting.form == "one":
        return Literal[setting.among]
    return Annotated[_FORMS[setting.form], Field(ge=setting.least, le=setting.most)]


def _nested(value: object) -> Any:
    try:
        return TypeAdapter(AnyPolicy).validate_python(value)
    except ValidationError as error:
        raise Wrong(_first(error)) from None


def _first(error: ValidationError) -> str:
    """The first finding of several, with its place."""
    found = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in found["loc"] if not str(part).startswith("["))
    wrong = found.get("ctx", {}).get("error")
    words = str(wrong) if isinstance(wrong, Wrong) else found["msg"]
    words = "unknown setting" if found["type"] == "extra_forbidden" else words
    return f"{place}: {words}" if place else words


def loaded(name: str) -> type:
    """The class that `module:Class` names. Raises `Wrong`."""
    module_name, _, class_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise Wrong(
            f"cannot import {module_name!r}: {error}", "install it, or set PYTHONPATH to the folder that it is in"
        ) from None
    cls = getattr(module, class_name, None)
    if not isinstance(cls, type) or not callable(getattr(cls, "plan", None)):
        raise Wrong(f"{class_name!r} in {module_name!r} is no policy", "a class with a method `plan`")
    parameters = getattr(cls, "__dataclass_params__", None)
    if parameters is None or not parameters.frozen:
        raise Wrong(f"{name!r} is no frozen dataclass", "write @dataclass(frozen=True) over the class")
    return cls


def _read(value: object) -> object:
    """Text is a kind and no more; a third party's policy is loaded and checked here."""
    if isinstance(value, Policy):
        return value
    full = {"kind": value} if isinstance(value, str) else value
    kind = full.get("kind") if isinstance(full, dict) else None
    if not isinstance(full, dict) or not isinstance(kind, str):
        if not isinstance(full, dict):
            raise Wrong(f"should be a policy's name or a mapping (name: value), not {kind_of(value)}")
        raise Wrong("a policy needs its `kind`", f"available: {', '.join(POLICIES)}")
    if ":" in kind:
        model = section_of(loaded(kind), kind, Custom)
        model = create_model(kind, __base__=model, __module__=__name__)
        model.model_config["extra"] = "forbid"
        model.model_rebuild(force=True)
        try:
            return model.model_validate(full)
        except ValidationError as error:
            raise Wrong(f"{kind}: {_first(error)}", f"known: {', '.join(model.model_fields)}") from None
    if kind not in POLICIES:
        available = f"available: {', '.join(POLICIES)}, and your own as module:Class"
        raise Wrong(f"unknown policy {kind!r}", did_you_mean(kind, POLICIES) or available)
    return full


def _tag(value: Any) -> str:
    if isinstance(value, Policy):
        return CUSTOM if isinstance(value, Custom) else f"[{value.kind}]"
    return f"[{value['kind']}]"


SECTIONS: dict[str, type[Policy]] = {
    kind: section_of(cls, f"{cls.__name__}Policy", Policy, kind=(Literal[kind], Field(default=kind)))
    for kind, cls in POLICIES.items()
}
"""Every policy's section by its kind."""

if TYPE_CHECKING:
    AnyPolicy = Policy
else:
    _TAGGED = tuple(Annotated[section, Tag(f"[{kind}]")] for kind, section in SECTIONS.items())
    AnyPolicy = Annotated[
        Union[(*_TAGGED, Annotated[Custom, Tag(CUSTOM)])],
        Discriminator(_tag),
        BeforeValidator(_read),
    ]

TAGS = frozenset({CUSTOM, *(f"[{kind}]" for kind in SECTIONS)})
"""Parts of pydantic's places that stand for a policy's kind and not for anything in the file."""


def policy_of(section: Policy) -> Rule:
    """The policy that a route's section describes."""
    policy: Rule = made(section)
    return policy


def policy_from(text: str) -> Policy:
    """A policy as a config would write it, as text: its kind, or a mapping. Raises ValueError with what is wrong."""
    from proxy.config.source import read

    told: Any = text
    if text.strip().startswith("{"):
        told = read(f"policy: {text}", "--policy", "yaml").value["policy"]
    try:
        section: Policy = TypeAdapter(AnyPolicy).validate_python(told)
    except ValidationError as error:
        raise ValueError(f"--policy: {_first(error)}") from None
    return section
