"""The cells of a pandas frame that a run is told of, as Python's own values, and the hash of each row of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from pllm_notebook.frames.hashing import Prints, cell_hashes, row_hashes
from pllm_notebook.frames.pandas.cells import column_names
from pllm_notebook.frames.rows import ColumnData

__all__ = ["as_frame", "column", "content_hashes"]


def as_frame(data: pd.DataFrame | pd.Series[Any]) -> pd.DataFrame:
    """Return a frame as it is, and a Series as a frame of one column: "value" where it has no name."""
    if isinstance(data, pd.DataFrame):
        return data
    frame = data.to_frame("value" if data.name is None else data.name)
    frame.attrs = dict(data.attrs)
    return frame


def content_hashes(told: Sequence[ColumnData], rows: int) -> Prints:
    """Return the hash of each row of the columns in *told*, in their order; shape (rows,)."""
    columns = [cell_hashes(*cells) for one in told for cells in zip(one.values, one.missing, strict=True)]
    return row_hashes(columns, rows)


def column(frame: pd.DataFrame, name: str) -> pd.Series[Any]:
    """Return the first column whose name is written so (see `column_names`)."""
    return frame.iloc[:, column_names(frame).index(name)]
