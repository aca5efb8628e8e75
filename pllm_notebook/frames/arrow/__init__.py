"""The adapter for Arrow: PyArrow tables, and objects that stream Arrow data, such as a DuckDB relation."""

from __future__ import annotations

import importlib
from typing import Any

from pllm_notebook.exceptions import MissingPackageError
from pllm_notebook.frames.libraries import register_library

__all__ = ["arrow_data"]

_STREAM = "__arrow_c_stream__"


def arrow_data(data: Any) -> Any:
    """Return Arrow data as a table or a chunked array, None for anything else. A stream is read completely."""
    import pyarrow as pa

    if isinstance(data, (pa.Table, pa.ChunkedArray)):
        return data
    if isinstance(data, pa.Array):
        return pa.chunked_array([data])
    if isinstance(data, type) or not hasattr(data, _STREAM):
        return None
    try:
        return pa.table(data)
    except (TypeError, pa.ArrowTypeError):
        return pa.chunked_array(data)  # a stream of one column


def _library() -> Any:
    try:
        importlib.import_module("pyarrow")
    except ImportError:
        raise MissingPackageError("Arrow data", "pyarrow", "arrow") from None
    return importlib.import_module(f"{__name__}.adapter").LIBRARY


# Objects that stream Arrow data may exist even if PyArrow is not loaded.
register_library("pyarrow", _library, method=_STREAM)
