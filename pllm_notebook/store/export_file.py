"""Export of a cache to one file, and import on another machine. The file is readable, and importing it runs no code.

The file is gzipped JSON Lines: a header, one line with a checksum for each entry, a line with the number of entries,
and one line for each label.
"""

from __future__ import annotations

import gzip
import io
import os
import re
import secrets
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import IO, Any, Protocol

import orjson

from pllm_notebook.exceptions import StoreError, UsageError
from pllm_notebook.file_errors import file_errors, file_path
from pllm_notebook.files import replacing
from pllm_notebook.store.label_file import Label, label_from_json, label_to_json
from pllm_notebook.store.label_removals import LabelRemoval, removal_from_json, removal_to_json
from pllm_notebook.store.writer import Done
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.types import Finish

__all__ = ["NewerExport", "export", "import_", "is_key", "read_entries", "write_entries"]

_FORMAT = "pllm_notebook cache"
_VERSION = 1
_FINISHES = {str(each.value): each for each in Finish}
_NAMES = {each: name for name, each in _FINISHES.items()}
_LINE_LIMIT_BYTES = 2**29
_GROUP = 5000
_BUFFER_BYTES = 2**18
_KEY = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


class NewerExport(StoreError):
    """A later version of this package wrote the export."""


class _Source(Protocol):
    def flush(self) -> None: ...
    def iterate(self) -> Iterator[tuple[str, StoredReply]]: ...


class _Target(Protocol):
    def flush(self) -> None: ...
    def get_many(self, keys: list[str]) -> dict[str, StoredReply]: ...
    def put(self, key: str, entry: StoredReply, done: Done) -> None: ...


_UNWRITTEN = "Nothing was written."
_UNREAD = "Nothing was imported."


def export(
    store: _Source, path: str | os.PathLike[str], *, overwrite: bool = False, labels: Sequence[Label] = ()
) -> int:
    """Write every entry to one file, as of one moment. Other writers are not blocked.

    Args:
        store: The store to export.
        path: The file; `.jsonl.gz` is a suitable extension. It appears under its name once it is complete.
        overwrite: Whether an existing file is replaced.
        labels: Labels to include.

    Returns:
        The number of entries written.

    Raises:
        UsageError: If the path is a directory, or the file exists and *overwrite* is False. Nothing was written.
        FileError: If the file cannot be written.
    """
    path = os.path.abspath(file_path(path, "an export", _UNWRITTEN))
    if os.path.lexists(path) and not (overwrite and os.path.isfile(path)):
        raise _taken(path)
    store.flush()
    with file_errors(path, "an export", _UNWRITTEN, writing=True):
        return _write(store, path, labels, overwrite=overwrite)


def _write(store: _Source, path: str, labels: Sequence[Label], *, overwrite: bool) -> int:
    partial = os.path.join(os.path.dirname(path), f".pllm-export-{secrets.token_hex(8)}")
    with replacing(path, partial=partial, place=os.replace if overwrite else _name) as file:
        return write_entries(file, store.iterate(), labels=labels)


def write_entries(
    file: IO[bytes],
    entries: Iterable[tuple[str, StoredReply]],
    level: int = 3,
    labels: Sequence[Label | LabelRemoval] = (),
) -> int:
    """Write *entries* to an open file in the export format, and return their number.

    Args:
        file: Open for writing; stays open.
        entries: Pairs of key and entry.
        level: Compression level, from 1 (fast) to 9 (small).
        labels: Labels, and in a shared directory also removals of labels. They follow the line with the number of
            entries, where earlier versions stop reading.
    """
    number = 0
    # Writes are buffered here, and reads are chunked below: one write to or read from a compressed file costs as much
    # as the JSON of a line.
    with (
        gzip.GzipFile("", "wb", compresslevel=level, fileobj=file, mtime=0) as compressed,
        io.BufferedWriter(compressed, _BUFFER_BYTES) as lines,
    ):
        lines.write(_line({"format": _FORMAT, "version": _VERSION}))
        for key, entry in entries:
            lines.write(_line(_to_json(key, entry)))
            number += 1
        lines.write(_line({"entries": number}))
        for label in labels:
            written = removal_to_json(label) if isinstance(label, LabelRemoval) else label_to_json(label)
            lines.write(_line({"label": written}))
    return number


