"""The only thread that writes: it commits all queued entries in one transaction, then reports each of them.

Writing rows one by one from many threads is slow and unfair (SQLite has no queue for waiting writers). One writer that
commits a queue in groups is faster and more predictable, and keeps fsync off the event loop. A commit costs as much as
writing a hundred entries, so the first entry after a pause waits a moment for others, unless a caller waits for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from pllm_notebook.exceptions import StoreError
from pllm_notebook.store.codec import pack
from pllm_notebook.stored_reply import StoredReply

__all__ = ["Clock", "Done", "WriteDelayed", "Writer"]

GROUP_ENTRIES = 1000
GROUP_BYTES = 8 * 2**20
LINGER_S = 0.01
"""How long an entry waits for others to be committed with. This delays the report of a row, not the next request."""
IDLE_S = 1.0
PATIENCE_S = 60.0
"""How long a group that cannot be written is retried before its rows fail."""

_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 5.0
_OVERHEAD_BYTES = 200

_log = logging.getLogger("pllm_notebook.store")

Done = Callable[[BaseException | None], None]


class WriteDelayed(StoreError):
    """A change was not written, but the same change can succeed later."""


class Clock:
    """The writer's clock; tests pass another."""

    def now(self) -> float:
        """Return seconds since an arbitrary moment. They never decrease."""
        return time.monotonic()

    def wait(self, condition: threading.Condition, seconds: float | None) -> None:
        """Wait until *condition* is notified, for at most *seconds* (None: without a limit)."""
        condition.wait(seconds)


class _Waiting(NamedTuple):
    key: str
    entry: StoredReply
    done: Done
    size: int


