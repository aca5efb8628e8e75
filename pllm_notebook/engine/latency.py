"""When a call counts as hanging: longer on the wire than 99 of 100 of its run's replies."""

from __future__ import annotations

import math
from collections import deque

__all__ = ["LatencyTracker"]

# A 99th percentile of fewer replies means nothing.
_MIN_REPLIES = 20
# How slow a provider was an hour ago does not matter, and a million numbers cost memory.
_MAX_REPLIES = 10_000


class LatencyTracker:
    """Latencies of a run's newest 10,000 replies."""

    def __init__(self) -> None:
        self._seen: deque[float] = deque(maxlen=_MAX_REPLIES)
        self._count = 0
        self._p99_s: float | None = None
        self._again_at = _MIN_REPLIES

    def __repr__(self) -> str:
        return f"LatencyTracker({self._count:,} seen, p99_s={self.p99_s})"

    def add(self, latency_s: float) -> None:
        """Add one reply."""
        self._seen.append(latency_s)
        self._count += 1

    @property
    def p99_s(self) -> float | None:
        """Seconds within which 99 of 100 replies came; None before the 20th.

        Sorted again only when one in a hundred is new: at a run's end it is read for every reply.
        """
        if self._count >= self._again_at:
            self._again_at = self._count + max(1, len(self._seen) // 100)
            self._p99_s = sorted(self._seen)[math.ceil(0.99 * len(self._seen)) - 1]
        return self._p99_s
