"""Daemon threads for `answers` functions, which may block or never return.

A pool of `concurrent.futures` would not work: the interpreter joins its threads at exit, so a stuck function would
keep the process alive.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

__all__ = ["AnswerThreads"]

# If no work was taken within this time, another thread is started: the others may all be stuck.
_PATIENCE_S = 0.25


class AnswerThreads:
    """A pool of at most *most* threads. It grows beyond that only if all of them are stuck."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._work: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._free = 0  # idle threads minus queued work
        self._threads = 0
        self._taken = 0
        self._watched = False
        self._closed = False

    def __repr__(self) -> str:
        return f"AnswerThreads(threads={self._threads}, free={max(0, self._free)}, queued={self._work.qsize()})"

    def submit(self, work: Callable[[], object]) -> None:
        """Queue *work* for a thread. After `close` it is dropped."""
        with self._lock:
            if self._closed:
                return
            self._free -= 1
            self._work.put(work)
            if self._free < 0:
                if self._threads < self._most:
                    self._start()
                else:
                    self._watch()

    def close(self) -> None:
        """Accept no more work and let idle threads end. Does not wait for them."""
        with self._lock:
            self._closed = True
            for _ in range(self._threads):
                self._work.put(None)

    def _start(self) -> None:
        self._threads += 1
        self._free += 1
        threading.Thread(target=self._run, name="pllm-sim-answers", daemon=True).start()

    def _watch(self) -> None:
        """Check after a delay whether any work was taken. Call with the lock held."""
        if not self._watched:
            self._watched = True
            timer = threading.Timer(_PATIENCE_S, self._relieve, (self._taken,))
            timer.daemon = True
            timer.start()

    def _relieve(self, taken: int) -> None:
        with self._lock:
            self._watched = False
            if self._closed or self._free >= 0:
                return
            if self._taken == taken:
                self._start()
            if self._free < 0:
                self._watch()

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            with self._lock:
                self._taken += 1
            try:
                work()
            except BaseException as error:  # the user's function may raise anything; its request gets no answer
                del error
            finally:
                del work
                with self._lock:
                    self._free += 1
