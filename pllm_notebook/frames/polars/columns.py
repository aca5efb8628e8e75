"""Columns of Polars: reading cells, and building result columns, whose dtype follows from the type."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from pllm_notebook.frames.dtypes import Column, Kind, plain
from pllm_notebook.frames.precise_cells import narrow_floats, with_gaps, with_nanoseconds
from pllm_notebook.frames.value_types import JSON, ValueType, as_typed
from pllm_notebook.frames.worded_columns import SCALE, decimal_fits, why_not, worded

__all__ = ["array_of", "cells", "dtype_of", "inferred"]

_DTYPES: dict[Kind, Any] = {
    Kind.TEXT: pl.String,
    Kind.WORDS: pl.String,
    Kind.JSON: pl.String,
    Kind.INTEGER: pl.Int64,
    Kind.REAL: pl.Float64,
    Kind.BOOLEAN: pl.Boolean,
    Kind.MOMENT: pl.Datetime("us", "UTC"),
    Kind.DURATION: pl.Duration("us"),
    Kind.OBJECT: pl.Object,
}

_TYPES: dict[str, Any] = {
    "text": pl.String,
    "json": pl.String,
    "integer": pl.Int64,
    "real": pl.Float64,
    "boolean": pl.Boolean,
    "date": pl.Date,
    "decimal": pl.Decimal(38, SCALE),
    "binary": pl.Binary,
}


def cells(column: pl.Series) -> tuple[list[Any], list[bool]]:
    """Return a column's values, and whether each is missing: null or NaN."""
    dtype = column.dtype
    gaps = column.is_null().to_list()
    if dtype.is_float() and dtype != pl.Float64:
        values: list[Any] = narrow_floats(column.to_numpy().astype(np.float16 if "16" in str(dtype) else np.float32))
    elif isinstance(dtype, (pl.Datetime, pl.Duration)) and dtype.time_unit == "ns":
        physical = column.to_physical()
        whole = physical // 1000  # rounds down, also before 1970
        coarse = pl.Datetime("us", dtype.time_zone) if isinstance(dtype, pl.Datetime) else pl.Duration("us")
        rest = (physical - whole * 1000).fill_null(0).to_list()
        values = with_nanoseconds(whole.cast(coarse).to_list(), rest)
    else:
        values = column.to_list()
    return values, with_gaps(values, gaps, real=dtype.is_float() or dtype == pl.Object)


def dtype_of(column: Column) -> Any:
    """Return the dtype of a column's values, which follows from the annotation alone."""
    if column.kind is Kind.CATEGORY:
        return pl.Enum(list(column.categories))
    if column.kind is Kind.DATETIME:
        return pl.Datetime("us") if column.type is None else pl.Date
    if column.kind in (Kind.DATA, Kind.SCALAR):
        return _nested(column.type or JSON)
    return _DTYPES[column.kind]


def array_of(column: Column, values: list[Any]) -> pl.Series:
    """Build one column.

    If its dtype cannot represent a value (an integer beyond 64 bits, a value from a judge or the caller's function), it
    becomes a column of text, with a warning. A value never becomes null.
    """
    values, dtype = plain(column, values), dtype_of(column)
    if column.kind is Kind.OBJECT:
        return pl.Series(column.name, values, dtype=dtype)
    try:
        if column.kind in (Kind.DATA, Kind.SCALAR):
            values = as_typed(values, column.type or JSON, _entry)
        built = pl.Series(column.name, values, dtype=dtype, strict=True)
        if built.dtype == dtype and (not isinstance(dtype, pl.Decimal) or all(map(decimal_fits, values))):
            return built
        why = f"a value is not one of {dtype}"
    except (TypeError, ValueError, OverflowError, pl.exceptions.PolarsError) as error:
        why = why_not(error, values)
    warnings.warn(f"Column {column.name!r} holds text: {why}", stacklevel=2)
    return pl.Series(column.name, worded(values), dtype=pl.String)


def inferred(name: str, values: Sequence[Any]) -> pl.Series:
    """Build a column of plain values of unknown type. Mixed values become text."""
    values = list(values)
    try:
        return pl.Series(name, values, strict=True)
    except (TypeError, OverflowError, pl.exceptions.PolarsError):
        return pl.Series(name, worded(values), dtype=pl.String)


def _nested(kind: ValueType) -> Any:
    if kind.name == "list":
        return pl.List(_nested(kind.inner[0]))
    if kind.name == "map":
        return pl.List(pl.Struct({"key": pl.String, "value": _nested(kind.inner[0])}))
    if kind.name == "struct":
        return pl.Struct({name: _nested(inner) for name, inner in zip(kind.fields, kind.inner, strict=True)})
    return _TYPES[kind.name]


def _entry(key: str, value: Any) -> dict[str, Any]:
    return {"key": key, "value": value}
