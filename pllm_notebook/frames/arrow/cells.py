"""The cells of an Arrow column as Python values."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pllm_notebook.frames.precise_cells import narrow_floats, with_gaps, with_nanoseconds

__all__ = ["cells"]


def cells(column: Any) -> tuple[list[Any], list[bool]]:
    """Return a column's values, and whether each is missing: null or NaN.

    Args:
        column: A chunked array.
    """
    kind = column.type
    if pa.types.is_dictionary(kind):
        column, kind = column.cast(kind.value_type), kind.value_type
    if pa.types.is_float16(kind) or pa.types.is_float32(kind):
        values: list[Any] = narrow_floats(column.to_numpy())
    elif pa.types.is_timestamp(kind) and kind.unit == "ns":
        values = _nanoseconds(column, pa.timestamp("us", kind.tz))
    elif pa.types.is_duration(kind) and kind.unit == "ns":
        values = _nanoseconds(column, pa.duration("us"))
    elif _has_map(kind):
        values = column.to_pylist(maps_as_pydicts="lossy")
    else:
        values = column.to_pylist()
    return values, with_gaps(values, column.is_null().to_pylist(), real=pa.types.is_floating(kind))


def _nanoseconds(column: Any, coarse: Any) -> list[Any]:
    """Return points in time or durations in nanoseconds. Python's own classes only have microseconds."""
    physical = column.cast(pa.int64())
    cut = pc.divide(physical, 1000)
    # Arrow truncates toward zero, which rounds up before 1970.
    whole = pc.subtract(cut, pc.cast(pc.greater(pc.multiply(cut, 1000), physical), pa.int64()))
    rest = pc.fill_null(pc.subtract(physical, pc.multiply(whole, 1000)), 0).to_pylist()
    return with_nanoseconds(whole.cast(coarse).to_pylist(), rest)


def _has_map(kind: Any) -> bool:
    inner = range(kind.num_fields)
    return pa.types.is_map(kind) or any(_has_map(kind.field(at).type) for at in inner)
