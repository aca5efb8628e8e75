"""The database that now has the name in a directory: opened again if it was deleted or replaced, and repaired."""

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
    """One open database for each name, whatever happens to the file behind it. Thread-safe.

    Args:
        directory: Where it is, or will be.
        busy_timeout_s: Seconds that one attempt to write waits for another process.

    Attributes:
        database: As it was last opened; `get` gives the one that has the name.
        change_lock: Held for each change, and around a fork: a child must never inherit half a transaction.
        is_unwritable: Whether it could only be opened for reading: a full disk, or no right to write.
        written_by_others: Rows that other processes are known to have written since the first commit of ours.

    Raises:
        StoreError: If the directory holds something else, or cannot be opened.
    """

    def __init__(self, directory: str, busy_timeout_s: float) -> None:
        self._directory = directory
        self._busy_timeout_s = busy_timeout_s
        self.is_unwritable = False
        self.database: DatabaseFile = self._opened()
        self.change_lock = threading.Lock()
        self._swap_lock = threading.RLock()
        self._forked = False
        # What the database counted at our last commit, None before the first; another's count means another database.
        self._written: tuple[str, int] | None = None
        self.written_by_others = 0

    def _opened(self) -> DatabaseFile:
        """Open the database, for reading alone where nothing can be written."""
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
        """Why nothing can be written, "" where it can. The next change opens it again."""
        if not self.is_unwritable or (has_room(self._directory) and is_writable(self._directory)):
            return ""
        return (
            f"The cache in {self._directory} can only be read: the disk is full, or its files cannot be written. New "
            f"answers would be paid for and not kept, so nothing was sent. Free some space there: another directory "
            f"lacks its answers, which would be paid for again."
        )

    def _for_change(self, database: DatabaseFile) -> Database:
        """Return a database as it can be changed, opened again where it could only be read.

        Raises:
            WriteDelayed: If it can only be read still.
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
        """Read the entries that are there, of those asked for; *damage_report* counts the rows left out.

        Raises:
            NewerEntry: If a later version of this package wrote one of them.
            StoreError: If the database can neither be read nor mended.
        """
        read = methodcaller("read", keys, damage_report)
        found: dict[str, StoredReply] = self.reading(read)
        if damage_report.count and self._repair_shared_pages():
            found = self.reading(read)
        return found

    def reading(self, read: Callable[[DatabaseFile], Result]) -> Result:
        """Read from the database that now has the name; once more where it had to be mended first.

        Raises:
            StoreError: If the database can neither be read nor mended.
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
        """Change the database that now has the name, once, and be sure that it still had it afterwards.

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
                    # Whether it has the name is looked at within the lock.
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
            f"The cache in {self._directory} cannot be written: its file is taken away each time it is made"
            f"{f' ({last})' if last else ''}. Give another directory with PLLM_CACHE_DIR."
        )

    def get(self) -> DatabaseFile:
        """Return the database that has the name now, opening it where it was deleted or exchanged meanwhile."""
        database = self.database
        if database.is_current() and not self._forked:
            return database
        with self._swap_lock:
            if self._forked:
                # Connections refer to themselves; all of the parent's must be gone before one of ours is made.
                del self.database, database
                gc.collect()
                self.database = self._opened()
                self._forked = False
            elif self.database is database:
                # The directory itself may be there again: others of this package make it.
                if not os.path.exists(os.path.join(self._directory, FOLDER)):
                    _log.warning(
                        "The cache directory %s was deleted while it was in use. A new cache is begun in its place; "
                        "answers from before are no longer in it, and those still coming are written there.",
                        self._directory,
                    )
                self.database = self._opened()
                database.close()
            return self.database

    def repair(self, database: DatabaseFile, error: BaseException) -> bool:
        """Replace a damaged database by what can be salvaged; tell whether another try can help."""
        from pllm_notebook.store import recovery

        if not database.is_current():
            return True
        if self.is_unwritable or not is_damage(error, database.path):
            return False
        with self._swap_lock:
            if self.database is database:
                self.database = recovery.replace_damaged(cast("Database", database), error, self._busy_timeout_s)
        # Only now: the last connection that closes a file under its own name writes its -wal file into it, and what is
        # salvaged is the file as it was found.
        database.close()
        return True

    def _repair_shared_pages(self) -> bool:
        """Look once into a database that has a damaged row; tell whether it was replaced.

        A row whose pages are another's too takes those with it when its call is answered again.
        """
        database = self.database
        if database.looked_into:
            return False
        database.looked_into = True
        return not passes_check(database.path) and self.repair(
            database, sqlite3.DatabaseError("its pages are mixed up")
        )

    def tidy(self) -> None:
        """Move the last commits into the database file, unless it is being changed."""
        # Not while anybody changes the file, ourselves included.
        if self.change_lock.acquire(blocking=False):
            try:
                if self.database.is_current():
                    self.database.checkpoint()
            finally:
                self.change_lock.release()

    def close_connection(self) -> None:
        """Close the calling thread's connection."""
        # It would else stay open until the garbage collector comes, and with it the -wal file.
        self.database.close()

    def close(self) -> None:
        """Put everything into the one database file, and close the calling thread's connection."""
        if self.database.is_current() and not self._forked:
            self.database.checkpoint()
            self.database.close()

    def reset_after_fork(self) -> None:
        """Drop every lock and connection of the parent's: called in a child after a fork."""
        self.change_lock = threading.Lock()
        self._swap_lock = threading.RLock()
        self._forked = True
