"""The results file: complete lines, appended as results arrive, and sorted by request at the end."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import secrets
import stat
import time
from array import array
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise

from pllm_notebook.exceptions import UsageError
from pllm_notebook.file_errors import file_errors
from pllm_notebook.request_files.line_formats import read_result

__all__ = ["ResultsFile", "new_path", "require_file"]

logger = logging.getLogger("pllm_notebook")

_BLOCK_BYTES = 1 << 20


class ResultsFile:
    """A results file with an exclusive lock. A partial line of a killed process is cut off first.

    Args:
        path: Created if it does not exist, otherwise resumed.
        retry_errors: Whether lines with an error are removed, to be sent again.

    Raises:
        UsageError: If another process writes to it. Nothing was sent.
        FileError: If it cannot be written. Nothing was sent.

    Attributes:
        path: As given.
    """

    def __init__(self, path: str, *, retry_errors: bool = False) -> None:
        self.path = path
        # The target of a symbolic link is replaced at the end, not the link.
        self._place = os.path.realpath(path)
        with file_errors(path, "a results file", writing=True):
            if os.path.exists(path):
                require_file(path, "results are sorted in it")
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            self._lock()
            self._at = self._cut()
            if retry_errors and self._at:
                self._without_errors()
        except BaseException:
            os.close(self._handle)
            raise

    def __repr__(self) -> str:
        return f"ResultsFile({self.path!r}, {self._at:,} bytes)"

    def append(self, lines: Sequence[bytes]) -> list[int]:
        """Write some lines, each with its line end, and return their offsets."""
        offsets = []
        at = self._at
        for line in lines:
            offsets.append(at)
            at += len(line)
        _write(self._handle, b"".join(lines), self._at)
        self._at = at
        return offsets

    def put_in_order(self, offsets: array[int]) -> None:
        """Sort the file in the order of *offsets*, one for each of its lines. If that fails, it is left unsorted."""
        if all(before < after for before, after in pairwise(offsets)):
            return
        try:
            self._rewrite(offsets)
        except OSError as error:
            logger.warning("%s is complete, but not in the order of its requests: %s", self.path, error)

    def close(self) -> None:
        """Sync the file to disk, and release its lock."""
        try:
            with suppress(OSError):
                os.fsync(self._handle)
        finally:
            os.close(self._handle)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
                return  # a file system without locks
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise UsageError(
                f"{self.path} is being written by another run. Wait for it, or use another save_filepath. "
                f"Nothing was sent."
            ) from None

    def _cut(self) -> int:
        """Cut off a partial last line, and return the size."""
        end = os.fstat(self._handle).st_size
        at = end
        while at > 0:
            begin = max(0, at - _BLOCK_BYTES)
            found = os.pread(self._handle, at - begin, begin).rfind(b"\n")
            if found >= 0:
                at = begin + found + 1
                break
            at = begin
        if at < end:
            os.ftruncate(self._handle, at)
        return at

    def _without_errors(self) -> None:
        kept, at, errors = array("q"), 0, 0
        with open(self.path, "rb", buffering=_BLOCK_BYTES) as file:
            for raw in file:
                result = read_result(raw)
                if result is not None and result.error:
                    errors += 1
                else:
                    kept.append(at)
                at += len(raw)
        if errors:
            self._rewrite(kept)

    def _rewrite(self, offsets: array[int]) -> None:
        """Replace the file atomically by one with the lines at *offsets*."""
        beside = os.path.join(os.path.dirname(self._place), f".{os.path.basename(self._place)}.{secrets.token_hex(4)}")
        try:
            with (
                open(self.path, "rb", buffering=_BLOCK_BYTES) as old,
                open(beside, "xb", buffering=_BLOCK_BYTES) as new,
            ):
                for offset in offsets:
                    if old.tell() != offset:
                        old.seek(offset)
                    new.write(old.readline())
                new.flush()
                os.fsync(new.fileno())
                os.fchmod(new.fileno(), os.fstat(self._handle).st_mode & 0o777)
            handle = os.open(beside, os.O_RDWR | os.O_CLOEXEC)
            # Locked before it has the name, so that no other process can lock it first.
            with suppress(OSError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.replace(beside, self._place)
        except BaseException:
            with suppress(OSError):
                os.unlink(beside)
            raise
        os.close(self._handle)
        self._handle = handle
        self._at = os.fstat(handle).st_size


def require_file(path: str, why: str) -> None:
    """Check that *path* is a regular file, because a device or a pipe cannot be read twice.

    Args:
        path: The path to check.
        why: The reason why it must be a file, for the error message.

    Raises:
        UsageError: For anything else. Nothing was sent.
        FileError: If it does not exist or cannot be accessed. Nothing was sent.
    """
    with file_errors(path, "a request file"):
        mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode):
        kind = "a directory" if stat.S_ISDIR(mode) else "a pipe or a device"
        raise UsageError(f"{path} is {kind}, and {why}. Give the path of a file. Nothing was sent.")


def new_path(requests: str) -> str:
    """Return a unique path for a results file beside a request file."""
    stem = requests.removesuffix(".jsonl")
    return f"{stem}_results_{time.strftime('%Y%m%d-%H%M%S')}_{secrets.token_hex(4)}.jsonl"


def _write(handle: int, content: bytes, at: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(handle, view, at)
        view, at = view[written:], at + written
