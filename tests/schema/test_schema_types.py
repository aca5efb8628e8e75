from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import enum
import warnings
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Generic, Literal, NamedTuple, NotRequired, TypeVar

import pytest
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    SecretBytes,
    SecretStr,
    create_model,
)
from typing_extensions import TypedDict

from pllm_notebook.exceptions import UnsupportedSchemaError, UsageError
from pllm_notebook.providers.openai.facts import DIALECT as OPENAI
from pllm_notebook.schema import GRAMMAR, PLAIN, OutputField, OutputType
from tests.zoo import Address, Aliased, Colour, Computed, Documented, Movie, Numbers, Page, Point, Review

T = TypeVar("T")


class Base(BaseModel):
    """The base's own words."""

    a: int


class Derived(Base):
    b: Annotated[int, Field(ge=1)] | None = None


class Plain(NamedTuple):
    a: int


@dataclasses.dataclass
class Worded:
    """Said by a person.

    In two paragraphs.
    """

    a: Annotated[int, Field(alias="A", description="the a")]
    hidden: int = dataclasses.field(default=0, init=False)


@dataclasses.dataclass
class Box(Generic[T]):
    content: T
    more: list[T]


def test_fields_come_in_order_with_alias_and_description() -> None:
    assert OutputType.of(Aliased).fields == (
        OutputField("first_name", "firstName", str, "", True),
        OutputField("last_name", "lastName", str, "", True),
    )
    assert OutputType.of(Documented).fields == (OutputField("name", "name", str, "What people call it.", True),)
    assert OutputType.of(Worded).fields == (OutputField("a", "A", int, "the a", True),)
    assert OutputType.of(Movie).fields == (
        OutputField("title", "title", str, "", True),
        OutputField("year", "year", int, "", False),
    )


def test_annotations_are_bare() -> None:
    assert [field.annotation for field in OutputType.of(Derived).fields or ()] == [int, int | None]
    assert [field.annotation for field in OutputType.of(Page[Address]).fields or ()] == [list[Address], int]
    assert [field.annotation for field in OutputType.of(Box[str]).fields or ()] == [str, list[str]]


def test_computed_fields_are_not_asked_for() -> None:
    assert [field.name for field in OutputType.of(Computed).fields or ()] == ["width", "height"]


def test_alias_choices_give_their_first_plain_name() -> None:
    class Choice(BaseModel):
        a: int = Field(validation_alias=AliasChoices(AliasPath("x", "y"), "z"))

    kind = OutputType.of(Choice)

    assert [field.alias for field in kind.fields or ()] == ["z"]
    assert kind.fit(OPENAI).parse('{"z": 1}').value.a == 1


def test_a_field_read_from_inside_another_cannot_be_asked_for() -> None:
    class Path(BaseModel):
        a: int = Field(validation_alias=AliasPath("x", "y"))

    with pytest.raises(UsageError, match=r"Field 'a' is read from inside another value"):
        OutputType.of(Path)


@pytest.mark.parametrize("kind", [bool, int | None, list[int], Literal["a"], Numbers, dict[str, int], Colour])
def test_types_without_fields_have_none(kind: Any) -> None:
    one = OutputType.of(kind)

    assert one.fields is None
    assert one.field_values("whole") == ("whole",)


def test_field_values_are_taken_in_order() -> None:
    assert OutputType.of(Point).field_values(Point(1, 2)) == (1, 2)
    assert OutputType.of(Base).field_values(Base(a=1)) == (1,)
    assert OutputType.of(Movie).field_values({"title": "Alien"}) == ("Alien", None)


@pytest.mark.parametrize(
    "kind", [list[Address], set[Address], tuple[Address, ...], Sequence[Address], RootModel[list[Address]]]
)
def test_lists_know_their_items(kind: Any) -> None:
    assert OutputType.of(kind).item is OutputType.of(Address)


class Nest(RootModel[list["Nest"]]):
    pass


def test_a_list_may_hold_lists_of_its_own_type() -> None:
    kind = OutputType.of(Nest)

    assert kind.item is kind
    assert kind.fit(OPENAI).parse('{"value": [[], [[]]]}').value == Nest.model_validate([[], [[]]])


@pytest.mark.parametrize("kind", [int, Address, tuple[int, str], dict[str, int], list[int] | None, list])
def test_other_types_have_no_items(kind: Any) -> None:
    assert OutputType.of(kind).item is None


