"""Daemon threads for `answers` functions, which may block or never return.

Not a pool of `concurrent.futures`: the interpreter joins those threads at exit, and a stuck function would keep the
process alive.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue

__all__ = ["AnswerThreads"]

# Work that is not taken up within this time gets a further thread: all others may be stuck.
_PATIENCE_S = 0.25


class AnswerThreads:
    """At most *most* threads while they make progress, reused as they become free."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._work: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._free = 0  # threads that wait for work, less the work that waits for a thread
        self._threads = 0
        self._taken = 0
        self._watched = False
        self._closed = False

    def __repr__(self) -> str:
        return f"AnswerThreads(threads={self._threads}, free={max(0, self._free)}, queued={self._work.qsize()})"

    def submit(self, work: Callable[[], object]) -> None:
        """Run *work* on some thread, soon; after `close` it is dropped."""
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
        """Take no more work and let idle threads end, without waiting for any."""
        with self._lock:
            self._closed = True
            for _ in range(self._threads):
                self._work.put(None)

    def _start(self) -> None:
        self._threads += 1
        self._free += 1
        threading.Thread(target=self._run, name="pllm-sim-answers", daemon=True).start()

    def _watch(self) -> None:
        """Look after a while whether any work was taken up meanwhile. With the lock held."""
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
            except BaseException as error:  # a caller's function may raise anything; its request gets no answer
                del error
            finally:
                del work
                with self._lock:
                    self._free += 1
