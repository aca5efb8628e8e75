"""The store on disk, as used by the rest of the package."""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import methodcaller
from typing import TYPE_CHECKING

from pllm_notebook.exceptions import StoreError
from pllm_notebook.failures import FailedCall, FailureKind
from pllm_notebook.runtime import RUNTIME
from pllm_notebook.store.damage import READ_ERRORS, DamageReport
from pllm_notebook.store.writer import Clock, Done, WriteDelayed, Writer
from pllm_notebook.stored_reply import StoredReply

if TYPE_CHECKING:
    from pllm_notebook.store.database import DatabaseFile
    from pllm_notebook.store.read_only_database import ReadOnlyDatabase
    from pllm_notebook.store.share import Share

__all__ = ["DiskStore"]

BUSY_TIMEOUT_S = 5.0
PATIENCE_S = 60.0

# No character of a key sorts after "~", so the index finds all keys with a given prefix at once.
_BEGINNING = "SELECT key FROM Cache WHERE raw = 1 AND key >= ? AND key < ? LIMIT 1"

_log = logging.getLogger("pllm_notebook.store")


class DiskStore:
    """Replies by key in one SQLite file, safe from threads, processes, forks, kills and full disks.

    Reads never wait for writes. An entry is durable once its `done` was called with None.

    Args:
        directory: Directory of the database. Created with mode 0700 if it does not exist.
        below: A directory that cannot be written, whose entries are read as well.
        clock: Clock for the writer's waits.
        busy_timeout_s: Seconds that one attempt to write waits for another process.
        patience_s: Seconds for which a group that cannot be written is retried.

    Attributes:
        directory: Directory of the database.
        below: The read-only directory.
        claims: Claims of this directory's calls by processes.
        share: The shared directory of its answers, None if not shared (see `share_with`).
        closed: Whether `close` was called.

    Raises:
        StoreError: If the directory contains something else, or cannot be opened.
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
        # Imported at the first opening: `import pllm_notebook` must not load diskcache and SQLite.
        from pllm_notebook.store.claims import Claims
        from pllm_notebook.store.failure_log import FailureLog
        from pllm_notebook.store.live_database import LiveDatabase
        from pllm_notebook.store.read_only_database import ReadOnlyDatabase

        self.directory = directory
        self._below: ReadOnlyDatabase | None = None if below is None else ReadOnlyDatabase(below)
        if self._below is not None and not self._below.whole:
            _log.warning("The cache in %s was not closed: the last answers in it cannot be read from here.", below)
        self.below = below
        self._current = LiveDatabase(directory, busy_timeout_s)
        self._damaged = 0
        self.closed = False
        self._failures = FailureLog(directory, busy_timeout_s=busy_timeout_s)
        current = self._current
        self._writer = Writer(
            self._commit, idle=current.tidy, ended=current.close_connection, clock=clock, patience_s=patience_s
        )
        self.claims = Claims(directory)
        self.share: Share | None = None
        RUNTIME.register_fork_aware(self)

    @property
    def change_lock(self) -> threading.Lock:
        """Lock acquired for each change and around a fork."""
        return self._current.change_lock

    @property
    def damaged(self) -> int:
        """Number of damaged or unsafe rows read so far. They count as absent."""
        return self._damaged

    @property
    def backlog_bytes(self) -> int:
        """Number of bytes queued and not yet on disk."""
        return self._writer.backlog_bytes

    def is_behind(self, limit_bytes: int) -> bool:
        """Return whether writes currently fail (full disk, locked database) or more than *limit_bytes* are queued."""
        writer = self._writer
        return (
            writer.failing_since is not None
            or writer.backlog_bytes > limit_bytes
            or (self._current.is_unwritable and bool(self.unwritable))
        )

    @property
    def unwritable(self) -> str:
        """Why the cache is read-only at the moment and nothing should be sent; "" if it can be written."""
        return self._current.unwritable

    @property
    def written_by_others(self) -> int:
        """Number of rows that other processes are known to have written since this store's first commit.

        Updated at each of our own commits, at no cost.
        """
        return self._current.written_by_others

    def get_many(self, keys: Sequence[str]) -> dict[str, StoredReply]:
        """Read the existing entries of *keys*, in one query for every few thousand keys.

        Damaged and unsafe rows count as absent; one warning reports them.

        Raises:
            NewerEntry: If a later version of this package wrote one of them.
            StoreError: If the database can be neither read nor repaired.
        """
        damage_report = DamageReport()
        keys = keys if isinstance(keys, (list, tuple)) else list(keys)
        found = self._current.read(keys, damage_report)
        if self._below is not None and len(found) < len(keys):
            found |= self._below.read([key for key in keys if key not in found], damage_report)
        if damage_report.count:
            self._report(damage_report)
        return found

    def keys_beginning(self, beginnings: Iterable[str]) -> dict[str, str]:
        """Return for each key prefix (12 characters or more) a key that has it. Prefixes without an entry are left out.

        Raises:
            StoreError: If the database cannot be read.
        """
        some = list(beginnings)

        def find(database: DatabaseFile) -> dict[str, str]:
            rows = ((one, database.execute(_BEGINNING, (one, f"{one}~")).fetchone()) for one in some)
            return {one: row[0] for one, row in rows if row is not None}

        return self._current.reading(find)

    def put(self, key: str, entry: StoredReply, done: Done) -> None:
        """Queue one entry, which replaces an older one of its key, and return at once.

        *done* is called from the writer's thread: with None after the commit, or with a `StoreError`.

        Raises:
            StoreError: If the store is closed. *done* is not called then.
        """
        self._writer.put(key, entry, done)

    def put_many(self, entries: Iterable[tuple[str, StoredReply]], done: Done) -> None:
        """Queue several entries, as `put` does for one. *done* is called for each.

        Raises:
            StoreError: If the store is closed. *done* is not called then.
        """
        self._writer.put_many(entries, done)

    def queued(self, key: str) -> StoredReply | None:
        """Return the queued entry of *key*, None if there is none that is not yet on disk."""
        return self._writer.queued(key)

    def flush(self) -> None:
        """Wait until everything queued so far is on disk, or its `done` was called with an error."""
        self._writer.flush()
        self._failures.flush()

    def share_with(self, address: str | None) -> None:
        """Share answers through the directory at *address* from now on; None stops sharing (see `share.Share`).

        Raises:
            UsageError: If the address cannot be opened. Nothing was sent.
        """
        if address == (None if self.share is None else self.share.address):
            return
        from pllm_notebook.store.share import Share

        before, self.share = self.share, None
        if before is not None:
            before.close()
        if address is not None:
            self.share = Share(self, self.directory, address)

    def take_in_shared(self) -> int:
        """Add the answers that other machines have shared since the last call, and return their number."""
        return 0 if self.share is None else self.share.take_in()

    def note_failure(self, key: str, tell: Callable[[], FailedCall]) -> None:
        """Queue a call that failed permanently (see `protocols.Store`). A closed store drops it."""
        if not self.closed:
            self._failures.note(key, tell)

    def note_valid(self, keys: Sequence[str]) -> None:
        """Delete the failures of stored replies that were not valid answers and now are."""
        if not self.closed:
            self._failures.valid(keys)

    def rejected(self, keys: Sequence[str]) -> dict[str, FailedCall]:
        """Return the failures of those of *keys* that a provider rejected and that have no answer since."""
        return self._failures.rejected(keys)

    def failed(self, keys: Sequence[str], kinds: Sequence[FailureKind]) -> dict[str, FailedCall]:
        """Return the failures of those of *keys* that failed as one of *kinds* and have no answer since."""
        return self._failures.of_kinds(kinds, keys)

    def failures(self, kind: str | None = None, since: float | None = None) -> list[FailedCall]:
        """Return the failed calls that have no answer since, newest first.

        Args:
            kind: Return only failures of this kind; None for all.
            since: Return only failures from this time on, in seconds since the epoch; None for all.
        """
        return self._failures.newest_first(kind, since)

    def failures_beginning(self, beginnings: Iterable[str]) -> dict[str, FailedCall]:
        """Return for each key prefix the stored failure of a call that has it."""
        return self._failures.beginning(beginnings)

    def forget_failures(self, keys: Sequence[str]) -> None:
        """Delete the failures of these calls."""
        self._failures.delete(keys)

    def checkpoint(self) -> bool:
        """Move the last commits from the -wal file into the database. Return whether all of them were moved."""
        return self._current.get().checkpoint()

    def close(self) -> None:
        """Write all queued entries, move everything into the one database file and close. May be called again."""
        if self.closed:
            return
        self.closed = True
        self._writer.close()
        if self.share is not None:
            self.share.close()
        self._failures.close()
        self.claims.close()
        self._current.close()

    def delete(self, keys: Iterable[str]) -> int:
        """Delete the entries of *keys* and return the number deleted.

        Raises:
            StoreError: If the database cannot be written. Nothing was deleted then.
        """
        some = list(keys)
        try:
            return self._current.change(lambda database: database.delete(some))
        except WriteDelayed as error:
            raise StoreError(f"{error} Nothing was deleted.") from error

    def clear(self) -> int:
        """Delete every entry, readable or not, and every failure. Return the number of entries.

        Raises:
            StoreError: If the database cannot be written. Nothing was deleted then.
        """
        try:
            removed = self._current.change(lambda database: database.clear())
        except WriteDelayed as error:
            raise StoreError(f"{error} Nothing was deleted.") from error
        self._failures.clear()
        return removed

    def check(self) -> tuple[int, int, str]:
        """Return the number of intact rows, the number of unusable rows, and SQLite's description of any fault."""
        damage_report = DamageReport()
        whole, strange, fault = 0, 0, ""
        for database in (self._current.get(), self._below):
            try:
                if database is not None:
                    whole += sum(1 for _ in database.iterate(damage_report))
                    strange += database.strange_rows()
                    fault = fault or database.fault()
            except READ_ERRORS as error:
                fault = fault or str(error)
        return whole, damage_report.count + strange, fault

    @property
    def bytes_on_disk(self) -> int:
        """Number of bytes of the database, including its -wal file and the failures."""
        return self._current.get().size() + self._failures.bytes_on_disk

    def vacuum(self) -> None:
        """Free the disk space of deleted entries, unless another process is writing."""
        try:
            with self.change_lock:
                self._current.get().vacuum()
        except sqlite3.OperationalError as error:
            _log.info("The space of deleted entries could not be freed and is used for new ones: %s", error)

    def iterate(self) -> Iterator[tuple[str, StoredReply]]:
        """Return every key with its entry, in insertion order, as of the first step.

        Entries that are only in the read-only directory come last.

        Raises:
            NewerEntry: If a later version of this package wrote one of them.
            StoreError: If the database is damaged. It has been repaired if that is possible.
        """
        damage_report = DamageReport()
        seen: set[str] | None = None if self._below is None else set()
        database = self._current.get()
        try:
            for key, entry in database.iterate(damage_report):
                if seen is not None:
                    seen.add(key)
                yield key, entry
        except READ_ERRORS as error:
            mended = (
                " What could be read was copied into a new one: try again."
                if self._current.repair(database, error)
                else ""
            )
            raise StoreError(f"The cache in {self.directory} could not be read to its end: {error}.{mended}") from error
        if self._below is not None and seen is not None:
            yield from (pair for pair in self._below.iterate(damage_report) if pair[0] not in seen)
        if damage_report.count:
            self._report(damage_report)

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"{self.backlog_bytes:,} bytes waiting"
        return f"<DiskStore {self.directory!r}: {state}>"

    def _commit(self, rows: Sequence[tuple[str, bytes]]) -> None:
        if self.share is not None:
            self.share.committing([key for key, _ in rows])
        self._current.change(methodcaller("write", rows))
        self._failures.answered(list(dict(rows)))

    def _report(self, damage_report: DamageReport) -> None:
        self._damaged += damage_report.count
        _log.warning(
            "%d entries of the cache in %s cannot be used and count as absent (the first: %s). "
            "pllm.cache.check() examines all entries.",
            damage_report.count,
            self.directory,
            damage_report.first,
        )

    def reset_after_fork(self) -> None:
        """Drop every lock, thread and connection of the parent process, in the child of a fork."""
        self.share = None  # the next `open_store` opens it again, with its own thread
        self._current.reset_after_fork()
        self._writer.forget()