def import_(store: _Target, path: str | os.PathLike[str], labels: list[Label] | None = None) -> int:
    """Add the entries of an exported file that the store does not have. Existing entries are not changed.

    Args:
        store: The store to which entries are added.
        path: A file that `export` wrote. It is read as data: nothing in it can run.
        labels: List to which the labels of the file are appended; None to ignore them.

    Returns:
        The number of entries added, all on disk.

    Raises:
        StoreError: If the file is not an export, is damaged or is cut short. The entries before the fault were
            verified and are kept.
        FileError: If the file cannot be read. Nothing was imported.
    """
    path = os.path.abspath(file_path(path, "an export", _UNREAD))
    with file_errors(path, "an export of pllm_notebook", _UNREAD):
        open(path, "rb").close()
    added = 0
    errors: list[BaseException] = []

    def done(error: BaseException | None) -> None:
        if error is not None:
            errors.append(error)

    def add(group: dict[str, StoredReply]) -> int:
        there = store.get_many(list(group))
        for key, entry in group.items():
            if key not in there:
                store.put(key, entry, done)
        store.flush()
        if errors:
            raise errors[0]
        return len(group.keys() - there.keys())

    for group in _groups(_entries_of(path, labels)):
        added += add(group)
    return added


def _groups(entries: Iterator[tuple[str, StoredReply]]) -> Iterator[dict[str, StoredReply]]:
    """Yield the entries in groups. Those before a fault are yielded, then its error is raised."""
    group: dict[str, StoredReply] = {}
    try:
        for key, entry in entries:
            group[key] = entry
            if len(group) >= _GROUP:
                yield group
                group = {}
    except Exception:  # of the file: an error of a group's consumer is not raised in here
        yield group
        raise
    yield group


def _name(partial: str, path: str) -> None:
    try:
        os.link(partial, path)  # unlike a rename, fails if another process has taken the name
        os.unlink(partial)
    except FileExistsError:
        raise _taken(path) from None
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise _taken(path) from None
        os.rename(partial, path)


def _taken(path: str) -> UsageError:
    if os.path.isdir(path):
        return UsageError(f"{path} is a directory. Give the path of a file in it. {_UNWRITTEN}")
    return UsageError(f"{path} exists. Give another name, or overwrite=True. {_UNWRITTEN}")


def is_key(key: object) -> bool:
    """Return whether *key* has the form of our keys: a SHA-256 in base64url, 43 characters."""
    return isinstance(key, str) and _KEY.fullmatch(key) is not None


def _entries_of(path: str, labels: list[Label] | None) -> Iterator[tuple[str, StoredReply]]:
    with open(path, "rb") as file:
        yield from read_entries(file, path, labels)


def read_entries(
    file: IO[bytes], path: str, labels: list[Label] | None = None, removals: list[LabelRemoval] | None = None
) -> Iterator[tuple[str, StoredReply]]:
    """Read the entries of an export from an open file, and verify each of them.

    Args:
        file: Open for reading; stays open.
        path: Name of the file, for messages.
        labels: List to which the valid labels of the file are appended; None to ignore them.
        removals: List to which the removals of labels are appended; None to ignore them.

    Raises:
        NewerExport: If a later version of this package wrote the file.
        StoreError: If the file is not an export, is damaged or is cut short. The entries before the fault are valid.
    """
    number = 0
    try:
        with gzip.open(file, "rb") as compressed:
            lines = _lines(compressed)
            head = _read_line(lines, path)
            if head.get("format") != _FORMAT:
                raise StoreError(f"{path} is not an export of pllm_notebook. Nothing was imported.")
            if head.get("version") != _VERSION:
                raise NewerExport(
                    f"{path} is an export of version {head.get('version')!r}, and this pllm_notebook reads version "
                    f"{_VERSION}. Upgrade pllm_notebook. Nothing was imported."
                )
            while "entries" not in (fields := _read_line(lines, path)):
                number += 1
                yield _from_json(fields, path, number)
            if fields["entries"] != number:
                raise StoreError(f"{path} has {number} entries, but its last line says {fields['entries']!r}.")
            for one in _labels_in(lines):
                if isinstance(one, LabelRemoval):
                    if removals is not None:
                        removals.append(one)
                elif labels is not None:
                    labels.append(one)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        if number:
            raise StoreError(f"{path} is damaged or cut short after entry {number}: {error}.") from None
        raise StoreError(f"{path} is not an export of pllm_notebook ({error}). Nothing was imported.") from None


