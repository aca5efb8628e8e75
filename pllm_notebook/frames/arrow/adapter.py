"""Arrow as a `FrameLibrary`: tables, arrays and streams as tables, and tables from answers and records."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pllm_notebook.exceptions import UsageError
from pllm_notebook.frames.accessor import LLMAccessor
from pllm_notebook.frames.arrow import arrow_data
from pllm_notebook.frames.arrow.cells import cells
from pllm_notebook.frames.arrow.columns import array_of, inferred
from pllm_notebook.frames.dtypes import CellType, Column, Kind
from pllm_notebook.frames.frame_accessor import FrameAccessor
from pllm_notebook.frames.hashing import ShortHashes, cell_hashes, shortened
from pllm_notebook.frames.rows import ColumnData
from pllm_notebook.frames.table import RUN_ATTR, FrameLibrary, LabelColumn, Table
from pllm_notebook.report_tables import html_table

__all__ = ["ArrowFrameLLM", "ArrowLibrary", "ArrowSeriesLLM", "ArrowTable"]

_TYPES: dict[CellType, Any] = {
    CellType.TEXT: pa.string(),
    CellType.INTEGER: pa.int64(),
    CellType.COUNT: pa.int64(),
    CellType.REAL: pa.float64(),
    CellType.SECONDS: pa.float64(),
    CellType.BOOLEAN: pa.bool_(),
    CellType.MOMENT: pa.timestamp("us", "UTC"),
    CellType.DURATION: pa.duration("us"),
    CellType.LABEL: pa.int64(),  # a row's position: there is no index
}


class ArrowFrameLLM(FrameAccessor[Any, Any, Any]):
    """The result of `pllm.frame` for an Arrow table: ask about every row. Arrow tables cannot have accessors."""


class ArrowSeriesLLM(LLMAccessor[Any, Any, Any]):
    """The result of `pllm.frame` for an Arrow array: ask about every value, which is `{value}` in the prompt."""


class ArrowTable(Table):
    """A table, or a chunked array as a table of one column, "value". Arrow data is immutable."""

    mixes_runs = True  # `pa.concat_tables` keeps the metadata of the first table

    def __init__(self, data: Any) -> None:
        self.frame_library = LIBRARY
        self.data = data
        self.is_column = not isinstance(data, pa.Table)
        self.frame = pa.table({"value": data}) if self.is_column else data
        self.total = self.frame.num_rows
        self.names = self.frame.column_names
        run = (self.frame.schema.metadata or {}).get(RUN_ATTR.encode())
        self.run_id = None if run is None else run.decode()

    def column_data(self, names: Sequence[str]) -> ColumnData:
        """Return the cells of some columns (see `Table.column_data`)."""
        for name in names:
            count = self.names.count(name)
            if count > 1:
                raise UsageError(
                    f"The table has {count} columns named {name!r}, so it is unclear which one the prompt means. "
                    f"Rename them. Nothing was sent."
                )
        columns = [self._cells(name) for name in names]
        return ColumnData(tuple(names), tuple(own[0] for own in columns), tuple(own[1] for own in columns), self.total)

    def slice(self, rows: range) -> ArrowTable:
        """Return some consecutive rows."""
        return ArrowTable(self.data.slice(rows.start, len(rows)))

    def labels(self, against: Any, without: Collection[str] = ()) -> LabelColumn:
        """Return labels: a column by its name, or an array of the same length by position."""
        if isinstance(against, (pa.Array, pa.ChunkedArray)):
            if len(against) != self.total:
                raise UsageError(
                    f"The array of labels has {len(against):,} values and the table {self.total:,} rows; Arrow has no "
                    f"index to match them by. Pass one label a row, or the name of a column."
                )
            return LabelColumn(None, *cells(_column_of(against)))
        return super().labels(against, without)

    def column_of(self, name: str, rows: Sequence[int]) -> Any:
        """Return the cells of a column in some rows."""
        return self.frame.column(self.names.index(name)).take(pa.array(list(rows), type=pa.int64()))

    def join(
        self,
        made: Mapping[str, Any],
        origin: Sequence[int],
        dropped: Sequence[str],
        *,
        explode: bool,
        run_id: str | None,
    ) -> Any:
        """Return the table with the made columns added by position, same order."""
        kept = [at for at, name in enumerate(self.names) if name not in dropped]
        frame = self.frame.select(kept)
        if explode:
            frame = frame.take(pa.array(list(origin), type=pa.int64()))
        fields = [*frame.schema, *(pa.field(name, array.type) for name, array in made.items())]
        metadata = dict(self.frame.schema.metadata or {})
        if run_id is not None:
            metadata[RUN_ATTR.encode()] = run_id.encode()
        return pa.Table.from_arrays([*frame.columns, *made.values()], schema=pa.schema(fields, metadata))

    def _cells(self, name: str) -> tuple[list[Any], list[bool]]:
        return cells(self.frame.column(self.names.index(name)))


class ArrowLibrary(FrameLibrary):
    """The library of Arrow: results have native types, including nested ones, and null for missing values."""

    def table(self, data: Any) -> ArrowTable | None:
        """Return a table of Arrow data or a stream of it. A stream is read completely."""
        read = arrow_data(data)
        return None if read is None else ArrowTable(read)

    def accessor(self, data: Any) -> ArrowFrameLLM | ArrowSeriesLLM | None:
        """Return `.llm`. A stream is read here, and only once, because many cannot be read again."""
        read = arrow_data(data)
        if read is None:
            return None
        return ArrowFrameLLM(read) if isinstance(read, pa.Table) else ArrowSeriesLLM(read)

    def array(self, column: Column, values: list[Any]) -> Any:
        """Build one column of answers (see `columns.array_of`)."""
        return array_of(column, values)

    def array_hashes(self, array: Any) -> ShortHashes:
        """Return a short content hash of each cell of a built column."""
        return shortened(cell_hashes(*cells(array)))

    def holds_objects(self, array: Any) -> bool:
        """Return False, because Arrow data is immutable."""
        return False

    def report(
        self, columns: Mapping[str, CellType], records: Sequence[Mapping[str, Any]], like: Table | None = None
    ) -> Any:
        """Build a table of records."""
        return pa.table(
            {
                name: pa.array([record.get(name) for record in records], type=_TYPES[kind])
                for name, kind in columns.items()
            }
        )

    def category_column(
        self, name: str, codes: Sequence[int], categories: Sequence[str], like: Table | None = None
    ) -> Any:
        """Build a dictionary-encoded chunked array that includes all *categories*."""
        words = [None if code < 0 else categories[code] for code in codes]
        return array_of(Column(name, Kind.CATEGORY, tuple(categories)), words)

    def columns_frame(
        self, columns: Mapping[str, Any], labels: Sequence[int] | None = None, run_id: str | None = None
    ) -> Any:
        """Build a table of built columns and plain values; Arrow has no index for *labels*."""
        made = {
            name: own if isinstance(own, (pa.Array, pa.ChunkedArray)) else inferred(_listed(own))
            for name, own in columns.items()
        }
        frame = pa.table(made)
        return frame if run_id is None else frame.replace_schema_metadata({RUN_ATTR: run_id})

    def concat(self, frames: Sequence[Any], by: str) -> Any:
        """Concatenate tables, sorted by a column. Columns that a table lacks are null."""
        return pa.concat_tables(frames, promote_options="permissive").sort_by(by)

    def to_text(self, frame: Any) -> str:
        """Return a table as text in aligned columns."""
        lines = [frame.column_names, *_texts(frame)]
        widths = [max(len(line[at]) for line in lines) for at in range(frame.num_columns)]
        return "\n".join(
            "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
        )

    def to_html(self, frame: Any) -> str:
        """Return a table as HTML."""
        return html_table(frame.column_names, _texts(frame))


LIBRARY = ArrowLibrary()


def _column_of(array: Any) -> Any:
    return array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])


def _listed(values: Any) -> list[Any]:
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def _texts(frame: Any) -> list[list[str]]:
    rows = zip(*(column.to_pylist() for column in frame.columns), strict=True)
    return [[f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row] for row in rows]
