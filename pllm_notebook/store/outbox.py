"""State of a cache directory's exchange with shared directories: answers still to be shipped, and segments taken in.

The keys of one commit are stored in one row: a row for each key would cost as much as reading an answer.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Container, Iterable, Sequence
from contextlib import suppress
from typing import NamedTuple, TypeVar

from pllm_notebook.runtime import RUNTIME
from pllm_notebook.store.sqlite_connections import SelfClosingConnection

__all__ = ["OUTBOX", "Group", "Outbox"]

OUTBOX = "share.db"
"""Name of the file in the cache directory."""

# A key is noted before its answer is committed, and a full disk can delay an answer by a minute.
_GIVE_UP_S = 3600

_T = TypeVar("_T")

_log = logging.getLogger("pllm_notebook.store")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS groups (number INTEGER PRIMARY KEY, share TEXT, at REAL, count INTEGER, keys TEXT);
CREATE TABLE IF NOT EXISTS taken (share TEXT, name TEXT, PRIMARY KEY (share, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS shipper (share TEXT PRIMARY KEY, owner TEXT, until REAL) WITHOUT ROWID;
"""


class Group(NamedTuple):
    """Keys that were committed together, with the number of their row. Later groups have higher numbers."""

    number: int
    at: float
    keys: tuple[str, ...]


