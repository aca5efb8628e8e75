"""`pllm.open_bundle`: rebuild the frame of a bundle from its replies. Sends nothing, and runs nothing in the bundle."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import NoneType, SimpleNamespace
from typing import Any

import numpy as np
import orjson

from pllm_notebook.exceptions import MissingPackageError, PllmError, StoreError
from pllm_notebook.file_errors import file_errors, file_path
from pllm_notebook.frames.dtypes import Column, Kind, read_back
from pllm_notebook.frames.hashing import content_hashes
from pllm_notebook.frames.label_table import read_labels, store_labels
from pllm_notebook.frames.libraries import table_of
from pllm_notebook.frames.provenance import Source
from pllm_notebook.frames.recorded_run import RecordedRun
from pllm_notebook.frames.registered_run import is_readable
from pllm_notebook.frames.table import Table
from pllm_notebook.lab.bundle_lines import rebuilt_frame, rebuilt_lines
from pllm_notebook.store import RunFiles, current_directory, import_, open_store

__all__ = ["BUNDLE_FORMAT", "BUNDLE_VERSION", "FILES", "as_input", "changed_cells", "open_bundle", "with_cells"]

BUNDLE_FORMAT, BUNDLE_VERSION = "pllm_notebook bundle", 1
FILES = SimpleNamespace(
    manifest="bundle.json",
    replies="replies.jsonl.gz",
    labels="labels.csv",
    rows="rows.parquet",
    readme="README.md",
    script="rebuild.py",
    requirements="requirements.txt",
)
_WHAT = "a bundle"
_UNREAD = "Nothing was imported."
_LARGEST_BYTES = 2**34


def open_bundle(path: str | os.PathLike[str], df: Any = None) -> Any:
    """Rebuild the frame of a bundle that `out.llm.report(bundle=…)` wrote. Sends nothing, and needs no key.

    The bundle's replies, labels and run are added to the current cache directory, so that `.llm` works on the frame.
    Existing entries are not changed. No code in a bundle is run.

    Args:
        path: A directory, or a zip file.
        df: The input rows, or some of them, in any order. None for the rows in the bundle; if it has none, the frame
            has only the answers, in the original order. For a run with a line for each item (`explode=`), each of
            these rows gets all of its lines.

    Returns:
        The frame as it was bundled: columns, dtypes, values, corrected cells.

    Raises:
        FileError: If it cannot be read.
        StoreError: If it is not a bundle, or is damaged.
        PllmError: If the run was asked about no row of *df*.
    """
    target = os.path.abspath(file_path(path, _WHAT, _UNREAD))
    with file_errors(target, _WHAT, _UNREAD), _unpacked(target) as folder:
        manifest = _manifest(folder, target)
        run, labels = _run_of(folder, manifest, target), read_labels(os.path.join(folder, FILES.labels))
        own = df is None
        if own and manifest["holds_rows"]:
            df = _read_rows(os.path.join(folder, FILES.rows), manifest["library"])
        import_(open_store(), os.path.join(folder, FILES.replies))
        try:
            frame = _rebuilt(run, df, manifest, own=own)
        except PllmError:
            raise
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise StoreError(
                f"{target} is damaged: no frame can be made of its run ({type(error).__name__}: {error}). Its replies "
                f"were imported, and its run and labels were not."
            ) from error
        registry = RunFiles(current_directory())
        if registry.header(run.id) is None:
            registry.make_directory()
            registry.write(run.header, run.files.arrays(run.id))
        store_labels(labels)
    rebuilt = table_of(frame)
    assert rebuilt is not None
    names = [name for name in manifest["columns"] if name in rebuilt.names]
    return _ordered(frame, [*names, *(name for name in rebuilt.names if name not in names)])


def _rebuilt(run: RecordedRun, df: Any, manifest: Mapping[str, Any], *, own: bool) -> Any:
    """Return rows with answers and corrected cells. *own*: whether the rows are the bundle's, or there are none."""
    lines, corrected = manifest.get("lines"), manifest["corrected"]
    if lines is None or own:
        made = table_of(rebuilt_frame(run, df, lines))
        assert made is not None
        # Lines of one row have the same content, and are in the bundle's order.
        given = df is not None and lines is None
        return with_cells(made, run.columns, _cells_of(made, run, corrected, given=given))
    frame, theirs = rebuilt_lines(run, df)
    made = table_of(frame)
    assert made is not None
    place = {line: at for at, line in reversed(list(enumerate(lines))) if line >= 0}
    cells = {
        name: {str(at): own[str(place[line])] for at, line in enumerate(theirs) if str(place.get(line)) in own}
        for name, own in corrected.items()
    }
    return with_cells(made, run.columns, cells)


