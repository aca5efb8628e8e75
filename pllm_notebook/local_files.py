"""Reading a file that will be shown to a model: a regular one, of a size that is taken, from where it may be.

What names a file may be data: a cell that somebody else wrote names whatever it likes. So everything that can be known
of a file is looked at before its content is, on the very file that is then read.
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

# A pipe would keep its opener waiting, a link could lead out after it was looked at, a terminal could become ours.
_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY
_HEADER_BYTES = 4096


class FileRefusedError(Exception):
    """A file cannot be shown; its text says why, as the end of a sentence ("cannot be read: …"). Nothing was sent."""


@dataclass(frozen=True, slots=True)
class AllowedDirectories:
    """Where files that data names may be. Links are followed first: what counts is where a file really is.

    Attributes:
        roots: Directories, resolved; a file may be in any of them or below. None for the whole machine.
    """

    roots: tuple[str, ...] | None

    @classmethod
    def of(cls, images_from: Iterable[str | os.PathLike[str]] | None) -> AllowedDirectories:
        """Make it of the option; None is the working directory of this moment."""
        given = [os.getcwd()] if images_from is None else list(images_from)
        if given == [ANYWHERE]:
            return cls(None)
        return cls(tuple(os.path.realpath(os.path.expanduser(os.fspath(one))) for one in given))

    def hold(self, path: str) -> bool:
        """Return whether a resolved path is in one of them."""
        if self.roots is None:
            return True
        return any(os.path.commonpath([root, path]) == root for root in self.roots)

    def __str__(self) -> str:
        return "anywhere" if self.roots is None else " and ".join(self.roots)


def local_path(source: str | os.PathLike[str]) -> str:
    """Return the path that a text, a `Path` or a file:// address names, `~` filled in."""
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
    """Read a file whole, after every check.

    Args:
        path: As `local_path` gives it.
        allowed: Where it must be, None where the caller's own code names it.
        largest: Bytes that it may have.
        wanted: Whether a file that begins so is to be read on; None reads it in any case.

    Returns:
        The content; of a file that is not wanted, its beginning (4,096 bytes at most).

    Raises:
        FileRefusedError: Nothing of its content was read.
    """
    try:
        resolved = os.path.realpath(path, strict=True)
        if allowed is not None and not allowed.hold(resolved):
            raise FileRefusedError(
                f"it is not in {allowed}, where files that data names may be; images_from= names other places"
            )
        # Opened, a device may do something; a pipe waits.
        _check(os.stat(resolved), largest)
        handle = os.open(resolved, _OPEN_FLAGS)
    except (OSError, ValueError) as error:  # ValueError: a null character in a path
        raise FileRefusedError(getattr(error, "strerror", None) or str(error)) from error
    with open(handle, "rb") as file:
        status = os.fstat(handle)
        _check(status, largest)
        if allowed is not None and not _is_at(resolved, status):
            raise FileRefusedError("it was exchanged for another while it was opened")
        try:
            content = file.read(_HEADER_BYTES)
            if wanted is None or wanted(content):
                # As long as it was when it was looked at, however it grows; no more room is taken for it.
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
        # What the system makes up while it is read (/proc) is empty too, until it is read.
        raise FileRefusedError("it is empty")


def _too_large(size: int, largest: int) -> str:
    return f"it has {size:,} bytes, and the provider takes {largest:,} at most"


def _is_at(resolved: str, status: os.stat_result) -> bool:
    """Return whether the open file is the one at the path that was looked at: no part of it has become a link."""
    with suppress(OSError):
        return os.path.realpath(resolved) == resolved and os.path.samestat(os.lstat(resolved), status)
    return False
