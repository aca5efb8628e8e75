"""What a cache directory remembers of its shared directories: which keys are still to be shipped, what was taken in."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from typing import TypeVar

__all__ = ["OUTBOX", "Outbox"]

OUTBOX = "share.db"
"""Name below the cache directory."""

# A key is noted before its answer is committed, and a full disk keeps an answer waiting for a minute.
_GIVE_UP_S = 3600

_T = TypeVar("_T")

_log = logging.getLogger("pllm_notebook.store")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS unshipped (share TEXT, key TEXT, at REAL, PRIMARY KEY (share, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS taken (share TEXT, name TEXT, PRIMARY KEY (share, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS shipper (share TEXT PRIMARY KEY, owner TEXT, until REAL) WITHOUT ROWID;
"""


class Outbox:
    """The record of one shared directory, in a small database beside the answers. Safe from threads and processes.

    A key is noted before its answer is committed and removed after its segment is written: a process that is killed
    in between leaves keys that the next one ships. It loses at most what a power cut takes from a database that does
    not wait for the disk, and then an answer is not shared, and never lost.

    Args:
        directory: The cache's; it exists.
        share: Address of the shared directory.
        busy_timeout_s: Seconds to wait for another process.
    """

    def __init__(self, directory: str, share: str, *, busy_timeout_s: float = 5.0) -> None:
        self._path = os.path.join(directory, OUTBOX)
        self._share = share
        self._busy_timeout_s = busy_timeout_s
        self._lock = threading.Lock()
        # Looking whether the tables are there costs as much as a hundred keys.
        self._has_tables = False

    def note(self, keys: Iterable[str]) -> None:
        """Remember that the answers of *keys* are to be shipped."""
        self._change(f"INSERT OR REPLACE INTO unshipped VALUES (?, ?, {time.time()!r})", keys)

    def shipped(self, keys: Iterable[str]) -> None:
        """Forget *keys*: a segment holds their answers."""
        self._change("DELETE FROM unshipped WHERE share = ? AND key = ?", keys)

    def unshipped(self, limit: int, after: str = "") -> list[str]:
        """Return up to *limit* keys whose answers are to be shipped, the first beyond *after*, in order."""
        return self._read("SELECT key FROM unshipped WHERE share = ? AND key > ? ORDER BY key LIMIT ?", after, limit)

    def give_up(self, keys: Iterable[str]) -> None:
        """Forget those of *keys* that were noted an hour ago or more: their answers were never kept, or are deleted."""
        before = time.time() - _GIVE_UP_S
        self._change(f"DELETE FROM unshipped WHERE share = ? AND key = ? AND at < {before!r}", keys)

    def count(self) -> int:
        """Return how many keys' answers are to be shipped."""
        return int(self._read("SELECT count(*) FROM unshipped WHERE share = ?")[0])

    def take(self, name: str) -> None:
        """Remember that the segment *name* needs no further look: it was taken in, or is one of ours."""
        self._change("INSERT OR IGNORE INTO taken VALUES (?, ?)", (name,))

    def taken(self) -> set[str]:
        """Return the names of segments that need no further look."""
        return set(self._read("SELECT name FROM taken WHERE share = ?"))

    def lease(self, owner: str, seconds: float) -> bool:
        """Return whether *owner* alone ships for the next *seconds*; one owner may renew."""
        now = time.time()

        def change(connection: sqlite3.Connection) -> bool:
            row = connection.execute("SELECT owner, until FROM shipper WHERE share = ?", (self._share,)).fetchone()
            # A lease beyond one's own length is a clock that was set back.
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

    def _change(self, statement: str, names: Iterable[str]) -> None:
        rows = [(self._share, name) for name in names]
        if rows:
            self._transaction(lambda connection: connection.executemany(statement, rows))

    def _read(self, statement: str, *values: object) -> list[str]:
        def read(connection: sqlite3.Connection) -> Sequence[tuple[str]]:
            return connection.execute(statement, (self._share, *values)).fetchall()

        return [row[0] for row in self._transaction(read)]

    def _transaction(self, change: Callable[[sqlite3.Connection], _T]) -> _T:
        # A connection for each use: there are few of them, and none has to be kept from a thread or a fork.
        with self._lock, closing(self._connect()) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                done = change(connection)
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            return done

    def _connect(self) -> sqlite3.Connection:
        try:
            return self._open()
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            # Nothing in it was paid for: what was not shipped is still among the answers.
            _log.warning("%s is damaged (%s) and begins again; some answers may not be shared.", self._path, error)
            for end in ("", "-wal", "-shm"):
                with suppress(FileNotFoundError):
                    os.unlink(self._path + end)
            return self._open()

    def _open(self) -> sqlite3.Connection:
        new = not os.path.exists(self._path)
        connection = sqlite3.connect(self._path, timeout=self._busy_timeout_s, isolation_level=None)
        try:
            connection.execute("PRAGMA trusted_schema = 0")
            if new:
                os.chmod(self._path, 0o600)
                connection.execute("PRAGMA journal_mode = WAL")
            # A kill loses nothing, a power cut the last commits, and no commit waits for the disk.
            connection.execute("PRAGMA synchronous = 1")
            if new or not self._has_tables:
                connection.executescript(_SCHEMA)
                self._has_tables = True
        except BaseException:
            connection.close()
            raise
        return connection