def as_input(table: Table, source: Source) -> Any:
    """Return a frame without the columns of its run's result, which is the input."""
    made = [column.name for column in source.made]
    return table.join({}, range(table.total), made, explode=False, run_id=None)


def changed_cells(table: Table, other: Table, name: str) -> list[int]:
    """Return the rows in which a column differs between two tables of the same rows."""
    differs: list[int] = np.flatnonzero(table.hashes(name) != other.hashes(name)).tolist()
    return differs


def with_cells(table: Table, columns: Sequence[Column], corrected: Mapping[str, Mapping[str, Any]]) -> Any:
    """Return a frame with some cells of its result replaced.

    Args:
        table: The frame.
        columns: The result's columns.
        corrected: Maps column to row (as text) to JSON value.
    """
    kinds = {column.name: column for column in columns}
    made = {}
    for name, cells in corrected.items():
        if name not in kinds or name not in table.names:
            continue
        data = table.column_data([name])
        values = [None if gap else value for value, gap in zip(data.values[0], data.missing[0], strict=True)]
        for row, value in zip(cells, read_back(kinds[name], list(cells.values())), strict=True):
            values[int(row)] = value
        made[name] = table.frame_library.array(_column(kinds[name], values), values)
    if not made:
        return table.data
    names = list(table.names)
    run_id = table.run_id if isinstance(table.run_id, str) else None
    return _ordered(table.join(made, range(table.total), list(made), explode=False, run_id=run_id), names)


def _column(column: Column, values: Sequence[Any]) -> Column:
    """Return a column with a known kind: the registry stores only the name of a column that is not a field."""
    kinds = {type(value) for value in values} - {NoneType}
    if column.kind is Kind.OBJECT and kinds in ({str}, {float}):
        return Column(column.name, Kind.TEXT if kinds == {str} else Kind.REAL)
    return column


def _cells_of(
    table: Table, run: RecordedRun, corrected: Mapping[str, Mapping[str, Any]], *, given: bool
) -> dict[str, dict[str, Any]]:
    """Return the corrected cells by row of *table*. Rows passed by the caller are matched by content."""
    record = run.record
    assert record is not None
    lines = range(table.total)
    if given:
        content = content_hashes([table.column_data(run.header["asked"])], table.total)
        if len(content) != len(record) or not np.array_equal(content, record.content):
            lines = record.find(content).tolist()
    return {
        name: {str(at): cells[str(row)] for at, row in enumerate(lines) if str(row) in cells}
        for name, cells in corrected.items()
    }


def _run_of(folder: str, manifest: Mapping[str, Any], target: str) -> RecordedRun:
    """Return the run of a bundle.

    Raises:
        StoreError: If it has none, or one that no version of this package can have written.
    """
    files = RunFiles(folder, is_foreign=True)
    try:
        header = files.header(manifest["run"])
        run = None if header is None or not is_readable(header) else RecordedRun(header, files)
        if run is None or run.id != manifest["run"] or run.record is None:
            raise StoreError(f"{target} has no entry of the run {manifest['run']!r}.")
    except StoreError as error:
        raise StoreError(f"{error} {_UNREAD}") from None
    return run


