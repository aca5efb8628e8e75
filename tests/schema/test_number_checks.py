"""Numbers that nothing else takes: NaN and infinity in a reply, and whole ones beyond 64 bits in a type."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Json
from typing_extensions import TypedDict

from pllm_notebook.exceptions import UnsupportedSchemaError
from pllm_notebook.failures import FailureKind
from pllm_notebook.providers.anthropic.facts import DIALECT as ANTHROPIC
from pllm_notebook.providers.google.facts import DIALECT as GOOGLE
from pllm_notebook.providers.openai.facts import DIALECT as OPENAI
from pllm_notebook.schema import GRAMMAR, PLAIN, Dialect, OutputType, repair_lines

ODD = ["NaN", "Infinity", "-Infinity", "1e400", "-1e400", '"nan"', '"inf"', "9" * 400 + ".0"]
ODD += ["9" * 250 + "e99", "9" * 190 + "." + "9" * 190 + "e400", '"1e4_00"', '"\\u006ean"', '"1\\u0065400"']


DIALECTS = [OPENAI, ANTHROPIC, GOOGLE, GRAMMAR, PLAIN]


class Huge(IntEnum):
    ONE = 1
    HUGE = 2**70


class Named(BaseModel):
    codes: list[Literal[2**70]] = []


class Deeply(BaseModel):
    inner: Named


class Inner(BaseModel):
    share: float = Field(default=0.0, alias="part")


class Tree(BaseModel):
    weight: float = 0.0
    under: list[Tree] = []


class Keyed(TypedDict):
    share: float


@dataclass
class Plain:
    share: float = 0.0


class Whole(BaseModel):
    text: str = ""
    one: float = 0.0
    maybe: float | None = None
    either: float | str = 0.0
    several: list[float] = []
    pair: tuple[str, float] = ("", 0.0)
    named: dict[str, float] = {}
    inner: Inner = Inner()
    keyed: Keyed = {"share": 0.0}
    plain: Plain = Plain()
    tree: Tree = Tree()
    anything: Any = None


PLACES = {
    "one": '{"one": %s}',
    "maybe": '{"maybe": %s}',
    "several.1": '{"several": [1, %s]}',
    "pair.1": '{"pair": ["a", %s]}',
    "named.a": '{"named": {"a": %s}}',
    "inner.part": '{"inner": {"part": %s}}',
    "keyed.share": '{"keyed": {"share": %s}}',
    "plain.share": '{"plain": {"share": %s}}',
    "tree.under.0.weight": '{"tree": {"under": [{"weight": %s}]}}',
}


def read(kind: Any, text: str, dialect: Any = GRAMMAR) -> Any:
    """Return what one reply and the same among others are: equal."""
    fitted = OutputType.of(kind).fit(dialect)
    parsed = fitted.parse(text)
    among = fitted.parse_many([b"{}", text.encode(), b"{}"])[1]
    if parsed.failure is not None:
        assert among == parsed.failure
    else:
        assert repr(among) == repr(parsed.value)
    return parsed


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("place", PLACES)
def test_a_float_that_is_not_finite_is_invalid_wherever_it_stands(place: str, odd: str) -> None:
    failure = read(Whole, PLACES[place] % odd).failure

    assert failure.kind is FailureKind.SCHEMA
    assert repair_lines(failure) == [f"at {place}: finite_number"]


@pytest.mark.parametrize("odd", ["NaN", "1e400"])
@pytest.mark.parametrize("text", ['{"either": %s}', '{"anything": %s}', '{"anything": {"a": [%s]}}'])
def test_neither_does_a_union_or_any_take_it(text: str, odd: str) -> None:
    assert [kind for _, kind in read(Whole, text % odd).failure.errors] == ["finite_number"]


@pytest.mark.parametrize("odd", ["NaN", "1e400"])
@pytest.mark.parametrize(("kind", "text"), [(float, "%s"), (list[float], "[%s]"), (dict[str, float], '{"a": %s}')])
def test_types_without_fields_take_none_either(kind: Any, text: str, odd: str) -> None:
    for dialect in (GRAMMAR, OPENAI):
        fitted = OutputType.of(kind).fit(dialect)
        shape = '[{"key": "a", "value": %s}]' if dialect is OPENAI and kind == dict[str, float] else text
        whole = '{"value": ' + shape + "}" if fitted.wrapped else shape
        assert fitted.parse(whole % odd).failure is not None
        assert fitted.parse(whole % "0.5").failure is None


def test_json_within_text_holds_anything_and_stops_no_check() -> None:
    class Kept(BaseModel):
        bare: Json
        typed: Json[list[float]] = []

    assert read(Kept, '{"bare": "{\\"a\\": 1}", "typed": "[1e3]"}').value.bare == {"a": 1}
    assert read(Kept, '{"bare": "1", "typed": "[1e400]"}').failure is not None


def test_words_that_look_like_it_are_words() -> None:
    value = read(Whole, '{"text": "NaN", "named": {"nan": 1}, "either": "about inf", "anything": "1e400"}').value

    assert (value.text, value.named, value.either, value.anything) == ("NaN", {"nan": 1.0}, "about inf", "1e400")


def test_a_type_that_says_so_takes_them_where_it_says_so() -> None:
    class Field_(BaseModel):
        free: Annotated[float, Field(allow_inf_nan=True)] = 0.0
        bound: float = 0.0

    class Configured(BaseModel):
        model_config = ConfigDict(allow_inf_nan=True)
        one: float = 0.0
        several: list[float] = []

    assert math.isnan(read(Field_, '{"free": NaN}').value.free)
    assert read(Field_, '{"free": NaN, "bound": 1e400}').failure.errors == ((("bound",), "finite_number"),)
    assert read(Configured, '{"one": 1e400, "several": [-Infinity]}').value.one == math.inf


def test_what_a_validator_makes_of_other_words_is_its_own() -> None:
    class Measured(BaseModel):
        depth: Annotated[float, BeforeValidator(lambda given: math.nan if given == "unknown" else given)] = 0.0

    assert math.isnan(read(Measured, '{"depth": "unknown"}').value.depth)
    assert read(Measured, '{"depth": NaN}').failure is not None


@pytest.mark.parametrize("kind", [Literal[2**64, 1], list[Literal[1, -(2**63) - 1]], Huge, Deeply])
@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda one: one.name)
def test_a_type_that_names_a_number_beyond_64_bits_cannot_be_sent(kind: Any, dialect: Dialect) -> None:
    with pytest.raises(UnsupportedSchemaError, match=r"which is beyond 64 bits, and no request can say such a number"):
        OutputType.of(kind).fit(dialect)


class Bounded(BaseModel):
    most: int = Field(le=10**20)
    more: int = Field(gt=2**64)
    known: int = Field(le=2**63)
    default: int = Field(default=2**70, ge=-(10**20))


@pytest.mark.parametrize("dialect", DIALECTS, ids=lambda one: one.name)
def test_a_bound_beyond_64_bits_is_said_in_words(dialect: Dialect) -> None:
    fields = OutputType.of(Bounded).fit(dialect).schema["properties"]

    assert not {"maximum", "exclusiveMinimum", "minimum", "default"} & (
        fields["most"].keys() | fields["more"].keys() | fields["default"].keys()
    )
    assert str(10**20) in fields["most"]["description"]
    assert str(2**64) in fields["more"]["description"]
    assert str(-(10**20)) in fields["default"]["description"]
