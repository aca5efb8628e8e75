"""diskcache made safe: no pickles, no files beside the database, no eviction.

diskcache unpickles any value that a row marks as a pickle (CVE-2025-69872), even with JSONDisk, and reads and deletes
any file that a row names. By default it evicts the oldest rows at 1 GB. It keeps its settings in the database, where
any program that opens the directory changes them for all others.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from typing import Any, NoReturn

import diskcache
from diskcache.core import DEFAULT_SETTINGS, METADATA, MODE_RAW

from pllm_notebook.exceptions import StoreError, UnsafeEntryError
from pllm_notebook.files import create_private
from pllm_notebook.store.location import DATABASE, OLD_DATABASE
from pllm_notebook.store.sqlite_connections import SelfClosingConnection, lenient

__all__ = [
    "COLUMNS",
    "MODE_RAW",
    "SETTINGS",
    "BytesDisk",
    "check_shape",
    "open_cache",
    "refuse_foreign_rows",
]

SETTINGS: dict[str, Any] = {
    "cull_limit": 0,
    "eviction_policy": "none",
    "size_limit": 2**62,
    "statistics": 0,
    "tag_index": 0,
    "sqlite_auto_vacuum": 0,
    "sqlite_cache_size": 2**13,
    "sqlite_cell_size_check": 1,  # a damaged page is noticed when it is read, not when it is overwritten
    "sqlite_journal_mode": "wal",
    "sqlite_mmap_size": 0,  # a bad sector then causes a read error, not a signal that kills the kernel
    "sqlite_synchronous": 2,  # FULL: a commit survives a power cut
    "sqlite_trusted_schema": 0,
}
"""Settings that are written to the database and read back at every opening."""

COLUMNS = (
    "rowid",
    "key",
    "raw",
    "store_time",
    "expire_time",
    "access_time",
    "access_count",
    "tag",
    "size",
    "mode",
    "filename",
    "value",
)
_TABLES = {"Cache", "Settings", "pllm_store"}
_TRIGGERS = {
    "Settings_count_insert",
    "Settings_count_delete",
    "Settings_size_insert",
    "Settings_size_update",
    "Settings_size_delete",
}


class BytesDisk(diskcache.Disk):  # type: ignore[misc]  # diskcache publishes no types
    """Text keys and byte values, both stored in their row. Anything else is refused without being read."""

    def put(self, key: object) -> tuple[str, bool]:
        """Return the row's key, and True for raw. Refuse anything but text."""
        if type(key) is not str:
            raise TypeError(f"A key is text, not {type(key).__name__}.")
        return key, True

    def get(self, key: object, raw: object) -> str:
        """Return a row's key. Refuse a key that is not raw: it would be a pickle."""
        if not raw or type(key) is not str:
            raise UnsafeEntryError("A stored key is not text; it was not read.")
        return key

    def store(self, value: object, read: bool, key: object = None) -> tuple[int, int, None, memoryview]:
        """Return the row's fields. The value is always stored in the row, whatever its size."""
        if read or type(value) is not bytes:
            raise TypeError(f"A value is bytes, not {type(value).__name__}.")
        return 0, MODE_RAW, None, sqlite3.Binary(value)

    def fetch(self, mode: int, filename: object, value: object, read: bool) -> bytes:
        """Return a row's value. Refuse a value that names a file or is not plain bytes."""
        if mode != MODE_RAW or filename is not None or read or type(value) is not bytes:
            raise UnsafeEntryError("A stored value is not plain bytes; it was not read.")
        return value

    def filename(self, key: object = None, value: object = None) -> NoReturn:
        """Refuse: values are never stored in files."""
        raise UnsafeEntryError("Values are kept in the database, never in files.")

    def remove(self, file_path: object) -> None:
        """Delete nothing: our rows name no file, and another program's row could name any file."""


class _Cache(diskcache.Cache):  # type: ignore[misc]
    """diskcache's cache, with connections that close when their thread ends or the cache is dropped."""

    def __init__(self, directory: str, busy_timeout_s: float) -> None:
        try:
            super().__init__(directory, timeout=busy_timeout_s, disk=BytesDisk, **SETTINGS)
        except BaseException:
            if hasattr(self, "_local"):
                self.close()
            raise

    @property
    def _con(self) -> sqlite3.Connection:
        """The calling thread's connection, set up as diskcache does it."""
        if getattr(self._local, "pid", None) != os.getpid():
            self.close()
            self._local.pid = os.getpid()
        found: sqlite3.Connection | None = getattr(self._local, "con", None)
        if found is not None:
            return found
        # Another thread may close it: the one that drops the last reference to the cache.
        made = sqlite3.connect(
            os.path.join(self._directory, OLD_DATABASE),
            timeout=self._timeout,
            isolation_level=None,
            check_same_thread=False,
            factory=SelfClosingConnection,
        )
        self._local.con = made
        made.text_factory = lenient  # text that is not UTF-8 would otherwise fail a whole query
        with suppress(sqlite3.OperationalError):  # no table yet
            for key, value in made.execute("SELECT key, value FROM Settings").fetchall():
                if key.startswith("sqlite_"):  # a PRAGMA applies to one connection
                    self.reset(key, value, update=False)
        return made


