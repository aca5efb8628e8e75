"""Polars as a `FrameLibrary`: its frames and series as tables, and frames from answers and records."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import polars as pl
from polars import selectors

from pllm_notebook.exceptions import UsageError
from pllm_notebook.frames.accessor import LLMAccessor
from pllm_notebook.frames.dtypes import CellType, Column
from pllm_notebook.frames.frame_accessor import FrameAccessor
from pllm_notebook.frames.hashing import ShortHashes, cell_hashes, shortened
from pllm_notebook.frames.polars.columns import array_of, cells, inferred
from pllm_notebook.frames.polars.failed_rows import Errors
from pllm_notebook.frames.rows import ColumnData
from pllm_notebook.frames.table import FrameLibrary, LabelColumn, Table

__all__ = ["PolarsFrameLLM", "PolarsLibrary", "PolarsSeriesLLM", "PolarsTable"]

_RUN = "_pllm_run"
"""Attribute of a result with the id of its run. No Polars operation propagates it."""

_DTYPES: dict[CellType, Any] = {
    CellType.TEXT: pl.String,
    CellType.INTEGER: pl.Int64,
    CellType.COUNT: pl.Int64,
    CellType.REAL: pl.Float64,
    CellType.SECONDS: pl.Float64,
    CellType.BOOLEAN: pl.Boolean,
    CellType.MOMENT: pl.Datetime("us", "UTC"),
    CellType.DURATION: pl.Duration("us"),
    CellType.LABEL: pl.Int64,  # a row's position: there is no index
}


class PolarsFrameLLM(FrameAccessor[pl.DataFrame, pl.Series, pl.DataFrame]):
    """`df.llm`: ask a language model the same question about every row."""


class PolarsSeriesLLM(LLMAccessor[pl.DataFrame, pl.Series, pl.DataFrame]):
    """`series.llm`: ask a language model the same question about every value, which is `{value}` in the prompt."""


class PolarsTable(Table):
    """A DataFrame, or a Series as a frame of one column, named "value" if the Series has no name."""

    def __init__(self, data: pl.DataFrame | pl.Series) -> None:
        self.frame_library = LIBRARY
        self.data = data
        self.is_column = isinstance(data, pl.Series)
        self.frame = data.alias(data.name or "value").to_frame() if isinstance(data, pl.Series) else data
        self.total = self.frame.height
        self.names = self.frame.columns
        self.run_id = getattr(data, _RUN, None)

    def column_data(self, names: Sequence[str]) -> ColumnData:
        """Return the cells of some columns (see `Table.column_data`)."""
        columns = [cells(self.frame.get_column(name)) for name in names]
        return ColumnData(tuple(names), tuple(own[0] for own in columns), tuple(own[1] for own in columns), self.total)

    def slice(self, rows: range) -> PolarsTable:
        """Return some consecutive rows."""
        return PolarsTable(_made_by(self.data[rows.start : rows.stop], self.run_id))

    def snapshot(self) -> PolarsTable:
        """Return a table of a clone. It shares memory until the caller's frame is changed in place."""
        return PolarsTable(_made_by(self.data.clone(), self.run_id))

    def labels(self, against: Any, without: Collection[str] = ()) -> LabelColumn:
        """Return labels: a column by its name, or a Series of the same length by position."""
        if isinstance(against, pl.Series):
            if len(against) != self.total:
                raise UsageError(
                    f"The Series of labels has {len(against):,} values and the frame {self.total:,} rows; Polars has "
                    f"no index to match them by. Pass one label a row, or the name of a column."
                )
            return LabelColumn(against.name or None, *cells(against))
        return super().labels(against, without)

    def column_of(self, name: str, rows: Sequence[int]) -> pl.Series:
        """Return the cells of a column in some rows."""
        return self.frame.get_column(name).gather(list(rows))

    def join(
        self,
        made: Mapping[str, Any],
        origin: Sequence[int],
        dropped: Sequence[str],
        *,
        explode: bool,
        run_id: str | None,
    ) -> pl.DataFrame:
        """Return the frame with the made columns added by position, same order."""
        frame = self.frame.drop(dropped)
        if explode:
            frame = frame[list(origin)]
        columns = [array.alias(name) for name, array in made.items()]
        joined: pl.DataFrame = _made_by(frame.hstack(columns) if frame.width else pl.DataFrame(columns), run_id)
        return joined

    def join_alone(self, made: Mapping[str, Any], origin: Sequence[int], *, explode: bool, run_id: str) -> pl.Series:
        """Return the single made column as a Series."""
        ((name, array),) = made.items()
        series: pl.Series = _made_by(array.alias(name), run_id)
        return series


