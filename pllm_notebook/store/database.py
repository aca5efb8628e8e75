"""One open database file: bulk reads, group commits, and a check that its path still leads to it."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

from pllm_notebook.exceptions import UnsafeEntryError
from pllm_notebook.store.codec import DamagedEntry, NewerEntry, unpack
from pllm_notebook.store.damage import DamageReport
from pllm_notebook.store.diskcache_adapter import MODE_RAW, open_cache
from pllm_notebook.store.location import DATABASE
from pllm_notebook.store.sqlite_connections import connect_read_only
from pllm_notebook.stored_reply import StoredReply

__all__ = [
    "DamageCallback",
    "Database",
    "DatabaseFile",
    "read_many",
    "read_row",
]

KEYS_A_QUERY = 5000
_ALL = "SELECT key, mode, filename, value FROM Cache WHERE raw = 1 ORDER BY rowid"
# Text that is not UTF-8 would end the whole query, so a value that another program may have turned into text is not
# fetched. The key is compared with the row's own key, because a damaged index leads to another key's answer.
_SOME = (
    "SELECT own.key, own.key = found.key, own.mode, own.filename IS NULL, "
    "CASE typeof(own.value) WHEN 'blob' THEN own.value END "
    "FROM Cache AS found LEFT JOIN Cache AS own ON own.rowid = found.rowid WHERE found.raw = 1 AND found.key IN (%s)"
)
# Equal to diskcache's `set` for a value inside the row, without expiry or tag: it inserts a row, or updates the old
# one under its rowid. One statement writes a whole group, instead of two statements and some Python for each row.
_WRITE = (
    "INSERT INTO Cache (key, raw, store_time, expire_time, access_time, access_count, tag, size, mode, filename, "
    f"value) VALUES (?, 1, ?, NULL, ?, 0, NULL, 0, {MODE_RAW}, NULL, ?) ON CONFLICT (key, raw) DO UPDATE SET "
    "store_time = excluded.store_time, expire_time = NULL, access_time = excluded.access_time, access_count = 0, "
    "tag = NULL, size = excluded.size, mode = excluded.mode, filename = excluded.filename, value = excluded.value "
    "WHERE key = excluded.key"
)
# By rowid, so that the row's own key is compared as well.
_DELETE = "DELETE FROM Cache WHERE rowid = (SELECT rowid FROM Cache WHERE raw = 1 AND key = :key) AND key = :key"


class IndexDamagedError(sqlite3.DatabaseError):
    """The index of keys leads to a row of another key. SQLite does not detect this."""

    def __str__(self) -> str:
        return "its index of keys leads to other keys' rows"


DamageCallback = Callable[[str, UnsafeEntryError], None]
"""Called with the key of an unread row and the reason."""


def read_row(key: object, mode: object, filename: object, value: object) -> StoredReply:
    """Check one row and return its entry.

    Raises:
        UnsafeEntryError: If the row has a form that this package never writes.
        DamagedEntry: If the entry is damaged.
        NewerEntry: If a later version of this package wrote the entry.
    """
    if mode != MODE_RAW or filename is not None or type(value) is not bytes or type(key) is not str:
        raise UnsafeEntryError(f"The row of key {key!r} is not plain bytes under a text key; it was not read.")
    return unpack(value)


def read_many(execute: Callable[..., Any], keys: Sequence[str], on_damage: DamageCallback) -> dict[str, StoredReply]:
    """Read the existing rows of *keys*, a few thousand in a query.

    Args:
        execute: The `execute` method of a connection.
        keys: In any order; insertion order is the fastest.
        on_damage: Called for each damaged or unsafe row. Such rows are left out.

    Raises:
        NewerEntry: If a later version of this package wrote a row. Paying for it again would be wrong.
        IndexDamagedError: If the index leads to another key's row.
    """
    found: dict[str, StoredReply] = {}
    for start in range(0, len(keys), KEYS_A_QUERY):
        some = keys[start : start + KEYS_A_QUERY]
        for key, own, mode, inside, value in execute(_SOME % ",".join("?" * len(some)), some):
            if not own:
                raise IndexDamagedError
            # The checks of `read_row`, inlined: this line runs 100,000 times in a warm run.
            if mode == 1 and inside and value is not None:
                try:
                    found[key] = unpack(value)
                    continue
                except DamagedEntry as error:
                    on_damage(key, error)
            else:
                on_damage(key, UnsafeEntryError(f"The row of key {key!r} is not plain bytes; it was not read."))
    return found


def _rows(connection: sqlite3.Connection, on_damage: DamageCallback) -> Iterator[tuple[str, StoredReply]]:
    for key, mode, filename, value in connection.execute(_ALL):
        try:
            entry = read_row(key, mode, filename, value)
        except NewerEntry:
            raise
        except UnsafeEntryError as error:
            on_damage(str(key), error)
        else:
            yield key, entry


class DatabaseFile:
    """A readable database. Each process and thread gets its own connection.

    Args:
        path: The file.

    Attributes:
        path: The file, as passed.
        looked_into: Whether the whole file has been checked because of a damaged row.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.looked_into = False
        self._file = _identity(path)

    @property
    def connection(self) -> sqlite3.Connection:
        """The calling thread's own connection."""
        raise NotImplementedError

    @property
    def execute(self) -> Callable[..., sqlite3.Cursor]:
        """The `execute` method of the calling thread's connection."""
        return self.connection.execute

    def is_current(self) -> bool:
        """Return whether the path still leads to the open file.

        After `rm -rf` or `git clean`, SQLite keeps writing to the deleted file and reports no error.
        """
        return _identity(self.path) == self._file

    def read(self, keys: Sequence[str], damage_report: DamageReport) -> dict[str, StoredReply]:
        """Read the existing rows of *keys* (see `read_many`). Reports of an earlier attempt are cleared."""
        if damage_report.count:
            damage_report.clear()
        return read_many(self.execute, keys, damage_report)

    def iterate(self, on_damage: DamageCallback) -> Iterator[tuple[str, StoredReply]]:
        """Return every key with its entry, in insertion order, as of the first step.

        Uses one read transaction on a separate connection: later writes are not seen.
        """
        with closing(self._connect()) as connection:
            yield from _rows(connection, on_damage)

    def _connect(self) -> sqlite3.Connection:
        return connect_read_only(self.path)

    def strange_rows(self) -> int:
        """Count the rows whose key is not text, which this package cannot reach."""
        return int(self.execute("SELECT count(*) FROM Cache WHERE raw IS NOT 1").fetchone()[0])

    def fault(self) -> str:
        """Return the faults that SQLite finds in the file's structure, "" if there are none."""
        found = [str(row[0]) for row in self.execute("PRAGMA integrity_check(3)")]
        return "" if found == ["ok"] else "; ".join(found)

    def size(self) -> int:
        """Return the bytes on disk, including those of the -wal file."""
        paths = (self.path, self.path + "-wal")
        return sum(os.path.getsize(path) for path in paths if os.path.exists(path))

    def checkpoint(self) -> bool:
        """Move the contents of the -wal file into the database. Return whether all of them were moved."""
        return False

    def vacuum(self) -> None:
        """Free the disk space of deleted rows, if the file can be written."""

    def close(self) -> None:
        """Close the calling thread's connection. Those of other threads close with their threads."""


