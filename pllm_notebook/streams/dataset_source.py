"""The source of a dataset: rows in pieces, each with the rows of one part file."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["DatasetSource", "SourcePiece", "content_digest", "storable"]


class SourcePiece(NamedTuple):
    """Rows of one part file.

    Attributes:
        name: Name of the part.
        data: The rows. None if the part already exists.
    """

    name: str
    data: pa.Table | None


class DatasetSource(ABC):
    """Rows in a fixed order, from any origin."""

    @abstractmethod
    def schema(self) -> pa.Schema:
        """Return the columns and their types. Reads no row.

        Raises:
            UsageError: If the columns are unusable. Nothing was sent.
        """

    @abstractmethod
    def described(self, there: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the source's entry in a manifest. *there* is the directory's manifest, or None."""

    @abstractmethod
    def pieces(self, there: Collection[str]) -> Iterator[SourcePiece]:
        """Yield all pieces in order, without the rows of those whose part is in *there*."""

    def question(self, prompt: str | None, options: dict[str, Any]) -> dict[str, Any]:
        """Return the options for its rows. A source may have columns that are not data."""
        return options


def content_digest(table: pa.Table) -> str:
    """Return a digest of a table's content in 12 characters, the same in every process."""
    import pyarrow as pa

    # A slice would be serialized with the surrounding buffers; a copy is not.
    plain = table.replace_schema_metadata(None).take(pa.array(range(table.num_rows), pa.int64())).combine_chunks()
    content = pa.BufferOutputStream()
    with pa.ipc.new_stream(content, plain.schema) as stream:
        stream.write_table(plain)
    return hashlib.sha256(content.getvalue()).hexdigest()[:12]


def storable(schema: pa.Schema) -> pa.Schema:
    """Return a schema whose text and binary columns have types that all Parquet readers support."""
    import pyarrow as pa

    views = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
    return pa.schema([each.with_type(views.get(each.type, each.type)) for each in schema], schema.metadata)
