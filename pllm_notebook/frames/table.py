"""The interface of a dataframe library: its frames as tables of cells, and frames built from columns.

An adapter for a library is one `FrameLibrary` and one `Table`, registered in `libraries.py`. Nothing else in this
package imports a dataframe library.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pllm_notebook.exceptions import UsageError, guess
from pllm_notebook.frames.dtypes import CellType, Column, Kind
from pllm_notebook.frames.hashing import ShortHashes, cell_hashes, shortened
from pllm_notebook.frames.rows import ColumnData

__all__ = ["RUN_ATTR", "Flags", "FrameLibrary", "LabelColumn", "Table", "no_labels"]

RUN_ATTR = "pllm_run"
"""Key of the run's id in a frame's metadata (`df.attrs`). Nothing else is stored there, since every copy has it."""

Flags = np.ndarray[Any, np.dtype[np.bool_]]


class LabelColumn(NamedTuple):
    """Known labels, one for each row of a table.

    Attributes:
        name: Name of the column, None if it has none.
        values: The labels as Python values.
        missing: Whether each label is missing.
    """

    name: str | None
    values: Sequence[Any]
    missing: Sequence[bool]


class Table(ABC):
    """One frame, or a single column, as a run sees it. No method changes the caller's data.

    Attributes:
        frame_library: The library that it belongs to.
        data: The caller's object.
        total: Number of rows.
        names: Column names as text, in order. Two columns may share a name.
        is_column: Whether the caller gave a single column, such as a pandas Series.
        run_id: The value of `RUN_ATTR` in the frame's metadata, None if there is none.
        mixes_runs: Whether the library keeps that id when rows of other frames are appended.
    """

    frame_library: FrameLibrary
    data: Any
    total: int
    names: Sequence[str]
    is_column: bool = False
    run_id: object = None
    mixes_runs: bool = False

    @abstractmethod
    def column_data(self, names: Sequence[str]) -> ColumnData:
        """Return the cells of some columns as Python values.

        Raises:
            UsageError: If two columns share one of the names. Nothing was sent.
        """

    @abstractmethod
    def slice(self, rows: range) -> Table:
        """Return some consecutive rows."""

    @abstractmethod
    def join(
        self,
        made: Mapping[str, Any],
        origin: Sequence[int],
        dropped: Sequence[str],
        *,
        explode: bool,
        run_id: str | None,
    ) -> Any:
        """Return a new frame: the columns of this one, followed by the made ones.

        Args:
            made: Maps names to arrays (see `FrameLibrary.array`).
            origin: The row of each line of the made columns.
            dropped: Columns to leave out.
            explode: Whether a row may have several lines, or the lines are only for some rows.
            run_id: Id of the run that made the columns, for the frame's metadata. None for several runs or no run.
        """

    def join_alone(self, made: Mapping[str, Any], origin: Sequence[int], *, explode: bool, run_id: str) -> Any:
        """Return the only made column, in the library's own type for a column (see `join`)."""
        (array,) = made.values()
        return array

    def snapshot(self) -> Table:
        """Return a table that later changes of the caller's data do not affect."""
        return self

    def label(self, row: int) -> Any:
        """Return a row's label: its index if the library has one, otherwise its position."""
        return row

    def positions(self, label: Any) -> Sequence[int]:
        """Return the positions of the rows with a label."""
        return [label] if type(label) is int and 0 <= label < self.total else []

    def hashes(self, name: str) -> ShortHashes:
        """Return a short content hash of each cell of the first column with this name."""
        values, missing = self._cells(name)
        return shortened(cell_hashes(values, missing))

    def missing(self, name: str) -> Flags:
        """Return whether each cell of the first column with this name is missing, as a new array."""
        return np.array(self._cells(name)[1], dtype=np.bool_)

    def labels(self, against: Any, without: Collection[str] = ()) -> LabelColumn:
        """Return known labels in the order of the rows.

        Args:
            against: Name of a column, or another object that the library aligns with its rows.
            without: Columns that are not labels.

        Raises:
            UsageError: If there is no such column, or labels cannot be aligned.
        """
        columns = [name for name in self.names if name not in without]
        times = columns.count(against) if isinstance(against, str) else 0
        if times != 1:
            raise no_labels(against, columns, times)
        values, missing = self._cells(against)
        return LabelColumn(against, values, missing)

    def column_of(self, name: str, rows: Sequence[int]) -> Any:
        """Return the cells of a column in some rows, in this order, as a built column.

        It keeps the column's dtype if the library has dtypes; Python values would lose it.
        """
        values, missing = self._cells(name)
        return [None if missing[row] else values[row] for row in rows]

    def _cells(self, name: str) -> tuple[Sequence[Any], Sequence[bool]]:
        cells = self.column_data([name])
        return cells.values[0], cells.missing[0]


