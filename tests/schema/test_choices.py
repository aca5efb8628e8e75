"""Which fields have a known list of values, read from the JSON schema alone."""

from __future__ import annotations

from enum import Enum, IntEnum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from pllm_notebook.schema import OutputType
from pllm_notebook.schema.json_length import longest_json


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Inner(BaseModel):
    ok: bool
    note: str


class Everything(BaseModel):
    """Facts."""

    word: Literal["x", "y"] = Field(description="Mood", alias="Word")
    mixed: Literal["1", 1]
    colour: Colour
    level: Level
    maybe: Colour | None
    truth: bool
    scale: int = Field(ge=1, lt=4)
    even: int = Field(ge=0, le=6, multiple_of=2)
    labels: list[Colour]
    inner: Inner
    fixed: Literal["only"]
    text: str
    free: int
    wide: int = Field(ge=0, le=255)
    real: float = Field(ge=0, le=1)
    optional: Inner | None
    pair: tuple[bool, bool]
    gaps: list[bool | None]


EXPECTED = [
    ("word", "choice", ("x", "y")),
    ("mixed", "choice", ("1", 1)),
    ("colour", "choice", ("red", "blue")),
    ("level", "choice", (1, 2)),
    ("maybe", "choice", ("red", "blue", None)),
    ("truth", "yes_no", (True, False)),
    ("scale", "scale", (1, 2, 3)),
    ("even", "scale", (0, 2, 4, 6)),
    ("labels", "labels", ("red", "blue")),
    ("inner.ok", "yes_no", (True, False)),
    ("fixed", "choice", ("only",)),
]


def test_fields_with_a_known_list_of_values_have_options_and_others_do_not() -> None:
    choices = OutputType.of(Everything).choices

    assert [(each.name, each.kind, each.options) for each in choices] == EXPECTED
    assert (choices[0].path, choices[0].description) == (("Word",), "Mood")
    assert choices[9].path == ("inner", "ok")


def test_the_schema_that_the_registry_keeps_has_the_same_options() -> None:
    kept = OutputType.of_recorded(OutputType.of(Everything).json_schema).choices

    assert [(each.path, each.kind, each.options) for each in kept] == [
        (each.path, each.kind, each.options) for each in OutputType.of(Everything).choices
    ]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (bool, (True, False)),
        (Literal["a", "b"], ("a", "b")),
        (bool | None, (True, False, None)),
        (Annotated[int, Field(ge=1, le=3)], (1, 2, 3)),
        (list[Literal["a", "b"]], ("a", "b")),
        (str, None),
        (list[Inner], None),
    ],
)
def test_a_type_without_fields_is_a_choice_itself(kind: Any, options: tuple[Any, ...] | None) -> None:
    choices = OutputType.of(kind).choices

    assert [each.options for each in choices] == ([] if options is None else [options])


def test_a_value_is_found_again_in_a_model_and_in_its_json() -> None:
    output = OutputType.of(Everything)
    by_name = {choice.name: choice for choice in output.choices}
    inner = Inner(ok=False, note="")
    parts = [None] * len(output.fields or ())
    parts[by_name["inner.ok"].at] = inner  # type: ignore[call-overload]

    assert by_name["inner.ok"].value(parts) is False
    parts[by_name["inner.ok"].at] = {"ok": True}  # type: ignore[call-overload]
    assert by_name["inner.ok"].value(parts) is True
    known = by_name["mixed"].positions()
    assert [by_name["mixed"].codes(value, known) for value in ("1", 1, True)] == [(0,), (1,), (2,)]
    assert by_name["labels"].codes([Colour.BLUE, "red"], by_name["labels"].positions()) == (1, 0)


def test_a_bound_that_is_no_number_bounds_no_choices() -> None:
    def of(**extra: Any) -> tuple[Any, ...]:
        return OutputType.of(Annotated[int, Field(json_schema_extra=extra)]).choices

    assert of(minimum="0", maximum=3) == ()
    assert of(minimum=1, exclusiveMinimum=True, maximum=2)[0].options == (1, 2)
    assert of(minimum=1, maximum=2, multipleOf=0)[0].options == (1, 2)


def test_an_option_beyond_64_bits_has_a_length() -> None:
    assert longest_json({"enum": [2**70, 1]}) == len(str(2**70))
    assert longest_json({"const": "é"}) == len('"é"'.encode())
