"""The registry of runs on disk: one small file for each run, in the `runs` folder of the cache directory.

A file is a header (JSON: the question, the columns, counts, costs) and arrays of a few bytes for each row. It is
replaced as a whole, so a kill leaves either the old file or the new one, and a damaged file loses only one run. No two
processes write the same file, so no lock is needed.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import orjson

from pllm_notebook.exceptions import StoreError
from pllm_notebook.files import make_private_directory, replacing, set_aside
from pllm_notebook.runtime import Slot
from pllm_notebook.store.later import finish_writes
from pllm_notebook.store.run_header import array_fault, header_fault

__all__ = ["LARGEST_BYTES", "MAX_RUNS", "RunFiles"]

MAX_RUNS = 1_000
LARGEST_BYTES = 256 * 2**20
"""Total size of all files. The oldest runs beyond either limit are deleted."""

VERSION = 1

_MAGIC = b"pllm-run"
_SUFFIX, _PART, _DAMAGED = ".run", ".part", ".damaged"
# Hashes do not compress; columns with few distinct values do. This many bytes at the beginning show which it is.
_SAMPLE = 4_096
_STALE_PART_S = 3_600.0
_PRUNE_EVERY = 16
_WRITTEN: Slot[Counter[str]] = Slot("run files written", Counter)

_log = logging.getLogger("pllm_notebook.store")

Header = dict[str, Any]
Arrays = Mapping[str, "np.ndarray[Any, Any]"]


class _Damaged(ValueError):
    """The file cannot be trusted."""


class _Newer(ValueError):
    """A later version of this package wrote the file."""


class RunFiles:
    """The run files of one cache directory, for any number of threads and processes. Keeps no file open.

    Args:
        directory: The cache directory. The folder is created with the first file.
        max_runs: Maximum number of files kept.
        largest_bytes: Maximum total size of the files.
        wall_clock: Returns seconds since 1970.
        is_foreign: Whether the directory is another user's bundle. A damaged file then raises `StoreError`, and is
            left as it is.
    """

    def __init__(
        self,
        directory: str,
        *,
        max_runs: int = MAX_RUNS,
        largest_bytes: int = LARGEST_BYTES,
        wall_clock: Callable[[], float] = time.time,
        is_foreign: bool = False,
    ) -> None:
        self.folder = os.path.join(directory, "runs")
        self._max_runs = max_runs
        self._largest_bytes = largest_bytes
        self._wall_clock = wall_clock
        self._is_foreign = is_foreign

    def __repr__(self) -> str:
        return f"RunFiles({self.folder!r})"

    def make_directory(self) -> None:
        """Create the cache directory if it does not exist, as before a run.

        Raises:
            OSError: If it cannot be created.
        """
        make_private_directory(os.path.dirname(self.folder))

    def is_gone(self) -> bool:
        """Return whether the cache directory does not exist, such as after it was deleted."""
        return not os.path.isdir(os.path.dirname(self.folder))

    def write(self, header: Header, arrays: Arrays | None = None) -> None:
        """Write a run's file, which replaces an older one with the same id.

        Args:
            header: `id` (hex digits) and `started_at` (seconds since 1970) name the file; the rest is JSON.
            arrays: Arrays of one or two dimensions by name; None if there are none yet.

        Raises:
            OSError: If the file cannot be written, or the cache directory does not exist. An older file is unchanged.
        """
        name = f"{int(header['started_at'] * 1e6):016d}-{header['id']}"
        content = list(_encoded(header, arrays or {}))
        with suppress(FileExistsError):
            os.mkdir(self.folder, 0o700)  # only the folder: a deleted cache directory is not created again
        part = os.path.join(self.folder, f"{name}.{secrets.token_hex(4)}{_PART}")
        with replacing(os.path.join(self.folder, name + _SUFFIX), synced=False, partial=part) as file:
            for piece in content:
                file.write(piece)
        # Count by folder, not by object: every run has its own object.
        written = _WRITTEN.value
        written[self.folder] += 1
        if written[self.folder] % _PRUNE_EVERY == 1:
            self._prune()

    def headers(self) -> Iterator[Header]:
        """Yield the headers, newest run first. Each damaged file is set aside and logged."""
        finish_writes()
        for name in sorted(self._names(), reverse=True):
            header = self._read(name, lambda file: _header(file)[0])
            if header is not None:
                yield header

    def header(self, run: str) -> Header | None:
        """Return the header of the run with this id, None if it does not exist or cannot be read."""
        finish_writes()
        name = self._named(run)
        return None if name is None else self._read(name, lambda file: _header(file)[0])

    def arrays(self, run: str) -> dict[str, np.ndarray[Any, Any]] | None:
        """Return the arrays of the run with this id, None if there are none or they cannot be read."""
        finish_writes()
        name = self._named(run)
        return (None if name is None else self._read(name, _arrays)) or None

    def clear(self, older_than_s: float | None = None) -> int:
        """Delete the files of runs that started at least *older_than_s* ago (None: of all), and return their number.

        Raises:
            StoreError: If one of them cannot be deleted. The others are deleted.
        """
        finish_writes()
        before = None if older_than_s is None else self._wall_clock() - older_than_s
        removed, fault = 0, ""
        for name in self._names():
            if before is not None and _start_of(name) > before:
                continue
            try:
                os.unlink(os.path.join(self.folder, name))
                removed += 1
            except FileNotFoundError:
                continue
            except OSError as error:
                fault = error.strerror or str(error)
        if fault:
            raise StoreError(f"Records of runs in {self.folder} cannot be deleted: {fault}. {removed:,} were deleted.")
        return removed

    @property
    def bytes_on_disk(self) -> int:
        """Total size of all files in bytes."""
        return sum(size for _, size in self._sizes())

    def _names(self) -> list[str]:
        try:
            names = os.listdir(self.folder)
        except OSError:
            return []
        return [name for name in names if name.endswith(_SUFFIX) and name.partition("-")[0].isdigit()]

    def _named(self, run: str) -> str | None:
        return next((name for name in self._names() if name.endswith(f"-{run}{_SUFFIX}")), None)

    def _read(self, name: str, read: Callable[[Any], Any]) -> Any:
        path = os.path.join(self.folder, name)
        try:
            with open(path, "rb") as file:
                return read(file)
        except OSError:  # pruned by another process in the meantime, or not readable by us
            return None
        except _Newer:
            return None
        except _Damaged as error:
            self._set_aside(path, str(error))
            return None

    def set_aside(self, run: str, fault: str) -> None:
        """Set aside the file of the run with this id, and log *fault* as the reason.

        Raises:
            StoreError: If the file is in another user's bundle. It is left as it is.
        """
        if (name := self._named(run)) is not None:
            self._set_aside(os.path.join(self.folder, name), fault)

    def _set_aside(self, path: str, fault: str) -> None:
        if self._is_foreign:
            raise StoreError(f"{path} is damaged or not a record of a run: {fault}.")
        if set_aside(path, _DAMAGED) is not None:
            _log.warning("The record of a run %s is damaged (%s) and was set aside; its answers are unharmed.",
                         path, fault)  # fmt: skip

    def _sizes(self) -> list[tuple[str, int]]:
        found = []
        for name in sorted(self._names()):
            try:
                found.append((name, os.path.getsize(os.path.join(self.folder, name))))
            except OSError:
                continue
        return found

    def _prune(self) -> None:
        kept = self._sizes()
        total = sum(size for _, size in kept)
        # The newest file stays, whatever its size.
        for name, size in kept[:-1]:
            if len(kept) <= self._max_runs and total <= self._largest_bytes:
                break
            self._delete(name)
            kept.pop(0)
            total -= size
        self._sweep()

    def _sweep(self) -> None:
        """Delete partial files that a killed process left behind, once they are an hour old."""
        for name in os.listdir(self.folder):
            path = os.path.join(self.folder, name)
            try:
                if name.endswith(_PART) and os.path.getmtime(path) < self._wall_clock() - _STALE_PART_S:
                    os.unlink(path)
            except OSError:
                continue

    def _delete(self, name: str) -> bool:
        try:
            os.unlink(os.path.join(self.folder, name))
        except OSError:
            return False
        return True


def _start_of(name: str) -> float:
    return int(name.partition("-")[0]) / 1e6


def _encoded(header: Header, arrays: Arrays) -> Iterator[bytes]:
    """Encode a file: a line with the header's length and checksum, the header, the arrays and their checksum."""
    pieces, listed = [], []
    for name, array in arrays.items():
        array = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
        whole = array.tobytes()
        packed = len(zlib.compress(whole[:_SAMPLE], 1)) < len(whole[:_SAMPLE]) // 2
        piece = zlib.compress(whole, 1) if packed else whole
        pieces.append(piece)
        listed.append([name, array.dtype.str, list(array.shape), len(piece), packed])
    encoded = orjson.dumps(header | {"arrays": listed})
    yield b"%b %d %d %d\n" % (_MAGIC, VERSION, len(encoded), _checksum(b"%d" % VERSION, encoded))
    yield encoded
    checksum = 0
    for piece in pieces:
        checksum = zlib.crc32(piece, checksum)
        yield piece
    yield checksum.to_bytes(4, "little")


