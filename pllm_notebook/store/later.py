"""Deferred writes of small files on a separate thread. Readers of these files call `finish_writes` first."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, wait

from pllm_notebook.runtime import RUNTIME, ExitStage, Slot
from pllm_notebook.threads import DaemonThreads

__all__ = ["finish_writes", "write_later"]

# Work starts this long after it was queued: until then the caller needs the CPU for the results that it has just got.
_REST_S = 0.05
# Queued work keeps its run in memory, so a caller waits while more than this many pieces are queued.
_MAX_QUEUED = 2

_log = logging.getLogger("pllm_notebook.store")

Work = Callable[[], None]


class _Writes:
    """The queued writes, and the thread that does them.

    The lock guards the queue and `_draining`, a future that ends when the queue is empty; None if the thread is idle.
    """

    def __init__(self) -> None:
        self._threads = DaemonThreads("pllm-registry", at_once=1)
        self.reset_after_fork()
        RUNTIME.register_fork_aware(self)

    def reset_after_fork(self) -> None:
        """Start with an empty queue, in the child of a fork. The parent does the work that it queued."""
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
            except RuntimeError:  # the process is exiting, and no thread can be started
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
            _attempt(work)


def _attempt(work: Work) -> None:
    try:
        work()
    except KeyboardInterrupt:  # only in the caller's own thread, where no other could be started
        raise
    except BaseException as error:  # it may call the repr of the user's objects, which may raise anything
        _log.error("A file could not be written in the background", exc_info=error)


_WRITES: Slot[_Writes] = Slot("later writes", _Writes, close=_Writes.finish, stage=ExitStage.WRITERS)


def write_later(work: Work, *, may_wait: bool = True) -> None:
    """Run *work* soon on another thread, or here and now if no thread can be started.

    Args:
        work: Called once. An error is logged, and other work is still done.
        may_wait: Whether this call may block if more than two pieces of work are queued. False on the engine's loop.
    """
    _WRITES.value.add(work, may_wait=may_wait)


def finish_writes() -> None:
    """Block until all work passed to `write_later` is done. Called from such work, return at once."""
    _WRITES.value.finish()
