"""Streams of rows: a LazyFrame, or any object that streams Arrow data, read once from beginning to end.

Such rows have no address, so a part is identified by its position and content. A repeated call reads all rows again and
sends only those without a part.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pllm_notebook.exceptions import UsageError
from pllm_notebook.streams.dataset_source import DatasetSource, SourcePiece, content_digest, storable

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["StreamSource", "lazy_source", "stream_of"]


class StreamSource(DatasetSource):
    """Batches of rows in the order of the stream.

    Args:
        kind: The kind of the source, for the manifest.
        schema: The columns.
        batches: Reads the batches. Called once.
        rows: Maximum rows of a piece.
    """

    def __init__(self, kind: str, schema: pa.Schema, batches: Iterable[pa.Table], rows: int) -> None:
        self._kind = kind
        self._schema = storable(schema)
        self._batches = batches
        self._rows = rows

    def schema(self) -> pa.Schema:
        """Return the columns and their types."""
        return self._schema

    def described(self, there: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the kind and the columns. The content's digest is in the names of the parts."""
        return {"source": {"kind": self._kind, "columns": [[each.name, str(each.type)] for each in self._schema]}}

    def pieces(self, there: Collection[str]) -> Iterator[SourcePiece]:
        """Yield pieces of equal size, regardless of the size of the batches."""
        for at, table in enumerate(self._tables()):
            name = f"part-{at:05d}-{content_digest(table)}.parquet"
            yield SourcePiece(name, None if name in there else table)

    def _tables(self) -> Iterator[pa.Table]:
        import pyarrow as pa

        waiting: list[pa.Table] = []
        count = made = 0
        for batch in self._batches:
            table = batch.cast(self._schema)
            while count + table.num_rows >= self._rows:
                missing = self._rows - count
                yield pa.concat_tables([*waiting, table.slice(0, missing)])
                made, count, waiting, table = made + 1, 0, [], table.slice(missing)
            if table.num_rows:
                waiting.append(table)
                count += table.num_rows
        if waiting or not made:
            yield pa.concat_tables(waiting) if waiting else self._schema.empty_table()


def lazy_source(data: Any, rows: int) -> StreamSource | None:
    """Return a Polars LazyFrame as a source, or None for anything else."""
    polars = sys.modules.get("polars")
    if polars is None or not isinstance(data, polars.LazyFrame):
        return None
    from pllm_notebook.frames.polars.lazy import arrow_batches

    schema, batches = arrow_batches(data, rows)
    return StreamSource("polars.LazyFrame", schema, batches, rows)


def stream_of(data: Any, rows: int) -> StreamSource | None:
    """Return a stream of Arrow data as a source, or None for anything else.

    Raises:
        UsageError: If it streams one column without a name. Nothing was sent.
    """
    if isinstance(data, type) or not hasattr(data, "__arrow_c_stream__"):
        return None
    import pyarrow as pa

    try:
        reader = pa.RecordBatchReader.from_stream(data)
    except (TypeError, ValueError, pa.ArrowException) as error:
        raise UsageError(
            f"{type(data).__name__} cannot be streamed as an Arrow table: {error}. Nothing was sent."
        ) from None
    batches = (pa.Table.from_batches([batch]) for batch in reader)
    return StreamSource("arrow stream", reader.schema, batches, rows)
