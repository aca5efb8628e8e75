"""How eagerly Python collects its garbage while a run is at work.

A run makes hundreds of thousands of objects that live on: planned rows, replies, parsed values. Python looks through
young objects each time some hundreds more have been made than freed, and then again and again through the old ones,
for cycles that our objects do not form. That was a fifth of a cached row's time and a tenth of a live call's.
"""

from __future__ import annotations

import gc

from pllm_notebook.runtime import Locked, Slot

__all__ = ["RELAXED_THRESHOLD", "RelaxedGc", "relaxed_gc"]

RELAXED_THRESHOLD = 20_000
"""Objects made and not freed before Python looks through them: Python's own is some hundreds (2,000 from 3.13 on).

Cycles in a user's own code are still collected, only later: that many small objects are a few megabytes.
"""


class RelaxedGc(Locked):
    """Raise the collector's first threshold while at least one piece of work goes on. Safe from any thread.

    What is found when the first begins is put back when the last ends, unless somebody set other thresholds
    meanwhile: theirs stay. Whether collecting is switched on at all is never touched, and a first threshold of 0,
    which switches it off, or one above ours is left as it is.
    """

    def __init__(self) -> None:
        super().__init__()
        self._at_work = 0
        # The thresholds before, and those set in their place; None while nothing of ours does.
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
                # Asked for: Python need not keep every number that it is given.
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
        """Put back what was there before: none of the parent's work goes on in the child."""
        super().reset_after_fork()
        self._at_work = 0
        self._put_back()

    def _put_back(self) -> None:
        before, self._before = self._before, None
        if before is not None and gc.get_threshold() == self._ours:
            gc.set_threshold(*before)


_RELAXED: Slot[RelaxedGc] = Slot("gc", RelaxedGc, is_kept=True)


def relaxed_gc() -> RelaxedGc:
    """Return this process's one, in which runs note when they begin and end."""
    return _RELAXED.value