def _header(file: Any) -> tuple[Header, list[Any]]:
    words = file.readline(64).split()
    if len(words) != 4 or words[0] != _MAGIC or not all(word.isdigit() for word in words[1:]):
        raise _Damaged("it does not begin as one")
    encoded = file.read(min(int(words[2]), LARGEST_BYTES))
    # The checksum includes the version, so that one changed digit cannot make a file look newer. The first files of
    # version 1 have a checksum of the header alone.
    if int(words[3]) != _checksum(words[1], encoded) and (words[1] != b"1" or int(words[3]) != zlib.crc32(encoded)):
        raise _Damaged("its header's checksum is wrong")
    if int(words[1]) > VERSION:
        raise _Newer(words[1])
    try:
        header: Header = orjson.loads(encoded)
    except orjson.JSONDecodeError:
        raise _Damaged("its header is no JSON") from None
    if fault := header_fault(header):
        raise _Damaged(fault)
    return header, header.pop("arrays")


def _checksum(version: bytes, encoded: bytes) -> int:
    return zlib.crc32(encoded, zlib.crc32(version))


def _arrays(file: Any) -> dict[str, np.ndarray[Any, Any]]:
    _, listed = _header(file)
    rest = file.read()
    if zlib.crc32(rest[:-4]) != int.from_bytes(rest[-4:], "little") or len(rest) < 4:
        raise _Damaged("the checksum of its rows is wrong")
    found, at = {}, 0
    for one in listed:
        if fault := array_fault(one):
            raise _Damaged(fault)
        name, dtype, shape, size, packed = one
        piece = rest[at : at + size]
        try:
            kind = np.dtype(dtype)
            # Decompress only as many bytes as the header says: a few bytes can expand to fill the memory.
            whole = zlib.decompressobj().decompress(piece, math.prod(shape) * kind.itemsize + 1) if packed else piece
            array = np.frombuffer(whole, dtype=kind).reshape(shape)
        except (ValueError, TypeError, zlib.error) as error:
            raise _Damaged(f"the array {name[:80]!r} does not match its description: {error}") from None
        found[name] = array.astype(array.dtype.newbyteorder("="), copy=False) if sys.byteorder != "little" else array
        at += size
    return found
