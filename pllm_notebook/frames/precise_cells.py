"""Cells that Python's own types cannot represent exactly, with the same text in every dataframe library."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np

from pllm_notebook.cell_text import is_missing

__all__ = ["narrow_floats", "with_gaps", "with_nanoseconds"]


def narrow_floats(values: np.ndarray[Any, Any]) -> list[float]:
    """Return 16- or 32-bit floats with the shortest digits of their own width: 0.1, not 0.10000000149.

    Args:
        values: Shape (n,), NaN for a missing value.
    """
    shortest: list[float] = values.astype(str).astype(np.float64).tolist()
    return shortest


def with_nanoseconds(values: list[Any], nanoseconds: list[int]) -> list[Any]:
    """Return points in time or durations with nanosecond precision.

    Args:
        values: Datetimes or timedeltas with microsecond precision; None for a missing value.
        nanoseconds: The remaining nanoseconds of each value, 0 to 999.
    """
    if not any(nanoseconds):
        return values
    return [
        _exact(value, rest) if rest and value is not None else value
        for value, rest in zip(values, nanoseconds, strict=True)
    ]


def with_gaps(values: list[Any], gaps: list[bool], *, real: bool) -> list[bool]:
    """Return whether each cell is missing: null, or NaN in a column that may contain it.

    Args:
        values: The cells.
        gaps: Whether each cell is null.
        real: Whether the column contains floats or Python objects.
    """
    return [gap or is_missing(value) for gap, value in zip(gaps, values, strict=True)] if real else gaps


def _exact(value: Any, rest: int) -> Any:
    if isinstance(value, dt.timedelta):
        return np.timedelta64(value, "us").astype("timedelta64[ns]") + np.timedelta64(rest, "ns")
    if value.tzinfo is None:
        return np.datetime64(value, "us").astype("datetime64[ns]") + np.timedelta64(rest, "ns")
    # As text, because a numpy datetime has no time zone.
    text = value.isoformat(timespec="microseconds")
    at = text.index(".") + 7
    return f"{text[:at]}{rest:03}{text[at:]}"
