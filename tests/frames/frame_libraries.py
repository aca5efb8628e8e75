"""One body of a test for every dataframe library: how each makes a frame, and reads its columns."""

from __future__ import annotations

import io
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
from pyarrow import parquet

import pllm_notebook as pllm

__all__ = ["LIBRARIES", "FrameKit", "Texts"]

Texts = Callable[..., Any]
"""Makes `.llm` of a frame of texts."""


class FrameKit(ABC):
    """A dataframe library as the tests need it. A missing value is None, whatever the library has for it."""

    name: str
    DTYPES: Mapping[str, str]
    """The library's dtypes of answers; "open" is that of values whose type leaves their form open."""

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

    @abstractmethod
    def categories(self, column: Any) -> list[Any]:
        """Return all values that a column of categories may have, in their order."""

    def open_values(self, *values: Any) -> list[Any]:
        """Return values of an open form as a column has them: as JSON text, where a column has one type."""
        return [json.dumps(value, separators=(",", ":")) for value in values]

    def rows(self, frame: Any) -> list[dict[str, Any]]:
        columns = [self.column(frame, name) for name in self.names(frame)]
        return [dict(zip(self.names(frame), row, strict=True)) for row in zip(*columns, strict=True)]

    def llm(self, frame: Any) -> Any:
        return pllm.frame(frame)

    # What a person does to a frame: each returns another one.

    @abstractmethod
    def put(self, frame: Any, name: str, values: Sequence[Any]) -> Any:
        """Set a column's values, or add it."""

    @abstractmethod
    def take(self, frame: Any, rows: Sequence[int]) -> Any:
        """Take rows by position."""

    @abstractmethod
    def drop(self, frame: Any, *names: str) -> Any:
        """Leave columns out."""

    @abstractmethod
    def rename(self, frame: Any, name: str, to: str) -> Any:
        """Rename a column."""

    @abstractmethod
    def concat(self, *frames: Any) -> Any:
        """Put frames below each other; what one lacks is missing."""

    @abstractmethod
    def join(self, frame: Any, other: Any, by: str) -> Any:
        """Join another frame by a column that both have, in the order of the first."""

    @abstractmethod
    def stored(self, frame: Any) -> Any:
        """Write a frame to Parquet and read it again."""

    @abstractmethod
    def unnamed(self, frame: Any) -> Any:
        """Return the frame without what says which run made it."""

    def __repr__(self) -> str:
        return self.name


class _Pandas(FrameKit):
    name = "pandas"
    DTYPES: Mapping[str, str] = {
        "text": "string",
        "integer": "Int64",
        "real": "Float64",
        "boolean": "boolean",
        "moment": "datetime64[us]",
        "moment in UTC": "datetime64[us, UTC]",
        "open": "object",
    }

    def frame(self, columns: Mapping[str, Sequence[Any]]) -> Any:
        return pd.DataFrame({name: _pandas_column(list(own)) for name, own in columns.items()})

    def series(self, values: Sequence[Any], name: str = "value") -> Any:
        return pd.Series(values, name=name)

    def names(self, frame: Any) -> list[str]:
        return [str(name) for name in frame.columns]

    def values(self, column: Any) -> list[Any]:
        return [None if gap else value for value, gap in zip(column.tolist(), column.isna(), strict=True)]

    def dtypes(self, frame: Any) -> dict[str, str]:
        return {name: str(dtype) for name, dtype in frame.dtypes.items()}

    def categories(self, column: Any) -> list[Any]:
        return list(column.cat.categories.tolist())

    def open_values(self, *values: Any) -> list[Any]:
        return list(values)

    def put(self, frame: Any, name: str, values: Sequence[Any]) -> Any:
        return frame.assign(**{name: pd.array(list(values), dtype=frame[name].dtype if name in frame else None)})

    def take(self, frame: Any, rows: Sequence[int]) -> Any:
        return frame.iloc[list(rows)]

    def drop(self, frame: Any, *names: str) -> Any:
        return frame.drop(columns=list(names))

    def rename(self, frame: Any, name: str, to: str) -> Any:
        return frame.rename(columns={name: to})

    def concat(self, *frames: Any) -> Any:
        return pd.concat(frames, ignore_index=True)

    def join(self, frame: Any, other: Any, by: str) -> Any:
        return frame.merge(other, on=by)

    def stored(self, frame: Any) -> Any:
        return pd.read_parquet(io.BytesIO(frame.to_parquet()))

    def unnamed(self, frame: Any) -> Any:
        frame = frame.copy()
        frame.attrs = {}
        return frame


