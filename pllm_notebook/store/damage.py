"""Damage of a database: which errors mean it, and what a reading had to leave out.

An error means damage where neither the machine nor another program explains it.
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
"""What reading a database may raise: SQLite's own errors, and Python's for what SQLite gives it."""

# By SQLite's primary result codes (sqlite.org/rescode.html). The file's surroundings: a lock, a full disk, no rights.
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
# The file itself, beyond doubt.
_DAMAGE_CODES = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT}
_PRIMARY = 0xFF


def is_full_disk(error: BaseException) -> bool:
    """Return whether an error says that the disk is full."""
    code = getattr(error, "sqlite_errorcode", None) or 0
    return code & _PRIMARY == sqlite3.SQLITE_FULL or getattr(error, "errno", None) == errno.ENOSPC


def cannot_write(error: BaseException) -> bool:
    """Return whether an error says that nothing can be written there, though it may be read."""
    code = getattr(error, "sqlite_errorcode", None) or 0
    return (
        is_full_disk(error)
        or code & _PRIMARY in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM)
        or getattr(error, "errno", None) in (errno.EROFS, errno.EACCES, errno.EPERM, errno.EDQUOT)
    )


def is_damage(error: BaseException, path: str | None = None) -> bool:
    """Return whether an error of reading means that the file is damaged, not that it is locked, full or gone.

    Args:
        error: As it was raised.
        path: The database. An error that may have another cause is looked into there: SQLite's own check of the
            whole file decides. None takes it for damage.
    """
    if not isinstance(error, READ_ERRORS):
        return False
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:
        # Python's own: text that is not UTF-8 (an error in the words of an error too), or one of ours.
        return not isinstance(error, (sqlite3.ProgrammingError, sqlite3.InterfaceError))
    if code == sqlite3.SQLITE_IOERR_SHORT_READ:
        return True
    if code & _PRIMARY == sqlite3.SQLITE_READONLY and path is not None and not _is_writable_format(path):
        return True
    if code & _PRIMARY in _ENVIRONMENT_CODES:
        return False
    # A file cut to nothing while it is open has no tables, and passes every check.
    missing = any(words in str(error) for words in ("no such table", "no such column", "malformed"))
    return missing or code & _PRIMARY in _DAMAGE_CODES or path is None or not passes_check(path)


def _is_writable_format(path: str) -> bool:
    """Return whether a database says that it is of a format that is written: 1, or 2 with a write-ahead log."""
    with suppress(OSError), open(path, "rb") as file:
        return file.read(19)[18:] in (b"\1", b"\2", b"")  # sqlite.org/fileformat2.html#file_format_version_numbers
    return True


def passes_check(path: str) -> bool:
    """Return whether SQLite's own check of the whole file finds nothing."""
    with suppress(*READ_ERRORS), closing(sqlite3.connect(f"file:{quote(path)}?mode=ro", uri=True)) as connection:
        return bool(connection.execute("PRAGMA integrity_check(1)").fetchone() == ("ok",))
    return False


@dataclass
class DamageReport:
    """Counts the rows that were damaged or unsafe (see `database.DamageCallback`).

    Attributes:
        count: How many.
        first: What was wrong with the first, None for none.
    """

    count: int = 0
    first: UnsafeEntryError | None = None

    def clear(self) -> None:
        """Begin again: the reading is made once more."""
        self.count, self.first = 0, None

    def __call__(self, key: str, error: UnsafeEntryError) -> None:
        self.count += 1
        self.first = self.first or error
