"""Parquet files as pieces: the same files always give the same pieces."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, NamedTuple

from pllm_notebook.exceptions import MissingPackageError, UsageError
from pllm_notebook.store import open_directory
from pllm_notebook.streams.dataset_source import DatasetSource, SourcePiece

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["ParquetSource", "SourceFile", "require_pyarrow"]

# Fields in which file systems report a version's time or content hash, most reliable first.
_STAMPS = ("ETag", "etag", "md5Hash", "content_md5", "mtime", "LastModified", "last_modified", "updated", "created")
# Number of rows decoded at once: less than a piece, so that a long row group is never completely in memory.
_BATCH_ROWS = 8192
_SUFFIX = ".parquet"
# Depth of nested directories searched for a file to suggest.
_DEPTH = 4
_KEPT = "What was answered is in the cache: when the file is whole, write its rows to another directory."


class SourceFile(NamedTuple):
    """One version of a file.

    Attributes:
        path: Path in its file system, with the protocol unless it is local.
        size: Size in bytes.
        stamp: Its ETag or modification time, as text.
        files: Its file system.
    """

    path: str
    size: int
    stamp: str
    files: Any

    @property
    def version(self) -> list[Any]:
        """The values that distinguish this version from other files and versions."""
        return [self.path, self.size, self.stamp]


class ParquetPiece(NamedTuple):
    """Consecutive rows of a file.

    Attributes:
        name: Name of the part file with these rows and their answers.
        file: The file.
        first: The first row's position in the file.
        total: Number of rows.
    """

    name: str
    file: SourceFile
    first: int
    total: int


class ParquetSource(DatasetSource):
    """Parquet files. A file whose parts exist is not opened.

    Args:
        source: Paths, directories and patterns.
        rows: Maximum rows of a piece.

    Attributes:
        files: The files, in sorted order.

    Raises:
        UsageError: If one of them has no Parquet file. Nothing was sent.
    """

    def __init__(self, source: str | Sequence[str], rows: int) -> None:
        self.files = find_files(source)
        self._rows = rows
        self._counts: list[int] | None = None
        self._schema: pa.Schema | None = None

    def schema(self) -> pa.Schema:
        """Return the columns that all files have."""
        if self._schema is None:
            self._counts, self._schema = read_footers(self.files)
        return self._schema

    def described(self, there: Mapping[str, Any] | None) -> dict[str, Any]:
        """Return the files' versions and row counts. If a manifest of the same files has the counts, reads no file."""
        self._counts = _known_counts(there, self.files)
        if self._counts is None:
            self._counts, self._schema = read_footers(self.files)
        versions = [file.version for file in self.files]
        return {
            "pieces": hashlib.sha256(json.dumps(versions).encode()).hexdigest(),
            "files": [[*version, count] for version, count in zip(versions, self._counts, strict=True)],
        }

    def pieces(self, there: Collection[str]) -> Iterator[SourcePiece]:
        """Yield all pieces, reading those whose part is missing."""
        assert self._counts is not None
        pieces = pieces_of(self.files, self._counts, self._rows)
        with closing(read_pieces([piece for piece in pieces if piece.name not in there])) as tables:
            for piece in pieces:
                yield SourcePiece(piece.name, None if piece.name in there else next(tables)[1])


def _known_counts(manifest: Mapping[str, Any] | None, files: Sequence[SourceFile]) -> list[int] | None:
    """Return the number of rows of each file from a manifest of the same files, or None."""
    known = [] if manifest is None else manifest.get("files", [])
    if [each[:3] for each in known] != [file.version for file in files]:
        return None
    return [int(each[3]) for each in known]


def require_pyarrow() -> None:
    """Check that PyArrow is installed.

    Raises:
        MissingPackageError: If it is not. Nothing was sent.
    """
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise MissingPackageError("parse_dataset", "pyarrow", "dataset") from None


def find_files(source: str | Sequence[str]) -> list[SourceFile]:
    """Return the files of paths, directories and patterns, each once, in sorted order. Reads none.

    Raises:
        UsageError: If one of them has no Parquet file. Nothing was sent.
    """
    found: dict[str, SourceFile] = {}
    for address in [source] if isinstance(source, str) else source:
        files, path = open_directory(address)
        files.invalidate_cache()
        try:
            infos = [files.info(each) for each in _paths_at(files, path)]
            infos = [info for info in infos if info["type"] != "directory"]
            below = "" if infos else _advice(files, path, address)
        except OSError as error:  # an unreachable host, or a directory without read permission
            raise UsageError(f"{address!r} cannot be read: {error}. Nothing was sent.") from error
        if not infos:
            raise UsageError(f"No Parquet file was found at {address!r}.{below} Nothing was sent.")
        for info in infos:
            stamp = next((str(info[name]) for name in _STAMPS if info.get(name) is not None), "")
            whole = str(files.unstrip_protocol(info["name"])).removeprefix("file://")
            found[whole] = SourceFile(whole, int(info["size"] or 0), stamp, files)
    if not found:
        raise UsageError("parse_dataset was given no file. Nothing was sent.")
    return [found[path] for path in sorted(found)]


def _paths_at(files: Any, path: str) -> list[str]:
    """Return the paths of a file, a directory's Parquet files, or a pattern. An existing path is not a pattern."""
    if files.isdir(path):
        return [str(each) for each in files.ls(path, detail=False) if str(each).endswith(_SUFFIX)]
    if files.exists(path):
        return [path]
    return files.glob(path) if any(mark in path for mark in "*?[") else []


