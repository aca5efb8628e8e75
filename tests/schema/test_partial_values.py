"""Values with missing fields hold to what the type says of the fields that are there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator
from typing_extensions import TypedDict

from pllm_notebook.schema import OutputType, partial_value

Stars = Annotated[int, Field(ge=1, le=5)]
MISSING = frozenset({("gone",)})


class Whole(BaseModel):
    """A type with a validator that needs every field."""

    a: Stars
    b: str = Field(alias="bee")
    gone: int
    below: Whole | None = None

    @field_validator("b")
    @classmethod
    def _upper(cls, b: str) -> str:
        return b.upper()

    @model_validator(mode="after")
    def _all(self) -> Whole:
        assert self.gone + self.a
        return self


@dataclass
class Kept:
    a: Stars
    gone: int


class Keyed(TypedDict):
    a: Stars
    gone: int


def test_the_fields_of_a_partial_value_pass_their_own_validators() -> None:
    value = partial_value(OutputType.of(Whole), {"a": 4, "bee": "it"}, MISSING)

    assert vars(value) == {"a": 4, "b": "IT", "gone": None, "below": None}


@pytest.mark.parametrize("kind", [Whole, Kept, Keyed])
def test_a_field_of_a_partial_value_that_breaks_its_constraint_is_refused(kind: Any) -> None:
    with pytest.raises(ValidationError, match="less than or equal to 5"):
        partial_value(OutputType.of(kind), {"a": 99, "bee": "it"}, MISSING)


def test_a_typed_dict_and_a_dataclass_keep_their_other_fields() -> None:
    assert partial_value(OutputType.of(Keyed), {"a": 4}, MISSING) == {"a": 4, "gone": None}
    assert vars(partial_value(OutputType.of(Kept), {"a": 4}, MISSING)) == {"a": 4, "gone": None}
