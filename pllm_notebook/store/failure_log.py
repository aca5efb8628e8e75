"""Failed calls, kept beside the answers in a small database of their own.

They are not a table of the answers' database: that is diskcache's, which other programs may open, and damage to
either must not lose the other. A failure was not paid for (or its reply is among the answers), so nothing waits
for this file, nothing is salvaged from it, and a run continues without it.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from pllm_notebook.failures import FailedCall, FailureKind
from pllm_notebook.runtime import RUNTIME
from pllm_notebook.store.failure_file import FailureFile
from pllm_notebook.store.failure_rows import Fields, fields_of
from pllm_notebook.threads import DaemonThreads

__all__ = ["FailureLog"]

MAX_ROWS = 100_000
MAX_BYTES = 256 * 2**20
"""Limits of the file. The oldest failures beyond either are deleted."""

_KEYS_A_QUERY = 5000

_log = logging.getLogger("pllm_notebook.store")


class FailureLog:
    """The failed calls of one cache directory, in a file that is created with the first. Thread-safe.

    Args:
        directory: The cache directory.
        busy_timeout_s: Seconds to wait for another process.
        max_rows: Maximum number of failures kept.
        max_bytes: Maximum size of the file.
    """

    def __init__(
        self, directory: str, *, busy_timeout_s: float, max_rows: int = MAX_ROWS, max_bytes: int = MAX_BYTES
    ) -> None:
        self._file = FailureFile(directory, busy_timeout_s=busy_timeout_s, max_rows=max_rows, max_bytes=max_bytes)
        self._closed = False
        self.reset_after_fork()
        RUNTIME.register_fork_aware(self)

    def reset_after_fork(self) -> None:
        """Start with an empty queue and no thread, in the child of a fork. The parent writes what it queued."""
        # Held while the file is open and around a fork: a child must not inherit SQLite's state in the middle of a use.
        self.change_lock = threading.Lock()
        # Keys in order of arrival, each with a function that describes its failure, or None for an answer.
        self._queue: deque[tuple[str, Callable[[], FailedCall] | None]] = deque()
        # A run and the answers' writer may queue their first item at once, and only one thread may start.
        self._start_lock = threading.Lock()
        self._writer: DaemonThreads | None = None
        self._scheduled = self._writing = False
        # The last state of the file that was read, and the kinds in it: absent kinds need no query.
        self._known: tuple[tuple[int, ...] | None, frozenset[str]] = (None, frozenset())

    def note(self, key: str, tell: Callable[[], FailedCall]) -> None:
        """Queue a failure and return at once. The writer's thread calls *tell* to describe it."""
        self._queue.append((key, tell))
        self._write_soon()

    def answered(self, keys: Sequence[str]) -> None:
        """Queue the deletion of the failures of *keys*, and return after at most one stat call.

        The answers' writer calls this, and must not wait for the file of failures.
        """
        # Check in this order: a failure leaves the queue only while it is being written, and is then in the file.
        if self._queue or self._writing or self._holds_some():
            self._queue.extend((key, None) for key in keys)
            self._write_soon()

    def flush(self) -> None:
        """Wait until everything queued so far has been written, or dropped because of an error."""
        self._write()

    def close(self) -> None:
        """Write all queued items and end the thread."""
        with self._start_lock:
            self._closed = True
        if self._writer is not None:
            self._writer.shutdown(wait=False)
        self._write()

    def rejected(self, keys: Sequence[str]) -> dict[str, FailedCall]:
        """Return the failures of those of *keys* that a provider rejected. Without failures, costs one stat call."""
        return self.of_kinds([kind for kind in FailureKind if kind.facts.rejected], keys)

    def valid(self, keys: Sequence[str]) -> None:
        """Delete the failures of those of *keys* whose reply was not a valid answer. Costs as much as `rejected`."""
        found = self.of_kinds([kind for kind in FailureKind if kind.facts.type_decides], keys)
        if found:
            self.answered(list(found))

    def of_kinds(self, kinds: Sequence[FailureKind], keys: Sequence[str]) -> dict[str, FailedCall]:
        """Return the failures of those of *keys* that failed as one of *kinds*. Costs as much as `rejected`."""
        self._write()
        found: dict[str, FailedCall] = {}
        with self.change_lock:
            known = self._kinds()
            present = [str(kind) for kind in kinds if kind in known]
            for start in range(0, len(keys) if present else 0, _KEYS_A_QUERY):
                some = keys[start : start + _KEYS_A_QUERY]
                where = f"kind IN ({','.join('?' * len(present))}) AND key IN ({','.join('?' * len(some))})"
                found |= {call.key: call for call in self._file.read(where, [*present, *some])}
        return found

    def beginning(self, beginnings: Iterable[str]) -> dict[str, FailedCall]:
        """Return for each key prefix the newest failure of a call that has it."""
        self._write()
        with self.change_lock:
            found = {one: self._file.read("key >= ? AND key < ?", [one, f"{one}~"]) for one in beginnings}
        return {one: calls[0] for one, calls in found.items() if calls}

    def newest_first(self, kind: str | None = None, since: float | None = None) -> list[FailedCall]:
        """Return failures, newest first.

        Args:
            kind: Return only failures of this kind; None for all.
            since: Return only failures from this time on, in seconds since the epoch; None for all.
        """
        self._write()
        with self.change_lock:
            earliest = float("-inf") if since is None else since
            return self._file.read("(? IS NULL OR kind = ?) AND at >= ?", [kind, kind, earliest])

    def delete(self, keys: Sequence[str]) -> None:
        """Delete the failures of *keys*, and wait until that is done."""
        self._queue.extend((key, None) for key in keys)
        self._write()

    def clear(self) -> None:
        """Delete every failure and free the disk space."""
        self._write()
        with self.change_lock:
            self._file.clear()

    @property
    def bytes_on_disk(self) -> int:
        """Size of the file in bytes, 0 without a file."""
        state = self._file.state()
        return 0 if state is None else os.path.getsize(self._file.path)

    def _write_soon(self) -> None:
        with self._start_lock:
            if self._scheduled or self._closed:  # the next group gathers while one is written
                return
            self._scheduled = True
            # No thread can be started while the process exits; `close` writes what is left.
            with suppress(RuntimeError):
                if self._writer is None:
                    self._writer = DaemonThreads("pllm-store-failures", at_once=1)
                self._writer.submit(self._write)

    def _write(self) -> None:
        with self.change_lock:
            self._scheduled = False  # reset before the queue is read: later items schedule another write
            self._writing = True
            last: dict[str, Callable[[], FailedCall] | None] = {}
            while self._queue:
                key, tell = self._queue.popleft()
                last.pop(key, None)
                last[key] = tell
            if last:
                rows = [fields for tell in last.values() if tell is not None and (fields := _fields(tell)) is not None]
                self._file.write(rows, [key for key, tell in last.items() if tell is None])
                self._kinds()
            self._writing = False

    def _holds_some(self) -> bool:
        """Return whether the file may contain failures, judging by its state only."""
        state, (then, kinds) = self._file.state(), self._known
        return state is not None and (state != then or bool(kinds))

    def _kinds(self) -> frozenset[str]:
        """Return the kinds of failure in the file, from memory if it has not changed. Requires the lock."""
        state = self._file.state()
        if self._known[0] != state:
            self._known = (state, self._file.kinds())
        return self._known[1]


def _fields(tell: Callable[[], FailedCall]) -> Fields | None:
    try:
        return fields_of(tell())
    except Exception:  # the caller's own objects make the prompt and may raise; the run has reported the failure
        _log.exception("A failed call could not be added to the list of failed calls.")
        return None
