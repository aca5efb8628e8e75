"""Frames with columns of each dtype that Python values would lose, by library."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa

__all__ = ["of_every_dtype"]

DAYS = [datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)]


def of_every_dtype(library: str) -> Any:
    """Two documents, four rows each, named by a column of each dtype that Python values would lose."""
    twice = [0, 1] * 4
    words = [f"w{n:02}" for n in range(8)]
    if library == "pandas":
        return pd.DataFrame({
            "category": pd.Categorical([["x", "y"][at] for at in twice], ["y", "x", "unused"], ordered=True),
            "nullable": pd.array([[7, None][at] for at in twice], dtype="Int16"),
            "short": np.array(twice, dtype="int8"),
            "moment": pd.Series([DAYS[at] for at in twice]).dt.tz_convert("Europe/Berlin"),
            "text": pd.array([["p", "q"][at] for at in twice], dtype="string"),
            "word": words,
        }, index=range(10, 18))  # fmt: skip
    if library == "polars":
        return pl.DataFrame({
            "category": pl.Series([["x", "y"][at] for at in twice], dtype=pl.Enum(["y", "x", "unused"])),
            "nullable": pl.Series([[7, None][at] for at in twice], dtype=pl.Int16),
            "moment": pl.Series([DAYS[at] for at in twice], dtype=pl.Datetime("ms", "UTC")),
            "price": pl.Series([[1, 2][at] for at in twice], dtype=pl.Decimal(10, 2)),
            "word": words,
        })  # fmt: skip
    return pa.table({
        "category": pa.array([["x", "y"][at] for at in twice]).dictionary_encode(),
        "nullable": pa.array([[7, None][at] for at in twice], pa.int16()),
        "moment": pa.array([DAYS[at] for at in twice], pa.timestamp("ms", "Europe/Berlin")),
        "price": pa.array([[1, 2][at] for at in twice], pa.decimal128(10, 2)),
        "text": pa.array([["p", "q"][at] for at in twice], pa.large_string()),
        "word": words,
    })  # fmt: skip
