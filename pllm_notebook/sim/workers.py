"""Daemon threads for the caller's `answers` function."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

__all__ = ["Workers"]

_MOST = 64


class Workers:
    """A pool that grows while its threads are busy.

    Not `concurrent.futures`: the interpreter waits for those threads at exit, and an `answers`
    function that never returns would keep the program from ending.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._queue: queue.SimpleQueue[tuple[Callable[[Any], None], Any] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._idle = 0
        self._threads = 0

    def submit(self, work: Callable[[Any], None], argument: Any) -> None:
        """Run *work* on some thread, soon."""
        with self._lock:
            if self._idle > 0:
                self._idle -= 1
            elif self._threads < _MOST:
                self._threads += 1
                threading.Thread(target=self._run, name=f"{self._name}-{self._threads}", daemon=True).start()
        self._queue.put((work, argument))

    def close(self) -> None:
        """Let idle threads end; a busy one ends after its work."""
        with self._lock:
            for _ in range(self._threads):
                self._queue.put(None)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            work, argument = item
            work(argument)
            with self._lock:
                self._idle += 1
