"""Checks of values for result columns: a row fails if a validator returned a value that its column cannot hold."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

from pllm_notebook.failures import FailureKind
from pllm_notebook.schema.fitted_schema import FittedSchema, Invalid, Parsed
from pllm_notebook.schema.number_checks import is_beyond, whole_check
from pllm_notebook.schema.validators import not_none

__all__ = ["CheckedSchema", "Misfit", "check_of_data", "checks_of_columns", "each", "either", "with_inner"]

# In Python bool is an int and datetime a date, but not for columns. A datetime column accepts dates.
_CLASSES: dict[Any, tuple[Any, ...]] = {
    str: (str,),
    int: (int,),
    float: (int, float),
    bool: (bool,),
    dt.date: (dt.date,),
    dt.datetime: (dt.date,),
    dt.timedelta: (dt.timedelta,),
}
_BEYOND = "integer_beyond_64_bits"
_LEFT = "validator_left_another_type"


def _column_check(left: Any) -> Callable[[Any], bool] | None:
    """Return a check of whether a column of *left* can hold a value, or None if it can hold any value."""
    classes = _CLASSES.get(left) if isinstance(left, type) else None
    if classes is None:
        return None

    def holds(given: Any) -> bool:
        value: Any = given.value if isinstance(given, Enum) else given
        if value is None or (isinstance(value, bool) and left is not bool):
            return value is None
        return isinstance(value, classes) and (left is not int or not is_beyond(value))

    return holds


_Found = tuple[tuple[str | int, ...], str, str]
Misfit = Callable[[Any], _Found | None]
"""Returns location, message and error type of the first value that its column cannot hold, or None without one."""

_Values = Callable[[Any], Sequence[Any]]


def checks_of_columns(columns: Sequence[tuple[str, Any]], values: _Values, *, changed: bool) -> Misfit | None:
    """Return a check that finds a value that its column cannot hold, or None if every column can hold any value.

    Args:
        columns: Name and type of each column. "" names the column of a type without fields.
        values: Splits a value into these columns.
        changed: Whether validators may have changed values. If not, only an integer beyond 64 bits is possible.
    """
    columns = [(name, not_none(left)) for name, left in columns]
    if changed:
        return lambda value: next(filter(None, map(_misfit, columns, values(value))), None)
    whole = [(at, name) for at, (name, left) in enumerate(columns) if left is int]
    if not whole:
        return None

    def check(value: Any) -> _Found | None:
        parts = values(value)
        for at, name in whole:
            part = parts[at]
            if part.__class__ is int and is_beyond(part):
                return _beyond(name, part)
        return None

    return check


def check_of_data(core_schema: Any) -> Misfit | None:
    """Return a check that finds integers beyond 64 bits in nested data, or None for a type without integers.

    Lists of integers in Arrow or Polars cannot hold larger ones, and pandas could not write them to Parquet.

    Args:
        core_schema: Pydantic's core schema of the data.
    """
    find = whole_check(core_schema)
    if find is None:
        return None

    def check(value: Any) -> _Found | None:
        found = find(value)
        return None if found is None else (found.where, _said(".".join(map(str, found.where)), found.number), _BEYOND)

    return check


def with_inner(own: Misfit | None, values: _Values, inner: Sequence[tuple[int, str, Misfit]]) -> Misfit | None:
    """Return the check of a type with fields that become several columns or lines.

    Args:
        own: The check of its other columns. None if they can hold any value.
        values: Splits a value.
        inner: Position and name of each such field, and its check.
    """
    if not inner:
        return own

    def check(value: Any) -> _Found | None:
        found = None if own is None else own(value)
        if found is not None:
            return found
        parts = values(value)
        for at, name, of in inner:
            if (part := parts[at]) is not None and (found := _inside(name, part, of)) is not None:
                return found
        return None

    return check


def either(first: Misfit | None, second: Misfit | None) -> Misfit | None:
    """Return a check that combines two checks. None if both are None."""
    if first is None or second is None:
        return first or second
    return lambda value: first(value) or second(value)


def each(check: Misfit) -> Misfit:
    """Return the check of a list whose items are checked by *check*."""

    def of_items(value: Any) -> _Found | None:
        items = getattr(value, "root", value)
        return next((found for item in items if (found := check(item)) is not None), None)

    return of_items


def _inside(name: str, part: Any, check: Misfit) -> _Found | None:
    try:
        found = check(part)
    except (AttributeError, TypeError):  # not of the type for which the columns were made
        why = f"{name}: a validator made {part!r:.60}, which has no such fields; annotate what the validator returns"
        return (name,), why, _LEFT
    if found is None:
        return None
    where, message, kind = found
    return (name, *where), f"{name}.{message}" if where else f"{name}: {message}", kind


def _misfit(column: tuple[str, Any], part: Any) -> _Found | None:
    name, left = column
    holds = _column_check(left)
    if holds is None or holds(part):
        return None
    if left is int and is_beyond(part):
        return _beyond(name, part)
    found = f"a validator made {part!r:.60}, and the column is one of {left.__name__}"
    return _of_column(name, f"{name}: {found}; annotate what the validator returns" if name else found, _LEFT)


def _beyond(name: str, part: Any) -> _Found:
    return _of_column(name, _said(name, part), _BEYOND)


def _said(at: str, part: Any) -> str:
    found = f"{part!r:.60} is beyond 64 bits; annotate Decimal or str for larger numbers"
    return f"{at}: {found}" if at else found


def _of_column(name: str, message: str, kind: str) -> _Found:
    return ((name,) if name else ()), message, kind


class CheckedSchema(FittedSchema):
    """A `FittedSchema` for values that become columns.

    Args:
        made: The schema that reads replies.
        check: Returns location, message and error type for a value that its column cannot hold, or None for a valid
            one.
    """

    __slots__ = ("_check",)

    def __init__(self, made: FittedSchema, check: Misfit) -> None:
        for name in FittedSchema.__slots__:
            setattr(self, name, getattr(made, name))
        self._check = check

    def parse(self, text: bytes | str, context: Any = None) -> Parsed:
        parsed = super().parse(text, context)
        if parsed.failure is not None:
            return parsed
        checked = self._checked(parsed.value)
        return Parsed(failure=checked) if isinstance(checked, Invalid) else parsed

    def parse_many(self, texts: Sequence[bytes], contexts: Sequence[Any] | None = None) -> list[Any]:
        values = super().parse_many(texts, contexts)
        return [value if isinstance(value, Invalid) else self._checked(value) for value in values]

    def _checked(self, value: Any) -> Any:
        found = self._check(value)
        if found is None:
            return value
        where, message, kind = found
        return Invalid(FailureKind.SCHEMA, message, ((where, kind),))
