"""File operations: atomic replacement, files readable only by their owner, and setting damaged files aside."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO

__all__ = [
    "create_private",
    "make_private_directory",
    "replacing",
    "set_aside",
    "sync_directory",
    "utc_stamp",
]


@contextmanager
def replacing(
    path: str,
    *,
    synced: bool = True,
    mode: int = 0o600,
    partial: str | None = None,
    place: Callable[[str, str], None] = os.replace,
) -> Iterator[IO[bytes]]:
    """Open a file that atomically replaces *path* at the end of the block.

    Args:
        path: A path in an existing directory. It is unchanged if the block or the replacement raises.
        synced: Whether the file must survive a power failure.
        mode: Mode of the new file, minus the umask.
        partial: Path of the file while it is written, in the same directory. None for a hidden random name.
        place: Renames the finished file from the partial path to *path*.

    Raises:
        OSError: If it cannot be written.
    """
    folder, name = os.path.split(path)
    partial = partial or os.path.join(folder, f".{name[:40]}-{secrets.token_hex(8)}")
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with open(handle, "wb") as file:
            yield file
            if synced:
                file.flush()
                os.fsync(handle)
        place(partial, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(partial)
        raise


def create_private(path: str) -> bool:
    """Create an empty file that only its owner can read, unless it exists. Return whether it was created.

    For databases: SQLite would use the umask, which is shared by the whole process. It gives its -wal, -shm and journal
    files the mode of the database.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return False
    return True


def make_private_directory(path: str) -> None:
    """Create a directory that only its owner can enter, and its parents, unless they exist."""
    os.makedirs(path, 0o700, exist_ok=True)


def sync_directory(path: str) -> None:
    """Sync the names in a directory to disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def utc_stamp(seconds: float | None = None) -> str:
    """Return a UTC time for a file name, to the second.

    Args:
        seconds: Seconds since 1970. None for now.
    """
    return time.strftime("%Y%m%dT%H%M%S", time.gmtime(seconds))


def set_aside(path: str, suffix: str) -> str | None:
    """Rename a damaged file, so that a new one can be created. Nothing is deleted.

    Returns:
        The new path, or None if the file cannot be renamed.
    """
    aside = path + suffix
    try:
        os.replace(path, aside)
    except OSError:
        return None
    return aside