def _advice(files: Any, path: str, address: str) -> str:
    """Return the advice for a directory without Parquet files of its own. "" for any other path."""
    if not files.isdir(path):
        return ""
    if any(str(each).endswith(_SUFFIX) for each in files.find(path, maxdepth=_DEPTH)):
        return (
            f" Directories in it have some: give the pattern {address.rstrip('/') + '/**/*' + _SUFFIX!r}. What only "
            f"the names of directories say is no column."
        )
    return f" Its files are those whose names end in {_SUFFIX}."


def read_footers(files: Sequence[SourceFile]) -> tuple[list[int], pa.Schema]:
    """Return the number of rows of each file, and their common schema.

    Raises:
        UsageError: If a file is not Parquet, or a column differs between files. Nothing was sent.
    """
    counts, first = [], None
    for file in files:
        with closing(_open(file)) as parquet:
            counts.append(parquet.metadata.num_rows)
            schema = parquet.schema_arrow
        if first is None:
            first = schema
        else:
            _check_same(first, files[0], schema, file)
    assert first is not None
    return counts, first


def pieces_of(files: Sequence[SourceFile], counts: Sequence[int], rows: int) -> list[ParquetPiece]:
    """Cut files into pieces of at most *rows* rows, in order. An empty file is an empty piece."""
    pieces: list[ParquetPiece] = []
    for file, total in zip(files, counts, strict=True):
        for first in range(0, max(total, 1), rows):
            count = min(rows, total - first)
            digest = hashlib.sha256(repr((*file.version, first, count)).encode()).hexdigest()[:12]
            pieces.append(ParquetPiece(f"part-{len(pieces):05d}-{digest}.parquet", file, first, count))
    return pieces


def read_pieces(pieces: Sequence[ParquetPiece]) -> Generator[tuple[ParquetPiece, pa.Table], None, None]:
    """Yield pieces with their rows. A file is read forward, starting at the first row group that is needed."""
    reader: _FileRows | None = None
    try:
        for piece in pieces:
            if reader is None or reader.file is not piece.file:
                if reader is not None:
                    reader.close()
                reader = _FileRows(piece.file)
            yield piece, reader.take(piece.first, piece.total)
    finally:
        if reader is not None:
            reader.close()


class _FileRows:
    """The rows of one file, taken in ascending order."""

    def __init__(self, file: SourceFile) -> None:
        self.file = file
        self._parquet = _open(file, _KEPT)
        self._batches: Iterator[Any] = iter(())
        # The rest of the last batch read begins at this row.
        self._rest: Any = None
        self._at = -1

    def take(self, first: int, count: int) -> pa.Table:
        """Return *count* rows from *first* on."""
        import pyarrow as pa

        self._seek(first)
        taken, missing = [], count
        while missing:
            batch = self._next() if self._rest is None else self._rest
            used = batch.slice(max(first - self._at, 0), missing)
            end = max(first - self._at, 0) + used.num_rows
            self._rest = batch.slice(end) if end < batch.num_rows else None
            self._at += end
            if used.num_rows:
                taken.append(used)
                missing -= used.num_rows
                first += used.num_rows
        return pa.Table.from_batches(taken, schema=self._parquet.schema_arrow)

    def close(self) -> None:
        """Close the file."""
        self._parquet.close(force=True)

    def _next(self) -> Any:
        import pyarrow as pa

        try:
            batch = next(self._batches, None)
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(self.file, error, _KEPT) from None
        if batch is None:
            raise UsageError(f"{self.file.path} has fewer rows than it had when this call began: it was changed "
                             f"meanwhile. {_KEPT}")  # fmt: skip
        return batch

    def _seek(self, first: int) -> None:
        metadata = self._parquet.metadata
        begin = group = 0
        while group + 1 < metadata.num_row_groups and begin + metadata.row_group(group).num_rows <= first:
            begin += metadata.row_group(group).num_rows
            group += 1
        if self._at < 0 or begin > self._at:
            wanted = range(group, metadata.num_row_groups)
            self._batches = self._parquet.iter_batches(_BATCH_ROWS, row_groups=list(wanted))
            self._rest, self._at = None, begin


def _open(file: SourceFile, so_far: str = "Nothing was sent.") -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(file.files.open(file.path, "rb"))
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(file, error, so_far) from None


def _unreadable(file: SourceFile, error: Exception, so_far: str) -> UsageError:
    said = " ".join(str(error).split()).rstrip(".")
    return UsageError(f"{file.path} cannot be read as Parquet: {said}. {so_far}")


def _check_same(first: pa.Schema, first_file: SourceFile, schema: pa.Schema, file: SourceFile) -> None:
    if schema.equals(first):
        return
    for name in dict.fromkeys([*first.names, *schema.names]):
        kinds = [str(each.field(name).type) if name in each.names else "missing" for each in (first, schema)]
        if kinds[0] != kinds[1]:
            raise UsageError(
                f"The files differ: column {name!r} is {kinds[0]} in {first_file.path} and {kinds[1]} in {file.path}. "
                f"Give all files the same columns. Nothing was sent."
            )
    raise UsageError(
        f"The files differ: the columns of {file.path} are in another order than those of {first_file.path}, or allow "
        f"nulls differently. Give all files the same columns. Nothing was sent."
    )
