"""The store on disk, as the rest of the package sees it."""

from __future__ import annotations

import gc
import logging
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from pllm_notebook.entry import Entry
from pllm_notebook.exceptions import StoreError, UnsafeEntryError
from pllm_notebook.records import FailedCall
from pllm_notebook.store import forks
from pllm_notebook.store.writer import Clock, Done, WriteDelayed, Writer

if TYPE_CHECKING:
    from pllm_notebook.store.database import Database, ReadOnlyDatabase

__all__ = ["DiskStore"]

BUSY_TIMEOUT_S = 5.0
PATIENCE_S = 60.0
_REOPENINGS = 3

_log = logging.getLogger("pllm_notebook.store")


class DiskStore:
    """Replies by key in one SQLite file, safe from threads, processes, forks, kills and full disks.

    Reading never waits for writing. An entry is there for good once its `done` was called with None.

    Args:
        directory: Where the database is, or will be. Made with mode 0700 if it is not there.
        below: A directory that cannot be written, whose entries are read as well.
        clock: Time for the writer's waiting.
        busy_timeout_s: Seconds that one attempt to write waits for another process.
        patience_s: Seconds for which a group that cannot be written is tried again.

    Raises:
        StoreError: If the directory holds something else, or cannot be opened.
    """

    def __init__(
        self,
        directory: str,
        *,
        below: str | None = None,
        clock: Clock | None = None,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        # Imported at the first opening: diskcache and SQLite are no part of `import pllm_notebook`.
        from pllm_notebook.store import health
        from pllm_notebook.store.database import ReadOnlyDatabase
        from pllm_notebook.store.failures import FailureLog

        self._directory = directory
        self._busy_timeout_s = busy_timeout_s
        self._below: ReadOnlyDatabase | None = None if below is None else ReadOnlyDatabase(below)
        if self._below is not None and not self._below.whole:
            _log.warning("The cache in %s was not closed: the last answers in it cannot be read from here.", below)
        self._db = health.open_database(directory, busy_timeout_s)
        # Held for each change, and around a fork: a child must never inherit half a transaction.
        self.change_lock = threading.Lock()
        self._swap_lock = threading.RLock()
        self._damaged = 0
        # What the database counted at our last commit, None before the first; another's count means another database.
        self._written: tuple[str, int] | None = None
        self._written_by_others = 0
        self._closed = self._forked = False
        self._failures = FailureLog(directory, busy_timeout_s=busy_timeout_s)
        self._writer = Writer(
            self._commit, idle=self._tidy, ended=self._close_connection, clock=clock, patience_s=patience_s
        )
        forks.watch(self)

    @property
    def directory(self) -> str:
        """The directory that is written to."""
        return self._directory

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def damaged(self) -> int:
        """Rows met so far that were damaged or unsafe, and counted as absent."""
        return self._damaged

    @property
    def backlog_bytes(self) -> int:
        """Bytes queued and not yet on disk."""
        return self._writer.backlog_bytes

    @property
    def delayed(self) -> bool:
        """Whether writing fails at the moment: the disk is full, or another program holds the database."""
        return self._writer.delayed

    @property
    def written_by_others(self) -> int:
        """Rows that other processes are known to have written since this store was opened.

        Counted at each commit of our own, which costs nothing.
        """
        return self._written_by_others

    def get_many(self, keys: Sequence[str]) -> dict[str, Entry]:
        """Read the entries that are there, of those asked for, in one query for each few thousand.

        Damaged and unsafe rows count as absent; one warning tells of them.

        Raises:
            NewerEntry: If a later version of this package wrote one of them.
            StoreError: If the database can neither be read nor mended.
        """
        findings = _Findings()
        keys = keys if isinstance(keys, (list, tuple)) else list(keys)
        found = self._read(keys, findings)
        if self._below is not None and len(found) < len(keys):
            found |= self._below.read([key for key in keys if key not in found], findings)
        self._report(findings)
        return found

    def put(self, key: str, entry: Entry, done: Done) -> None:
        """Queue one entry, in place of an older one of its key, and return at once.

        *done* is called from the writer's thread: with None after the commit, else with a `StoreError`.

        Raises:
            StoreError: If the store is closed. *done* is not called then.
        """
        self._writer.put(key, entry, done)

    def queued(self, key: str) -> Entry | None:
        """Give an entry that was put and is not yet on disk, None for none."""
        return self._writer.queued(key)

    def flush(self) -> None:
        """Wait until everything queued so far is on disk, or its `done` has been told why not."""
        self._writer.flush()

    def note_failure(self, key: str, tell: Callable[[], FailedCall]) -> None:
        """Queue a call that failed for good (see `protocols.Store`); with a closed store it is lost."""
        if not self._closed:
            self._failures.note(key, tell)

    def note_valid(self, keys: Sequence[str]) -> None:
        """Forget the failures of stored replies that were no valid answers and are now."""
        if not self._closed:
            self._failures.valid(keys)

    def rejected(self, keys: Sequence[str]) -> dict[str, FailedCall]:
        """Read, of the calls asked for, those that a provider rejected and nothing has answered since."""
        return self._failures.rejected(keys)

    def failures(self, kind: str | None = None, since: float | None = None) -> list[FailedCall]:
        """Read the calls that failed and have not been answered since, newest first.

        Args:
            kind: Only these, None for all.
            since: Only those from this moment on, in seconds since the epoch.
        """
        return self._failures.newest_first(kind, since)

    def forget_failures(self, keys: Sequence[str]) -> None:
        """Delete the failures of these calls."""
        self._failures.delete(keys)

    def checkpoint(self) -> bool:
        """Move the last commits from the -wal file into the database; tell whether none stayed behind."""
        return self._current().checkpoint()

    def close(self) -> None:
        """Write what is queued, and put everything into the one database file. May be called again."""
        if self._closed:
            return
        self._closed = True
        self._writer.close()
        self._failures.close()
        if self._db.is_current() and not self._forked:
            self._db.checkpoint()
            self._db.close()

    def delete(self, keys: Iterable[str]) -> int:
        """Delete the entries under *keys*; give the number that were there.

        Raises:
            StoreError: If the database cannot be written. Nothing was deleted then.
        """
        some = list(keys)
        try:
            return self._change(lambda database: database.delete(some))
        except WriteDelayed as error:
            raise StoreError(f"{error} Nothing was deleted.") from error

    def clear(self) -> int:
        """Delete every entry, readable or not, and every failure; give the number of entries.

        Raises:
            StoreError: If the database cannot be written. Nothing was deleted then.
        """
        try:
            removed = self._change(lambda database: database.clear())
        except WriteDelayed as error:
            raise StoreError(f"{error} Nothing was deleted.") from error
        self._failures.clear()
        return removed

    def check(self) -> tuple[int, int, str]:
        """Give the number of whole rows, of rows that cannot be used, and what SQLite says is wrong."""
        findings = _Findings()
        database = self._current()
        whole, strange, fault = 0, 0, ""
        try:
            whole = sum(1 for _ in database.iterate(findings))
            strange = database.strange_rows()
            fault = database.fault()
        except sqlite3.DatabaseError as error:
            fault = str(error)
        return whole, findings.count + strange, fault

    @property
    def bytes_on_disk(self) -> int:
        """Bytes of the database, its -wal file and the failures included."""
        return self._current().size() + self._failures.bytes_on_disk

    def vacuum(self) -> None:
        """Give the space of deleted entries back to the disk, where nobody else is writing."""
        try:
            with self.change_lock:
                self._current().vacuum()
        except sqlite3.OperationalError as error:
            _log.info("The space of deleted entries is kept for new ones: %s", error)

    def iterate(self) -> Iterator[tuple[str, Entry]]:
        """Give every key with its entry, in insertion order, as they were at the first step.

        Entries of the directory that is only read come last, save those that are in both.

        Raises:
            NewerEntry: If a later version of this package wrote one of them.
            StoreError: If the database is damaged; it has been mended where that can be done.
        """
        findings = _Findings()
        seen: set[str] | None = None if self._below is None else set()
        database = self._current()
        try:
            for key, entry in database.iterate(findings):
                if seen is not None:
                    seen.add(key)
                yield key, entry
        except sqlite3.DatabaseError as error:
            mended = " What can be read was copied into a new one: ask again." if self._mend(database, error) else ""
            raise StoreError(
                f"The cache in {self._directory} could not be read to its end: {error}.{mended}"
            ) from error
        if self._below is not None and seen is not None:
            yield from (pair for pair in self._below.iterate(findings) if pair[0] not in seen)
        self._report(findings)

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{self.backlog_bytes:,} bytes waiting"
        return f"<DiskStore {self._directory!r}: {state}>"

    def _read(self, keys: Sequence[str], findings: _Findings) -> dict[str, Entry]:
        for _ in range(_REOPENINGS):
            database = self._current()
            try:
                return database.read(keys, findings)
            except sqlite3.DatabaseError as error:
                last = error
                findings.clear()
                if not self._mend(database, error):
                    break
        raise StoreError(f"The cache in {self._directory} cannot be read: {last}.") from last

    def _commit(self, rows: Sequence[tuple[str, bytes]]) -> None:
        self._change(lambda database: database.write(rows))
        self._failures.answered([key for key, _ in rows])

    def _change(self, change: Callable[[Database], tuple[int, int]]) -> int:
        """Change the database that now has the name, once, and be sure that it still had it afterwards.

        Raises:
            WriteDelayed: If the same change can succeed later.
            StoreError: If it cannot.
        """
        import diskcache

        from pllm_notebook.store.lock import Busy, held
        from pllm_notebook.store.marker import Marker, note

        last: BaseException | None = None
        try:
            with self.change_lock:
                for _ in range(_REOPENINGS):
                    database = self._current()
                    try:
                        with held(self._directory, alone=False, patience_s=self._busy_timeout_s):
                            if not database.is_current():
                                continue
                            result, written = change(database)
                            if database.is_current():
                                note(self._directory, Marker(database.store_id, written))
                                self._count(database.store_id, written, result)
                                return result
                    except FileNotFoundError as error:
                        last = error
                    except sqlite3.DatabaseError as error:
                        last = error
                        if not self._mend(database, error):
                            raise
        except diskcache.Timeout as error:
            # It says nothing itself; what SQLite said is behind it.
            reason = error.__context__ or error
            raise WriteDelayed(f"The cache in {self._directory} cannot be written now: {reason}.") from error
        except (sqlite3.OperationalError, OSError, Busy) as error:
            raise WriteDelayed(f"The cache in {self._directory} cannot be written now: {error}.") from error
        raise StoreError(
            f"The cache in {self._directory} cannot be written: its file is taken away each time it is made"
            f"{f' ({last})' if last else ''}. Give another directory with PLLM_CACHE_DIR."
        )

    def _count(self, store_id: str, written: int, ours: int) -> None:
        before = self._written
        if before is not None and before[0] == store_id:
            self._written_by_others += written - ours - before[1]
        self._written = store_id, written

    def _current(self) -> Database:
        """Give the database that has the name now, opening it where it was deleted or exchanged meanwhile."""
        database = self._db
        if database.is_current() and not self._forked:
            return database
        from pllm_notebook.store import health

        with self._swap_lock:
            if self._forked:
                # Connections refer to themselves; all of the parent's must be gone before one of ours is made.
                del self._db, database
                gc.collect()
                self._db = health.open_database(self._directory, self._busy_timeout_s)
                self._forked = False
            elif self._db is database:
                if not os.path.exists(self._directory):
                    _log.warning(
                        "The cache directory %s was deleted while it was in use. A new cache is begun in its place; "
                        "answers from before are no longer in it, and those still coming are written there.",
                        self._directory,
                    )
                self._db = health.open_database(self._directory, self._busy_timeout_s)
            return self._db

    def _mend(self, database: Database, error: sqlite3.DatabaseError) -> bool:
        """Replace a damaged database by what can be salvaged; tell whether another try can help."""
        from pllm_notebook.store import health

        if not database.is_current():
            return True
        if not health.is_damage(error):
            return False
        with self._swap_lock:
            if self._db is database:
                self._db = health.replace_damaged(database, error, self._busy_timeout_s)
        return True

    def _tidy(self) -> None:
        # Not while anybody changes the file, ourselves included.
        if self.change_lock.acquire(blocking=False):
            try:
                if self._db.is_current():
                    self._db.checkpoint()
            finally:
                self.change_lock.release()

    def _close_connection(self) -> None:
        # A thread's connection would else stay open until the garbage collector comes, and with it the -wal file.
        self._db.close()

    def _report(self, findings: _Findings) -> None:
        if findings.count:
            self._damaged += findings.count
            _log.warning(
                "%d entries of the cache in %s cannot be used and count as absent (the first: %s). "
                "pllm.cache.check() looks at all of them.",
                findings.count,
                self._directory,
                findings.first,
            )

    def begin_anew(self) -> None:
        """Give up every lock, thread and connection of the parent's: called in a child after a fork."""
        self.change_lock = threading.Lock()
        self._swap_lock = threading.RLock()
        self._writer.forget()
        self._forked = True


class _Findings:
    """Counts the rows that one reading had to leave out."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.count = 0
        self.first: UnsafeEntryError | None = None

    def __call__(self, key: str, error: UnsafeEntryError) -> None:
        self.count += 1
        self.first = self.first or error
