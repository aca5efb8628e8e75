"""A bundle of a frame: replies, registry entry, labels and report, to rebuild the frame elsewhere without paying."""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import orjson

from pllm_notebook.exceptions import MissingPackageError, PllmError, UsageError
from pllm_notebook.execution import RowRecord
from pllm_notebook.file_errors import file_errors, file_path
from pllm_notebook.files import replacing
from pllm_notebook.formatting import counted
from pllm_notebook.frames.hashing import content_hashes
from pllm_notebook.frames.label_table import write_labels
from pllm_notebook.frames.libraries import table_of
from pllm_notebook.frames.plain_data import plain_data
from pllm_notebook.frames.provenance import Source, provenance_of
from pllm_notebook.frames.recorded_run import RecordedRun
from pllm_notebook.frames.table import Table
from pllm_notebook.lab.bundle_lines import exploded_record, rebuilt_frame, record_of_lines
from pllm_notebook.lab.bundle_reading import BUNDLE_FORMAT, BUNDLE_VERSION, FILES, as_input, changed_cells, with_cells
from pllm_notebook.lab.bundle_texts import environment, readme, requirements, script
from pllm_notebook.lab.report_facts import header_of
from pllm_notebook.store import Label, LabelFile, RunFiles, current_directory, open_store, write_entries

__all__ = ["bundle_path", "write_bundle"]

_WHAT = "a bundle"
_UNWRITTEN = "Nothing was written."
Numbers = np.ndarray[Any, np.dtype[Any]]


def bundle_path(path: Any) -> str:
    """Return the path to write a bundle to, after checking that it would overwrite nothing else.

    Raises:
        UsageError: If another file, or a directory with other files, exists there. Nothing was written.
    """
    target = os.path.abspath(file_path(path, _WHAT, _UNWRITTEN))
    if target.endswith(".zip"):
        if os.path.lexists(target) and not (os.path.isfile(target) and zipfile.is_zipfile(target)):
            raise UsageError(f"{target} is not a zip file, and would be replaced. Give another name. {_UNWRITTEN}")
    elif os.path.lexists(target):
        if not os.path.isdir(target):
            raise UsageError(f"{target} is a file. A bundle is a directory, or a file that ends in .zip. {_UNWRITTEN}")
        if os.listdir(target) and not os.path.isfile(os.path.join(target, FILES.manifest)):
            raise UsageError(f"{target} has other files in it. Give a new name. {_UNWRITTEN}")
    return target


def write_bundle(table: Table, target: str, page: Mapping[str, bytes], title: str, *, with_rows: bool) -> list[str]:
    """Write the bundle of a frame, and return its path.

    Args:
        table: The frame, made by one run.
        target: The path from `bundle_path`.
        page: The report's files, from name to content.
        title: Title of the report.
        with_rows: Whether to include the input rows and the cells of labelled rows.

    Raises:
        PllmError: If several runs made the frame, or an answer is no longer in the cache.
    """
    found = provenance_of(table)
    if len(found.sources) > 1:
        ids = ", ".join(repr(source.run.id) for source in found.sources)
        raise PllmError(f"Several runs made the rows of this frame, {ids}; bundle the rows of one. {_UNWRITTEN}")
    (source,) = found.sources
    folder = os.path.dirname(target) if target.endswith(".zip") else target
    with file_errors(target, _WHAT, _UNWRITTEN, writing=True), tempfile.TemporaryDirectory() as scratch:
        _fill(scratch, table, source, np.asarray(found.row), page, title, with_rows)
        os.makedirs(folder, exist_ok=True)
        if target.endswith(".zip"):
            with replacing(target, mode=0o666) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                for name in _names_in(scratch):
                    archive.write(os.path.join(scratch, name), name)
        else:
            _copy(scratch, target)
    return [target]


def _fill(
    scratch: str, table: Table, source: Source, row: Numbers, page: Mapping[str, bytes], title: str, with_rows: bool
) -> None:
    """Write the files of a bundle into an empty directory."""
    header = {**header_of(source), "process": {}}
    lines: list[int] | None = None
    if source.explode:
        record, lines = exploded_record(table, source, row)
    else:
        record = record_of_lines(table, source, row)
    replies = _replies(record)
    RunFiles(scratch).write(header, record.arrays())
    with open(os.path.join(scratch, FILES.replies), "wb") as file:
        write_entries(file, replies.items())
    write_labels(os.path.join(scratch, FILES.labels), _labels_of(table, with_rows=with_rows))
    if with_rows:
        _write_rows(as_input(table, source), os.path.join(scratch, FILES.rows))
    rebuilt = table_of(rebuilt_frame(RecordedRun(header, RunFiles(scratch)), as_input(table, source), lines))
    assert rebuilt is not None
    names = [column.name for column in source.made if list(table.names).count(column.name) == 1]
    # Columns that are not fields, such as failure messages, cannot be rebuilt from replies.
    cells = {
        name: changed_cells(table, rebuilt, name)
        if name in header["fields"]
        else np.flatnonzero(~table.missing(name)).tolist()
        for name in names
    }
    corrected = {name: _written(table, name, at) for name, at in cells.items() if len(at)}
    exact = table_of(with_cells(rebuilt, source.made, corrected))
    assert exact is not None
    manifest = {
        "format": BUNDLE_FORMAT,
        "version": BUNDLE_VERSION,
        "run": header["id"],
        "rows": table.total,
        "columns": list(table.names),
        "library": type(table.data).__module__.partition(".")[0],
        "holds_rows": with_rows,
        "corrected": corrected,
        "lines": lines,
        "inexact": sum(len(changed_cells(table, exact, name)) for name in names),
        "environment": environment(),
    }
    texts = {
        FILES.readme: readme(manifest, title, len(replies)),
        FILES.script: script(),
        FILES.requirements: requirements(manifest["environment"]),
    }
    for name, content in {**page, **{name: text.encode() for name, text in texts.items()}}.items():
        with open(os.path.join(scratch, name), "wb") as file:
            file.write(content)
    manifest["files"] = {name: _digest(os.path.join(scratch, name)) for name in _names_in(scratch)}
    with open(os.path.join(scratch, FILES.manifest), "wb") as file:
        file.write(orjson.dumps(manifest, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS))


