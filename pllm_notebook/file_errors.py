"""Readable errors for a path given by the user: a missing file, a directory, no permission."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from pllm_notebook.exceptions import FileError, PllmError, UsageError, guess

__all__ = ["file_errors", "file_path"]

_NOTHING_SENT = "Nothing was sent."


def file_path(path: object, what: str, nothing: str = _NOTHING_SENT) -> str:
    """Return *path* as text.

    Args:
        path: The path as given.
        what: The expected kind of file, such as "a results file".
        nothing: The end of the error's message.

    Raises:
        UsageError: If it is neither text nor a path object, or is empty.
    """
    text = os.fspath(path) if isinstance(path, (str, os.PathLike)) else None
    if isinstance(text, str) and text and "\0" not in text:
        return text
    raise UsageError(f"The path of {what} is expected, not {path!r}. {nothing}")


@contextmanager
def file_errors(path: str, what: str, nothing: str = _NOTHING_SENT, *, writing: bool = False) -> Iterator[None]:
    """Convert an `OSError` inside the `with` to a `FileError` that states the problem and what to do.

    Args:
        path: The file that is opened inside.
        what: The kind of file, such as "a results file".
        nothing: The end of the message.
        writing: Whether the file is written.

    Raises:
        FileError: For an `OSError`.
    """
    try:
        yield
    except PllmError:
        raise
    except OSError as error:
        place = "writing" if writing else "reading"
        raise FileError(f"{_seen(error, path, what, place)} {nothing}", errno=error.errno, path=path) from error


def _seen(error: OSError, path: str, what: str, place: str) -> str:
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path):
        return f"{path!r} is a directory; {what} is expected. Give the path of a file."
    if isinstance(error, (FileNotFoundError, NotADirectoryError)) and not os.path.isdir(folder):
        return f"There is no directory {folder!r} for {path!r}. Give another path, or make the directory first."
    if isinstance(error, FileNotFoundError):
        name = os.path.basename(path)
        return f"There is no file {name!r} in {folder!r}; {what} is expected.{guess(name, _names_in(folder))}"
    if isinstance(error, PermissionError):
        whom = path if place == "reading" or os.path.exists(path) else folder
        return f"{whom!r} does not permit {place}. Change its permissions, or give another path."
    return f"{path!r} fails at {place}: {error.strerror or error}. Give another path."


def _names_in(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []
