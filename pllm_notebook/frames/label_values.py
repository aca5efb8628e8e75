"""Values that a person enters for a field, converted from text or a choice to values of the field's column."""

from __future__ import annotations

import datetime as dt
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson
import pydantic

from pllm_notebook.exceptions import UsageError
from pllm_notebook.frames.dtypes import Column, Kind, read_back

__all__ = ["choices_of", "field_schema", "value_of", "value_text"]


def choices_of(column: Column) -> Sequence[Any]:
    """Return the possible values of a column, () if its type does not list them."""
    return (True, False) if column.kind is Kind.BOOLEAN else column.categories


_KINDS: dict[Kind, Any] = {Kind.INTEGER: int, Kind.REAL: float, Kind.BOOLEAN: bool}


def value_of(column: Column, value: Any, schema: Mapping[str, Any] | None = None) -> Any:
    """Convert a value, or its text, to a value of a column.

    Args:
        column: The column of the answers.
        value: The value as a person entered it.
        schema: The field's part of the type's JSON schema, for its bounds. None if unknown.

    Raises:
        UsageError: If the column cannot have the value. Nothing was stored.
    """
    if value is None:
        if schema and not _takes_null(schema):
            raise UsageError(f"{column.name!r} always has a value, and None is none. Nothing was stored.")
        return None
    choices = choices_of(column)
    for choice in choices:
        if type(value) is type(choice) and value == choice:
            return choice
        if isinstance(value, str) and value.casefold() == value_text(choice).casefold():
            return choice
    if choices:
        known = [value_text(choice) for choice in choices]
        raise UsageError(f"{column.name!r} is one of {known}, not {value!r}. Nothing was stored.")
    return _bounded(column, _typed(column, value), schema)


def _typed(column: Column, value: Any) -> Any:
    """Convert a value for a column whose type does not list its values."""
    kind = column.kind
    if kind in _KINDS:
        try:
            if isinstance(value, bool):
                raise UsageError(f"{column.name!r} is a number, not {value!r}. Nothing was stored.")
            return pydantic.TypeAdapter(_KINDS[kind]).validate_python(value)
        except pydantic.ValidationError:
            what = "a whole number" if kind is Kind.INTEGER else "a number"
            raise UsageError(f"{column.name!r} is {what}, not {value!r}. Nothing was stored.") from None
    if kind in (Kind.TEXT, Kind.WORDS) and not isinstance(value, str):
        raise UsageError(f"{column.name!r} is text, not {type(value).__name__}. Nothing was stored.")
    if kind in (Kind.DATETIME, Kind.MOMENT, Kind.DURATION):
        (read,) = read_back(column, [value]) if isinstance(value, (str, dt.date, dt.timedelta)) else ("",)
        if isinstance(read, str):
            raise UsageError(f"{column.name!r} is a {kind}, not {value!r}. Nothing was stored.")
    if kind in (Kind.DATA, Kind.OBJECT) and isinstance(value, str):
        try:
            return pydantic.TypeAdapter(Any).validate_json(value)
        except pydantic.ValidationError:
            raise UsageError(
                f"{column.name!r} holds data, written as JSON, not {value!r}. Nothing was stored."
            ) from None
    return value


def _bounded(column: Column, value: Any, schema: Mapping[str, Any] | None) -> Any:
    """Return *value*, after checking that a number is within the bounds of its field."""
    if not schema or isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    for name, is_outside in _BOUNDS.items():
        for part in (schema, *schema.get("anyOf", ())):
            bound = part.get(name) if isinstance(part, Mapping) else None
            if isinstance(bound, (int, float)) and is_outside(value, bound):
                raise UsageError(f"{column.name!r} has the {name} {bound!r}, and not {value!r}. Nothing was stored.")
    return value


_BOUNDS: dict[str, Callable[[Any, Any], bool]] = {
    "minimum": operator.lt,
    "maximum": operator.gt,
    "exclusiveMinimum": operator.le,
    "exclusiveMaximum": operator.ge,
}


def _takes_null(schema: Mapping[str, Any]) -> bool:
    """Return whether a schema allows null; True if that is unclear."""
    if "$ref" in schema or not ({"type", "enum", "const", "anyOf"} & set(schema)):
        return True
    kinds = schema.get("type")
    return (
        kinds == "null"
        or (isinstance(kinds, list) and "null" in kinds)
        or None in schema.get("enum", ())
        or ("const" in schema and schema["const"] is None)
        or any(isinstance(part, Mapping) and _takes_null(part) for part in schema.get("anyOf", ()))
    )


def field_schema(schema: Any, field: str) -> Mapping[str, Any] | None:
    """Return one field's part of a type's JSON schema, None if it has none."""
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    part = properties.get(field) if isinstance(properties, Mapping) else None
    return part if isinstance(part, Mapping) else None


def value_text(value: Any) -> str:
    """Return a value as a person reads and types it: text unchanged, data as JSON, "" for a missing value."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return orjson.dumps(value, default=str).decode() if isinstance(value, (dict, list)) else str(value)