@pytest.mark.parametrize(
    ("kind", "doc"),
    [
        (Review, "Facts stated in a product review."),
        (Derived, ""),
        (Point, ""),
        (Plain, ""),
        (Worded, "Said by a person.\n\nIn two paragraphs."),
        (Page[Address], "One page of results."),
        (Annotated[Review, "x"], "Facts stated in a product review."),
        (Colour, ""),
        (dt.date, ""),
        (int, ""),
        (list[Review], ""),
    ],
    ids=str,
)
def test_the_doc_is_what_the_person_wrote(kind: Any, doc: str) -> None:
    assert OutputType.of(kind).doc == doc


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Review, "Review"),
        (Page[Address], "Page_Address"),
        (list[Review], "list_Review"),
        (int | None, "int_or_NoneType"),
        (Literal["ja", "não"], "Literal_ja_n_o"),
        (Literal["…"], "Literal"),
        (enum.Enum("Ü", "a b"), "answer"),
    ],
    ids=str,
)
def test_names_are_what_providers_take(kind: Any, name: str) -> None:
    assert OutputType.of(kind).name == name
    assert len(OutputType.of(dict[str, Literal["x" * 100]]).name) <= 64


def test_each_type_is_compiled_once() -> None:
    assert OutputType.of(Review) is OutputType.of(Review)
    assert OutputType.of(Review).fit(OPENAI) is OutputType.of(Review).fit(OPENAI)


def test_unions_in_another_order_are_other_types() -> None:
    one, other = OutputType.of(int | str), OutputType.of(str | int)

    assert one.json_schema != other.json_schema


def test_two_classes_of_one_name_are_two_types() -> None:
    def make(kind: Any) -> Any:
        class Redefined(BaseModel):
            a: kind

        return Redefined

    assert OutputType.of(make(int)).json_schema != OutputType.of(make(str)).json_schema


class Odd:
    pass


class Called(BaseModel):
    f: Callable[[], int]


class Later(BaseModel):
    a: Undefined  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    "kind", ["Review", Odd, 5, Review.model_construct(), Called, Later, lambda: 1, {"a": 1}, print]
)
def test_what_is_not_a_type_is_refused(kind: Any) -> None:
    with pytest.raises(UsageError, match=r"^Got .*Nothing was sent\.$"):
        OutputType.of(kind)


def test_the_message_says_what_was_given() -> None:
    with pytest.raises(UsageError) as caught:
        OutputType.of(Odd)

    assert str(caught.value) == (
        "Got Odd, which Pydantic cannot turn into a JSON schema: Unable to generate pydantic-core schema for "
        "<class 'test_schema_types.Odd'>. Give a Pydantic model, a dataclass, or a type such as bool or list[str]. "
        "Nothing was sent."
    )


def test_a_default_that_json_cannot_hold_warns_of_nothing() -> None:
    class Defaulted(BaseModel):
        model_config = ConfigDict(arbitrary_types_allowed=True)

        a: int = Field(default=object())

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kind = OutputType.of(Defaulted)

    assert [field.required for field in kind.fields or ()] == [False]


def test_a_type_whose_annotations_cannot_be_found_is_refused_in_plain_words() -> None:
    class Inner(TypedDict):
        a: NotRequired[int]

    @dataclasses.dataclass
    class Outer:
        inner: Inner

    with pytest.raises(UsageError, match="one of its annotations names something that is not defined, or only inside"):
        OutputType.of(list[Outer])


class Nothing(enum.Enum):
    """No values."""


def test_an_enum_without_values_is_refused() -> None:
    with pytest.raises(UnsupportedSchemaError, match=r"it has no values to choose from.* Nothing was sent\.$"):
        OutputType.of(Nothing).fit(OPENAI)


def test_a_server_of_ones_own_is_named_as_one() -> None:
    with pytest.raises(UnsupportedSchemaError, match=r"^The type cannot be sent to this server: it has no fields\."):
        OutputType.of(create_model("Empty")).fit(GRAMMAR)


class Login(BaseModel):
    user: str
    password: SecretStr


