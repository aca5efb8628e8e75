"""A database that can only be read: on a read-only or full disk, or in another user's directory."""

from __future__ import annotations

import os
import sqlite3
import threading

from pllm_notebook.store.database import DatabaseFile
from pllm_notebook.store.diskcache_adapter import check_shape
from pllm_notebook.store.location import DATABASE, database_in
from pllm_notebook.store.sqlite_connections import connect_read_only

__all__ = ["ReadOnlyDatabase"]

# SQLite reads a -wal file by an index that processes share in a -shm file, and a full or read-only disk has no room for
# it. Without locks it keeps the index in memory instead (sqlite.org/wal.html#noshm), which is safe, since no other
# process can write there. If the file is declared immutable, the database is read without its -wal file.
_WITHOUT_LOCKS, _WITHOUT_WAL = "vfs=unix-none", "immutable=1"
_WAYS = ("", _WITHOUT_LOCKS, _WITHOUT_WAL)


class ReadOnlyDatabase(DatabaseFile):
    """A database that is never written to.

    Args:
        directory: The cache directory.

    Attributes:
        whole: Whether all commits are read: False if there is a -wal file that cannot be read.

    Raises:
        StoreError: If the tables are not those of diskcache 5.
        sqlite3.Error: If the database cannot be read.
    """

    def __init__(self, directory: str) -> None:
        super().__init__(database_in(directory) or os.path.join(directory, DATABASE))
        self._local = threading.local()
        for self._way in _WAYS:
            try:
                check_shape(self.connection, self.path)
                break
            except sqlite3.OperationalError:
                self.close()
                if self._way == _WAYS[-1]:
                    raise
        self.whole = self._way != _WITHOUT_WAL or not os.path.exists(self.path + "-wal")

    @property
    def connection(self) -> sqlite3.Connection:
        """The calling thread's own connection."""
        # Per process as well: a connection must not be used across a fork.
        if getattr(self._local, "pid", None) != os.getpid():
            self._local.connection = self._connect()
            self._local.pid = os.getpid()
        found: sqlite3.Connection = self._local.connection
        return found

    def _connect(self) -> sqlite3.Connection:
        connection = connect_read_only(self.path, self._way)
        if self._way == _WITHOUT_LOCKS:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        return connection

    def close(self) -> None:
        """Close the calling thread's connection. Those of other threads close with their threads."""
        if getattr(self._local, "pid", None) == os.getpid():
            self._local.connection.close()
        self._local = threading.local()
