"""Values that a person gives for a field: from a text or a choice to what the field's column holds."""

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
    """Return the values that a field lists, () for one that does not."""
    return (True, False) if column.kind is Kind.BOOLEAN else column.categories


_KINDS: dict[Kind, Any] = {Kind.INTEGER: int, Kind.REAL: float, Kind.BOOLEAN: bool}


def value_of(column: Column, value: Any, schema: Mapping[str, Any] | None = None) -> Any:
    """Return a value of a column from a value or its text.

    Args:
        column: Of the answers.
        value: As a person gave it.
        schema: The part of the type's JSON schema that is about this field, for its bounds; None for unknown.

    Raises:
        UsageError: If the column cannot have it. Nothing was stored.
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
    """Return a value of a column that lists none."""
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
    """Return a number that is within the bounds of its field; anything else as it is."""
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
    """Return whether a schema allows null; True where that is not plain to see."""
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
    """Return the part of a type's JSON schema that is about one field, None where it does not say."""
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    part = properties.get(field) if isinstance(properties, Mapping) else None
    return part if isinstance(part, Mapping) else None


def value_text(value: Any) -> str:
    """Return a value as a person reads and types it: text as it is, data as JSON, nothing for a missing one."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return orjson.dumps(value, default=str).decode() if isinstance(value, (dict, list)) else str(value)
