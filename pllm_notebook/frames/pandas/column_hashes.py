"""Content hashes of pandas columns, computed from their arrays if the dtype allows it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pllm_notebook.frames.hashing import (
    MISSING,
    REAL,
    TRUTH,
    WHOLE,
    Hashes,
    ShortHashes,
    cell_hashes,
    number_hashes,
    shortened,
    text_hashes,
)
from pllm_notebook.frames.pandas.cells import cells_of, dense, gaps_of

__all__ = ["column_hashes", "short_hashes"]


def column_hashes(column: pd.Series[Any]) -> Hashes:
    """Return the hash of each cell of a pandas column, the same as `cell_hashes` of its values; shape (n,)."""
    column = dense(column)
    dtype = column.dtype
    missing = gaps_of(column)
    if isinstance(dtype, pd.CategoricalDtype):
        codes = column.cat.codes.to_numpy()
        categories = column.cat.categories
        known = cell_hashes(categories.tolist(), [False] * len(categories))
        return np.where(codes < 0, MISSING, known[codes] if len(known) else MISSING).astype(np.uint64)
    if pd.api.types.is_bool_dtype(dtype) and not pd.api.types.is_object_dtype(dtype):
        return number_hashes(column.to_numpy(dtype=np.bool_, na_value=False), TRUTH, missing)
    if pd.api.types.is_integer_dtype(dtype) and not pd.api.types.is_unsigned_integer_dtype(dtype):
        return number_hashes(column.to_numpy(dtype=np.int64, na_value=0), WHOLE, missing)
    if dtype in ("float64", "Float64"):
        reals = column.to_numpy(dtype=np.float64, na_value=np.nan)
        return number_hashes(reals, REAL, np.isnan(reals))
    if pd.api.types.is_float_dtype(dtype):  # narrow floats, and Arrow floats, which have both NaN and null
        return cell_hashes(*cells_of(column))
    if isinstance(dtype, pd.StringDtype) and not missing.any():
        return text_hashes(column.to_numpy(dtype=object))
    return cell_hashes(column.tolist(), missing.tolist())


def short_hashes(column: pd.Series[Any]) -> ShortHashes:
    """Return a short content hash of each cell (see `hashing.shortened`)."""
    return shortened(column_hashes(column))
