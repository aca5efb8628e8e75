"""A dataframe library in sixty lines: a frame is a list of dicts, one for each row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pllm_notebook.frames.accessor import LLMAccessor
from pllm_notebook.frames.dtypes import CellType, Column, plain
from pllm_notebook.frames.hashing import ShortHashes, cell_hashes, shortened
from pllm_notebook.frames.rows import ColumnData
from pllm_notebook.frames.table import RUN_ATTR, FrameLibrary, Table

Row = dict[str, Any]


class ToyFrame(list[Row]):
    """Rows, and metadata beside them."""

    def __init__(self, rows: Sequence[Row] = (), run_id: str | None = None) -> None:
        super().__init__(rows)
        self.metadata = {RUN_ATTR: run_id}


class ToyTable(Table):
    def __init__(self, library: ToyLibrary, data: ToyFrame) -> None:
        self.frame_library, self.data, self.total = library, data, len(data)
        self.names = list(data[0]) if data else []
        self.run_id = data.metadata[RUN_ATTR]

    def column_data(self, names: Sequence[str]) -> ColumnData:
        values = tuple([row[name] for row in self.data] for name in names)
        missing = tuple([value is None for value in column] for column in values)
        return ColumnData(tuple(names), values, missing, self.total)

    def slice(self, rows: range) -> ToyTable:
        return ToyTable(self.frame_library, ToyFrame(self.data[rows.start : rows.stop], self.data.metadata[RUN_ATTR]))

    def join(
        self,
        made: Mapping[str, Any],
        origin: Sequence[int],
        dropped: Sequence[str],
        *,
        explode: bool,
        run_id: str | None,
    ) -> ToyFrame:
        old = [{name: self.data[row][name] for name in self.names if name not in dropped} for row in origin]
        return ToyFrame([row | {name: made[name][at] for name in made} for at, row in enumerate(old)], run_id)


class ToyLibrary(FrameLibrary):
    def table(self, data: Any) -> ToyTable | None:
        return ToyTable(self, data) if isinstance(data, ToyFrame) else None

    def accessor(self, data: Any) -> LLMAccessor[ToyFrame, list[Any], ToyFrame] | None:
        return LLMAccessor(data) if isinstance(data, ToyFrame) else None

    def array(self, column: Column, values: list[Any]) -> list[Any]:
        return plain(column, values)

    def array_hashes(self, array: Any) -> ShortHashes:
        return shortened(cell_hashes(array, [value is None for value in array]))

    def report(
        self, columns: Mapping[str, CellType], records: Sequence[Mapping[str, Any]], like: Table | None = None
    ) -> ToyFrame:
        return ToyFrame([{name: record.get(name) for name in columns} for record in records])

    def columns_frame(
        self, columns: Mapping[str, Any], labels: Sequence[int] | None = None, run_id: str | None = None
    ) -> ToyFrame:
        return ToyFrame([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)], run_id)

    def concat(self, frames: Sequence[Any], by: str) -> ToyFrame:
        return ToyFrame(sorted((row for frame in frames for row in frame), key=lambda row: row[by]))