def _pandas_column(values: list[Any]) -> Any:
    if any(isinstance(value, (list, dict)) for value in values):  # pandas 2.2 takes lists for rows of an array
        return pd.Series(values, dtype="object")
    return pd.array(values)


class _Polars(FrameKit):
    name = "polars"
    DTYPES: Mapping[str, str] = {
        "text": "String",
        "integer": "Int64",
        "real": "Float64",
        "boolean": "Boolean",
        "moment": "Datetime(time_unit='us', time_zone=None)",
        "moment in UTC": "Datetime(time_unit='us', time_zone='UTC')",
        "open": "String",
    }

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

    def categories(self, column: Any) -> list[Any]:
        return list(column.dtype.categories.to_list())

    def put(self, frame: Any, name: str, values: Sequence[Any]) -> Any:
        dtype = frame.schema[name] if name in frame.columns else None
        return frame.with_columns(pl.Series(name, list(values), dtype=dtype))

    def take(self, frame: Any, rows: Sequence[int]) -> Any:
        return frame[list(rows)]

    def drop(self, frame: Any, *names: str) -> Any:
        return frame.drop(names)

    def rename(self, frame: Any, name: str, to: str) -> Any:
        return frame.rename({name: to})

    def concat(self, *frames: Any) -> Any:
        return pl.concat(frames, how="diagonal")

    def join(self, frame: Any, other: Any, by: str) -> Any:
        return frame.join(other, on=by, maintain_order="left")

    def stored(self, frame: Any) -> Any:
        file = io.BytesIO()
        frame.write_parquet(file)
        return pl.read_parquet(io.BytesIO(file.getvalue()))

    def unnamed(self, frame: Any) -> Any:
        return frame.clone()


class _Arrow(FrameKit):
    name = "arrow"
    DTYPES: Mapping[str, str] = {
        "text": "string",
        "integer": "int64",
        "real": "double",
        "boolean": "bool",
        "moment": "timestamp[us]",
        "moment in UTC": "timestamp[us, tz=UTC]",
        "open": "string",
    }

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

    def categories(self, column: Any) -> list[Any]:
        return list(column.combine_chunks().dictionary.to_pylist())

    def put(self, frame: Any, name: str, values: Sequence[Any]) -> Any:
        if name not in frame.column_names:
            return frame.append_column(name, pa.array(list(values)))
        kind = frame.schema.field(name).type
        if pa.types.is_dictionary(kind):
            kind = kind.value_type
        at = frame.column_names.index(name)
        return frame.set_column(at, name, pa.array(list(values), type=kind))

    def take(self, frame: Any, rows: Sequence[int]) -> Any:
        return frame.take(pa.array(list(rows), type=pa.int64()))

    def drop(self, frame: Any, *names: str) -> Any:
        return frame.drop_columns(list(names))

    def rename(self, frame: Any, name: str, to: str) -> Any:
        return frame.rename_columns([to if own == name else own for own in frame.column_names])

    def concat(self, *frames: Any) -> Any:
        return pa.concat_tables(frames, promote_options="default")

    def join(self, frame: Any, other: Any, by: str) -> Any:
        return frame.unify_dictionaries().join(other, keys=by, join_type="inner").sort_by(by)

    def stored(self, frame: Any) -> Any:
        file = io.BytesIO()
        parquet.write_table(frame, file)
        return parquet.read_table(io.BytesIO(file.getvalue()))

    def unnamed(self, frame: Any) -> Any:
        return frame.replace_schema_metadata(None)


LIBRARIES: list[FrameKit] = [_Pandas(), _Polars(), _Arrow()]
