"""The store on disk, as the rest of the package sees it."""

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

# In a key's alphabet nothing sorts after "~", so that the index finds all keys with a beginning at once.
_BEGINNING = "SELECT key FROM Cache WHERE raw = 1 AND key >= ? AND key < ? LIMIT 1"

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

    Attributes:
        directory: As given.
        below: As given.
        claims: Which process asks which call of this directory.
        share: The directory that its answers are shared through, None for none (see `share_with`).
        closed: Whether `close` was called.

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
        """Held for each change, and around a fork."""
        return self._current.change_lock

    @property
    def damaged(self) -> int:
        """Rows met so far that were damaged or unsafe, and counted as absent."""
        return self._damaged

    @property
    def backlog_bytes(self) -> int:
        """Bytes queued and not yet on disk."""
        return self._writer.backlog_bytes

    def is_behind(self, limit_bytes: int) -> bool:
        """Return whether writing fails at the moment (a full disk, a held database), or more than that is queued."""
        writer = self._writer
        return (
            writer.failing_since is not None
            or writer.backlog_bytes > limit_bytes
            or (self._current.is_unwritable and bool(self.unwritable))
        )

    @property
    def unwritable(self) -> str:
        """Why the cache can only be read at the moment, and nothing should be sent; "" where it can be written."""
        return self._current.unwritable

    @property
    def written_by_others(self) -> int:
        """Rows that other processes are known to have written since this store was opened.

        Counted at each commit of our own, which costs nothing.
        """
        return self._current.written_by_others

    def get_many(self, keys: Sequence[str]) -> dict[str, StoredReply]:
        """Read the entries that are there, of those asked for, in one query for each few thousand.

        Damaged and unsafe rows count as absent; one warning tells of them.

        Raises:
            NewerEntry: If a later version of this package wrote one of them.
            StoreError: If the database can neither be read nor mended.
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
        """Return for each beginning of a key (12 characters or more) the key that has it; none where no entry does.

        Raises:
            StoreError: If the database cannot be read.
        """
        some = list(beginnings)

        def find(database: DatabaseFile) -> dict[str, str]:
            rows = ((one, database.execute(_BEGINNING, (one, f"{one}~")).fetchone()) for one in some)
            return {one: row[0] for one, row in rows if row is not None}

        return self._current.reading(find)

    def put(self, key: str, entry: StoredReply, done: Done) -> None:
        """Queue one entry, in place of an older one of its key, and return at once.

        *done* is called from the writer's thread: with None after the commit, else with a `StoreError`.

        Raises:
            StoreError: If the store is closed. *done* is not called then.
        """
        self._writer.put(key, entry, done)

    def put_many(self, entries: Iterable[tuple[str, StoredReply]], done: Done) -> None:
        """Queue several entries as `put` queues one; *done* is called for each.

        Raises:
            StoreError: If the store is closed. *done* is not called then.
        """
        self._writer.put_many(entries, done)

    def queued(self, key: str) -> StoredReply | None:
        """Return an entry that was put and is not yet on disk, None for none."""
        return self._writer.queued(key)

    def flush(self) -> None:
        """Wait until everything queued so far is on disk, or its `done` was called with the reason."""
        self._writer.flush()
        self._failures.flush()

    def share_with(self, address: str | None) -> None:
        """Share answers through the directory at *address* from now on, None for no longer (see `share.Share`).

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
        """Add the answers that other machines shared since the last look, and return their number."""
        return 0 if self.share is None else self.share.take_in()

    def note_failure(self, key: str, tell: Callable[[], FailedCall]) -> None:
        """Queue a call that failed for good (see `protocols.Store`); with a closed store it is lost."""
        if not self.closed:
            self._failures.note(key, tell)

    def note_valid(self, keys: Sequence[str]) -> None:
        """Forget the failures of stored replies that were no valid answers and are now."""
        if not self.closed:
            self._failures.valid(keys)

    def rejected(self, keys: Sequence[str]) -> dict[str, FailedCall]:
        """Read, of the calls asked for, those that a provider rejected and nothing has answered since."""
        return self._failures.rejected(keys)

    def failed(self, keys: Sequence[str], kinds: Sequence[FailureKind]) -> dict[str, FailedCall]:
        """Read, of the calls asked for, those that failed in one of these ways and nothing has answered since."""
        return self._failures.of_kinds(kinds, keys)

    def failures(self, kind: str | None = None, since: float | None = None) -> list[FailedCall]:
        """Read the calls that failed and have not been answered since, newest first.

        Args:
            kind: Only these, None for all.
            since: Only those from this moment on, in seconds since the epoch.
        """
        return self._failures.newest_first(kind, since)

    def failures_beginning(self, beginnings: Iterable[str]) -> dict[str, FailedCall]:
        """Return for each beginning of a key the kept failure of a call that has it."""
        return self._failures.beginning(beginnings)

    def forget_failures(self, keys: Sequence[str]) -> None:
        """Delete the failures of these calls."""
        self._failures.delete(keys)

    def checkpoint(self) -> bool:
        """Move the last commits from the -wal file into the database; tell whether none stayed behind."""
        return self._current.get().checkpoint()

    def close(self) -> None:
        """Write what is queued, and put everything into the one database file. May be called again."""
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
        """Delete the entries under *keys*; give the number that were there.

        Raises:
            StoreError: If the database cannot be written. Nothing was deleted then.
        """
        some = list(keys)
        try:
            return self._current.change(lambda database: database.delete(some))
        except WriteDelayed as error:
            raise StoreError(f"{error} Nothing was deleted.") from error

    def clear(self) -> int:
        """Delete every entry, readable or not, and every failure; give the number of entries.

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
        """Return the number of whole rows, of rows that cannot be used, and what SQLite says is wrong."""
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
        """Bytes of the database, its -wal file and the failures included."""
        return self._current.get().size() + self._failures.bytes_on_disk

    def vacuum(self) -> None:
        """Return the space of deleted entries back to the disk, unless another process is writing."""
        try:
            with self.change_lock:
                self._current.get().vacuum()
        except sqlite3.OperationalError as error:
            _log.info("The space of deleted entries is kept for new ones: %s", error)

    def iterate(self) -> Iterator[tuple[str, StoredReply]]:
        """Return every key with its entry, in insertion order, as they were at the first step.

        Entries of the directory that is only read come last, save those that are in both.

        Raises:
            NewerEntry: If a later version of this package wrote one of them.
            StoreError: If the database is damaged; it has been mended where that can be done.
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
                " What can be read was copied into a new one: ask again."
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
            "pllm.cache.check() looks at all of them.",
            damage_report.count,
            self.directory,
            damage_report.first,
        )

    def reset_after_fork(self) -> None:
        """Drop every lock, thread and connection of the parent's: called in a child after a fork."""
        self.share = None  # the next `open_store` opens it again, with a thread of its own
        self._current.reset_after_fork()
        self._writer.forget()
