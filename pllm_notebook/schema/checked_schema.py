"""Replies whose values become columns: what a validator made that its column cannot hold is that row's failure."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

from pllm_notebook.failures import FailureKind
from pllm_notebook.schema.fitted_schema import FittedSchema, Invalid, Parsed

__all__ = ["BEYOND", "LEFT", "CheckedSchema", "Misfit", "column_check", "is_beyond"]

# bool is an int and datetime a date to Python, and neither is to a column of numbers; a column of moments takes days.
_CLASSES: dict[Any, tuple[Any, ...]] = {
    str: (str,),
    int: (int,),
    float: (int, float),
    bool: (bool,),
    dt.date: (dt.date,),
    dt.datetime: (dt.date,),
    dt.timedelta: (dt.timedelta,),
}
_INT64 = 2**63
BEYOND = "integer_beyond_64_bits"
LEFT = "validator_left_another_type"


def is_beyond(value: Any) -> bool:
    """Return whether *value* is a whole number that no column of them holds: they have 64 bits."""
    return isinstance(value, int) and not -_INT64 <= value < _INT64


def column_check(left: Any) -> Callable[[Any], bool] | None:
    """Return what tells whether a column of *left* holds a value; None where it holds anything."""
    classes = _CLASSES.get(left) if isinstance(left, type) else None
    if classes is None:
        return None

    def holds(given: Any) -> bool:
        value: Any = given.value if isinstance(given, Enum) else given
        if value is None or (isinstance(value, bool) and left is not bool):
            return value is None
        return isinstance(value, classes) and (left is not int or not is_beyond(value))

    return holds


Misfit = Callable[[Any], tuple[tuple[str | int, ...], str, str] | None]


class CheckedSchema(FittedSchema):
    """As `FittedSchema`, for values that become columns.

    Args:
        made: What reads.
        check: Returns location, words and the kind of error for a value that its column cannot hold, None for one
            that it can.
    """

    __slots__ = ("_check",)

    def __init__(self, made: FittedSchema, check: Misfit) -> None:
        for name in FittedSchema.__slots__:
            setattr(self, name, getattr(made, name))
        self._check = check

    def parse(self, text: bytes | str) -> Parsed:
        parsed = super().parse(text)
        if parsed.failure is not None:
            return parsed
        checked = self._checked(parsed.value)
        return Parsed(failure=checked) if isinstance(checked, Invalid) else parsed

    def parse_many(self, texts: Sequence[bytes]) -> list[Any]:
        return [value if isinstance(value, Invalid) else self._checked(value) for value in super().parse_many(texts)]

    def _checked(self, value: Any) -> Any:
        found = self._check(value)
        if found is None:
            return value
        where, message, kind = found
        return Invalid(FailureKind.SCHEMA, message, ((where, kind),))
