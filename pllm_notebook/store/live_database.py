"""The current database of a directory: reopened if its file was deleted or replaced, and repaired if it is damaged."""

from __future__ import annotations

import gc
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from operator import methodcaller
from typing import TYPE_CHECKING, TypeVar, cast

from pllm_notebook.exceptions import StoreError
from pllm_notebook.store.damage import READ_ERRORS, DamageReport, is_damage, passes_check
from pllm_notebook.store.location import FOLDER, has_room, is_writable
from pllm_notebook.store.writer import WriteDelayed
from pllm_notebook.stored_reply import StoredReply

if TYPE_CHECKING:
    from pllm_notebook.store.database import Database, DatabaseFile

__all__ = ["LiveDatabase"]

_MAX_REOPENINGS = 3

Result = TypeVar("Result")

_log = logging.getLogger("pllm_notebook.store")


class LiveDatabase:
    """The open database of a directory, whatever happens to its file. Thread-safe.

    Args:
        directory: Cache directory, created if it does not exist.
        busy_timeout_s: Seconds that one attempt to write waits for another process.

    Attributes:
        database: The database as last opened; `get` checks that it is still the current one.
        change_lock: Held for each change and around a fork: a child must never inherit half a transaction.
        is_unwritable: Whether it could only be opened for reading, because of a full disk or missing permissions.
        written_by_others: Number of rows that other processes are known to have written since our first commit.

    Raises:
        StoreError: If the directory contains something else, or cannot be opened.
    """

    def __init__(self, directory: str, busy_timeout_s: float) -> None:
        self._directory = directory
        self._busy_timeout_s = busy_timeout_s
        self.is_unwritable = False
        self.database: DatabaseFile = self._opened()
        self.change_lock = threading.Lock()
        self._swap_lock = threading.RLock()
        self._forked = False
        # The database's id and count at our last commit, None before the first. Counts compare only with the same id.
        self._written: tuple[str, int] | None = None
        self.written_by_others = 0

    def _opened(self) -> DatabaseFile:
        """Open the database, for reading only if it cannot be written."""
        from pllm_notebook.store import recovery
        from pllm_notebook.store.read_only_database import ReadOnlyDatabase

        try:
            opened = recovery.open_database(self._directory, self._busy_timeout_s)
        except recovery.Unwritable as error:
            try:
                read_only = ReadOnlyDatabase(self._directory)
            except READ_ERRORS:
                raise error from None
            self.is_unwritable = True
            _log.warning(
                "The cache in %s can only be read (%s): its answers are used, and nothing new is sent until it can be "
                "written.",
                self._directory,
                error.__cause__,
            )
            return read_only
        self.is_unwritable = False
        return opened

    @property
    def unwritable(self) -> str:
        """Why nothing can be written, "" if the database can be. The next change then reopens a read-only one."""
        if not self.is_unwritable or (has_room(self._directory) and is_writable(self._directory)):
            return ""
        return (
            f"The cache in {self._directory} can only be read: the disk is full, or its files cannot be written. New "
            f"answers would be paid for but not kept, so nothing was sent. Free some space there: another directory "
            f"lacks its answers, which would be paid for again."
        )

    def _for_change(self, database: DatabaseFile) -> Database:
        """Return the database for a change, reopened if it was read-only.

        Raises:
            WriteDelayed: If it is still read-only.
        """
        from pllm_notebook.store import recovery

        with self._swap_lock:
            if self.is_unwritable:
                try:
                    self.database = recovery.open_database(self._directory, self._busy_timeout_s)
                except recovery.Unwritable as error:
                    raise WriteDelayed(
                        f"The cache in {self._directory} cannot be written now: {error.__cause__}."
                    ) from error
                self.is_unwritable = False
                database.close()
                database = self.database
            return cast("Database", database)

    def read(self, keys: Sequence[str], damage_report: DamageReport) -> dict[str, StoredReply]:
        """Read the existing entries of *keys*. *damage_report* counts the rows left out.

        Raises:
            NewerEntry: If a later version of this package wrote one of them.
            StoreError: If the database can be neither read nor repaired.
        """
        read = methodcaller("read", keys, damage_report)
        found: dict[str, StoredReply] = self.reading(read)
        if damage_report.count and self._repair_shared_pages():
            found = self.reading(read)
        return found

    def reading(self, read: Callable[[DatabaseFile], Result]) -> Result:
        """Call *read* with the current database, and again after each repair. Return its result.

        Raises:
            StoreError: If the database can be neither read nor repaired.
        """
        for _ in range(_MAX_REOPENINGS):
            database = self.get()
            try:
                return read(database)
            except READ_ERRORS as error:
                last = error
                if not self.repair(database, error):
                    break
        raise StoreError(f"The cache in {self._directory} cannot be read: {last}.") from last

    def change(self, change: Callable[[Database], tuple[int, int]]) -> int:
        """Change the current database. Repeat the change if another file took its place in the meantime.

        Returns:
            The number of rows changed.

        Raises:
            WriteDelayed: If the same change can succeed later.
            StoreError: If it cannot.
        """
        from pllm_notebook.store.lock import LockTimeout, directory_lock
        from pllm_notebook.store.marker import Marker, write_sidecar

        last: BaseException | None = None
        try:
            with self.change_lock:
                for reopenings in range(1 + _MAX_REOPENINGS):
                    # Whether it is current is checked below, with the directory's lock held.
                    database = self.get() if reopenings or self._forked else self.database
                    database = self._for_change(database) if self.is_unwritable else cast("Database", database)
                    try:
                        with directory_lock(self._directory, alone=False, patience_s=self._busy_timeout_s):
                            if not database.is_current():
                                continue
                            result, written = change(database)
                            if not database.is_current():
                                continue
                            write_sidecar(self._directory, Marker(database.store_id, written))
                            before, self._written = self._written, (database.store_id, written)
                            if before is not None and before[0] == database.store_id:
                                self.written_by_others += written - result - before[1]
                            return result
                    except FileNotFoundError as error:
                        last = error
                    except READ_ERRORS as error:
                        last = error
                        if not self.repair(database, error):
                            raise
        except (sqlite3.OperationalError, OSError, LockTimeout) as error:
            raise WriteDelayed(f"The cache in {self._directory} cannot be written now: {error}.") from error
        raise StoreError(
            f"The cache in {self._directory} cannot be written: its file disappears each time it is created"
            f"{f' ({last})' if last else ''}. Give another directory with PLLM_CACHE_DIR."
        )

    def get(self) -> DatabaseFile:
        """Return the current database, reopened if its file was deleted or replaced."""
        database = self.database
        if database.is_current() and not self._forked:
            return database
        with self._swap_lock:
            if self._forked:
                # Connections refer to themselves, so collect the parent's: all must be gone before we open our own.
                del self.database, database
                gc.collect()
                self.database = self._opened()
                self._forked = False
            elif self.database is database:
                # The directory itself may exist again: other parts of this package create it.
                if not os.path.exists(os.path.join(self._directory, FOLDER)):
                    _log.warning(
                        "The cache directory %s was deleted while it was in use. A new one was created in its place; "
                        "it lacks the earlier answers, and new ones are written to it.",
                        self._directory,
                    )
                self.database = self._opened()
                database.close()
            return self.database

    def repair(self, database: DatabaseFile, error: BaseException) -> bool:
        """Replace a damaged database by a new one with all rows that can be read. Return whether a retry can help."""
        from pllm_notebook.store import recovery

        if not database.is_current():
            return True
        if self.is_unwritable or not is_damage(error, database.path):
            return False
        with self._swap_lock:
            if self.database is database:
                self.database = recovery.replace_damaged(cast("Database", database), error, self._busy_timeout_s)
        # Close only now: the last connection to close a file under its original name writes the -wal file into it, and
        # the salvage must read the file as it was found.
        database.close()
        return True

    def _repair_shared_pages(self) -> bool:
        """Check the whole database once after a damaged row. Return whether it was replaced.

        A damaged row may share pages with another row. Writing its new answer would destroy the other row too.
        """
        database = self.database
        if database.looked_into:
            return False
        database.looked_into = True
        return not passes_check(database.path) and self.repair(
            database, sqlite3.DatabaseError("its pages are mixed up")
        )

    def tidy(self) -> None:
        """Move the last commits into the database file, unless this process is changing it."""
        if self.change_lock.acquire(blocking=False):
            try:
                if self.database.is_current():
                    self.database.checkpoint()
            finally:
                self.change_lock.release()

    def close_connection(self) -> None:
        """Close the calling thread's connection."""
        # Otherwise it would stay open until garbage collection, and with it the -wal file.
        self.database.close()

    def close(self) -> None:
        """Move all commits into the one database file, and close the calling thread's connection."""
        if self.database.is_current() and not self._forked:
            self.database.checkpoint()
            self.database.close()

    def reset_after_fork(self) -> None:
        """Drop every lock and connection of the parent process, in the child of a fork."""
        self.change_lock = threading.Lock()
        self._swap_lock = threading.RLock()
        self._forked = True
