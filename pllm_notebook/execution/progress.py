"""Counts, rate and remaining time of one run, and its latest outcomes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

__all__ = ["MOST_ARRIVALS", "Arrivals", "FailedRows", "RunProgress"]

# Maximum number of ended calls kept for a display between two updates.
MOST_ARRIVALS = 4_096
# Time span for the rate: long enough to be steady, short enough to show a slowdown.
_SPAN_S = 5.0
# Minimum basis for an estimate: a run begins by waiting for its first answers, which then come in a burst.
_STEADY_S = 2.0
_STEADY_ROWS = 5


class RunProgress:
    """Count rows as they end, and measure their rate.

    Attributes:
        done: Number of rows answered by calls of this run.
        cached: Number of rows answered by the store.
        failed: Number of rows with a failure.
        not_sent: Number of rows not sent because of the cost limit.
        skipped: Number of rows with a missing value.
        rows_per_s: Rows per second over the last seconds; 0 if unknown.
    """

    def __init__(self, now: float) -> None:
        self.done = self.cached = self.failed = self.not_sent = self.skipped = 0
        self.rows_per_s = 0.0
        self._began = now
        self._before_s = 0.0
        self._ended: float | None = None
        self._samples = deque([(now, 0)])

    def sample(self, now: float) -> None:
        """Record the current counts for the rate."""
        rows = self.done + self.failed
        self._samples.append((now, rows))
        while len(self._samples) > 2 and self._samples[0][0] < now - _SPAN_S:
            self._samples.popleft()
        then, had = self._samples[0]
        if now > then:
            self.rows_per_s = (rows - had) / (now - then)

    def left(self, total: int) -> int:
        """Return the number of *total* rows that have not ended."""
        return total - self.done - self.cached - self.failed - self.not_sent - self.skipped

    def elapsed_s(self, now: float) -> float:
        """Return the elapsed seconds of the run."""
        return self._before_s + (self._ended or now) - self._began

    def eta_s(self, total: int) -> float | None:
        """Return the remaining seconds at the current rate; None while unknown, since the first rows do not show it."""
        left = self.left(total)
        if left <= 0:
            return 0.0
        (then, had), (now, rows) = (self._samples[0], self._samples[-1]) if self._samples else ((0.0, 0), (0.0, 0))
        if self.rows_per_s <= 0 or now - then < _STEADY_S or rows - had < _STEADY_ROWS:
            return None
        return left / self.rows_per_s

    def finish(self, now: float) -> None:
        """Stop the clock; the rate becomes that of the whole run."""
        self._ended = now
        elapsed = self.elapsed_s(now)
        self.rows_per_s = (self.done + self.failed) / elapsed if elapsed > 0 else 0.0

    def resume(self, now: float) -> None:
        """Start the clock again."""
        self._before_s = self.elapsed_s(now)
        self._began, self._ended = now, None
        self._samples = deque([(now, self.done + self.failed)])


class Arrivals:
    """The calls that have ended since the last `take`, for displays; of very many, only the newest."""

    def __init__(self, calls: Iterable[int]) -> None:
        self._calls = deque(calls, maxlen=MOST_ARRIVALS)
        self.append = self._calls.append

    def take(self) -> list[int]:
        """Remove and return the calls, in the order in which they ended."""
        taken: list[int] = []
        # One by one, since another thread may append in the meantime.
        while self._calls:
            taken.append(self._calls.popleft())
        return taken


class FailedRows:
    """The failed rows of one failure kind.

    Attributes:
        count: Number of rows.
        message: Message of the first failure.
    """

    __slots__ = ("count", "message")

    def __init__(self, message: str) -> None:
        self.count = 0
        self.message = message
