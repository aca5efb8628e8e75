"""The oracle: a limiter that knows every limit, and the plain arithmetic of what a limit allows.

A makespan is judged by that of the same run, on the same server with the same draws, under a limiter that
looks into the server's buckets: nothing that an honest limiter could do would end sooner.
"""

from __future__ import annotations

import math

from pllm_notebook.engine.limits.limiter import MAX_WINDOW, Limiter, Permit
from tests.engine.modelled import INPUT_TOKENS, ModelServer

__all__ = ["Perfect", "allowed_at_s"]


class Perfect(Limiter):
    """Send each call at the first moment when the server lets it in, with as many connections as anyone has.

    Args:
        server: Where the calls go; its buckets are read, never changed.
    """

    def __init__(self, server: ModelServer) -> None:
        super().__init__(window=min(server.slots or MAX_WINDOW, MAX_WINDOW), max_window=MAX_WINDOW)
        self._server = server
        self._sent = 0

    @property
    def window(self) -> float:
        """Calls that may be in flight: all that the server works on."""
        return float(min(self._server.slots or MAX_WINDOW, MAX_WINDOW))

    def wait_s(self, now: float, tokens: float) -> float:
        """Give the seconds until the server lets the next call in."""
        self._server.fill(now)
        underway = self._sent - self._server.requests  # they have left, and take their share in this same moment
        waits = [
            bucket.wait_s(amount, underway * amount)
            for bucket, amount in zip(self._server.buckets, (1, INPUT_TOKENS), strict=True)
            if bucket is not None
        ]
        wait = max(waits, default=0.0)
        return wait + 1e-6 if wait else 0.0

    def charge(self, now: float, tokens: float) -> Permit:
        """Count a call that leaves."""
        self._sent += 1
        return super().charge(now, tokens)


def allowed_at_s(server: ModelServer, calls: int, tokens_each: float) -> float:
    """Give the second at which the limits, by arithmetic alone, have allowed that many *calls*.

    The buckets are full at the beginning; a squeeze counts from its start to its end.
    """
    return max(
        _allowed_at_s(server, server.rpm, float(calls)),
        _allowed_at_s(server, server.tpm, calls * tokens_each),
    )


def _allowed_at_s(server: ModelServer, per_min: float | None, amount: float) -> float:
    if per_min is None:
        return 0.0
    if server.by_minute:
        return (math.ceil(amount / per_min) - 1) * 60.0
    rate = per_min / 60
    start, end, scale = server.squeeze or (0.0, 0.0, 1.0)
    left, at = amount - max(1.0, rate * server.burst_s), 0.0
    for until, factor in ((start, 1.0), (end, scale), (math.inf, 1.0)):
        if left <= (until - at) * rate * factor:
            return max(0.0, at + left / (rate * factor))
        left, at = left - (until - at) * rate * factor, until
    raise AssertionError("the last span has no end")
