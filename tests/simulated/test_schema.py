"""JSON values drawn for schemas; pydantic, which had no part in drawing them, judges the result."""

from __future__ import annotations

import datetime
import enum
import json
import uuid
from random import Random
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, TypeAdapter

from proxy.simulated.schema import Unsatisfiable, json_text


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Crate(BaseModel, extra="forbid"):
    kind: Literal["crate"]
    weight: Annotated[int, Field(ge=5, lt=8)]
    colour: Colour


class Barrel(BaseModel, extra="forbid"):
    kind: Literal["barrel"]
    litres: Annotated[float, Field(gt=0, le=0.5)]


class Node(BaseModel, extra="forbid"):
    name: Annotated[str, Field(min_length=30, max_length=40)]
    child: Node | None
    children: list[Node]


class Load(BaseModel, extra="forbid"):
    id: uuid.UUID
    day: datetime.date
    at: datetime.datetime
    plate: Annotated[str, Field(pattern=r"^[A-Z]{2}-\d{3}$")]
    note: str | None
    units: Annotated[list[Crate | Barrel], Field(min_length=3, max_length=4)]
    tags: set[Literal["a", "b", "c"]]
    sizes: dict[str, int]
    pair: tuple[int, str]
    step: Annotated[int, Field(multiple_of=7, ge=20, le=30)]
    free: Any
    dry: bool


@pytest.mark.parametrize("model", [Crate, Barrel, Node, Load])
@pytest.mark.parametrize("seed", range(25))
def test_models(model: type[BaseModel], seed: int) -> None:
    made = json_text(model.model_json_schema(), Random(seed))
    model.model_validate_json(made, strict=True)
    assert made == json_text(model.model_json_schema(), Random(seed))


@pytest.mark.parametrize(
    ("schema", "kind"),
    [
        ({"type": ["null", "integer"]}, int),
        ({"properties": {"a": {"type": "string"}}}, dict[str, str]),
        ({"items": {"type": "boolean"}}, list[bool]),
        ({"const": 5}, Literal[5]),
        ({"oneOf": [{"$ref": "#/nowhere"}, {"type": "integer", "maximum": -3}]}, Annotated[int, Field(le=-3)]),
        ({"allOf": [{"type": "object", "required": ["a"]}, {"properties": {"a": {"type": "null"}}}]}, dict[str, None]),
        ({"type": "object", "minProperties": 3, "additionalProperties": {"type": "integer"}}, dict[str, int]),
        ({"type": "number", "exclusiveMinimum": 1, "exclusiveMaximum": 1.5}, Annotated[float, Field(gt=1, lt=1.5)]),
        ({"type": "number", "multipleOf": 0.5, "minimum": 3, "maximum": 3.4}, Literal[3]),
        ({"type": "string", "maxLength": 3}, Annotated[str, Field(max_length=3)]),
        ({"$defs": {"a/b": {"type": "integer"}}, "$ref": "#/$defs/a~1b"}, int),
    ],
)
def test_small_schemas(schema: dict[str, Any], kind: Any) -> None:
    for seed in range(10):
        TypeAdapter(kind).validate_json(json_text(schema, Random(seed)))


@pytest.mark.parametrize(
    "schema",
    [
        False,
        "text",
        {"type": "colour"},
        {"type": {}},
        {"$ref": "https://example.com/schema"},
        {"$ref": "#/$defs/missing"},
        {"$ref": "#"},
        {"$defs": {"a": {"$ref": "#/$defs/a"}}, "allOf": [{"$ref": "#/$defs/a"}]},
        {"anyOf": [{"$ref": "#"}, {"$ref": "#"}, {"$ref": "#"}]},
        {"type": "string", "pattern": "^no sample (.) fits \\1$"},
        {"type": "string", "pattern": "("},
        {"type": "string", "minLength": 10**12},
        {"type": "array", "minItems": 10**12},
        {"type": "array", "items": {"const": 1}, "uniqueItems": True, "minItems": 2},
        {"type": "integer", "minimum": 5, "maximum": 4},
        {"type": "integer", "multipleOf": 0},
        {"type": "integer", "multipleOf": 10, "minimum": 1, "maximum": 9},
        {"type": "number", "minimum": "low"},
        {"type": "object", "properties": []},
        {"type": "object", "required": 5},
        {"type": "object", "minProperties": 2, "additionalProperties": False},
        {"enum": 5},
        {"allOf": 5},
        {"anyOf": 5},
        {"anyOf": []},
    ],
)
def test_schemas_that_no_value_fits(schema: object) -> None:
    with pytest.raises(Unsatisfiable):
        json_text(schema, Random(1))


def test_values_hold_characters_beyond_ascii() -> None:
    assert not json_text({"type": "string"}, Random(1)).isascii()
    assert json.loads(json_text(True, Random(1)))
