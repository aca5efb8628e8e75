"""Values that a typed column cannot hold: the same values as text, and the reason for the warning."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from pllm_notebook.cell_text import as_text, is_missing

__all__ = ["SCALE", "decimal_fits", "why_not", "worded"]

SCALE = 18
"""Decimal places of a column of Decimals. Of Arrow's 38 digits, 20 are left before the decimal point."""

_INT64 = 2**63


def decimal_fits(value: Any) -> bool:
    """Return whether a column of Decimals holds *value* without rounding; None fits."""
    if value is None:
        return True
    if not isinstance(value, Decimal) or not value.is_finite():
        return False
    exponent = value.normalize().as_tuple().exponent
    return isinstance(exponent, int) and -exponent <= SCALE


def why_not(error: Exception, values: Iterable[Any]) -> str:
    """Return the reason why values are not of their column's type."""
    beyond = next((value for value in values if isinstance(value, int) and not -_INT64 <= value < _INT64), None)
    first = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {first}" if beyond is None else f"{beyond} is beyond 64 bits"


def worded(values: Sequence[Any]) -> list[str | None]:
    """Return values as text that every column can hold, None for a missing value. Lone surrogates are escaped."""
    return [
        None if is_missing(value) else as_text(value).encode("utf-8", "backslashreplace").decode() for value in values
    ]
