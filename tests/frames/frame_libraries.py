"""One body of a test for every dataframe library: how each makes a frame, and reads its columns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa

import pllm_notebook as pllm

__all__ = ["LIBRARIES", "FrameKit"]


class FrameKit(ABC):
    """A dataframe library as the tests need it. A missing value is None, whatever the library has for it."""

    name: str

    @abstractmethod
    def frame(self, columns: Mapping[str, Sequence[Any]]) -> Any:
        """Make a frame of columns."""

    @abstractmethod
    def series(self, values: Sequence[Any], name: str = "value") -> Any:
        """Make a series."""

    @abstractmethod
    def names(self, frame: Any) -> list[str]:
        """Return the columns' names."""

    def column(self, frame: Any, name: str) -> list[Any]:
        return self.values(frame[name])

    @abstractmethod
    def values(self, column: Any) -> list[Any]:
        """Return a column's values."""

    @abstractmethod
    def dtypes(self, frame: Any) -> dict[str, str]:
        """Return the dtypes by column."""

    def rows(self, frame: Any) -> list[dict[str, Any]]:
        columns = [self.column(frame, name) for name in self.names(frame)]
        return [dict(zip(self.names(frame), row, strict=True)) for row in zip(*columns, strict=True)]

    def llm(self, frame: Any) -> Any:
        return pllm.frame(frame)

    def __repr__(self) -> str:
        return self.name


class _Pandas(FrameKit):
    name = "pandas"

    def frame(self, columns: Mapping[str, Sequence[Any]]) -> Any:
        return pd.DataFrame({name: pd.array(list(own)) for name, own in columns.items()})

    def series(self, values: Sequence[Any], name: str = "value") -> Any:
        return pd.Series(values, name=name)

    def names(self, frame: Any) -> list[str]:
        return [str(name) for name in frame.columns]

    def values(self, column: Any) -> list[Any]:
        return [None if gap else value for value, gap in zip(column.tolist(), column.isna(), strict=True)]

    def dtypes(self, frame: Any) -> dict[str, str]:
        return {name: str(dtype) for name, dtype in frame.dtypes.items()}


class _Polars(FrameKit):
    name = "polars"

    def frame(self, columns: Mapping[str, Sequence[Any]]) -> Any:
        return pl.DataFrame(dict(columns))

    def series(self, values: Sequence[Any], name: str = "value") -> Any:
        return pl.Series(name, values)

    def names(self, frame: Any) -> list[str]:
        return list(frame.columns)

    def values(self, column: Any) -> list[Any]:
        return list(column.to_list())

    def dtypes(self, frame: Any) -> dict[str, str]:
        return {name: str(dtype) for name, dtype in frame.schema.items()}


class _Arrow(FrameKit):
    name = "arrow"

    def frame(self, columns: Mapping[str, Sequence[Any]]) -> Any:
        return pa.table(dict(columns))

    def series(self, values: Sequence[Any], name: str = "value") -> Any:
        return pa.chunked_array([values])

    def names(self, frame: Any) -> list[str]:
        return list(frame.column_names)

    def values(self, column: Any) -> list[Any]:
        return list(column.to_pylist())

    def dtypes(self, frame: Any) -> dict[str, str]:
        return {field.name: str(field.type) for field in frame.schema}


LIBRARIES: list[FrameKit] = [_Pandas(), _Polars(), _Arrow()]
