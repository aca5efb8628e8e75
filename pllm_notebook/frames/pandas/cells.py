"""The cells of a pandas frame as Python values, and its column names as written in prompts."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pllm_notebook.cell_text import is_missing
from pllm_notebook.exceptions import UsageError
from pllm_notebook.frames.precise_cells import narrow_floats
from pllm_notebook.frames.rows import ColumnData

__all__ = ["cells_of", "column_data", "column_names", "dense", "gaps_of", "named_like"]

# Inferred dtypes of object columns for which pandas detects missing values correctly.
_PLAIN = frozenset({"boolean", "empty", "floating", "integer", "string"})


def column_names(frame: pd.DataFrame) -> list[str]:
    """Return the column names as text, in order.

    With several column levels, a name is its non-empty levels joined by `_`: `('price', 'mean')` is `price_mean`, the
    usual way to flatten the result of `groupby(…).agg(…)`.
    """
    if isinstance(frame.columns, pd.MultiIndex):
        return ["_".join(str(level) for level in name if level != "") for name in frame.columns]
    return [str(name) for name in frame.columns]


def named_like(frame: pd.DataFrame, names: Sequence[str], replaced: Collection[str] = ()) -> pd.Index[Any]:
    """Return *names* as columns to add to *frame*. With several column levels, all but the first are empty.

    A name in *replaced* keeps the label of the column that it replaces, with its levels or a label that is not text.
    """
    known: dict[str, Any] = dict(zip(column_names(frame), frame.columns, strict=True)) if replaced else {}
    own = {name: known[name] for name in replaced if name in known}
    columns: pd.Index[Any]
    if isinstance(frame.columns, pd.MultiIndex):
        empty = ("",) * (frame.columns.nlevels - 1)
        columns = pd.MultiIndex.from_tuples(
            [own.get(name, (name, *empty)) for name in names], names=frame.columns.names
        )
    else:
        columns = pd.Index([own.get(name, name) for name in names])
    return columns


def column_data(frame: pd.DataFrame, names: Sequence[str]) -> ColumnData:
    """Return the cells of the columns with these names.

    Raises:
        UsageError: If two columns share one of the names. Nothing was sent.
    """
    at: dict[str, list[int]] = {}
    for position, column in enumerate(column_names(frame)):
        at.setdefault(column, []).append(position)
    values, missing = [], []
    for name in names:
        positions = at[name]
        if len(positions) > 1:
            raise UsageError(
                f"The frame has {len(positions)} columns named {name!r}, so it is unclear which one the prompt means. "
                f"Rename them. Nothing was sent."
            )
        cells, gaps = cells_of(frame.iloc[:, positions[0]])
        values.append(cells)
        missing.append(gaps)
    return ColumnData(tuple(names), tuple(values), tuple(missing), len(frame))


def dense(series: pd.Series[Any]) -> pd.Series[Any]:
    """Return a sparse column as a dense one, any other unchanged."""
    if not isinstance(series.dtype, pd.SparseDtype):
        return series
    return series.sparse.to_dense()  # type: ignore[attr-defined,no-any-return]  # the stubs know no accessor here


def gaps_of(series: pd.Series[Any]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Return whether each cell of a column is missing; shape (n,), a new array."""
    if series.dtype == object and not _is_plain(series):
        # pandas treats masked values and Arrow nulls as present, and fails for a signalling NaN.
        return np.array([is_missing(value) for value in series.tolist()], dtype=bool)
    return series.isna().to_numpy(dtype=bool, copy=True)


def _is_plain(series: pd.Series[Any]) -> bool:
    try:
        return pd.api.types.infer_dtype(series, skipna=True) in _PLAIN
    except ArithmeticError:
        return False


def cells_of(series: pd.Series[Any]) -> tuple[list[Any], list[bool]]:
    """Return a column's values, and whether each is missing."""
    gaps = gaps_of(series).tolist()
    series = dense(series)
    if isinstance(series.dtype, pd.CategoricalDtype):
        kind: Any = series.dtype.categories.dtype
        series = series.astype(kind) if getattr(kind, "kind", "") == "f" else series
    dtype = series.dtype
    if getattr(dtype, "kind", "") != "f":
        return series.tolist(), gaps
    if _bytes_of(dtype) < 8:
        narrow = series.to_numpy(dtype=np.float16 if _bytes_of(dtype) == 2 else np.float32, na_value=np.nan)
        values: list[Any] = narrow_floats(narrow)
    else:
        values = series.tolist()
    if isinstance(dtype, np.dtype):
        return values, gaps
    # Extension dtypes have both NaN and NA, and report NaN as present.
    return values, [gap or is_missing(value) for gap, value in zip(gaps, values, strict=True)]


def _bytes_of(dtype: Any) -> int:
    return int(np.dtype(getattr(dtype, "numpy_dtype", dtype)).itemsize)