def _replies(record: RowRecord) -> dict[str, Any]:
    """Return the stored replies that the answers are read from, by key."""
    kinds = [record.keys[record.status <= 1], record.later_keys]
    if record.samples is not None:
        keys = record.samples.keys
        kinds.append(keys.reshape(-1, keys.shape[2])[(record.samples.failure == 0).ravel()])
    beginnings = dict.fromkeys(str(key.tobytes(), "ascii") for own in kinds for key in own if key[0])
    store = open_store()
    store.flush()
    whole = store.keys_beginning(beginnings)
    entries = store.get_many(list(whole.values()))
    if lost := sum(1 for one in beginnings if whole.get(one) not in entries):
        raise PllmError(
            f"{counted(lost, 'answer')} of this frame {'is' if lost == 1 else 'are'} no longer in the cache, so it "
            f"cannot be rebuilt. Run its cell again, and bundle that. {_UNWRITTEN}"
        )
    return entries


def _labels_of(table: Table, *, with_rows: bool) -> list[Label]:
    """Return the labels of the rows of a frame, each with the probability with which its row was drawn."""
    file, found, names = LabelFile(current_directory()), [], list(table.names)
    for columns in file.column_sets():
        if any(names.count(name) != 1 for name in columns):
            continue
        content = set(content_hashes([table.column_data(columns)], table.total).tolist())
        found += [label for label in file.current(columns) if label.content in content]
    kept = {(label.columns, label.content) for label in found}
    return [
        label if with_rows else replace(label, row=None)
        for label in file.for_others()
        if (label.columns, label.content) in kept
    ]


def _written(table: Table, name: str, at: Sequence[int]) -> dict[str, Any]:
    data = table.column_data([name])
    values, missing = data.values[0], data.missing[0]
    return {str(row): None if missing[row] else plain_data(values[row]) for row in at}


def _write_rows(frame: Any, path: str) -> None:
    """Write the input rows as Parquet with their own library."""
    try:
        import pyarrow.parquet as parquet
    except ImportError:
        raise MissingPackageError("a bundle with rows", "pyarrow", "parquet") from None
    if hasattr(frame, "to_parquet"):
        frame.to_parquet(path)
    elif hasattr(frame, "write_parquet"):
        frame.write_parquet(path)
    else:
        parquet.write_table(frame, path)


def _copy(scratch: str, target: str) -> None:
    """Copy files into a directory, each atomically, the manifest last; delete those of an earlier bundle in it."""
    names = _names_in(scratch)
    # Else the rows of a bundle with rows would stay beside a manifest that says there are none.
    for name in _earlier(target).difference(names):
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(target, name))
    for name in sorted(names, key=lambda name: name == FILES.manifest):
        os.makedirs(os.path.dirname(os.path.join(target, name)), exist_ok=True)
        with open(os.path.join(scratch, name), "rb") as file:
            content = file.read()
        with replacing(os.path.join(target, name), mode=0o666) as made:
            made.write(content)


def _earlier(target: str) -> set[str]:
    """Return the files of the bundle that is in a directory already. The user's own files are none of them."""
    try:
        with open(os.path.join(target, FILES.manifest), "rb") as file:
            manifest = orjson.loads(file.read())
    except (OSError, ValueError):
        return set()
    ours = manifest.get("files") if isinstance(manifest, dict) and manifest.get("format") == BUNDLE_FORMAT else None
    # A manifest that anybody may have written must not name files elsewhere.
    return {
        name
        for name in (ours if isinstance(ours, dict) else ())
        if not os.path.isabs(name) and ".." not in name.replace("\\", "/").split("/")
    }


def _names_in(folder: str) -> list[str]:
    return sorted(
        os.path.relpath(os.path.join(at, name), folder).replace(os.sep, "/")
        for at, _, names in os.walk(folder)
        for name in names
    )


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