@pytest.mark.parametrize("kind", [SecretStr, Login, list[Login], dict[str, SecretBytes], SecretStr | None])
def test_a_secret_whose_column_would_be_asterisks_is_refused(kind: Any) -> None:
    with pytest.raises(UsageError, match=r"has a secret.* Make it str\. Nothing was sent\.$"):
        OutputType.of(kind)


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        ({"type": "objekt"}, "'objekt' is not one of the types"),
        ({"type": ["string", "nul"]}, "'nul' is not one of the types"),
        ({"$ref": "#/$defs/X"}, r"its \$ref '#/\$defs/X' leads nowhere"),
        ({"$ref": "https://example.org/x"}, r"its \$ref 'https://example.org/x' leads nowhere"),
        ({"type": "array", "items": {"anyOf": [{"$ref": "#/$defs/X"}]}}, "leads nowhere"),
        ({"type": "object", "properties": {"a": {"$ref": "#"}}}, r"its \$ref '#' leads nowhere"),
        ({"properties": True}, "'properties' is a mapping from fields to schemas, not True"),
        ({"type": "object", "properties": {"a": {"properties": 3}}}, "not 3"),
        ({"description": "x"}, "it has none of"),
        ({"$ref": "#/$defs/X", "definitions": {"X": {"type": "string"}}}, "leads nowhere"),
        ({"$ref": "#/$defs/X", "$defs": {"X": {"$ref": "#/$defs/X"}}}, "leads only to itself"),
        ({"type": "integer", "minimum": "0", "maximum": 3}, "'minimum' is a number, not '0'"),
        ({"type": "array", "items": {"type": "string"}, "maxItems": None}, "'maxItems' is a number, not None"),
        ({"type": "integer", "multipleOf": 0}, "'multipleOf' is more than 0, not 0"),
    ],
)
def test_a_written_schema_that_is_none_says_where(schema: dict[str, Any], fault: str) -> None:
    with pytest.raises(UsageError, match=rf"which is not a JSON schema: .*{fault}.* Nothing was sent\.$"):
        OutputType.of(schema)


def test_fields_and_values_named_like_words_of_a_schema_are_no_faults() -> None:
    fields = {"$ref": {"type": "string"}, "properties": {"type": "array", "items": {"type": "integer"}}}
    word = {"enum": ["a", "b"], "default": {"$ref": "nowhere", "properties": 1}}

    output = OutputType.of({"type": "object", "properties": {**fields, "default": word}})

    assert [field.alias for field in output.fields or ()] == ["$ref", "properties", "default"]


WORD = {"type": "object", "properties": {"word": {"type": "string"}, "next": {"$ref": "#/definitions/Level"}}}
LEVEL = {"enum": ["low", "high"]}


@pytest.mark.parametrize("dialect", [OPENAI, PLAIN])
@pytest.mark.parametrize(
    "schema",
    [
        WORD | {"definitions": {"Level": LEVEL}},
        {"$ref": "#/definitions/Word", "definitions": {"Word": WORD, "Level": LEVEL}},
        {"$ref": "#/$defs/Word", "$defs": {"Word": WORD}, "definitions": {"Level": LEVEL}},
        {"$ref": "#/$defs/Word", "$defs": {"Word": WORD, "Level": {"type": "null"}}, "definitions": {"Level": LEVEL}},
    ],
    ids=["inside", "root", "both", "same-name"],
)
def test_definitions_of_either_keyword_are_read(schema: dict[str, Any], dialect: Any) -> None:
    given = copy.deepcopy(schema)

    output = OutputType.of(schema)

    assert schema == given
    assert [field.alias for field in output.fields or ()] == ["word", "next"]
    assert [choice.options for choice in output.choices] == [("low", "high")]
    assert output.fit(dialect).parse('{"word": "a", "next": "low"}').value == {"word": "a", "next": "low"}
    assert output.fit(dialect).parse('{"word": "a", "next": "none"}').failure is not None


def test_a_field_named_definitions_is_a_field() -> None:
    output = OutputType.of({"type": "object", "properties": {"definitions": {"type": "string"}}})

    assert [field.alias for field in output.fields or ()] == ["definitions"]


class OfNull(enum.Enum):
    """Names, or none."""

    A = "a"
    NONE = None


@pytest.mark.parametrize(
    ("kind", "takes"),
    [
        (str | None, True),
        (Literal["a", None], True),
        (OfNull, True),
        (Literal["a"] | None, True),
        ({"type": ["string", "null"]}, True),
        ({"const": None}, True),
        ({"oneOf": [{"type": "string"}, {"$ref": "#/$defs/N"}], "$defs": {"N": {"type": "null"}}}, True),
        (str, False),
        (Any, False),
        (Literal["a"], False),
        (list[str | None], False),
    ],
    ids=str,
)
def test_a_type_takes_null_however_its_schema_says_so(kind: Any, takes: bool) -> None:
    assert OutputType.of(kind).takes_null is takes