def _labels_in(lines: Iterator[bytes]) -> Iterator[Label | LabelRemoval]:
    for line in lines:
        with suppress(orjson.JSONDecodeError, AttributeError):
            fields = orjson.loads(line).get("label")
            label = label_from_json(fields) or removal_from_json(fields)
            if label is not None:
                yield label


def _lines(compressed: gzip.GzipFile) -> Iterator[bytes]:
    """Yield each line as soon as it is complete, so that the lines before a fault in a damaged file are read."""
    parts: list[bytes] = []
    size = 0
    while chunk := compressed.read1(_BUFFER_BYTES):
        first, *lines = chunk.split(b"\n")
        parts.append(first)
        size += len(first)
        if size > _LINE_LIMIT_BYTES:
            break
        if lines:
            yield b"".join(parts)
            yield from lines[:-1]
            parts, size = [lines[-1]], len(lines[-1])


def _read_line(lines: Iterator[bytes], path: str) -> dict[str, Any]:
    line = next(lines, None)
    if line is None:
        raise EOFError("a line is cut short")
    try:
        fields = orjson.loads(line)
    except orjson.JSONDecodeError:
        fields = None
    if not isinstance(fields, dict):
        raise StoreError(f"{path} is not an export of pllm_notebook: one of its lines is not a JSON object.")
    return fields


def _line(fields: dict[str, Any]) -> bytes:
    return orjson.dumps(fields, default=str) + b"\n"


def _to_json(key: str, entry: StoredReply) -> dict[str, Any]:
    return {
        "key": key,
        "finish": _NAMES[entry.finish],
        "output_tokens": entry.output_tokens,
        "output_limit": entry.output_limit,
        "text": _to_text(entry.text),
        "meta": _to_text(entry.meta),
        "raw": _to_text(entry.raw),
        "crc32": _checksum(key, entry),
    }


def _from_json(fields: dict[str, Any], path: str, number: int) -> tuple[str, StoredReply]:
    try:
        key = fields["key"]
        tokens, limit = fields["output_tokens"], fields["output_limit"]
        text, meta, raw = _to_bytes(fields["text"]), _to_bytes(fields["meta"]), _to_bytes(fields["raw"])
        entry = StoredReply(_FINISHES[fields["finish"]], text, tokens, limit, meta, raw)
        whole = is_key(key) and _is_u32(tokens) and _is_u32(limit) and fields["crc32"] == _checksum(key, entry)
    except (KeyError, TypeError, ValueError):
        whole = False
    if whole and (fault := entry.fault):
        raise StoreError(f"Entry {number} of {path} cannot be a reply: {fault}. It was not imported.")
    if not whole:
        raise StoreError(f"{path} is damaged: the checksum of entry {number} does not match. It was not imported.")
    return key, entry


def _is_u32(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**32


def _checksum(key: str, entry: StoredReply) -> int:
    text, meta = entry.text, entry.meta
    numbers = f"{key} {_NAMES[entry.finish]} {entry.output_tokens} {entry.output_limit} {len(text)} {len(meta)}"
    return zlib.crc32(b"".join((numbers.encode(), text, meta, entry.raw)))


def _to_text(value: bytes) -> str | dict[str, str]:
    # Nearly always UTF-8, which people can read. Other bytes are kept exactly, in base64.
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": b64encode(value).decode("ascii")}


def _to_bytes(value: object) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8")
    if isinstance(value, dict):
        return b64decode(value["base64"], validate=True)
    raise TypeError