class Database(DatabaseFile):
    """A writable database.

    Attributes:
        directory: Directory of the file.
        store_id: Id in its marker row. Set when the database is opened.
    """

    def __init__(self, directory: str, busy_timeout_s: float) -> None:
        self.directory = directory
        self.store_id = ""
        self._cache = open_cache(directory, busy_timeout_s)
        super().__init__(os.path.join(directory, DATABASE))

    @property
    def connection(self) -> sqlite3.Connection:
        """The calling thread's own connection."""
        connection: sqlite3.Connection = self._cache._con
        return connection

    def write(self, rows: Sequence[tuple[str, bytes]]) -> tuple[int, int]:
        """Commit *rows* in one transaction. Each replaces an older row of its key.

        Returns:
            The number of rows, and the number ever written or deleted in this database, including these.

        Raises:
            sqlite3.Error: If SQLite fails, or another writer has the lock for longer than the busy timeout. Nothing
                of the group is written then.
        """
        now = time.time()

        def change(connection: sqlite3.Connection) -> int:
            fields = [(key, now, now, value) for key, value in rows]
            if connection.executemany(_WRITE, fields).rowcount != len(rows):
                raise IndexDamagedError
            return len(rows)

        return self._change(change)

    def delete(self, keys: Iterable[str]) -> tuple[int, int]:
        """Delete the rows of *keys* in one transaction. Return their number and the total, as `write` does."""

        def change(connection: sqlite3.Connection) -> int:
            gone = 0
            for key in keys:
                # diskcache's own delete would read the row first, and refuse a forged one.
                gone += connection.execute(_DELETE, {"key": key}).rowcount
            return gone

        return self._change(change)

    def clear(self) -> tuple[int, int]:
        """Delete every row in one transaction. Return their number and the total, as `write` does."""
        return self._change(lambda connection: connection.execute("DELETE FROM Cache").rowcount)

    def _change(self, change: Callable[[sqlite3.Connection], int]) -> tuple[int, int]:
        connection = self.connection
        # A new connection reads its PRAGMAs from the database, where another program may have changed them.
        connection.execute("PRAGMA synchronous = 2")
        connection.execute("BEGIN IMMEDIATE")
        try:
            changed = change(connection)
            connection.execute("UPDATE pllm_store SET written = written + ?", (changed,))
            row = connection.execute("SELECT written FROM pllm_store").fetchone()
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:  # left open by a failed COMMIT; every later group would fail
                connection.execute("ROLLBACK")
        return changed, row[0] if row else 0

    def checkpoint(self) -> bool:
        """Move the contents of the -wal file into the database. Return whether all of them were moved.

        After this, a copy of the directory without its -wal file is complete. Before, it lacks the last commits.
        """
        try:
            busy, _, _ = self.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.OperationalError:
            return False
        return not busy

    def vacuum(self) -> None:
        """Free the disk space of deleted rows."""
        self.execute("VACUUM")
        self.checkpoint()

    def close(self) -> None:
        """Close the calling thread's connection. Those of other threads close with their threads."""
        self._cache.close()


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
