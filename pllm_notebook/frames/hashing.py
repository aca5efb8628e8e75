"""Hashes of cells: two that are equal stand for the same value, whatever dtype, frame or process holds it.

A number, a truth value and a text of the same letters are three values; a missing cell is one of its own. The dtype is
none of it: a column that went to Parquet and back, or through a concat, has the hashes that it had.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pllm_notebook.cell_text import as_text

__all__ = ["AnswerPrints", "Prints", "cell_hashes", "column_hashes", "row_hashes", "short_hashes"]

Prints = np.ndarray[Any, np.dtype[np.uint64]]

_MISSING = np.uint64(0x6D697373696E6721)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)
# Numbers of each type are apart from those of the others.
_WHOLE, _REAL, _TRUTH = np.uint64(0x11), np.uint64(0x22), np.uint64(0x33)


def row_hashes(columns: Sequence[Prints], rows: int) -> Prints:
    """Fold the hashes of a row's cells into one, in the order of the columns; shape (rows,)."""
    folded = np.full(rows, len(columns), dtype=np.uint64)
    for column in columns:
        folded = folded * _MIX + column
        folded ^= folded >> _SHIFT
    return folded


def cell_hashes(values: Sequence[Any], missing: Sequence[bool]) -> Prints:
    """Return the hash of each cell of a column; shape (n,).

    Args:
        values: As Python's own values.
        missing: Whether each is a missing value; of a missing one nothing is read.
    """
    kinds = set(map(type, values))
    if kinds == {str}:
        return _texts(values)
    there = [not is_missing for is_missing in missing]
    found = np.full(len(values), _MISSING, dtype=np.uint64)
    given = values if all(there) else [value for value, is_there in zip(values, there, strict=True) if is_there]
    found[np.array(there, dtype=bool)] = _present(given)
    return found


def column_hashes(column: pd.Series[Any]) -> Prints:
    """Return the hash of each cell of a pandas column, as `cell_hashes` of its values does; shape (n,)."""
    dtype = column.dtype
    missing = column.isna().to_numpy()
    if isinstance(dtype, pd.CategoricalDtype):
        codes = column.cat.codes.to_numpy()
        categories = column.cat.categories
        known = cell_hashes(categories.tolist(), [False] * len(categories))
        return np.where(codes < 0, _MISSING, known[codes] if len(known) else _MISSING).astype(np.uint64)
    if pd.api.types.is_bool_dtype(dtype) and not pd.api.types.is_object_dtype(dtype):
        return _numbers(column.to_numpy(dtype=np.bool_, na_value=False), _TRUTH, missing)
    if pd.api.types.is_integer_dtype(dtype) and not pd.api.types.is_unsigned_integer_dtype(dtype):
        return _numbers(column.to_numpy(dtype=np.int64, na_value=0), _WHOLE, missing)
    if dtype in ("float64", "Float64"):
        return _numbers(column.to_numpy(dtype=np.float64, na_value=0.0), _REAL, missing)
    if isinstance(dtype, pd.StringDtype) and not missing.any():
        return _texts(column.to_numpy(dtype=object))
    return cell_hashes(column.tolist(), missing.tolist())


def short_hashes(column: pd.Series[Any]) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """Return 4 bytes of the hash of each cell: enough to tell whether a cell still has the value that it had."""
    prints = column_hashes(column)
    return (prints ^ (prints >> np.uint64(32))).astype(np.uint32)


class AnswerPrints:
    """The hashes of a result's columns, made when somebody asks for them: the caller does not wait for it.

    Args:
        made: Name to array, none of which shares memory with what the caller was given.
        origin: For each line of them its row; None where each row has one line.
    """

    def __init__(self, made: Mapping[str, Any], origin: Sequence[int] | None) -> None:
        self._lock = threading.Lock()
        self._made = dict(made)
        self._origin = origin
        self._answers: dict[str, np.ndarray[Any, np.dtype[np.uint32]]] = {}
        for name, values in made.items():
            # Lists and dicts are the caller's own by then, and may be changed in place.
            if values.dtype == object:
                self._take(name)

    def _take(self, name: str) -> None:
        self._answers[name] = short_hashes(pd.Series(self._made.pop(name), copy=False))

    def all(self) -> tuple[dict[str, np.ndarray[Any, np.dtype[np.uint32]]], np.ndarray[Any, Any] | None]:
        """Return column to hashes, and the row of each line, None where each row has one."""
        with self._lock:
            for name in list(self._made):
                self._take(name)
            return self._answers, None if self._origin is None else np.array(self._origin, dtype=np.int32)


def _present(values: Sequence[Any]) -> Prints:
    kinds = set(map(type, values))
    try:
        if kinds == {int}:
            return _numbers(np.array(values, dtype=np.int64), _WHOLE)
        if kinds == {float}:
            return _numbers(np.array(values, dtype=np.float64), _REAL)
        if kinds == {bool}:
            return _numbers(np.array(values, dtype=np.bool_), _TRUTH)
    except OverflowError:  # integers beyond 64 bits
        pass
    if len(kinds) > 1 and kinds <= {int, float, bool, str}:  # each as it would be among its own
        found = np.empty(len(values), dtype=np.uint64)
        for kind in kinds:
            at = [i for i, value in enumerate(values) if type(value) is kind]
            found[at] = _present([values[i] for i in at])
        return found
    return _texts([value if isinstance(value, str) else f"\0{as_text(value)}" for value in values])


def _numbers(values: np.ndarray[Any, Any], kind: np.uint64, missing: np.ndarray[Any, Any] | None = None) -> Prints:
    if values.dtype == np.float64:
        values = values + 0.0  # a zero has one sign
    mixed = values.astype(np.uint64) if values.dtype == np.bool_ else values.view(np.uint64)
    mixed = (mixed ^ (mixed >> np.uint64(32)) ^ kind) * _MIX
    mixed ^= mixed >> _SHIFT
    mixed = mixed * _MIX
    return mixed if missing is None else np.where(missing, _MISSING, mixed)


def _texts(values: Sequence[Any] | np.ndarray[Any, Any]) -> Prints:
    cells = np.array(values, dtype=object)
    try:
        return _hashed(cells)
    except UnicodeEncodeError:  # half a surrogate pair
        return _hashed(np.array([str(value).encode("utf-8", "surrogatepass") for value in values], dtype=object))


def _hashed(cells: np.ndarray[Any, Any]) -> Prints:
    return pd.util.hash_array(cells, categorize=False)
