"""Result columns of pandas: the dtype follows from the type, and no value is lost in conversion."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pllm_notebook.frames.dtypes import Column, Kind, plain
from pllm_notebook.frames.pandas.cells import column_names, named_like

__all__ = ["array_of", "join_columns"]

_DTYPES: dict[Kind, Any] = {
    Kind.TEXT: "string",
    Kind.WORDS: "string",
    Kind.JSON: "string",
    Kind.INTEGER: "Int64",
    Kind.REAL: "Float64",
    Kind.BOOLEAN: "boolean",
    Kind.MOMENT: pd.DatetimeTZDtype("us", "UTC"),
    Kind.DATETIME: np.dtype("datetime64[us]"),
    Kind.DURATION: np.dtype("timedelta64[us]"),
}

_INT64 = 2**63


def array_of(column: Column, values: list[Any]) -> Any:
    """Build one column.

    If its dtype cannot represent a value (an integer beyond 64 bits, a value from a judge or the caller's function), it
    becomes a column of objects, with a warning. A value never becomes NA.
    """
    values = plain(column, values)
    try:
        built = _built(column, values)
    except (OverflowError, ValueError, TypeError) as error:
        beyond = next((value for value in values if isinstance(value, int) and not -_INT64 <= value < _INT64), None)
        why = f"{type(error).__name__}: {error}" if beyond is None else f"{beyond} is beyond 64 bits"
        warnings.warn(f"Column {column.name!r} holds objects: {why}", stacklevel=2)
        built = None
    if built is not None:
        lost = [values[at] for at in np.flatnonzero(built.isna()) if not _is_gap(values[at])]
        if not lost:
            return built
        warnings.warn(
            f"Column {column.name!r} holds objects, since {lost[0]!r:.60} is not a value of its type.", stacklevel=2
        )
    objects = np.empty(len(values), dtype=object)
    for at, value in enumerate(values):  # one by one: numpy would unpack a list of lists
        objects[at] = value  # a missing value is None, as when read from Parquet
    # A Series, because pandas would infer another dtype from the values of an array.
    return pd.Series(objects, dtype="object")


def join_columns(
    frame: pd.DataFrame, made: Mapping[str, Any], origin: Sequence[int], replaced: Sequence[str], *, explode: bool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Join made columns to those of a frame.

    Args:
        frame: The frame, which is never changed.
        made: Maps names to arrays.
        origin: The row of *frame* for each line of the made columns.
        replaced: Columns of *frame* to leave out.
        explode: Whether a row may have several lines, or the lines are only for some rows.

    Returns:
        The joined frame, and the made columns alone, both with the index of *frame*'s rows.
    """
    out = frame.copy(deep=False) if not explode else frame.take(np.array(origin, dtype=np.intp))
    out = out.loc[:, [name not in replaced for name in column_names(out)]]
    # One concat adds all columns at once, and by position, because the index is the frame's own object. It starts with
    # a RangeIndex, because a column of objects is a Series and would be aligned by its labels.
    alone = pd.DataFrame(dict(made), index=pd.RangeIndex(len(out))).set_axis(out.index)
    alone.columns = named_like(frame, list(made), replaced)
    return pd.concat([out, alone], axis=1) if made else out, alone


def _built(column: Column, values: list[Any]) -> Any:
    """Build a column with its dtype; None for a column of objects."""
    build: Any = pd.array  # its overloads do not allow a dtype chosen at run time
    if column.kind is Kind.CATEGORY:
        code = {value: at for at, value in enumerate(column.categories)}
        return pd.Categorical.from_codes([code.get(value, -1) for value in values], pd.Index(column.categories))
    dtype = _DTYPES.get(column.kind)
    if dtype == "string" and not all(issubclass(kind, (str, type(None))) for kind in set(map(type, values))):
        raise TypeError("a value is not text")  # Arrow would convert it
    return None if dtype is None else build(values, dtype=dtype)


def _is_gap(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)
