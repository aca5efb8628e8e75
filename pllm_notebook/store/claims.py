"""Claims of processes on calls, so that two processes never pay for the same answer.

A claim is a key and an owner. An owner is one process (its live calls, or its batch calls) with a lease that a thread
renews. A claim is valid as long as its owner's lease: a killed process loses its claims when the lease ends, and other
processes finish its calls. At worst, a lost claim means that one call is paid twice. The file is therefore written
without waiting for the disk, and a damaged file is replaced by an empty one.
"""

from __future__ import annotations

import logging
import os
import secrets
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import TypeVar

from pllm_notebook.claim_types import ClaimKind, ClaimResult, ReleaseCounts
from pllm_notebook.files import create_private
from pllm_notebook.runtime import RUNTIME
from pllm_notebook.store.damage import READ_ERRORS, is_damage
from pllm_notebook.store.sqlite_connections import SelfClosingConnection

__all__ = ["FILE", "LEASE_S", "SENDER_LEASE_S", "Claims"]

FILE = "claims.db"
LEASE_S = 10.0
# Renewed often enough that a machine under load does not lose the lease.
_RENEW_S = LEASE_S / 4
# A lease that ends later than this was written under another clock.
_LONGEST_LEASE_S = 10 * LEASE_S
SENDER_LEASE_S = 5.0
"""Seconds for which a killed process still counts as sending."""
_BUSY_TIMEOUT_S = 5.0
_FORMAT = 1
_KEYS_A_QUERY = 500

Result = TypeVar("Result")

_TABLES = (
    "CREATE TABLE IF NOT EXISTS owners (id INTEGER PRIMARY KEY, kind TEXT, until REAL, released INTEGER)",
    "CREATE TABLE IF NOT EXISTS claims (key TEXT PRIMARY KEY, owner INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS claims_of ON claims (owner)",
    f"PRAGMA user_version = {_FORMAT}",
)
# Not part of the format number, which earlier versions check: they do not know this table and do not need it.
_SENDERS = (
    "CREATE TABLE IF NOT EXISTS senders (limits TEXT, owner INTEGER, until REAL, PRIMARY KEY (limits, owner)) "
    "WITHOUT ROWID"
)
# A claim is taken if it is free or its owner's lease has ended.
_TAKE = (
    "INSERT INTO claims (key, owner) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET owner = excluded.owner "
    "WHERE owner NOT IN (SELECT id FROM owners WHERE until > ? AND until <= ?)"
)

_log = logging.getLogger("pllm_notebook.store")