class Writer:
    """Queues entries and commits them in groups, in order of arrival.

    Args:
        commit: Writes one group, all or nothing. It raises `WriteDelayed` if a retry can help.
        idle: Called once after `IDLE_S` seconds without work.
        ended: Called by the thread when it ends, to release its resources.
        clock: The clock; None for the system's.
        patience_s: Seconds for which a group that cannot be written is retried.

    Attributes:
        backlog_bytes: Number of bytes queued or being written. An entry counts until its `done` has been called.
        failing_since: Time of the first failure since the last successful commit, None if there is none. All groups
            share it, so that a full disk delays the run by *patience_s* once, not once for each group.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[tuple[str, bytes]]], None],
        *,
        idle: Callable[[], None],
        ended: Callable[[], None],
        clock: Clock | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._commit = commit
        self._idle = idle
        self._ended = ended
        self._clock = Clock() if clock is None else clock
        self._patience_s = patience_s
        self._closing = False
        self.forget()

    def forget(self) -> None:
        """Start with an empty queue and no thread, in the child of a fork. The parent's thread writes its queue."""
        self._condition = threading.Condition()
        self._queue: deque[_Waiting] = deque()
        # The newest entry of each key that is queued or being written.
        self._unwritten: dict[str, StoredReply] = {}
        self.backlog_bytes = 0
        # Number of entries ever queued, and ever reported. Reports are in queue order, so `flush` compares two numbers.
        self._queued = 0
        self._warned = 0
        self._thread: threading.Thread | None = None
        # True while the thread waits for a first entry: only then must a put wake it.
        self._resting = False
        # Number of threads inside `flush`: a group does not wait for more entries while a caller waits for it.
        self._flushing = 0
        self.failing_since: float | None = None

    def put(self, key: str, entry: StoredReply, done: Done) -> None:
        """Queue one entry and return at once, as `put_many` does."""
        self.put_many(((key, entry),), done)

    def put_many(self, entries: Iterable[tuple[str, StoredReply]], done: Done) -> None:
        """Queue entries and return at once. *done* is called for each.

        If no thread can be started, the entries are written here: they have been paid for.

        Raises:
            StoreError: If the writer is closed. *done* is not called then.
        """
        with self._condition:
            if self._closing:
                raise StoreError("The cache is closed, so the answer cannot be kept. Open it again with open_store().")
            for key, entry in entries:
                size = len(entry.meta) + len(entry.text) + len(entry.raw) + _OVERHEAD_BYTES
                self._queue.append(_Waiting(key, entry, done, size))
                self._unwritten[key] = entry
                self.backlog_bytes += size
                self._queued += 1
            if self._thread is None:
                self._thread = _started(self._run)
            alone = list(self._queue) if self._thread is None else []
            if alone:
                self._queue.clear()
            elif self._resting or len(self._queue) >= GROUP_ENTRIES or self.backlog_bytes >= GROUP_BYTES:
                self._condition.notify_all()
        if alone:
            self._write(alone)

    def queued(self, key: str) -> StoredReply | None:
        """Return the entry of *key* that is not yet on disk, None if there is none."""
        return self._unwritten.get(key)

    def flush(self) -> None:
        """Wait until every entry queued so far is on disk, or its `done` was called with an error."""
        with self._condition:
            queued = self._queued
            self._flushing += 1
            self._condition.notify_all()
            try:
                while self._warned < queued:
                    self._condition.wait()
            finally:
                self._flushing -= 1

    def close(self) -> None:
        """Write all queued entries and end the thread. A later put raises `StoreError`."""
        with self._condition:
            self._closing = True
            self._condition.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        while group := self._next_group():
            self._write(group)
            del group  # or its callbacks would keep their runs in memory until the next answer arrives
        self._ended()

    def _next_group(self) -> list[_Waiting]:
        with self._condition:
            rested = False
            self._resting = True
            while not self._queue and not self._closing:
                before = self._clock.now()
                self._clock.wait(self._condition, None if rested else IDLE_S)
                if not self._queue and not self._closing and not rested and self._clock.now() - before >= IDLE_S:
                    rested = True
                    self._condition.release()  # a checkpoint can take a while, and puts must not wait for it
                    try:
                        self._idle()
                    except Exception:
                        _log.exception("Tidying the cache failed; the answers in it are not affected.")
                    finally:
                        self._condition.acquire()
            self._resting = False
            self._linger()
            group: list[_Waiting] = []
            size = 0
            while self._queue and len(group) < GROUP_ENTRIES and size < GROUP_BYTES:
                group.append(self._queue.popleft())
                size += group[-1].size
            return group

    def _linger(self) -> None:
        until = self._clock.now() + LINGER_S
        while (
            not (self._closing or self._flushing)
            and len(self._queue) < GROUP_ENTRIES
            and self.backlog_bytes < GROUP_BYTES
            and (left := until - self._clock.now()) > 0
        ):
            self._clock.wait(self._condition, left)

    def _write(self, group: list[_Waiting]) -> None:
        rows: list[tuple[str, bytes]] = []
        good: list[_Waiting] = []
        for item in group:
            try:
                rows.append((item.key, pack(item.entry)))
                good.append(item)
            except Exception as error:
                _notify(item, StoreError(f"The cache could not pack an answer: {type(error).__name__}: {error}"))
        refused = self._persist(rows) if rows else None
        for item in good:
            _notify(item, refused)
        with self._condition:
            for item in group:
                if self._unwritten.get(item.key) is item.entry:
                    del self._unwritten[item.key]
            self.backlog_bytes -= sum(item.size for item in group)
            self._warned += len(group)
            self._condition.notify_all()

    def _persist(self, rows: list[tuple[str, bytes]]) -> StoreError | None:
        """Commit *rows*, and retry as long as that can help. Return the error if they could not be written."""
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                self._commit(rows)
            except WriteDelayed as error:
                now = self._clock.now()
                if self.failing_since is None:
                    self.failing_since = now
                    _log.warning("%s Trying again for up to %.0f s.", error, self._patience_s)
                if now - self.failing_since >= self._patience_s:
                    return StoreError(
                        f"{error} Tried for {self._patience_s:.0f} s. The answer was paid for and is in the run's "
                        f"result, but not in the cache: asking again would pay again."
                    )
                self._pause(pause_s)
                pause_s = min(pause_s * 2, _LONGEST_PAUSE_S)
            except StoreError as error:
                return error
            except Exception as error:
                return StoreError(f"The cache could not keep an answer: {type(error).__name__}: {error}")
            else:
                if self.failing_since is not None:
                    _log.warning("The cache can be written again.")
                self.failing_since = None
                return None

    def _pause(self, seconds: float) -> None:
        # Every put wakes the condition, and a busy run puts often, so wait again until the whole time has passed.
        until = self._clock.now() + seconds
        with self._condition:
            while (left := until - self._clock.now()) > 0:
                self._clock.wait(self._condition, left)


def _started(main: Callable[[], None]) -> threading.Thread | None:
    """Start a thread; return None if the process is exiting or the system's thread limit is reached."""
    thread = threading.Thread(target=main, name="pllm-store-writer", daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return None
    return thread


def _notify(item: _Waiting, error: BaseException | None) -> None:
    try:
        item.done(error)
    except Exception:
        _log.exception("A caller's own `done` failed.")
