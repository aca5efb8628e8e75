"""The caller's rate limit for the calls of a session, in addition to the provider's."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable

from pllm_notebook.exceptions import UsageError

__all__ = ["Throttler"]


class Throttler:
    """A limit on the number of calls that start within any window of some seconds.

    Sessions may share one throttler. It counts only the program's calls: retries and repair turns follow the learned
    limits of the provider, and batch calls are not counted.

    Args:
        max_requests_per_window: At least 1, None for no limit.
        window_seconds: Above 0.
        clock: Returns monotonic seconds.

    Raises:
        UsageError: For a value out of range. Nothing was sent.
    """

    def __init__(
        self,
        max_requests_per_window: int | None = None,
        window_seconds: float = 60.0,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        most = max_requests_per_window
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
            raise UsageError(f"max_requests_per_window is an integer above 0, or None, not {most!r}. Nothing was sent.")
        if isinstance(window_seconds, bool) or not isinstance(window_seconds, int | float) or not window_seconds > 0:
            raise UsageError(f"window_seconds is a number above 0, not {window_seconds!r}. Nothing was sent.")
        self.max_requests_per_window = max_requests_per_window
        self.window_seconds = window_seconds
        self.clock = clock
        self._lock = threading.Lock()
        # Start times of the last calls, earliest first, for at most one window.
        self._slots: deque[float] = deque(maxlen=max_requests_per_window)

    def __repr__(self) -> str:
        return f"Throttler({self.max_requests_per_window}, {self.window_seconds})"

    def book(self, count: int = 1) -> list[float]:
        """Book slots and return the earliest start times of the calls. Callable from any thread."""
        with self._lock:
            return [self._next() for _ in range(count)]

    def _next(self) -> float:
        # A slot is booked before the wait. Otherwise all waiting calls would get the same time.
        now = self.clock()
        if self.max_requests_per_window is None:
            return now
        if len(self._slots) == self.max_requests_per_window:
            now = max(now, self._slots[0] + self.window_seconds)
        self._slots.append(now)
        return now
