"""Types of every kind that a person may ask for, each with an answer of its own.

Suites that take any type run over `ZOO`: the fitting of schemas to providers, and each provider
end to end. Which provider refuses which is in `tests/schema/test_zoo.py`.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypeVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, RootModel, TypeAdapter, computed_field, create_model, field_validator
from pydantic.dataclasses import dataclass as pydantic_dataclass
from typing_extensions import TypedDict

__all__ = ["ZOO", "ZooCase", "case"]


@dataclass(frozen=True)
class ZooCase:
    """One type.

    Attributes:
        id: A word for it.
        kind: The type.
        good: A valid answer in JSON, all optional fields given, as Pydantic takes it.
    """

    id: str
    kind: Any
    good: Any

    @property
    def value(self) -> Any:
        """The Python value of `good`."""
        adapter: TypeAdapter[Any] = TypeAdapter(self.kind)
        return adapter.validate_json(orjson.dumps(self.good))


class Review(BaseModel):
    """Facts stated in a product review."""

    product: str
    sentiment: Literal["positive", "negative", "neutral"]
    score: int = Field(ge=1, le=5, description="Stars")
    verified: bool
    price: float | None = None


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Address(BaseModel):
    """A postal address."""

    street: str
    city: str = "Unknown"


class Invoice(BaseModel):
    number: str
    bill_to: Address = Field(description="Who pays")
    ship_to: Address | None = None
    lines: list[Address] = Field(default_factory=list, max_length=5)


class Car(BaseModel):
    colour: Colour = Field(description="Of the paint")
    level: Level
    other: Colour | None = None


class Constrained(BaseModel):
    code: Annotated[str, Field(pattern=r"^[A-Z]{2}$", min_length=2, max_length=2)]
    share: Annotated[float, Field(gt=0, lt=1)]
    count: Annotated[int, Field(gt=0, multiple_of=5)]
    tags: Annotated[list[str], Field(min_length=2, max_length=3)]


class Lookaround(BaseModel):
    # A str pattern of Rust's regex cannot look around; Pydantic's schema can still say so.
    word: str = Field(json_schema_extra={"pattern": "^(?!x).*$"})


class When(BaseModel):
    day: dt.date
    at: dt.datetime
    clock: dt.time
    length: dt.timedelta


class Exact(BaseModel):
    amount: Decimal
    key: uuid.UUID
    where: Path
    raw: bytes


class Mixed(BaseModel):
    grade: Literal["a", 1, True, None]
    always: Literal["yes"]
    flag: Literal[True]


class Scores(BaseModel):
    scores: dict[str, int]


class Keys(BaseModel):
    by_number: dict[int, str]
    by_colour: dict[Colour, int]
    by_level: dict[Level, int]
    by_day: dict[dt.date, int] = Field(default_factory=dict, min_length=1)


class Pair(NamedTuple):
    left: int
    right: str = "r"


class Tuples(BaseModel):
    point: tuple[float, float]
    pair: Pair
    open: tuple[int, ...]


class Knot(BaseModel):
    deep: dict[str, list[tuple[int, dict[str, Address]]]]


class Cat(BaseModel):
    type: Literal["cat"] = "cat"
    lives: int


class Dog(BaseModel):
    type: Literal["dog"] = "dog"
    toys: dict[str, int]


class Pet(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="type")]
    friends: list[Cat | Dog]


class Either(BaseModel):
    value: int | str | list[int] | None


class Unclear(BaseModel):
    value: dict[str, int] | list[int]


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


class StrictTree(BaseModel):
    name: str
    children: list[StrictTree]


class DictTree(BaseModel):
    name: str
    children: dict[str, DictTree] = {}


@dataclasses.dataclass
class Point:
    x: int
    y: int = 2


@pydantic_dataclass
class Line:
    """From here to there."""

    start: Point
    end: Point


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


Item = TypeVar("Item")


class Page(BaseModel, Generic[Item]):
    """One page of results."""

    items: list[Item]
    total: int


class Aliased(BaseModel):
    first_name: str = Field(alias="firstName")
    last_name: str = Field(validation_alias="lastName")


class Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str


class Documented(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    name: str
    """What people call it."""


class Computed(BaseModel):
    width: int
    height: int

    @computed_field  # type: ignore[prop-decorator]
    @property
    def area(self) -> int:
        return self.width * self.height


class Titled(BaseModel):
    title: str
    default: int
    description: str
    properties: list[str]


class Tags(BaseModel):
    tags: set[str]


class Anything(BaseModel):
    note: str
    extra: Any


class BareDict(BaseModel):
    extra: dict


class BareList(BaseModel):
    extra: list


class Empty(BaseModel):
    pass


class Numbers(RootModel[list[int]]):
    pass


class Table(RootModel[dict[str, float]]):
    pass


class Doubled(BaseModel):
    number: int

    @field_validator("number")
    @classmethod
    def _double(cls, number: int) -> int:
        return number * 2


def _model(name: str, fields: Mapping[str, Any]) -> type[BaseModel]:
    return create_model(name, **fields)


def _nested(levels: int) -> type[BaseModel]:
    inner = _model("Level0", {"end": (int, ...)})
    for level in range(1, levels):
        inner = _model(f"Level{level}", {"inner": (inner, ...)})
    return inner


def _nested_value(levels: int) -> Any:
    value: Any = {"end": 1}
    for _ in range(1, levels):
        value = {"inner": value}
    return value


ManyOptional = _model("ManyOptional", {f"f{n}": (int, n) for n in range(25)})
ManyUnions = _model("ManyUnions", {f"f{n}": (int | str, ...) for n in range(17)})
ManyNullable = _model("ManyNullable", {f"f{n}": (int | None, None) for n in range(20)})
Words = enum.Enum("Words", {f"w{n}": f"w{n}" for n in range(1001)})

_ADDRESS = {"street": "High St", "city": "Leeds"}

ZOO: list[ZooCase] = [
    ZooCase("review", Review, {"product": "P", "sentiment": "positive", "score": 3, "verified": True, "price": 1.5}),
    ZooCase("nested", Invoice, {"number": "1", "bill_to": _ADDRESS, "ship_to": None, "lines": [_ADDRESS]}),
    ZooCase("enums", Car, {"colour": "red", "level": 2, "other": "green"}),
    ZooCase("constrained", Constrained, {"code": "AB", "share": 0.5, "count": 10, "tags": ["a", "b"]}),
    ZooCase("lookaround", Lookaround, {"word": "yes"}),
    ZooCase(
        "dates",
        When,
        {"day": "2026-01-31", "at": "2026-01-31T12:00:00Z", "clock": "12:30:00", "length": "PT1H30M"},
    ),
    ZooCase(
        "exact",
        Exact,
        {"amount": "1.10", "key": "12345678-1234-5678-1234-567812345678", "where": "/tmp/x", "raw": "abc"},
    ),
    ZooCase("mixed_literal", Mixed, {"grade": 1, "always": "yes", "flag": True}),
    ZooCase("dict", Scores, {"scores": {"a": 1, "": 2, 'é"': 3}}),
    ZooCase(
        "dict_keys",
        Keys,
        {
            "by_number": {"1": "a", "-2": "b"},
            "by_colour": {"red": 1},
            "by_level": {"2": 1},
            "by_day": {"2026-01-31": 1},
        },
    ),
    ZooCase("tuples", Tuples, {"point": [0.5, 1.5], "pair": [1, "x"], "open": [1, 2, 3]}),
    ZooCase("knot", Knot, {"deep": {"k": [[1, {"home": _ADDRESS}], [2, {}]], "none": []}}),
    ZooCase(
        "tagged_union",
        Pet,
        {"pet": {"type": "dog", "toys": {"ball": 2}}, "friends": [{"type": "cat", "lives": 9}]},
    ),
    ZooCase("union", Either, {"value": [1, 2]}),
    ZooCase("unclear_union", Unclear, {"value": {"a": 1}}),
    ZooCase("tree", Tree, {"name": "a", "children": [{"name": "b", "children": []}]}),
    ZooCase("strict_tree", StrictTree, {"name": "a", "children": [{"name": "b", "children": []}]}),
    ZooCase("dict_tree", DictTree, {"name": "a", "children": {"x": {"name": "b", "children": {}}}}),
    ZooCase("dataclass", Point, {"x": 1, "y": 3}),
    ZooCase("nested_dataclass", Line, {"start": {"x": 1, "y": 2}, "end": {"x": 3, "y": 4}}),
    ZooCase("typed_dict", Movie, {"title": "Alien", "year": 1979}),
    ZooCase("generic", Page[Address], {"items": [_ADDRESS], "total": 1}),
    ZooCase("aliases", Aliased, {"firstName": "A", "lastName": "B"}),
    ZooCase("forbid", Closed, {"name": "n"}),
    ZooCase("documented", Documented, {"name": "n"}),
    ZooCase("computed", Computed, {"width": 2, "height": 3}),
    ZooCase("titled", Titled, {"title": "t", "default": 1, "description": "d", "properties": ["p"]}),
    ZooCase("set", Tags, {"tags": ["a", "b"]}),
    ZooCase("validator", Doubled, {"number": 4}),
    ZooCase("any", Anything, {"note": "n", "extra": [1, {"a": None}]}),
    ZooCase("bare_dict", BareDict, {"extra": {"a": 1}}),
    ZooCase("bare_list", BareList, {"extra": [1, "a"]}),
    ZooCase("empty", Empty, {}),
    ZooCase("root_list", Numbers, [1, 2]),
    ZooCase("root_dict", Table, {"a": 0.5}),
    ZooCase("bool", bool, True),
    ZooCase("str", str, "text"),
    ZooCase("huge_int", int, 2**63 - 1),
    ZooCase("literal", Literal["yes", "no"], "yes"),
    ZooCase("enum", Colour, "green"),
    ZooCase("optional_int", int | None, None),
    ZooCase("list_of_models", list[Address], [_ADDRESS, _ADDRESS]),
    ZooCase("annotated", Annotated[int, Field(ge=1)], 1),
    ZooCase("tuple", tuple[int, str], [1, "a"]),
    ZooCase("dict_of_lists", dict[str, list[int]], {"a": [1]}),
    ZooCase("date", dt.date, "2026-01-31"),
    ZooCase("union_of_models", Cat | Dog, {"type": "dog", "toys": {"ball": 1}}),
    ZooCase("many_optional", ManyOptional, {f"f{n}": n for n in range(25)}),
    ZooCase("many_unions", ManyUnions, {f"f{n}": n for n in range(17)}),
    ZooCase("many_nullable", ManyNullable, {f"f{n}": n for n in range(20)}),
    ZooCase("deep_10", _nested(10), _nested_value(10)),
    ZooCase("deep_11", _nested(11), _nested_value(11)),
    ZooCase("big_enum", Words, "w1000"),
]


def case(name: str) -> ZooCase:
    """Give the case of that id."""
    return next(one for one in ZOO if one.id == name)