def is_label(against: Any) -> bool:
    """Return whether *against* can be a column's label. Arrays, frames and lists cannot."""
    try:
        hash(against)
    except TypeError:
        return False
    return True


def no_labels(against: Any, columns: Sequence[Any], times: int) -> UsageError:
    """Build the error for labels that are not a column, or that several columns of one name could be."""
    if not is_label(against):
        raise UsageError(
            f"Labels are a column's name, or a Series that matches the rows, not a value of type "
            f"{type(against).__name__}. Add labels that are in the order of the rows to the frame, and name the column."
        )
    found = f"{times} columns" if times else "no column"
    return UsageError(
        f"The frame that was asked has {found} named {against!r:.100} among {columns}."
        f"{'' if times else guess(str(against), columns)}"
    )


class FrameLibrary(ABC):
    """A dataframe library: tables of its frames, columns of answers, and reports."""

    @abstractmethod
    def table(self, data: Any) -> Table | None:
        """Return a table of *data*, None if it is not a frame or column of this library."""

    @abstractmethod
    def accessor(self, data: Any) -> Any:
        """Return `.llm` of *data*, None if it is not a frame or column of this library."""

    @abstractmethod
    def array(self, column: Column, values: list[Any]) -> Any:
        """Build one column of answers. The dtype follows from *column*, and no value is lost in conversion."""

    @abstractmethod
    def array_hashes(self, array: Any) -> ShortHashes:
        """Return a short content hash of each cell of a built column, the same as `Table.hashes`."""

    def holds_objects(self, array: Any) -> bool:
        """Return whether a built column may share mutable cells, such as lists, with the caller's result."""
        return True

    @abstractmethod
    def report(
        self, columns: Mapping[str, CellType], records: Sequence[Mapping[str, Any]], like: Table | None = None
    ) -> Any:
        """Build a frame of records. A key that a record lacks becomes a missing value.

        Args:
            columns: Maps names to types, in order.
            records: One record per line.
            like: A table with the same rows, whose labels the lines get. None to number the lines.
        """

    def category_column(
        self, name: str, codes: Sequence[int], categories: Sequence[str], like: Table | None = None
    ) -> Any:
        """Build a column from indices into *categories*, -1 for a missing value (see `report` for *like*)."""
        words = [None if code < 0 else categories[code] for code in codes]
        return self.array(Column(name, Kind.CATEGORY, tuple(categories)), words)

    @abstractmethod
    def columns_frame(
        self, columns: Mapping[str, Any], labels: Sequence[int] | None = None, run_id: str | None = None
    ) -> Any:
        """Build a frame of built columns and of plain lists, whose type is inferred.

        Args:
            columns: Maps names to columns of the same length, in order.
            labels: A label for each line, None to number the lines.
            run_id: Id of the run that made the columns, for the frame's metadata.
        """

    @abstractmethod
    def concat(self, frames: Sequence[Any], by: str) -> Any:
        """Concatenate frames, sorted by a column. Lines with equal values keep their order."""

    def indexed_frame(
        self, columns: Mapping[Any, Any], index: tuple[str, Sequence[Any]], columns_name: str | None = None
    ) -> Any:
        """Build a frame with an index, given as (name, values). Without an index, it becomes the first column."""
        return self.columns_frame({index[0]: list(index[1]), **{str(name): own for name, own in columns.items()}})

    def agreement(self, shares: Mapping[str, np.ndarray[Any, Any]], like: Table) -> Any:
        """Build the frame of `df.llm.agreement`; NaN is a missing share."""
        names = list(shares)
        lines = zip(*(column.tolist() for column in shares.values()), strict=True)
        records = [
            {name: None if share != share else share for name, share in zip(names, line, strict=True)} for line in lines
        ]
        return self.report(dict.fromkeys(names, CellType.REAL), records, like)

    def with_error_head(self, frame: Any, retry_usd: float | None) -> Any:
        """Return a frame of failed rows that is displayed below a summary by kind, if the library allows that.

        Args:
            frame: A frame with the columns kind and message.
            retry_usd: Cost of retrying one row in US dollars, None if unknown.
        """
        return frame

    def to_text(self, frame: Any) -> str:
        """Return a frame as text. Numbers have three decimal places if the library allows that."""
        return repr(frame)

    def to_html(self, frame: Any) -> str:
        """Return a frame as HTML. Numbers have three decimal places if the library allows that."""
        html: str = frame._repr_html_()
        return html
