"""Result columns of Arrow: the type follows from the annotation, and no value is lost in conversion."""

from __future__ import annotations

import datetime as dt
import warnings
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from pllm_notebook.frames.dtypes import Column, Kind, plain
from pllm_notebook.frames.plain_data import as_json_text
from pllm_notebook.frames.value_types import JSON, ValueType, as_typed
from pllm_notebook.frames.worded_columns import SCALE, why_not, worded

__all__ = ["array_of", "inferred", "type_of"]

_KINDS: dict[Kind, Any] = {
    Kind.TEXT: pa.string(),
    Kind.WORDS: pa.string(),
    Kind.JSON: pa.string(),
    Kind.OBJECT: pa.string(),
    Kind.INTEGER: pa.int64(),
    Kind.REAL: pa.float64(),
    Kind.BOOLEAN: pa.bool_(),
    Kind.MOMENT: pa.timestamp("us", "UTC"),
    Kind.DURATION: pa.duration("us"),
    Kind.CATEGORY: pa.dictionary(pa.int32(), pa.string()),
}

_TYPES: dict[str, Any] = {
    "text": pa.string(),
    "json": pa.string(),
    "integer": pa.int64(),
    "real": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "decimal": pa.decimal128(38, SCALE),
    "binary": pa.binary(),
}


def type_of(column: Column) -> Any:
    """Return the type of a column's values, which follows from the annotation alone."""
    if column.kind is Kind.DATETIME:
        return pa.timestamp("us") if column.type is None else pa.date32()
    if column.kind in (Kind.DATA, Kind.SCALAR):
        return _nested(column.type or JSON)
    return _KINDS[column.kind]


def array_of(column: Column, values: list[Any]) -> Any:
    """Build one column.

    Python objects become JSON text, since Arrow cannot store them. If its type cannot represent a value (an integer
    beyond 64 bits, a value from a judge or the caller's function), it becomes a column of text, with a warning. A value
    never becomes null.
    """
    values = plain(column, values)
    try:
        return pa.chunked_array([_built(column, values)])
    except (TypeError, ValueError, OverflowError, KeyError, pa.ArrowException) as error:
        why = why_not(error, values)
    warnings.warn(f"Column {column.name!r} holds text: {why}", stacklevel=2)
    return pa.chunked_array([pa.array(worded(values), type=pa.string())])


def inferred(values: Sequence[Any]) -> Any:
    """Build a column of plain values of unknown type. Mixed values become text."""
    values = list(values)
    try:
        return pa.chunked_array([pa.array(values)])
    except (TypeError, ValueError, OverflowError, pa.ArrowException):
        return pa.chunked_array([pa.array(worded(values), type=pa.string())])


def _built(column: Column, values: list[Any]) -> Any:
    kind = type_of(column)
    if column.kind is Kind.CATEGORY:
        places = {value: at for at, value in enumerate(column.categories)}
        codes = [None if value is None else places[value] for value in values]
        # All categories are included, in their order. Encoding the values would lose the unused ones.
        return pa.DictionaryArray.from_arrays(
            pa.array(codes, type=pa.int32()), pa.array(list(column.categories), type=pa.string())
        )
    if column.kind is Kind.OBJECT:
        values = [as_json_text(value) for value in values]
    elif column.kind in (Kind.DATA, Kind.SCALAR):
        values = as_typed(values, column.type or JSON, lambda key, value: (key, value))
    elif kind == pa.date32() and any(isinstance(value, dt.datetime) for value in values):
        raise TypeError("a value has a time of day")  # Arrow would drop it
    return pa.array(values, type=kind)


def _nested(kind: ValueType) -> Any:
    if kind.name == "list":
        return pa.list_(_nested(kind.inner[0]))
    if kind.name == "map":
        return pa.map_(pa.string(), _nested(kind.inner[0]))
    if kind.name == "struct":
        return pa.struct([(name, _nested(inner)) for name, inner in zip(kind.fields, kind.inner, strict=True)])
    return _TYPES[kind.name]
