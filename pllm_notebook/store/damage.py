"""Detection of a damaged database from its errors, and a count of the rows that could not be read.

An error counts as damage unless the machine or another program explains it.
"""

from __future__ import annotations

import errno
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from urllib.parse import quote

from pllm_notebook.exceptions import UnsafeEntryError

__all__ = ["READ_ERRORS", "DamageReport", "cannot_write", "is_damage", "is_full_disk", "passes_check"]

READ_ERRORS = (sqlite3.Error, UnicodeDecodeError, OverflowError)
"""Errors that reading a database may raise: SQLite's own, and Python's for values that SQLite returned."""

# SQLite's primary result codes (sqlite.org/rescode.html) with a cause outside the file: a lock, a full disk,
# missing permissions.
_ENVIRONMENT_CODES = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_ABORT,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_INTERRUPT,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PROTOCOL,
    sqlite3.SQLITE_MISUSE,
    sqlite3.SQLITE_NOLFS,
    sqlite3.SQLITE_AUTH,
}
# Codes that always mean a damaged file.
_DAMAGE_CODES = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}
_PRIMARY = 0xFF


def is_full_disk(error: BaseException) -> bool:
    """Return whether an error means that the disk is full."""
    code = getattr(error, "sqlite_errorcode", None) or 0
    return code & _PRIMARY == sqlite3.SQLITE_FULL or getattr(error, "errno", None) == errno.ENOSPC


def cannot_write(error: BaseException) -> bool:
    """Return whether an error means that the file cannot be written, though it may be readable."""
    code = getattr(error, "sqlite_errorcode", None) or 0
    return (
        is_full_disk(error)
        or code & _PRIMARY in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM)
        or getattr(error, "errno", None) in (errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT)
    )


def is_damage(error: BaseException, path: str | None = None) -> bool:
    """Return whether a read error means that the file is damaged, rather than locked, missing or on a full disk.

    Args:
        error: The error as raised.
        path: The database. For an error that may have another cause, SQLite's own check of this whole file decides.
            None means that such an error counts as damage.
    """
    if not isinstance(error, READ_ERRORS):
        return False
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        # An error of Python (text that is not UTF-8, even in an error message), or one of ours.
        return not isinstance(error, (sqlite3.ProgrammingError, sqlite3.InterfaceError))
    if code == sqlite3.SQLITE_IOERR_SHORT_READ:
        return True
    if code & _PRIMARY == sqlite3.SQLITE_READONLY and path is not None and not _is_writable_format(path):
        return True
    if code & _PRIMARY in _ENVIRONMENT_CODES:
        return False
    # A file truncated to zero bytes while open has no tables, and passes every check.
    missing = any(words in str(error) for words in ("no such table", "no such column", "malformed"))
    return missing or code & _PRIMARY in _DAMAGE_CODES or path is None or not passes_check(path)


def _is_writable_format(path: str) -> bool:
    """Return whether the header of a database has a writable format: 1, or 2 with a write-ahead log."""
    with suppress(OSError), open(path, "rb") as file:
        return file.read(19)[18:] in (b"\1", b"\2", b"")  # sqlite.org/fileformat2.html#file_format_version_numbers
    return True


def passes_check(path: str) -> bool:
    """Return whether SQLite's own check of the whole file finds no fault."""
    with suppress(*READ_ERRORS), closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)) as connection:
        return bool(connection.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",))
    return False


@dataclass
class DamageReport:
    """Counts the rows that were damaged or unsafe (see `database.DamageCallback`).

    Attributes:
        count: Number of such rows.
        first: Error of the first such row, None if there are none.
    """

    count: int = 0
    first: UnsafeEntryError | None = None

    def clear(self) -> None:
        """Reset the report before a second read."""
        self.count, self.first = 0, None

    def __call__(self, key: str, error: UnsafeEntryError) -> None:
        self.count += 1
        self.first = self.first or error
