"""pandas as a `FrameLibrary`: its frames and series as tables, and frames from answers and records."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from pllm_notebook.exceptions import UsageError
from pllm_notebook.frames.accessor import LLMAccessor
from pllm_notebook.frames.dtypes import CellType, Column
from pllm_notebook.frames.frame_accessor import FrameAccessor
from pllm_notebook.frames.hashing import ShortHashes
from pllm_notebook.frames.pandas.agreement import Agreement
from pllm_notebook.frames.pandas.cells import column_data, column_names, gaps_of
from pllm_notebook.frames.pandas.column_hashes import short_hashes
from pllm_notebook.frames.pandas.columns import array_of, join_columns
from pllm_notebook.frames.pandas.failed_rows import Errors
from pllm_notebook.frames.rows import ColumnData
from pllm_notebook.frames.table import RUN_ATTR, Flags, FrameLibrary, LabelColumn, Table, is_label, no_labels

__all__ = ["FrameLLM", "PandasLibrary", "PandasTable", "SeriesLLM"]

_Column: TypeAlias = "pd.Series[Any]"

_DTYPES = {
    CellType.TEXT: "string",
    CellType.INTEGER: "Int64",
    CellType.COUNT: "int64",
    CellType.REAL: "Float64",
    CellType.SECONDS: "float64",
    CellType.BOOLEAN: "boolean",
    CellType.MOMENT: "datetime64[s, UTC]",
    CellType.DURATION: "timedelta64[s]",
    CellType.LABEL: "object",
}


class FrameLLM(FrameAccessor[pd.DataFrame, _Column, Agreement]):
    """`df.llm`: ask a language model the same question about every row."""


class SeriesLLM(LLMAccessor[pd.DataFrame, _Column, Agreement]):
    """`series.llm`: ask a language model the same question about every value, which is `{value}` in the prompt."""


class PandasTable(Table):
    """A DataFrame, or a Series as a frame of one column, named "value" if the Series has no name."""

    def __init__(self, data: pd.DataFrame | pd.Series[Any], names: Sequence[str] | None = None) -> None:
        self.frame_library = LIBRARY
        self.data = data
        self.is_column = isinstance(data, pd.Series)
        if isinstance(data, pd.Series):
            self.frame = data.to_frame("value" if data.name is None else data.name)
            self.frame.attrs = dict(data.attrs)
        else:
            self.frame = data
        self.total = len(self.frame)
        self.names = column_names(self.frame) if names is None else names
        self.run_id = self.frame.attrs.get(RUN_ATTR)

    def column_data(self, names: Sequence[str]) -> ColumnData:
        """Return the cells of some columns (see `Table.column_data`)."""
        return column_data(self.frame, names)

    def slice(self, rows: range) -> PandasTable:
        """Return some consecutive rows."""
        return PandasTable(self.data.iloc[rows.start : rows.stop], self.names)

    def snapshot(self) -> PandasTable:
        """Return a copy of the table, which is lazy if pandas has copy-on-write enabled."""
        lazy = int(pd.__version__.partition(".")[0]) >= 3 or pd.get_option("mode.copy_on_write") is True
        return PandasTable(self.data.copy(deep=not lazy), self.names)

    def label(self, row: int) -> Any:
        """Return a row's index label."""
        return self.frame.index[row]

    def positions(self, label: Any) -> Sequence[int]:
        """Return the rows with an index label."""
        try:
            found = self.frame.index.get_loc(label)
        except (KeyError, TypeError, pd.errors.InvalidIndexError):  # unknown, or not possible as a label
            return []
        rows: list[int] = np.atleast_1d(np.arange(self.total)[found]).tolist()
        return rows

    def hashes(self, name: str) -> ShortHashes:
        """Return a short content hash of each cell of a column."""
        return short_hashes(self._column(name))

    def missing(self, name: str) -> Flags:
        """Return whether each cell of a column is missing."""
        return gaps_of(self._column(name))

    def labels(self, against: Any, without: Collection[str] = ()) -> LabelColumn:
        """Return labels in the order of the frame: a column by its name, or a Series aligned by its index."""
        labels = self._labels(against, without)
        return LabelColumn(None if labels.name is None else str(labels.name), labels.tolist(), labels.isna().tolist())

    def join(
        self,
        made: Mapping[str, Any],
        origin: Sequence[int],
        dropped: Sequence[str],
        *,
        explode: bool,
        run_id: str | None,
    ) -> pd.DataFrame:
        """Return the frame with the made columns added by position, same index and order."""
        joined, _ = join_columns(self.frame, made, origin, dropped, explode=explode)
        joined.attrs = dict(self.frame.attrs) if run_id is None else {**self.frame.attrs, RUN_ATTR: run_id}
        return joined

    def join_alone(
        self, made: Mapping[str, Any], origin: Sequence[int], *, explode: bool, run_id: str
    ) -> pd.Series[Any]:
        """Return the single made column as a Series with the index of its rows."""
        _, made_columns = join_columns(self.frame, made, origin, (), explode=explode)
        series: pd.Series[Any] = made_columns.iloc[:, 0]
        series.attrs = {**self.frame.attrs, RUN_ATTR: run_id}
        return series

    def column_of(self, name: str, rows: Sequence[int]) -> pd.Series[Any]:
        """Return the cells of a column in some rows, with a new index from 0."""
        return self._column(name).iloc[list(rows)].reset_index(drop=True)

    def _column(self, name: str) -> pd.Series[Any]:
        return self.frame.iloc[:, self.names.index(name)]

    def _labels(self, against: Any, without: Collection[str]) -> pd.Series[Any]:
        index = self.frame.index
        if isinstance(against, pd.Series):
            if against.index.equals(index):
                return against
            if against.index.is_unique and index.is_unique and against.index.isin(index).any():
                return against.reindex(index)
            raise UsageError(
                "The index of the labels does not match the index of the frame that was asked, so labels cannot be "
                "matched to rows. Pass a Series with the frame's index, or the name of one of its columns."
            )
        columns = [label for label, name in zip(self.frame.columns, self.names, strict=True) if name not in without]
        positions = [at for at, (label, name) in enumerate(zip(self.frame.columns, self.names, strict=True))
                     if name not in without and is_label(against) and label == against]  # fmt: skip
        if len(positions) != 1:
            raise no_labels(against, columns, len(positions))
        return self.frame.iloc[:, positions[0]]


class PandasLibrary(FrameLibrary):
    """The library of pandas: results have nullable dtypes, and the index of the input frame."""

    def table(self, data: Any) -> PandasTable | None:
        """Return a table of a DataFrame or a Series."""
        return PandasTable(data) if isinstance(data, (pd.DataFrame, pd.Series)) else None

    def accessor(self, data: Any) -> FrameLLM | SeriesLLM | None:
        """Return `df.llm` or `series.llm`."""
        if isinstance(data, pd.DataFrame):
            return FrameLLM(data)
        return SeriesLLM(data) if isinstance(data, pd.Series) else None

    def array(self, column: Column, values: list[Any]) -> Any:
        """Build one column of answers (see `columns.array_of`)."""
        return array_of(column, values)

    def array_hashes(self, array: Any) -> ShortHashes:
        """Return a short content hash of each cell of a built column."""
        return short_hashes(pd.Series(array, copy=False))

    def holds_objects(self, array: Any) -> bool:
        """Return whether a built column has dtype object."""
        return bool(array.dtype == object)

    def report(
        self, columns: Mapping[str, CellType], records: Sequence[Mapping[str, Any]], like: Table | None = None
    ) -> pd.DataFrame:
        """Build a frame of records."""
        dtypes = {name: _DTYPES[kind] for name, kind in columns.items()}
        return pd.DataFrame(records, columns=list(columns), index=_index(like)).astype(dtypes)

    def category_column(
        self, name: str, codes: Sequence[int], categories: Sequence[str], like: Table | None = None
    ) -> pd.Series[Any]:
        """Build a categorical Series."""
        kinds: pd.CategoricalDtype[Any] = pd.CategoricalDtype(list(categories))
        values = pd.Categorical.from_codes(np.asarray(codes, dtype=np.int8), dtype=kinds)
        return pd.Series(values, index=_index(like), name=name)

    def columns_frame(
        self, columns: Mapping[str, Any], labels: Sequence[int] | None = None, run_id: str | None = None
    ) -> pd.DataFrame:
        """Build a frame of built columns and plain lists."""
        # Start with a RangeIndex, because a column of objects is a Series and would be aligned by its labels.
        made = {name: pd.Series(own) if isinstance(own, list) else own for name, own in columns.items()}
        total = max((len(own) for own in made.values()), default=0)
        frame = pd.DataFrame(made, index=pd.RangeIndex(total))
        frame = frame if labels is None else frame.set_axis(pd.Index(list(labels), dtype="int64"))
        if run_id is not None:
            frame.attrs[RUN_ATTR] = run_id
        return frame

    def indexed_frame(
        self, columns: Mapping[Any, Any], index: tuple[str, Sequence[Any]], columns_name: str | None = None
    ) -> pd.DataFrame:
        """Build a frame with a named index of objects, or a range."""
        name, values = index
        lines: pd.Index[Any]
        if isinstance(values, range):
            lines = pd.RangeIndex(values.start, values.stop, name=name)
        else:
            lines = pd.Index(values, dtype="object", name=name)
        if columns_name is None:
            return pd.DataFrame(dict(columns), index=lines)
        cells = np.array(list(columns.values())).T
        return pd.DataFrame(cells, index=lines, columns=pd.Index(list(columns), dtype="object", name=columns_name))

    def agreement(self, shares: Mapping[str, np.ndarray[Any, Any]], like: Table) -> Agreement:
        """Build the frame of `df.llm.agreement`, which has its own `plot`."""
        made = {
            name: pd.array([None if share != share else share for share in column.tolist()], dtype="Float64")
            for name, column in shares.items()
        }
        return Agreement(made, index=_index(like))

    def concat(self, frames: Sequence[Any], by: str) -> pd.DataFrame:
        """Concatenate frames, sorted by a column."""
        joined: pd.DataFrame = pd.concat(frames).sort_values(by, kind="stable", ignore_index=True)
        return joined

    def with_error_head(self, frame: Any, retry_usd: float | None) -> Errors:
        """Return a frame of failed rows that is displayed below a summary by kind."""
        errors = Errors(frame)
        errors.retry_usd = retry_usd
        return errors

    def to_text(self, frame: Any) -> str:
        """Return a frame as text."""
        return str(frame.round(3))

    def to_html(self, frame: Any) -> str:
        """Return a frame as HTML."""
        html: str = frame.round(3).to_html()
        return html


LIBRARY = PandasLibrary()


def _index(like: Table | None) -> Any:
    return like.frame.index if isinstance(like, PandasTable) else None