class Outbox:
    """State of the exchange with one shared directory, in a small database. Safe for threads and processes.

    A key is noted before its answer is committed, and removed after its segment is written: if a process is killed in
    between, the next one ships the answer. The database does not wait for the disk, so a power cut can lose the last
    keys. Their answers are then not shared, but never lost.

    One connection stays open: opening and closing it costs as much as noting twenty groups, and a run commits about a
    hundred groups a second.

    Args:
        directory: The cache directory, which must exist.
        share: Address of the shared directory.
        busy_timeout_s: Seconds to wait for another process.

    Attributes:
        change_lock: Held for each use and around a fork.
    """

    def __init__(self, directory: str, share: str, *, busy_timeout_s: float = 5.0) -> None:
        self._path = os.path.join(directory, OUTBOX)
        self._share = share
        self._busy_timeout_s = busy_timeout_s
        self.reset_after_fork()
        RUNTIME.register_fork_aware(self)

    def reset_after_fork(self) -> None:
        """Start without a connection, in the child of a fork. The parent keeps its own."""
        self.change_lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._files: list[tuple[int, int]] | None = None

    def close(self) -> None:
        """Close the file. A later use reopens it."""
        with self.change_lock:
            self._close()

    def note(self, keys: Sequence[str]) -> None:
        """Record that the answers of *keys* have to be shipped."""
        statement = "INSERT INTO groups (share, at, count, keys) VALUES (?, ?, ?, ?)"
        row = (self._share, time.time(), len(keys), "\n".join(keys))
        self._transaction(lambda connection: connection.execute(statement, row))

    def unshipped(self, limit: int, after: int = 0) -> list[Group]:
        """Return the next groups above number *after*, in order: at least one, and more up to *limit* keys in all."""

        def read(connection: sqlite3.Connection) -> list[Group]:
            groups: list[Group] = []
            total = 0
            for number, at, count, keys in connection.execute(
                "SELECT number, at, count, keys FROM groups WHERE share = ? AND number > ? ORDER BY number",
                (self._share, after),
            ):
                total += count
                if groups and total > limit:
                    break
                groups.append(Group(number, at, tuple(keys.split("\n"))))
            return groups

        return self._transaction(read)

    def shipped(self, groups: Iterable[Group], keys: Container[str]) -> None:
        """Remove *keys* from *groups*: a segment contains their answers.

        The answers of the other keys were never stored, were deleted, or are being committed now. Those keys are
        tried again for an hour.
        """
        before = time.time() - _GIVE_UP_S

        def change(connection: sqlite3.Connection) -> None:
            for number, at, noted in groups:
                left = [key for key in noted if key not in keys] if at >= before else []
                if left:
                    row = (len(left), "\n".join(left), number)
                    connection.execute("UPDATE groups SET count = ?, keys = ? WHERE number = ?", row)
                else:
                    connection.execute("DELETE FROM groups WHERE number = ?", (number,))

        self._transaction(change)

    def count(self) -> int:
        """Return the number of answers still to be shipped."""
        return int(self._read("SELECT coalesce(sum(count), 0) FROM groups WHERE share = ?")[0])

    def take(self, names: Sequence[str]) -> None:
        """Record that these segments need not be read again: they were taken in, or are ours."""
        if names:
            rows = [(self._share, name) for name in names]
            self._transaction(
                lambda connection: connection.executemany("INSERT OR IGNORE INTO taken VALUES (?, ?)", rows)
            )

    def taken(self) -> set[str]:
        """Return the names of segments that need not be read again."""
        return set(self._read("SELECT name FROM taken WHERE share = ?"))

    def lease(self, owner: str, seconds: float) -> bool:
        """Take or renew the lease to ship, for *seconds*. Return False if another owner has it."""
        now = time.time()

        def change(connection: sqlite3.Connection) -> bool:
            row = connection.execute("SELECT owner, until FROM shipper WHERE share = ?", (self._share,)).fetchone()
            # A lease that is longer than a new one means that the clock was set back.
            if row is not None and row[0] != owner and now < row[1] <= now + seconds:
                return False
            connection.execute("INSERT OR REPLACE INTO shipper VALUES (?, ?, ?)", (self._share, owner, now + seconds))
            return True

        return self._transaction(change)

    def release(self, owner: str) -> None:
        """End the lease of *owner*."""
        self._transaction(
            lambda connection: connection.execute(
                "DELETE FROM shipper WHERE share = ? AND owner = ?", (self._share, owner)
            )
        )

    def _read(self, statement: str) -> list[str]:
        def read(connection: sqlite3.Connection) -> Sequence[tuple[str]]:
            return connection.execute(statement, (self._share,)).fetchall()

        return [row[0] for row in self._transaction(read)]

    def _transaction(self, change: Callable[[sqlite3.Connection], _T]) -> _T:
        with self.change_lock:
            try:
                return self._change(change)
            except sqlite3.OperationalError:
                self._close()
                raise
            except sqlite3.DatabaseError as error:
                # Nothing in this file was paid for: answers that were not shipped are still in the cache.
                _log.warning("%s is damaged (%s) and starts empty; some answers may not be shared.", self._path, error)
                self._close()
                for end in ("", "-wal", "-shm"):
                    with suppress(FileNotFoundError):
                        os.unlink(self._path + end)
                return self._change(change)

    def _change(self, change: Callable[[sqlite3.Connection], _T]) -> _T:
        connection = self._current()
        connection.execute("BEGIN IMMEDIATE")
        try:
            done = change(connection)
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        return done

    def _current(self) -> sqlite3.Connection:
        """Return the connection, reopened if the files were replaced: a cache may be deleted and created again."""
        if self._connection is None or self._files != self._identity():
            self._close()
            self._connection = self._open()
            self._files = self._identity()
        return self._connection

    def _identity(self) -> list[tuple[int, int]] | None:
        try:
            found = [os.stat(self._path + end) for end in ("", "-wal")]
        except OSError:
            return None
        return [(one.st_dev, one.st_ino) for one in found]

    def _close(self) -> None:
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
        self._connection = self._files = None

    def _open(self) -> sqlite3.Connection:
        new = not os.path.exists(self._path)
        # Used by one thread at a time: each use holds the lock.
        connection = sqlite3.connect(
            self._path,
            timeout=self._busy_timeout_s,
            isolation_level=None,
            check_same_thread=False,
            factory=SelfClosingConnection,
        )
        try:
            connection.execute("PRAGMA trusted_schema = 0")
            if new:
                os.chmod(self._path, 0o600)
                connection.execute("PRAGMA journal_mode = WAL")
            # No commit waits for the disk. A kill loses nothing; a power cut loses the last commits.
            connection.execute("PRAGMA synchronous = 1")
            connection.executescript(_SCHEMA)
        except BaseException:
            connection.close()
            raise
        return connection