class Claims:
    """The claims of one cache directory. Thread-safe, and shared with other processes. Sends nothing.

    A file that cannot be used does not stop a run: every claim is then granted, and one warning explains the
    consequence. Nothing is opened before the first claim.

    Args:
        directory: The cache directory.
        wall_clock: Returns seconds since the epoch, the same for all processes of the machine.
        lease_s: Seconds for which claims are valid after the last renewal.

    Attributes:
        change_lock: Lock acquired for each change and around a fork.
    """

    def __init__(
        self, directory: str, *, wall_clock: Callable[[], float] = time.time, lease_s: float = LEASE_S
    ) -> None:
        self._path = os.path.join(directory, FILE)
        self._clock = wall_clock
        self._lease_s = lease_s
        self._warned = False
        self._start()
        RUNTIME.register_fork_aware(self)

    def __repr__(self) -> str:
        return f"<Claims {self._path!r}: {sum(len(held) for held in self._held.values()):,} held>"

    def _start(self) -> None:
        self.change_lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._file = (0, 0)
        # Time of the last renewal in the open file.
        self._leased_at = float("-inf")
        self._ids: dict[ClaimKind, int] = {"live": secrets.randbits(62), "batch": secrets.randbits(62)}
        # Two runs of this process may make the same call at once; the last one to finish releases the claim.
        self._held: dict[ClaimKind, Counter[str]] = {"live": Counter(), "batch": Counter()}
        self._renewer: threading.Thread | None = None
        self._closing = threading.Event()

    def take(self, kind: ClaimKind, keys: Sequence[str]) -> ClaimResult:
        """Claim those of *keys* that are free. Each granted claim must be released once."""
        with self.change_lock:
            claimed = self._attempt(lambda connection: self._take(connection, kind, keys))
            if claimed is None:
                return ClaimResult(frozenset(keys), ReleaseCounts())
            self._held[kind].update(claimed.granted)
            if claimed.granted:
                self._keep_renewing()
            return claimed

    def release(self, kind: ClaimKind, keys: Iterable[str]) -> None:
        """Release claims of calls that are stored, have failed or will not be sent."""
        with self.change_lock:
            held, gone = self._held[kind], []
            for key in keys:
                held[key] -= 1
                if held[key] <= 0:
                    del held[key]
                    gone.append(key)
            if gone:
                self._attempt(lambda connection: self._release(connection, kind, gone))

    def mark(self, kind: ClaimKind) -> ReleaseCounts:
        """Return the current release counts, to compare with those from `take`."""
        with self.change_lock:
            if self._connection is None and not os.path.exists(self._path):
                return ReleaseCounts()  # a run answered from the cache creates no file
            return self._attempt(lambda connection: self._mark(connection, kind, self._clock())) or ReleaseCounts()

    def count_senders(self, limits: str) -> int:
        """Register this process as sending, and count the processes that send within the same limits.

        The count includes this process. A process counts for five seconds, so it must call this more often while it
        sends. At the end it calls `stop_sending`.

        Args:
            limits: Name of an account and model.
        """

        def count(connection: sqlite3.Connection) -> int:
            now = self._clock()
            connection.execute(
                "INSERT OR REPLACE INTO senders VALUES (?, ?, ?)", (limits, self._ids["live"], now + SENDER_LEASE_S)
            )
            connection.execute("DELETE FROM senders WHERE until <= ? OR until > ?", (now, now + _LONGEST_LEASE_S))
            return int(connection.execute("SELECT count(*) FROM senders WHERE limits = ?", (limits,)).fetchone()[0])

        with self.change_lock:
            return self._attempt(count) or 1

    def stop_sending(self, limits: str) -> None:
        """Stop counting this process as sending within *limits*."""

        def delete(connection: sqlite3.Connection) -> bool:
            connection.execute("DELETE FROM senders WHERE limits = ? AND owner = ?", (limits, self._ids["live"]))
            return True

        with self.change_lock:
            self._attempt(delete)

    def renew(self) -> None:
        """Renew the leases of this process. A separate thread calls this while there are claims."""
        with self.change_lock:
            self._attempt(self._renew)

    def close(self) -> None:
        """Release everything and close the file. May be called again; a later claim reopens the file."""
        self._closing.set()
        with self.change_lock:
            if self._connection is None:
                return
            with suppress(sqlite3.Error):
                ids = tuple(self._ids.values())
                self._connection.execute("BEGIN IMMEDIATE")
                self._connection.execute("DELETE FROM claims WHERE owner IN (?, ?)", ids)
                self._connection.execute("DELETE FROM owners WHERE id IN (?, ?)", ids)
                self._connection.execute("DELETE FROM senders WHERE owner IN (?, ?)", ids)
                self._connection.execute("COMMIT")
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def reset_after_fork(self) -> None:
        """Drop the parent's lock, thread and connection, in the child of a fork. The parent keeps its claims."""
        self._start()

    # The methods below require the lock.

    def _take(self, connection: sqlite3.Connection, kind: ClaimKind, keys: Sequence[str]) -> ClaimResult:
        own, now = self._ids[kind], self._clock()
        # A recent renewal is enough: calls are claimed many times a second.
        if not 0.0 <= now - self._leased_at < self._lease_s / 8:
            self._lease(connection, now)
        mark = self._mark(connection, kind, now)
        longest = now + _LONGEST_LEASE_S
        connection.executemany(_TAKE, [(key, own, now, longest) for key in keys])
        granted: set[str] = set()
        for start in range(0, len(keys), _KEYS_A_QUERY):
            some = keys[start : start + _KEYS_A_QUERY]
            marks = ",".join("?" * len(some))
            found = connection.execute(f"SELECT key FROM claims WHERE owner = ? AND key IN ({marks})", (own, *some))
            granted.update(key for (key,) in found)
        refused = list(set(keys) - granted)
        if self._held_elsewhere(connection, own, refused, now) != len(refused):
            raise sqlite3.DatabaseError("claims without an owner are not granted")
        return ClaimResult(frozenset(granted), mark)

    def _held_elsewhere(self, connection: sqlite3.Connection, own: int, keys: Sequence[str], now: float) -> int:
        """Count those of *keys* that other owners with a valid lease have claimed.

        A difference means damage, which must not block a call forever.
        """
        count = 0
        for start in range(0, len(keys), _KEYS_A_QUERY):
            some = keys[start : start + _KEYS_A_QUERY]
            marks = ",".join("?" * len(some))
            count += connection.execute(
                "SELECT count(*) FROM claims JOIN owners ON owners.id = claims.owner "
                f"WHERE id <> ? AND until > ? AND until <= ? AND key IN ({marks})",
                (own, now, now + _LONGEST_LEASE_S, *some),
            ).fetchone()[0]
        return count

    def _release(self, connection: sqlite3.Connection, kind: ClaimKind, keys: Sequence[str]) -> bool:
        own = self._ids[kind]
        connection.executemany("DELETE FROM claims WHERE key = ? AND owner = ?", [(key, own) for key in keys])
        connection.execute("UPDATE owners SET released = released + ? WHERE id = ?", (len(keys), own))
        return True

    def _mark(self, connection: sqlite3.Connection, kind: ClaimKind, now: float) -> ReleaseCounts:
        found = connection.execute(
            "SELECT coalesce(sum(released) FILTER (WHERE kind = 'live'), 0), "
            "coalesce(sum(released) FILTER (WHERE kind = 'batch'), 0), "
            "count(*), count(*) FILTER (WHERE until <= ? OR until > ?) FROM owners WHERE id <> ?",
            (now, now + _LONGEST_LEASE_S, self._ids[kind]),
        ).fetchone()
        return ReleaseCounts(*found)

    def _lease(self, connection: sqlite3.Connection, now: float) -> None:
        connection.executemany(
            "INSERT INTO owners (id, kind, until, released) VALUES (?, ?, ?, 0) "
            "ON CONFLICT (id) DO UPDATE SET until = excluded.until",
            [(own, kind, now + self._lease_s) for kind, own in self._ids.items()],
        )
        self._leased_at = now

    def _renew(self, connection: sqlite3.Connection) -> bool:
        self._lease(connection, self._clock())
        return True

    def _attempt(self, work: Callable[[sqlite3.Connection], Result]) -> Result | None:
        """Do *work* in one transaction. If the file is damaged, retry on a new one. Return None if that fails too."""
        for last in (False, True):
            try:
                connection = self._connection if self._is_current() else None
                connection = connection or self._open()
                connection.execute("BEGIN IMMEDIATE")
                try:
                    result = work(connection)
                    connection.execute("COMMIT")
                except BaseException:
                    self._leased_at = float("-inf")  # the rollback undoes the renewal
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")
                    raise
                return result
            except (OSError, *READ_ERRORS) as error:
                if last or not self._recreate(error):
                    self._warn(error)
                    return None
        return None

    def _is_current(self) -> bool:
        """Return whether the path still leads to the open file: another process may have replaced a damaged one."""
        if self._connection is None:
            return False
        try:
            now = os.stat(self._path)
        except OSError:
            now = None
        if now is not None and (now.st_dev, now.st_ino) == self._file:
            return True
        with suppress(sqlite3.Error):
            self._connection.close()
        self._connection = None
        return False

    def _open(self) -> sqlite3.Connection:
        create_private(self._path)
        connection = sqlite3.connect(
            self._path,
            timeout=_BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
            factory=SelfClosingConnection,
        )
        try:
            connection.execute("PRAGMA trusted_schema = 0")
            connection.execute("PRAGMA journal_mode = wal")
            connection.execute("PRAGMA synchronous = off")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if version > _FORMAT:
                raise sqlite3.NotSupportedError("a later version of pllm_notebook wrote it")
            if version < _FORMAT:
                connection.execute("BEGIN IMMEDIATE")
                for statement in _TABLES:
                    connection.execute(statement)
                connection.execute("COMMIT")
            connection.execute(_SENDERS)
            self._sweep(connection)
            now = self._clock()
            self._lease(connection, now)
            for kind, held in self._held.items():
                own, longest = self._ids[kind], now + _LONGEST_LEASE_S
                connection.executemany(_TAKE, [(key, own, now, longest) for key in held])
        except BaseException:
            connection.close()
            raise
        found = os.stat(self._path)
        self._file = found.st_dev, found.st_ino
        self._connection = connection
        return connection

    def _sweep(self, connection: sqlite3.Connection) -> None:
        """Delete the owners whose leases ended long ago, and their claims."""
        old = self._clock() - 60 * self._lease_s
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM claims WHERE owner IN (SELECT id FROM owners WHERE until < ?)", (old,))
        connection.execute("DELETE FROM owners WHERE until < ?", (old,))
        connection.execute("COMMIT")

    def _recreate(self, error: BaseException) -> bool:
        """Delete a damaged file; return False if *error* has another cause. No paid answer is lost with the file."""
        if self._connection is not None:
            with suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None
        if isinstance(error, sqlite3.NotSupportedError) or not is_damage(error, self._path):
            return False
        for name in (self._path, f"{self._path}-wal", f"{self._path}-shm"):
            with suppress(OSError):
                os.unlink(name)
        _log.warning(
            "The claims in %s were damaged (%s) and start empty: a call that another process is making now may be "
            "paid twice. Nothing else is lost.",
            self._path,
            error,
        )
        return True

    def _warn(self, error: BaseException) -> None:
        # If the caller has deleted the directory (a temporary one), no other process makes calls there.
        if not self._warned and os.path.isdir(os.path.dirname(self._path)):
            self._warned = True
            _log.warning(
                "The claims in %s cannot be used: %s. Until they can, another process that makes the same calls at "
                "the same time may pay for them too.",
                self._path,
                error,
            )

    def _keep_renewing(self) -> None:
        if self._renewer is None or not self._renewer.is_alive():
            self._closing.clear()
            # A daemon: claims end with the process, and the thread must not keep the process alive.
            renewer = threading.Thread(target=self._renew_all, name="pllm-claims", daemon=True)
            try:
                renewer.start()
            except RuntimeError:  # the process is exiting, or the system's thread limit is reached
                return  # the claims are then valid for one lease, and the run continues
            self._renewer = renewer

    def _renew_all(self) -> None:
        closing = self._closing
        while not closing.wait(min(_RENEW_S, self._lease_s / 4)):
            self.renew()
            with self.change_lock:
                if not any(self._held.values()):
                    self._renewer = None
                    return
