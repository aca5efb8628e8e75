"""The file of failed calls: opened for one transaction at a time, set aside if it is damaged.

Each use opens and closes the file. No connection crosses a fork or outlives a deleted directory, and no journal is
left behind when nothing is written.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import TypeVar

from pllm_notebook.failures import FailedCall
from pllm_notebook.files import create_private, set_aside, utc_stamp
from pllm_notebook.store.damage import READ_ERRORS, is_damage
from pllm_notebook.store.failure_rows import COLUMNS, Fields, NewerFailure, failed_call
from pllm_notebook.store.sqlite_connections import lenient

__all__ = ["DATABASE", "FailureFile"]

DATABASE = "failures.db"

_FORMAT = 1
_TABLE = "CREATE TABLE failures (key TEXT PRIMARY KEY, kind TEXT NOT NULL, model TEXT NOT NULL, at REAL, told BLOB)"
_INDEX = "CREATE INDEX failures_kind ON failures (kind)"
# A replaced row becomes the newest, so that rowids are in order of time.
_INSERT = f"INSERT OR REPLACE INTO failures ({COLUMNS}) VALUES (?, ?, ?, ?, ?)"
_DELETE = "DELETE FROM failures WHERE key = ?"

_log = logging.getLogger("pllm_notebook.store")

Result = TypeVar("Result")


class FailureFile:
    """The failed calls of one cache directory, for one thread at a time and any number of processes.

    Errors of the disk or the file are logged, never raised.

    Args:
        directory: The cache directory.
        busy_timeout_s: Seconds to wait for another process.
        max_rows: Maximum number of failures kept.
        max_bytes: Maximum size of the file.
    """

    def __init__(self, directory: str, *, busy_timeout_s: float, max_rows: int, max_bytes: int) -> None:
        self.path = os.path.join(directory, DATABASE)
        self._directory = directory
        self._busy_timeout_s = busy_timeout_s
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._warned = False

    def state(self) -> tuple[int, ...] | None:
        """Return values that change when the file changes; None if the file is missing or empty."""
        try:
            status = os.stat(self.path)
        except OSError:
            return None
        # The file is empty between its creation and its first commit.
        return (status.st_ino, status.st_size, status.st_mtime_ns) if status.st_size else None

    def write(self, rows: Sequence[Fields], gone: Sequence[str]) -> None:
        """Commit new failures, and delete those of the keys in *gone*."""
        if rows or self.state() is not None:
            self._attempt("written", lambda: self._commit(rows, gone), None)

    def read(self, where: str, values: Sequence[object]) -> list[FailedCall]:
        """Return the failures that meet a condition, newest first, without rows that this package did not write."""
        query = f"SELECT {COLUMNS} FROM failures WHERE {where} ORDER BY rowid DESC"

        def select() -> list[FailedCall]:
            with self._transaction("BEGIN") as connection:
                return [call for row in connection.execute(query, values) if (call := failed_call(row)) is not None]

        return [] if self.state() is None else self._attempt("read", select, [])

    def kinds(self) -> frozenset[str]:
        """Return the kinds of failure in the file."""

        def select() -> frozenset[str]:
            with self._transaction("BEGIN") as connection:
                return frozenset(str(kind) for (kind,) in connection.execute("SELECT DISTINCT kind FROM failures"))

        return frozenset() if self.state() is None else self._attempt("read", select, frozenset())

    def clear(self) -> None:
        """Delete every failure and free the disk space."""

        def clear() -> None:
            with self._transaction("BEGIN IMMEDIATE") as connection:
                connection.execute("DELETE FROM failures")
                connection.execute("COMMIT")
                connection.execute("VACUUM")

        if self.state() is not None:
            self._attempt("cleared", clear, None)

    def _attempt(self, what: str, work: Callable[[], Result], default: Result) -> Result:
        """Do *work*; return *default* if it cannot be done.

        A damaged file is set aside, and a write is then repeated on a new file.
        """
        for last in (False, True):
            try:
                return work()
            except (OSError, *READ_ERRORS, NewerFailure) as error:
                if last or not self._set_aside(error):
                    self._warn_once(what, error)
                    return default
                if what != "written":
                    return default
        raise AssertionError("the second try returns")

    def _commit(self, rows: Sequence[Fields], gone: Sequence[str]) -> None:
        create_private(self.path)
        with self._transaction("BEGIN IMMEDIATE") as connection:
            if not connection.execute("SELECT 1 FROM sqlite_master").fetchone():
                connection.execute(_TABLE)
                connection.execute(_INDEX)
                connection.execute(f"PRAGMA user_version = {_FORMAT}")
            connection.executemany(_DELETE, [(key,) for key in gone])
            connection.executemany(_INSERT, rows)
            self._delete_oldest(connection)

    def _delete_oldest(self, connection: sqlite3.Connection) -> None:
        """Delete the oldest failures beyond either limit."""
        first, last = connection.execute("SELECT min(rowid), max(rowid) FROM failures").fetchone()
        if first is None:
            return
        connection.execute("DELETE FROM failures WHERE rowid <= ?", (last - self._max_rows,))
        step = (last - first) // 10 + 1
        while first <= last and self._used(connection) > self._max_bytes:
            first += step
            connection.execute("DELETE FROM failures WHERE rowid < ?", (first,))

    def _used(self, connection: sqlite3.Connection) -> int:
        pages, free, size = (
            connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
        return int((pages - free) * size)

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=self._busy_timeout_s, isolation_level=None)) as connection:
            connection.execute("PRAGMA trusted_schema = 0")
            connection.execute("PRAGMA cell_size_check = 1")
            connection.text_factory = lenient
            connection.execute(begin)
            if connection.execute("PRAGMA user_version").fetchone()[0] > _FORMAT:
                raise NewerFailure("a later version of pllm_notebook wrote it")
            try:
                yield connection
                if connection.in_transaction:
                    connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")

    def _set_aside(self, error: BaseException) -> bool:
        """Rename a damaged file, so that a new one can be created.

        Return False if *error* does not mean damage, or the file cannot be renamed.
        """
        if not is_damage(error, self.path):
            return False
        # SQLite rolled back any journal before it found the damage, so none is left to be rolled back into a new file.
        aside = set_aside(self.path, f".damaged-{utc_stamp()}")
        if aside is None:
            return False
        _log.warning(
            "The list of failed calls in %s is damaged (%s). It was set aside as %s, and a new one was started. No "
            "answer is lost.",
            self._directory,
            error,
            os.path.basename(aside),
        )
        return True

    def _warn_once(self, what: str, error: BaseException) -> None:
        # If the caller has deleted the directory (a temporary one), nothing is lost that could still be read.
        if not self._warned and os.path.isdir(self._directory):
            self._warned = True
            _log.warning(
                "The list of failed calls in %s could not be %s: %s. Answers are still kept.",
                self._directory,
                what,
                error,
            )
