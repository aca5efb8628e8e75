"""Made-up values follow their schema, whatever the schema."""

from __future__ import annotations

import datetime as dt
import enum
import ipaddress
import uuid
from decimal import Decimal
from typing import Literal

import jsonschema
import orjson
import pytest
from pydantic import BaseModel, Field, HttpUrl, NegativeInt, PositiveInt, TypeAdapter, ValidationError

from pllm_notebook.sim.draws import Draws
from pllm_notebook.sim.values import compile_schema, violate


class Mood(enum.Enum):
    GOOD = "good"
    BAD = 2


class Tree(BaseModel):
    name: str
    kids: list[Tree] = []
    parent: Tree | None


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(ge=1, le=9)


class Dog(BaseModel):
    kind: Literal["dog"]
    weight: float = Field(gt=0, lt=1)


class Everything(BaseModel):
    text: str
    short: str = Field(max_length=4)
    long: str = Field(min_length=80)
    letter: str = Field(min_length=1, max_length=1)
    number: int
    positive: PositiveInt
    negative: NegativeInt
    stepped: int = Field(multiple_of=7, ge=10, le=30)
    huge: int = Field(ge=10**18, le=10**18 + 3)
    real: float
    tiny: float = Field(gt=0, lt=0.001)
    quarter: float = Field(multiple_of=0.25)
    below: float = Field(le=-5)
    flag: bool
    nothing: None
    word: Literal["x", 1, True]
    mood: Mood
    day: dt.date
    moment: dt.datetime
    clock: dt.time
    span: dt.timedelta
    ident: uuid.UUID
    address: ipaddress.IPv4Address
    page: HttpUrl
    price: Decimal = Field(max_digits=7, decimal_places=2)
    code: str = Field(pattern=r"^[A-Z]{2}-\d{3,5}(foo|bar)?$")
    mail: str = Field(pattern=r"^\+?[^\d\s]+@\w+\.(com|org)$")
    numbers: list[int]
    several: list[str] = Field(min_length=4, max_length=6)
    fixed: tuple[int, str, bool]
    unique: set[int]
    by_name: dict[str, int]
    forest: dict[str, list[Tree]]
    maybe: int | None = None
    any_of: int | str | list[float]
    pet: Cat | Dog = Field(discriminator="kind")
    tree: Tree


def values(schema, count):
    make = compile_schema(schema)
    return [make(Draws(b"%d" % index), 0) for index in range(count)]


def test_everything_that_pydantic_writes_is_followed():
    schema = Everything.model_json_schema()
    validator = jsonschema.Draft202012Validator(schema)

    for value in values(schema, 100):
        validator.validate(value)
        Everything.model_validate_json(orjson.dumps(value))
        assert [name for name in schema["properties"] if name in value] == list(value)
        assert value["text"].startswith("SIMULATED ")


def test_a_value_can_be_made_to_violate_its_schema():
    for value in values(Everything.model_json_schema(), 50):
        with pytest.raises(ValidationError):
            Everything.model_validate_json(orjson.dumps(violate(value)))


@pytest.mark.parametrize("kind", [list[int], int, Literal["a", "b"], Cat | Dog, dict[str, Cat], Tree, bool | None])
def test_any_root_is_followed(kind):
    adapter = TypeAdapter(kind)

    for value in values(adapter.json_schema(), 50):
        adapter.validate_python(orjson.loads(orjson.dumps(value)))


def test_an_endless_schema_ends():
    endless = {"$ref": "#/$defs/A", "$defs": {"A": {"type": "object", "properties": {"a": {"$ref": "#/$defs/A"}}}}}
    endless["$defs"]["A"]["required"] = ["a"]

    assert values(endless, 1)[0]["a"]["a"]["a"]


def test_googles_own_schema_words_are_followed():
    schema = {
        "type": "OBJECT",
        "properties": {"b": {"type": "STRING", "nullable": True}, "a": {"type": "INTEGER"}},
        "required": ["a", "b"],
        "propertyOrdering": ["a", "b"],
    }

    made = values(schema, 30)

    assert all(list(value) == ["a", "b"] for value in made)
    assert {type(value["b"]) for value in made} == {str, type(None)}


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": "integer", "description": "Stars (at least 1; at most 5)"}, {"minimum": 1, "maximum": 5}),
        ({"type": "integer", "description": "Stars\n\n{minimum: 1, maximum: 5}"}, {"minimum": 1, "maximum": 5}),
        ({"type": "number", "description": "Greater than 0; less than 0.5"}, {"exclusiveMinimum": 0, "maximum": 0.5}),
        ({"type": "string", "description": "At least 90 characters"}, {"minLength": 90}),
        (
            {"type": "string", "description": "Code (matching the regular expression ^[A-C](x|y)$)"},
            {"pattern": "^[A-C](x|y)$"},
        ),
        ({"type": "string", "description": "A date like 2026-01-31"}, {"pattern": r"^\d{4}-\d\d-\d\d$"}),
        ({"type": "array", "items": {"type": "null"}, "description": "At least 5 items"}, {"minItems": 5}),
    ],
)
def test_bounds_told_in_a_description_are_kept(schema, told):
    for value in values(schema, 50):
        jsonschema.validate(value, {**schema, **told})
