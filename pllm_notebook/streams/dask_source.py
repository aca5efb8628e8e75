"""Partitions of a Dask frame: the cluster computes them, and this process fetches them, a few at a time.

No Dask task makes a call: Dask may repeat a task, or run it again for another result, and each run would be paid for.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections import defaultdict, deque
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

from pllm_notebook.exceptions import UsageError
from pllm_notebook.streams.dataset_source import DatasetSource, SourcePiece

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["DaskSource", "dask_source"]

# Maximum number of partitions that the cluster computes or holds for this process at a time.
_WINDOW = 4
# The name that Dask's `to_parquet` gives to an unnamed index.
_UNNAMED = "__null_dask_index__"


class DaskSource(DatasetSource):
    """The rows of a Dask frame, partition by partition. A partition whose parts exist is not computed.

    The parts of a partition are identified by the name of Dask's graph, which is the same in every process for the same
    frame. Each part's name also has their number.

    Args:
        data: A Dask DataFrame.
        rows: Maximum rows of a piece.

    Attributes:
        index: Name of the column for the index.
    """

    def __init__(self, data: Any, rows: int) -> None:
        self._data = data
        self._rows = rows
        self.index = str(data._meta.index.name or _UNNAMED)
        if self.index in data.columns:
            raise UsageError(
                f"The index and a column are both named {self.index!r}, and the parts have a column for each. Rename "
                f"one of them. Nothing was sent."
            )
        self._digest = hashlib.sha256(repr((data._name, rows)).encode()).hexdigest()[:12]

    def schema(self) -> pa.Schema:
        """Return the columns and their types, from the frame's metadata."""
        import pyarrow as pa

        meta = self._data._meta_nonempty.rename_axis(index=self.index)
        # Object columns count as text unless a partition shows otherwise: Dask's metadata has no type for them.
        meta = meta.astype({name: "string" for name, kind in meta.dtypes.items() if kind.kind == "O"})
        return pa.Schema.from_pandas(meta, preserve_index=True).remove_metadata()

    def described(self, there: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the kind and the columns. The graph's name is in the names of the parts."""
        return {"source": {"kind": "dask", "columns": [[each.name, str(each.type)] for each in self.schema()]}}

    def question(self, prompt: str | None, options: dict[str, Any]) -> dict[str, Any]:
        """Return the options. Without a prompt, all columns except the index are data."""
        if prompt is not None or options.get("columns") is not None:
            return options
        return options | {"columns": [str(name) for name in self._data.columns]}

    def pieces(self, there: Collection[str]) -> Iterator[SourcePiece]:
        """Yield all pieces. Partitions with a missing part are computed, a few ahead."""
        whole = self._whole(there)
        missing = [at for at in range(self._data.npartitions) if at not in whole]
        with closing(self._computed(missing)) as tables:
            for at in range(self._data.npartitions):
                if at in whole:
                    yield from (SourcePiece(name, None) for name in whole[at])
                    continue
                table = next(tables)
                count = max(1, -(-table.num_rows // self._rows))
                for number in range(count):
                    name = f"part-{at:05d}-{number:05d}of{count:05d}-{self._digest}.parquet"
                    data = table.slice(number * self._rows, self._rows)
                    yield SourcePiece(name, None if name in there else data)

    def tables(self) -> Generator[pa.Table, None, None]:
        """Yield the rows, in tables of limited size."""
        with closing(self._computed(range(self._data.npartitions))) as tables:
            for table in tables:
                for first in range(0, table.num_rows, self._rows):
                    yield table.slice(first, self._rows)

    def _whole(self, there: Collection[str]) -> dict[int, list[str]]:
        """Return the parts of each partition whose parts all exist."""
        found: defaultdict[tuple[int, int], dict[int, str]] = defaultdict(dict)
        for name in there:
            match = re.fullmatch(rf"part-(\d+)-(\d+)of(\d+)-{self._digest}\.parquet", name)
            if match:
                at, number, count = map(int, match.groups())
                found[at, count][number] = name
        return {
            at: [parts[number] for number in range(count)]
            for (at, count), parts in found.items()
            if set(parts) == set(range(count))
        }

    def _computed(self, partitions: Sequence[int]) -> Generator[pa.Table, None, None]:
        delayed = self._data.to_delayed() if partitions else []
        client = _client()
        if client is None:
            for at in partitions:
                yield self._table(delayed[at].compute())
            return
        going: deque[Any] = deque()
        waiting = deque(partitions)
        try:
            while waiting or going:
                while waiting and len(going) < _WINDOW:
                    going.append(client.compute(delayed[waiting.popleft()]))
                future = going.popleft()
                try:
                    frame = future.result()
                finally:
                    future.release()
                yield self._table(frame)
                del frame
        finally:
            for future in going:
                future.release()

    def _table(self, frame: Any) -> pa.Table:
        """Return a partition as a table of the frame's columns.

        Raises:
            UsageError: If a column has values that do not match its type.
        """
        import pyarrow as pa

        try:
            table = pa.Table.from_pandas(frame.rename_axis(index=self.index), schema=self.schema(), preserve_index=True)
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            raise UsageError(
                f"A partition cannot be written to Parquet: {'. '.join(map(str, error.args))}. Give the column one "
                f"type, such as text. What was answered before is kept."
            ) from None
        return table.replace_schema_metadata(None)


def dask_source(data: Any, rows: int) -> DaskSource | None:
    """Return a Dask DataFrame as a source, None for anything else."""
    dask = sys.modules.get("dask.dataframe")
    if dask is None or not isinstance(data, dask.DataFrame):
        return None
    return DaskSource(data, rows)


def _client() -> Any:
    """Return the current cluster's client, or None."""
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return None
    try:
        return distributed.default_client()
    except ValueError:
        return None