def open_cache(directory: str, busy_timeout_s: float) -> Any:
    """Open or create diskcache's cache below *directory*, and enforce `SETTINGS`.

    Args:
        directory: The cache directory, in which diskcache's folder exists. Only the owner can read the database file.
        busy_timeout_s: Seconds that SQLite waits for another writer before it fails.

    Returns:
        A `diskcache.Cache`.

    Raises:
        StoreError: If the tables are not those of diskcache 5, or another program changes a setting.
        sqlite3.DatabaseError: If the file is damaged, locked or cannot be written.
    """
    path = os.path.join(directory, DATABASE)
    _make_private(path)
    # diskcache turns every stored setting into an attribute or a PRAGMA, so unknown settings are deleted before it
    # reads them.
    known = {*DEFAULT_SETTINGS, *METADATA, *SETTINGS}
    with closing(sqlite3.connect(path, timeout=busy_timeout_s, isolation_level=None)) as connection:
        connection.text_factory = lenient
        check_shape(connection, path)
        if _has_table(connection, "Settings"):
            # Read the names from the table, not its index, and delete by rowid: a damaged name cannot be looked up.
            named = "SELECT rowid, key FROM Settings NOT INDEXED"
            strangers = [(row,) for row, name in connection.execute(named) if name not in known]
            connection.executemany("DELETE FROM Settings WHERE rowid = ?", strangers)
            if not all(name in known for _, name in connection.execute(named)):
                raise sqlite3.DatabaseError("a setting can neither be read nor taken out")
    cache = _Cache(os.path.dirname(path), busy_timeout_s)
    try:
        check_shape(cache._con, path)
        _check_settings(cache, path)
    except BaseException:
        cache.close()
        raise
    return cache


def check_shape(connection: sqlite3.Connection, path: str) -> None:
    """Refuse a database whose tables are not those of diskcache 5. An empty database passes.

    Raises:
        StoreError: If a table, view, trigger or column differs; the message names it. Nothing was changed.
    """
    for kind, name in connection.execute("SELECT type, name FROM sqlite_master"):
        expected = {"table": _TABLES, "trigger": _TRIGGERS, "view": set[str]()}.get(kind)
        if expected is not None and name not in expected and not name.startswith("sqlite_"):
            raise StoreError(
                f"{path} has a {kind} {name!r}, which neither diskcache 5 nor pllm_notebook makes: it belongs to "
                f"something else. Give another directory (PLLM_CACHE_DIR). Nothing was changed."
            )
    columns = tuple(row[1] for row in connection.execute("PRAGMA table_info(Cache)"))
    if columns and columns != COLUMNS:
        raise StoreError(
            f"The table Cache in {path} has columns {columns}, and diskcache 5 makes {COLUMNS}. "
            f"Install diskcache<6, or give another directory (PLLM_CACHE_DIR). Nothing was changed."
        )


def refuse_foreign_rows(connection: sqlite3.Connection, path: str) -> None:
    """Refuse a database that has rows. Call it for one without our marker: its rows are another diskcache user's.

    Raises:
        StoreError: If it has rows. Nothing was changed.
    """
    if _has_table(connection, "Cache") and connection.execute("SELECT 1 FROM Cache LIMIT 1").fetchone():
        raise StoreError(
            f"{path} is a cache that pllm_notebook did not write. "
            f"Give another directory with PLLM_CACHE_DIR or configure(cache_dir=…). Nothing was changed."
        )


def _check_settings(cache: Any, path: str) -> None:
    stored = dict(cache._sql("SELECT key, value FROM Settings").fetchall())
    for name, value in SETTINGS.items():
        if stored.get(name) != value or getattr(cache, name) != value:
            raise StoreError(
                f"The setting {name} of {path} is {stored.get(name)!r} where {value!r} was just written: another "
                f"program changes it. With other settings answers could be evicted, so the cache was not used."
            )


def _has_table(connection: sqlite3.Connection, name: str) -> bool:
    query = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?"
    return connection.execute(query, (name,)).fetchone() is not None


def _make_private(path: str) -> None:
    if not create_private(path) and os.stat(path).st_mode & 0o077:
        os.chmod(path, 0o600)
