"""The journal's database: checked when opened, written in complete transactions, never silently empty.

It is separate from the database of answers, so that paid jobs stay known if the cache is lost. Damage is reported
and not repaired, since a journal that lost a job would cause its rows to be paid for again. The user decides with
`set_aside`.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from typing import Any
from urllib.parse import quote

from pllm_notebook.batch.job import FINAL
from pllm_notebook.exceptions import StoreError
from pllm_notebook.files import create_private, make_private_directory, replacing, utc_stamp
from pllm_notebook.runtime import RUNTIME
from pllm_notebook.store import READ_ERRORS, SelfClosingConnection, is_damage

__all__ = ["JournalDamagedError", "JournalDatabase", "count_open_jobs", "set_aside"]

_FILE = "jobs.db"
_FOLDER = "jobs"
# Shows that there was a journal, even if its database is gone.
_MARKER = "journal"
_APPLICATION = 0x706C6A62
_VERSION = 1
_BUSY_S = 30.0
_PATIENCE_S = 5.0

_SCHEMA = """
CREATE TABLE jobs (
  number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, cohort TEXT NOT NULL, provider TEXT NOT NULL,
  account TEXT NOT NULL, target TEXT NOT NULL, model TEXT NOT NULL, path TEXT NOT NULL, state TEXT NOT NULL,
  ending TEXT NOT NULL DEFAULT '', attempt INTEGER NOT NULL DEFAULT 1, total INTEGER NOT NULL,
  answered INTEGER NOT NULL DEFAULT 0, failed INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL,
  sha256 TEXT NOT NULL, uploaded TEXT NOT NULL DEFAULT '', remote TEXT NOT NULL DEFAULT '',
  remote_created_at REAL NOT NULL DEFAULT 0, remote_succeeded INTEGER, remote_failed INTEGER,
  files TEXT NOT NULL DEFAULT '[]', known TEXT NOT NULL DEFAULT '[]', creating_at REAL NOT NULL DEFAULT 0,
  uncertain_at REAL NOT NULL DEFAULT 0, created_at REAL NOT NULL, changed_at REAL NOT NULL, estimate_usd REAL,
  cost_usd REAL DEFAULT 0, origin TEXT NOT NULL DEFAULT '', message TEXT NOT NULL DEFAULT '',
  twin_of TEXT NOT NULL DEFAULT '', cancel_asked INTEGER NOT NULL DEFAULT 0, unknown INTEGER NOT NULL DEFAULT 0,
  owner TEXT NOT NULL DEFAULT '', until REAL NOT NULL DEFAULT 0
);
CREATE INDEX jobs_state ON jobs (state);
CREATE UNIQUE INDEX jobs_remote ON jobs (provider, account, remote) WHERE remote <> '';
CREATE TABLE lines (
  job INTEGER NOT NULL REFERENCES jobs (number), number INTEGER NOT NULL, key TEXT NOT NULL, output_limit INTEGER,
  state TEXT NOT NULL DEFAULT 'pending', failure TEXT NOT NULL DEFAULT '', cost_usd REAL DEFAULT 0,
  PRIMARY KEY (job, number)
) WITHOUT ROWID;
CREATE UNIQUE INDEX lines_key ON lines (key, job);
-- Whatever the code does: no row is ever waited for in two jobs.
CREATE UNIQUE INDEX lines_pending ON lines (key) WHERE state = 'pending';
CREATE TABLE journal (id TEXT NOT NULL);
"""
# SQLite has no checksums, but its check compares rows with indexes, so a value changed in either is found.
_COVERING_JOBS_INDEX = (
    "CREATE INDEX IF NOT EXISTS jobs_whole ON jobs (id, cohort, provider, account, target, model, path, state, ending, "
    "attempt, total, answered, failed, bytes, sha256, uploaded, remote, remote_created_at, remote_succeeded, "
    "remote_failed, files, known, creating_at, uncertain_at, created_at, changed_at, estimate_usd, cost_usd, origin, "
    "message, twin_of, cancel_asked, unknown, owner, until)"
)
_STATES = "'pending', 'answered', 'failed', 'missing', 'superseded'"


class JournalDamagedError(StoreError):
    """The journal of batch jobs cannot be trusted. Nothing was sent, and nothing was changed.

    Attributes:
        path: The database.
    """

    def __init__(self, path: str, what: str) -> None:
        self.path = path
        super().__init__(
            f"The journal of batch jobs {path} {what}. Without it, rows that are paid for and still at the provider "
            f"would be sent again, so batch jobs are disabled until you decide. Restore it from a copy, or set it "
            f"aside with pllm_notebook.batch.set_aside({os.path.dirname(path)!r}) and import the results that the "
            f"provider still has with pllm.import_results. Nothing was sent, and nothing was changed."
        )


def set_aside(directory: str, wall_clock: Callable[[], float] = time.time) -> list[str]:
    """Rename a damaged journal and its files, so that a new one can be created. Nothing is deleted.

    Args:
        directory: The cache directory.
        wall_clock: Returns the time used in the new names.

    Returns:
        The new paths.
    """
    stamp = utc_stamp(wall_clock())
    moved = []
    for name in (_FILE, f"{_FILE}-wal", f"{_FILE}-shm", _FOLDER):
        old, new = os.path.join(directory, name), os.path.join(directory, f"{name}.damaged-{stamp}")
        if os.path.exists(old):
            os.rename(old, new)
            moved.append(new)
    return moved


class JournalDatabase:
    """The open database. Each process and thread gets its own connection.

    Args:
        directory: The cache directory. It is created, accessible only to its owner, if missing.

    Raises:
        JournalDamagedError: If an existing journal cannot be read, is empty, is gone or was replaced by another one.
        StoreError: If it cannot be opened.
    """

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.path = os.path.join(directory, _FILE)
        self.folder = os.path.join(directory, _FOLDER)
        self.change_lock = threading.Lock()
        self._local = threading.local()
        self._opened: set[sqlite3.Connection] = set()
        self._still_used: list[threading.local] = []
        self._inherited: list[sqlite3.Connection] = []
        self._uses = threading.Condition()
        self._users = 0
        try:
            make_private_directory(self.folder)
            self._examine()
            self._make()
        except READ_ERRORS as error:
            raise self._translate(error) from error
        except OSError as error:
            raise StoreError(f"The journal of batch jobs {self.path} cannot be opened: {error}.") from error
        self._file = _identity(self.path)
        RUNTIME.register_fork_aware(self)

    @property
    def connection(self) -> sqlite3.Connection:
        """The calling thread's own connection, for reading."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self.connect()
            self._opened.add(connection)
            self._local.closing = _ThreadConnection(connection, self._opened)
        return connection

    def query(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        """Return all rows of a query.

        Raises:
            JournalDamagedError: If the file is damaged.
            StoreError: If it cannot be read.
        """
        with self._in_use():
            try:
                return self.connection.execute(statement, values).fetchall()
            except READ_ERRORS as error:
                raise self._translate(error) from error

    def connect(self) -> sqlite3.Connection:
        """Open another connection. The caller closes it."""
        address = f"file:{quote(os.path.abspath(self.path))}?mode=rw"
        # Not bound to a thread, so that `close` can close the connections of ended threads.
        connection = sqlite3.connect(
            address,
            timeout=_BUSY_S,
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            factory=SelfClosingConnection,
        )
        try:
            for pragma in ("synchronous = FULL", "trusted_schema = 0", "cell_size_check = 1", "mmap_size = 0"):
                connection.execute(f"PRAGMA {pragma}")
        except BaseException:
            connection.close()
            raise
        return connection

    @contextmanager
    def change(self, connection: sqlite3.Connection | None = None) -> Iterator[sqlite3.Connection]:
        """Run the body of a `with` in one transaction: all of it is on disk afterwards, or nothing.

        Raises:
            JournalDamagedError: If the file is damaged, or is no longer the one that was opened.
            StoreError: If it cannot be written: a full disk, a lock held for too long.
        """
        # Keep the lock for the whole transaction: a fork inside it would copy half of it.
        with self._in_use(), self.change_lock:
            connection = connection or self.connection
            self.require_current()
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except sqlite3.IntegrityError:
                raise  # a constraint of the tables was violated; the caller handles it
            except READ_ERRORS as error:
                raise self._translate(error) from error
            finally:
                if connection.in_transaction:
                    with suppress(sqlite3.Error):
                        connection.execute("ROLLBACK")

    def require_current(self) -> None:
        """Check that the file at our path is still the one that was opened.

        Raises:
            JournalDamagedError: If it is not. SQLite would keep writing to a deleted file.
        """
        if _identity(self.path) != self._file:
            raise JournalDamagedError(self.path, "was removed or replaced while it was open")

    def reset_after_fork(self) -> None:
        """Drop the connections of the parent process, in the child of a fork."""
        # Keep them and never close them: closing here would release the parent's locks and truncate its -wal file.
        self._inherited += self._opened
        self._opened = set()
        self._local = threading.local()
        self.change_lock = threading.Lock()
        self._uses = threading.Condition()
        self._users = 0

    def close(self) -> None:
        """Close every connection of this process when none is in use.

        A worker whose task was cancelled runs to the end of its statement. Closing its connection before that would
        crash the process, so a connection that is still in use after a few seconds is left open.
        """
        with self._uses:
            idle = self._uses.wait_for(lambda: not self._users, _PATIENCE_S)
            opened, self._opened = self._opened, set()
            if not idle:
                self._still_used.append(self._local)
            self._local = threading.local()
        for connection in list(opened) if idle else ():
            connection.close()

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        """Keep `close` from closing a connection that is in use."""
        with self._uses:
            self._users += 1
        try:
            yield
        finally:
            with self._uses:
                self._users -= 1
                self._uses.notify_all()

    def _examine(self) -> None:
        marker = os.path.join(self.folder, _MARKER)
        there = os.path.exists(self.path) and os.path.getsize(self.path) > 0
        if not there:
            if os.path.exists(marker):
                raise JournalDamagedError(self.path, "is empty" if os.path.exists(self.path) else "is gone")
            return
        with closing(self.connect()) as connection:
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            if application == 0 and not connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone():
                return  # a crash occurred between creating the file and creating its tables
            if application != _APPLICATION:
                raise JournalDamagedError(self.path, "is another program's database")
            if version > _VERSION:
                raise StoreError(
                    f"The journal of batch jobs {self.path} was written by a later version of pllm_notebook. "
                    f"Update the package. Nothing was sent, and nothing was changed."
                )
            found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check(1)")]
            if found != ["ok"]:
                raise JournalDamagedError(self.path, f"is damaged ({found[0]})")
            if connection.execute(f"SELECT 1 FROM lines WHERE state NOT IN ({_STATES}) LIMIT 1").fetchone():
                raise JournalDamagedError(self.path, "is damaged (a line is in an unknown state)")
            row = connection.execute("SELECT id FROM journal").fetchone()
            if row is None:
                raise JournalDamagedError(self.path, "is damaged (its id is missing)")
            if os.path.exists(marker):
                with open(marker, encoding="ascii", errors="replace") as file:
                    if file.read() != row[0]:
                        raise JournalDamagedError(self.path, "was replaced by another journal")

    def _make(self) -> None:
        create_private(self.path)
        with closing(self.connect()) as connection:
            # Another process may be doing the same; the first to get the lock creates the tables.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")
            if connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION:
                for statement in _SCHEMA.split(";\n"):
                    connection.execute(statement)
                connection.execute("INSERT INTO journal VALUES (?)", (uuid.uuid4().hex,))
                connection.execute(f"PRAGMA application_id = {_APPLICATION}")
                connection.execute(f"PRAGMA user_version = {_VERSION}")
            connection.execute(_COVERING_JOBS_INDEX)
            name = connection.execute("SELECT id FROM journal").fetchone()[0]
            connection.execute("COMMIT")
        _mark(os.path.join(self.folder, _MARKER), name)

    def _translate(self, error: BaseException) -> StoreError:
        if is_damage(error, self.path):
            return JournalDamagedError(self.path, f"is damaged ({error})")
        return StoreError(f"The journal of batch jobs {self.path} cannot be written: {error}.")


class _ThreadConnection:
    """Close the connection of a thread when the thread ends or the database is released."""

    def __init__(self, connection: sqlite3.Connection, opened: set[sqlite3.Connection]) -> None:
        self._connection = connection
        self._opened = opened
        self._process = os.getpid()

    def __del__(self) -> None:
        if os.getpid() == self._process:  # a forked child keeps the parent's (see `reset_after_fork`)
            self._opened.discard(self._connection)
            with suppress(sqlite3.Error):
                self._connection.close()


def _mark(marker: str, name: str) -> None:
    if os.path.exists(marker):
        return
    # Write it atomically: another process may be reading it.
    with replacing(marker) as file:
        file.write(name.encode("ascii"))


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def count_open_jobs(directory: str) -> int:
    """Count the open jobs in a cache directory; 0 if there is no journal or it cannot be read now.

    Changes and creates nothing, and waits half a second at most. Journal errors are reported when it is opened.
    """
    path = os.path.join(directory, _FILE)
    if not os.path.exists(path):
        return 0
    marks = ",".join("?" * len(FINAL))
    try:
        address = f"file:{quote(os.path.abspath(path))}?mode=rw"
        with closing(sqlite3.connect(address, uri=True, timeout=0.5)) as connection:
            found = connection.execute(f"SELECT count(*) FROM jobs WHERE state NOT IN ({marks})", tuple(FINAL))
            return int(found.fetchone()[0])
    except sqlite3.Error:
        return 0
