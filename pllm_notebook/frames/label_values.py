"""Values that a person gives for a field: from a text or a choice to what the field's column holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pydantic

from pllm_notebook.exceptions import UsageError
from pllm_notebook.frames.dtypes import Column, Kind, read_back

__all__ = ["choices_of", "value_of", "value_text"]


def choices_of(column: Column) -> Sequence[Any]:
    """Return the values that a field lists, () for one that does not."""
    return (True, False) if column.kind is Kind.BOOLEAN else column.categories


_KINDS: dict[Kind, Any] = {Kind.INTEGER: int, Kind.REAL: float, Kind.BOOLEAN: bool}


def value_of(column: Column, value: Any) -> Any:
    """Return a value of a column from a value or its text.

    Raises:
        UsageError: When the column cannot have it. Nothing was stored.
    """
    choices = choices_of(column)
    for choice in choices:
        if value == choice or (isinstance(value, str) and value.casefold() == value_text(choice).casefold()):
            return choice
    if choices:
        known = [value_text(choice) for choice in choices]
        raise UsageError(f"{column.name!r} is one of {known}, not {value!r}. Nothing was stored.")
    if column.kind in _KINDS:
        try:
            return pydantic.TypeAdapter(_KINDS[column.kind]).validate_python(value)
        except pydantic.ValidationError:
            kind = "a whole number" if column.kind is Kind.INTEGER else "a number"
            raise UsageError(f"{column.name!r} is {kind}, not {value!r}. Nothing was stored.") from None
    if column.kind in (Kind.DATETIME, Kind.MOMENT, Kind.DURATION):
        (read,) = read_back(column, [value])
        if isinstance(read, str):
            raise UsageError(f"{column.name!r} is a {column.kind}, not {value!r}. Nothing was stored.")
    if column.kind in (Kind.DATA, Kind.OBJECT) and isinstance(value, str):
        try:
            return pydantic.TypeAdapter(Any).validate_json(value)
        except pydantic.ValidationError:
            raise UsageError(
                f"{column.name!r} holds data, written as JSON, not {value!r}. Nothing was stored."
            ) from None
    return value


def value_text(value: Any) -> str:
    """Return a value as a person reads and types it: text as it is, data as JSON, nothing for a missing one."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return orjson.dumps(value, default=str).decode() if isinstance(value, (dict, list)) else str(value)
