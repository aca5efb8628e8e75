"""Files of a session's directory, written atomically and readable only by their owner."""

from __future__ import annotations

import base64
import errno
import fcntl
import hashlib
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from pllm_notebook.exceptions import StoreError
from pllm_notebook.files import make_private_directory, replacing

__all__ = ["append_lines", "hash_of", "lock_directory", "make_directory", "write_atomic"]


def hash_of(content: bytes) -> str:
    """Return the sha256 hash of a content as base64url, 43 characters."""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode("ascii")


def make_directory(path: str) -> None:
    """Create a directory if it does not exist.

    Raises:
        StoreError: If it cannot be created. Nothing was sent.
    """
    try:
        make_private_directory(path)
    except OSError as error:
        raise _refused(path, error) from error


@contextmanager
def lock_directory(path: str) -> Iterator[None]:
    """Hold an exclusive lock, among threads and processes, on a file's directory.

    Args:
        path: Path of the file, which need not exist.

    Raises:
        StoreError: If the directory is missing. Nothing was sent.
    """
    # The directory itself is locked: a lock file could never be removed.
    try:
        handle = os.open(os.path.dirname(path), os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise _refused(path, error) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def write_atomic(path: str, content: bytes, *, synced: bool = True) -> None:
    """Replace a file atomically, so that neither a reader nor a kill leaves half of it.

    Args:
        path: In an existing directory.
        content: The whole content.
        synced: Whether it must survive a power failure.

    Raises:
        StoreError: If it cannot be written; an existing file is left unchanged. Nothing was sent.
    """
    try:
        with replacing(path, synced=synced) as file:
            file.write(content)
    except OSError as error:
        raise _refused(path, error) from error


def append_lines(path: str, lines: Iterable[bytes]) -> None:
    """Append lines to a file, in one write.

    A partial line that a killed process left is terminated first, for the reader to skip.

    Args:
        path: In an existing directory; the file is created if it does not exist.
        lines: Without line ends.

    Raises:
        StoreError: If they cannot be written. Nothing was sent.
    """
    content = b"".join(line + b"\n" for line in lines)
    try:
        with os.fdopen(os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND | os.O_CLOEXEC, 0o600), "r+b", 0) as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                if file.read(1) != b"\n":
                    content = b"\n" + content
            written = file.write(content)
            # The disk is full, or a limit was reached. The partial line is terminated by the next call.
            if written != len(content):
                raise OSError(errno.ENOSPC, f"{written:,} of {len(content):,} bytes were written")
    except OSError as error:
        raise _refused(path, error) from error


def _refused(path: str, error: OSError) -> StoreError:
    reason = error.strerror or type(error).__name__
    return StoreError(f"{path} cannot be written ({reason}). Free space, or use another directory. Nothing was sent.")