class PolarsLibrary(FrameLibrary):
    """The library of Polars: results have native types, including nested ones, and null for missing values."""

    def table(self, data: Any) -> PolarsTable | None:
        """Return a table of a DataFrame or a Series."""
        return PolarsTable(data) if isinstance(data, (pl.DataFrame, pl.Series)) else None

    def accessor(self, data: Any) -> Any:
        """Return `df.llm`, `series.llm` or `lf.llm`."""
        if isinstance(data, pl.LazyFrame):
            return getattr(data, "llm")  # noqa: B009  # registered, so type checkers do not know it
        if isinstance(data, pl.DataFrame):
            return PolarsFrameLLM(data)
        return PolarsSeriesLLM(data) if isinstance(data, pl.Series) else None

    def array(self, column: Column, values: list[Any]) -> pl.Series:
        """Build one column of answers (see `columns.array_of`)."""
        return array_of(column, values)

    def array_hashes(self, array: Any) -> ShortHashes:
        """Return a short content hash of each cell of a built column."""
        return shortened(cell_hashes(*cells(array)))

    def holds_objects(self, array: Any) -> bool:
        """Return whether a built column contains Python objects."""
        return bool(array.dtype == pl.Object)

    def report(
        self, columns: Mapping[str, CellType], records: Sequence[Mapping[str, Any]], like: Table | None = None
    ) -> pl.DataFrame:
        """Build a frame of records."""
        made = [
            pl.Series(name, [record.get(name) for record in records], dtype=_DTYPES[kind])
            for name, kind in columns.items()
        ]
        return pl.DataFrame(made)

    def category_column(
        self, name: str, codes: Sequence[int], categories: Sequence[str], like: Table | None = None
    ) -> pl.Series:
        """Build a Series of dtype Enum."""
        words = [None if code < 0 else categories[code] for code in codes]
        return pl.Series(name, words, dtype=pl.Enum(list(categories)))

    def columns_frame(
        self, columns: Mapping[str, Any], labels: Sequence[int] | None = None, run_id: str | None = None
    ) -> pl.DataFrame:
        """Build a frame of built columns and plain values; Polars has no index for *labels*."""
        made = [own.alias(name) if isinstance(own, pl.Series) else inferred(name, own) for name, own in columns.items()]
        frame: pl.DataFrame = _made_by(pl.DataFrame(made), run_id)
        return frame

    def concat(self, frames: Sequence[Any], by: str) -> pl.DataFrame:
        """Concatenate frames, sorted by a column. Columns that a frame lacks are null."""
        joined: pl.DataFrame = pl.concat(frames, how="diagonal_relaxed").sort(by, maintain_order=True)
        return joined

    def with_error_head(self, frame: Any, retry_usd: float | None) -> Errors:
        """Return a frame of failed rows that is displayed below a summary by kind."""
        errors = Errors(frame)
        errors.retry_usd = retry_usd
        return errors

    def to_text(self, frame: Any) -> str:
        """Return a frame as text."""
        return repr(_rounded(frame))

    def to_html(self, frame: Any) -> str:
        """Return a frame as HTML."""
        html: str = _rounded(frame)._repr_html_()
        return html


LIBRARY = PolarsLibrary()


def _rounded(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(selectors.float().round(3))


def _made_by(data: Any, run_id: object) -> Any:
    if run_id is not None:
        setattr(data, _RUN, run_id)
    return data
