"""Small files for which nothing waits: written by a thread of their own, and before anything reads what they hold."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait

from pllm_notebook.runtime import RUNTIME, ExitStage, Slot
from pllm_notebook.threads import DaemonThreads

__all__ = ["finish_writes", "write_later"]

# Work begins this long after it is given: the caller uses the processor with what it was just given.
_REST_S = 0.05
# What waits keeps its run in memory, so that a caller with more than this many in a row waits for the writes.
_MAX_QUEUED = 2

Work = Callable[[], None]


class _Writes:
    """What is to be written, and the thread that does it.

    Every field is changed with the lock held. While there is work in the queue, `_draining` is a future that ends when
    it is done.
    """

    def __init__(self) -> None:
        self._threads = DaemonThreads("pllm-registry", at_once=1)
        self.reset_after_fork()
        RUNTIME.register_fork_aware(self)

    def reset_after_fork(self) -> None:
        """Begin without work, as a forked child does: the parent does its own."""
        self._lock = threading.Lock()
        self._queue: deque[Work] = deque()
        self._draining: Future[None] | None = None
        self._hurry = threading.Event()
        self._writer: int | None = None

    def add(self, work: Work, *, may_wait: bool) -> None:
        with self._lock:
            self._queue.append(work)
            is_full = len(self._queue) > _MAX_QUEUED
            try:
                if self._draining is None:
                    self._draining = self._threads.submit(self._drain)
            except RuntimeError:  # no thread can begin any more, at the end of the process
                is_full = True
        if self._draining is None:
            self._work_off()
        elif is_full and may_wait:
            self.finish()

    def finish(self) -> None:
        while self._writer != threading.get_ident():
            with self._lock:
                draining = self._draining
                self._hurry.set()
            if draining is None:
                return
            wait([draining])

    def _drain(self) -> None:
        self._hurry.wait(_REST_S)
        self._writer = threading.get_ident()
        try:
            self._work_off()
        finally:
            self._writer = None

    def _work_off(self) -> None:
        while True:
            with self._lock:
                if not self._queue:
                    self._draining = None
                    self._hurry.clear()
                    return
                work = self._queue.popleft()
            work()


_WRITES: Slot[_Writes] = Slot("later writes", _Writes, close=_Writes.finish, stage=ExitStage.WRITERS)


def write_later(work: Work, *, may_wait: bool = True) -> None:
    """Run *work*, which raises nothing, soon, on another thread; here where none can begin any more.

    Args:
        work: Called once.
        may_wait: Whether the caller may wait where much is queued; the engine's loop may not.
    """
    _WRITES.value.add(work, may_wait=may_wait)


def finish_writes() -> None:
    """Block until all that was given to `write_later` is done; from within such work, return at once."""
    _WRITES.value.finish()
