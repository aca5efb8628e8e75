"""Hashes of cells. Equal values have equal hashes, regardless of dtype, frame and process.

A number, a Boolean and a text with the same characters are three different values, and a missing cell is a fourth.
The dtype does not matter: a column keeps its hashes after a round trip through Parquet or a concat.

The registry of runs stores these hashes. Hashes of texts are those of pandas, which computes them if it is loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from pllm_notebook.cell_text import as_text
from pllm_notebook.frames.rows import ColumnData
from pllm_notebook.frames.siphash import sip_hashes

__all__ = [
    "MISSING",
    "REAL",
    "TRUTH",
    "WHOLE",
    "Hashes",
    "ShortHashes",
    "cell_hashes",
    "content_hashes",
    "number_hashes",
    "row_hashes",
    "shortened",
    "text_hashes",
]

Hashes = np.ndarray[Any, np.dtype[np.uint64]]
ShortHashes = np.ndarray[Any, np.dtype[np.uint32]]

MISSING = np.uint64(0x6D697373696E6721)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(29)
# They keep the hashes of numbers of different types apart.
WHOLE, REAL, TRUTH = np.uint64(0x11), np.uint64(0x22), np.uint64(0x33)


def row_hashes(columns: Sequence[Hashes], rows: int) -> Hashes:
    """Fold the hashes of a row's cells into one, in the order of the columns; shape (rows,)."""
    folded = np.full(rows, len(columns), dtype=np.uint64)
    for column in columns:
        folded = folded * _MIX + column
        folded ^= folded >> _SHIFT
    return folded


def cell_hashes(values: Sequence[Any], missing: Sequence[bool]) -> Hashes:
    """Return the hash of each cell of a column; shape (n,).

    Args:
        values: Python values.
        missing: Whether each cell is missing. The value of a missing cell is never read.
    """
    kinds = set(map(type, values))
    if kinds == {str}:
        return text_hashes(values)
    there = [not is_missing for is_missing in missing]
    found = np.full(len(values), MISSING, dtype=np.uint64)
    given = values if all(there) else [value for value, is_there in zip(values, there, strict=True) if is_there]
    found[np.array(there, dtype=bool)] = _present(given)
    return found


def shortened(hashes: Hashes) -> ShortHashes:
    """Return 4 bytes of each hash, enough to detect that a cell has changed."""
    return (hashes ^ (hashes >> np.uint64(32))).astype(np.uint32)


def content_hashes(columns: Sequence[ColumnData], rows: int) -> Hashes:
    """Return the hash of each row of some columns, in their order; shape (rows,)."""
    cells = [cell_hashes(*own) for data in columns for own in zip(data.values, data.missing, strict=True)]
    return row_hashes(cells, rows)


def _present(values: Sequence[Any]) -> Hashes:
    kinds = set(map(type, values))
    try:
        if kinds == {int}:
            return number_hashes(np.array(values, dtype=np.int64), WHOLE)
        if kinds == {float}:
            return number_hashes(np.array(values, dtype=np.float64), REAL)
        if kinds == {bool}:
            return number_hashes(np.array(values, dtype=np.bool_), TRUTH)
    except OverflowError:  # integers beyond 64 bits
        pass
    if len(kinds) > 1 and kinds <= {int, float, bool, str}:  # each type is hashed as in a column of only that type
        found = np.empty(len(values), dtype=np.uint64)
        for kind in kinds:
            at = [i for i, value in enumerate(values) if type(value) is kind]
            found[at] = _present([values[i] for i in at])
        return found
    return text_hashes([value if isinstance(value, str) else _written(value) for value in values])


def _written(value: Any) -> str:
    """Return the text to hash for a value that is not text; its class name if it has no text form (its row fails)."""
    try:
        return f"\0{as_text(value)}"
    except Exception:
        return f"\0\0{type(value).__name__}"


def number_hashes(values: np.ndarray[Any, Any], kind: np.uint64, missing: np.ndarray[Any, Any] | None = None) -> Hashes:
    """Return the hashes of numbers of one type: WHOLE, REAL or TRUTH."""
    if values.dtype == np.float64:
        values = values + 0.0  # turns -0.0 into 0.0
    mixed = values.astype(np.uint64) if values.dtype == np.bool_ else values.view(np.uint64)
    mixed = (mixed ^ (mixed >> np.uint64(32)) ^ kind) * _MIX
    mixed ^= mixed >> _SHIFT
    mixed = mixed * _MIX
    return mixed if missing is None else np.where(missing, MISSING, mixed)


def text_hashes(values: Sequence[Any] | np.ndarray[Any, Any]) -> Hashes:
    """Return the hashes of texts."""
    try:
        return _hashed(values)
    except UnicodeEncodeError:  # half a surrogate pair
        return _hashed([str(value).encode("utf-8", "surrogatepass") for value in values])


def _hashed(values: Sequence[Any] | np.ndarray[Any, Any]) -> Hashes:
    pandas = sys.modules.get("pandas.util")
    if pandas is not None:  # the same numbers, four times as fast
        hashes: Hashes = pandas.hash_array(np.array(values, dtype=object), categorize=False)
        return hashes
    return sip_hashes([value if isinstance(value, bytes) else value.encode() for value in values])