def _manifest(folder: str, target: str) -> dict[str, Any]:
    """Return the manifest of a bundle after verifying its files."""
    _check_files(folder, target)
    try:
        with open(os.path.join(folder, FILES.manifest), "rb") as file:
            manifest = orjson.loads(file.read())
    except (FileNotFoundError, orjson.JSONDecodeError):
        manifest = None
    if not isinstance(manifest, dict) or manifest.get("format") != BUNDLE_FORMAT:
        raise StoreError(f"{target} is not a bundle of pllm_notebook. {_UNREAD}")
    if manifest.get("version") != BUNDLE_VERSION:
        raise StoreError(
            f"{target} is a bundle of version {manifest.get('version')!r}, and this pllm_notebook reads version "
            f"{BUNDLE_VERSION}. Upgrade pllm_notebook. {_UNREAD}"
        )
    if not _is_manifest(manifest):
        raise StoreError(f"{target} is damaged: {FILES.manifest} is not what was written. {_UNREAD}")
    read = [FILES.replies, FILES.labels, *([FILES.rows] if manifest["holds_rows"] else ())]
    changed = [name for name in read if _digest(os.path.join(folder, name)) != manifest["files"].get(name)]
    if changed:
        raise StoreError(f"{target} is damaged: {', '.join(changed)} is not what was written. {_UNREAD}")
    return manifest


def _is_manifest(manifest: Mapping[str, Any]) -> bool:
    corrected, rows, lines = manifest.get("corrected"), manifest.get("rows"), manifest.get("lines")
    return (
        isinstance(run := manifest.get("run"), str)
        and run.isalnum()
        and type(rows) is int
        and isinstance(manifest.get("library"), str)
        and isinstance(manifest.get("holds_rows"), bool)
        and isinstance(manifest.get("files"), dict)
        and isinstance(columns := manifest.get("columns"), list)
        and all(isinstance(name, str) for name in columns)
        and isinstance(corrected, dict)
        and all(isinstance(cells, dict) for cells in corrected.values())
        and all(at.isdecimal() and int(at) < rows for cells in corrected.values() for at in cells)
        and (lines is None or (isinstance(lines, list) and len(lines) == rows))
        and all(type(line) is int and line >= -1 for line in lines or ())
    )


def _check_files(folder: str, target: str) -> None:
    """Check that a bundle's files are regular files: reading a pipe would block, and a device may have no end."""
    names = [os.path.join(folder, name) for name in vars(FILES).values()]
    with suppress(FileNotFoundError):
        names += [entry.path for entry in os.scandir(os.path.join(folder, "runs"))]
    for name in names:
        if os.path.exists(name) and not os.path.isfile(name):
            raise StoreError(
                f"{target} is not a bundle: {os.path.relpath(name, folder)} is not a regular file. {_UNREAD}"
            )


def _digest(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        return None


@contextmanager
def _unpacked(target: str) -> Iterator[str]:
    """Open a bundle as a directory. From a zip file, only the files of a bundle are extracted."""
    if os.path.isdir(target):
        yield target
        return
    if not os.path.exists(target):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), target)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            with zipfile.ZipFile(target) as archive:
                if sum(one.file_size for one in archive.infolist()) > _LARGEST_BYTES:
                    raise StoreError(f"{target} would take more than {_LARGEST_BYTES:,} bytes. {_UNREAD}")
                os.mkdir(os.path.join(scratch, "runs"))
                for name in archive.namelist():
                    folder, _, last = name.rpartition("/")
                    # Only known names are extracted, so that none can point outside the directory.
                    if name in vars(FILES).values() or (
                        folder == "runs" and last.endswith(".run") and "\\" not in last
                    ):
                        with archive.open(name) as file, open(os.path.join(scratch, *name.split("/")), "wb") as made:
                            while piece := file.read(2**20):
                                made.write(piece)
        # A password, an unknown compression method or a wrong length.
        except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError):
            raise StoreError(f"{target} is not a bundle: neither a directory nor a zip file. {_UNREAD}") from None
        yield scratch


def _read_rows(path: str, library: str) -> Any:
    """Read the rows of a bundle as a frame of their original library."""
    try:
        if library == "polars":
            import polars

            return polars.read_parquet(path)
        if library == "pyarrow":
            import pyarrow.parquet as parquet

            return parquet.read_table(path)
        import pandas

        return pandas.read_parquet(path)
    except ImportError:
        raise MissingPackageError("a bundle with rows", "pyarrow", "parquet") from None


def _ordered(frame: Any, names: Sequence[str]) -> Any:
    return frame.select(names) if hasattr(frame, "select") else frame[list(names)]
