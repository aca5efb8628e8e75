"""Read a file to show to a model: a regular file within the size limit, from an allowed directory.

A file's path may come from data: a cell written by someone else can contain any path. Therefore all checks are made
before the content is read, and on the same open file that is then read.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

__all__ = ["ANYWHERE", "LARGEST_BYTES", "AllowedDirectories", "FileRefusedError", "local_path", "read_file"]

ANYWHERE = "anywhere"

LARGEST_BYTES = 50_000_000
"""No provider takes a larger file in a request (Google: 50 MB for a PDF, ai.google.dev/gemini-api/docs/files)."""

# Opening a pipe would block, a link could lead elsewhere after the check, a terminal could become the controlling one.
_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY
_HEADER_BYTES = 4096


class FileRefusedError(Exception):
    """A file cannot be shown. Its message is the end of a sentence ("cannot be read: …"). Nothing was sent."""


@dataclass(frozen=True, slots=True)
class AllowedDirectories:
    """The directories in which a path from data may lead. Links are resolved first: the file's real location counts.

    Attributes:
        roots: Resolved directories; a file may be anywhere below any of them. None for the whole machine.
    """

    roots: tuple[str, ...] | None

    @classmethod
    def of(cls, images_from: Iterable[str | os.PathLike[str]] | None) -> AllowedDirectories:
        """Build the directories from the option's value. None allows only the current working directory."""
        given = [os.getcwd()] if images_from is None else list(images_from)
        if given == [ANYWHERE]:
            return cls(None)
        return cls(tuple(os.path.realpath(os.path.expanduser(os.fspath(one))) for one in given))

    def hold(self, path: str) -> bool:
        """Return whether a resolved path is in one of the directories."""
        if self.roots is None:
            return True
        return any(os.path.commonpath([root, path]) == root for root in self.roots)

    def __str__(self) -> str:
        return "anywhere" if self.roots is None else " and ".join(self.roots)


def local_path(source: str | os.PathLike[str]) -> str:
    """Return the path given by a string, a `Path` or a file:// URL, with `~` expanded."""
    path = os.fsdecode(source)
    if path.lower().startswith("file://"):
        return unquote(urlsplit(path).path)
    return os.path.expanduser(path)


def read_file(
    path: str,
    *,
    allowed: AllowedDirectories | None = None,
    largest: int = LARGEST_BYTES,
    wanted: Callable[[bytes], bool] | None = None,
) -> bytes:
    """Read a whole file after checking it.

    Args:
        path: A path returned by `local_path`.
        allowed: The allowed directories, None if the path comes from the caller's own code.
        largest: Maximum size in bytes.
        wanted: Returns whether to read the rest of a file, given its first bytes; None always reads it.

    Returns:
        The content. If the file is not wanted, its first 4,096 bytes at most.

    Raises:
        FileRefusedError: If a check fails or the file cannot be read.
    """
    try:
        resolved = os.path.realpath(path, strict=True)
        if allowed is not None and not allowed.hold(resolved):
            raise FileRefusedError(
                f"it is not in {allowed}, where files that data names may be; images_from= names other places"
            )
        # Check before opening: opening a device may have an effect, and opening a pipe blocks.
        _check(os.stat(resolved), largest)
        handle = os.open(resolved, _OPEN_FLAGS)
    except (OSError, ValueError) as error:  # ValueError: a null character in a path
        raise FileRefusedError(getattr(error, "strerror", None) or str(error)) from error
    with open(handle, "rb") as file:
        status = os.fstat(handle)
        _check(status, largest)
        if allowed is not None and not _is_at(resolved, status):
            raise FileRefusedError("it was replaced by another while it was being opened")
        try:
            content = file.read(_HEADER_BYTES)
            if wanted is None or wanted(content):
                # Read only the size that was checked, even if the file grows, so that memory stays bounded.
                content += file.read(max(0, status.st_size - len(content)))
        except OSError as error:
            raise FileRefusedError(error.strerror or str(error)) from error
    return content


def _check(status: os.stat_result, largest: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        kinds = ((stat.S_ISDIR, "a directory"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
        kind = next((name for is_kind, name in kinds if is_kind(status.st_mode)), "a device")
        raise FileRefusedError(f"it is {kind} and no file")
    if status.st_size > largest:
        raise FileRefusedError(_too_large(status.st_size, largest))
    if not status.st_size:
        # Files generated on reading (/proc) also have size 0.
        raise FileRefusedError("it is empty")


def _too_large(size: int, largest: int) -> str:
    return f"it has {size:,} bytes, and the provider takes {largest:,} at most"


def _is_at(resolved: str, status: os.stat_result) -> bool:
    """Return whether the open file is still the one at the checked path: no part of the path became a link."""
    with suppress(OSError):
        return os.path.realpath(resolved) == resolved and os.path.samestat(os.lstat(resolved), status)
    return False
