"""A higher garbage-collection threshold while a run is active.

A run creates hundreds of thousands of long-lived objects: planned rows, replies, parsed values. Python examines the
young objects whenever some hundreds more have been allocated than freed, and then repeatedly the old ones, for cycles
that our objects do not form. That took a fifth of the time of a cached row and a tenth of that of a live call.
"""

from __future__ import annotations

import gc

from pllm_notebook.runtime import Locked, Slot

__all__ = ["RELAXED_THRESHOLD", "RelaxedGc", "relaxed_gc"]

RELAXED_THRESHOLD = 20_000
"""Objects allocated and not freed before Python collects. Python's default is some hundreds (2,000 from 3.13 on).

Cycles in the user's code are still collected, only later: that many small objects are a few megabytes.
"""


class RelaxedGc(Locked):
    """Raise the collector's first threshold while at least one piece of work is active. Safe from any thread.

    The thresholds at the first `begin` are restored at the last `end`, unless other code has changed them in the
    meantime. The collector is never enabled or disabled. A first threshold of 0, which disables it, or above ours
    is left unchanged.
    """

    def __init__(self) -> None:
        super().__init__()
        self._at_work = 0
        # The previous thresholds and the ones set instead; `_before` is None while the thresholds are not raised.
        self._before: tuple[int, int, int] | None = None
        self._ours: tuple[int, int, int] | None = None

    def __repr__(self) -> str:
        return f"RelaxedGc(at_work={self._at_work}, before={self._before})"

    def begin(self) -> None:
        """Note that a piece of work begins; `end` must follow once."""
        with self.lock:
            self._at_work += 1
            first, second, third = gc.get_threshold()
            if self._at_work == 1 and 0 < first < RELAXED_THRESHOLD:
                self._before = (first, second, third)
                gc.set_threshold(RELAXED_THRESHOLD, second, third)
                # Read back: Python need not keep every number that it is given.
                self._ours = gc.get_threshold()

    def end(self) -> None:
        """Note that a piece of work has ended."""
        with self.lock:
            self._at_work -= 1
            if self._at_work == 0:
                self._put_back()

    def __enter__(self) -> None:
        self.begin()

    def __exit__(self, *error: object) -> None:
        self.end()

    def reset_after_fork(self) -> None:
        """Restore the previous thresholds: none of the parent's work continues in the child."""
        super().reset_after_fork()
        self._at_work = 0
        self._put_back()

    def _put_back(self) -> None:
        before, self._before = self._before, None
        if before is not None and gc.get_threshold() == self._ours:
            gc.set_threshold(*before)


_RELAXED: Slot[RelaxedGc] = Slot("gc", RelaxedGc, is_kept=True)


def relaxed_gc() -> RelaxedGc:
    """Return this process's instance, which runs notify when they begin and end."""
    return _RELAXED.value
