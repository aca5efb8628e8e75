"""When a call counts as a straggler: longer on the wire than 99 of 100 of its run's replies."""

from __future__ import annotations

import math
from collections import deque

__all__ = ["LatencyTracker"]

# A 99th percentile of fewer replies says nothing.
_FEWEST = 20
# A provider that was slow an hour ago says nothing about now, and a million numbers cost memory.
_MOST = 10_000


class LatencyTracker:
    """How long a run's replies took: the newest 10,000."""

    def __init__(self) -> None:
        self._seen: deque[float] = deque(maxlen=_MOST)
        self._count = 0
        self._p99_s: float | None = None
        self._again_at = _FEWEST

    def __repr__(self) -> str:
        return f"LatencyTracker({self._count:,} seen, p99_s={self.p99_s})"

    def add(self, latency_s: float) -> None:
        """Note one reply."""
        self._seen.append(latency_s)
        self._count += 1

    @property
    def p99_s(self) -> float | None:
        """Seconds within which 99 of 100 replies came; None before the 20th.

        Sorted again only when there is one more in a hundred: it is asked for at every landing of a run's end.
        """
        if self._count >= self._again_at:
            self._again_at = self._count + max(1, len(self._seen) // 100)
            self._p99_s = sorted(self._seen)[math.ceil(0.99 * len(self._seen)) - 1]
        return self._p99_s
