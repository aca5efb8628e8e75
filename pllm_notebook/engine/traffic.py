"""What one lane has on the wire, and whether more may leave."""

from __future__ import annotations

import asyncio

from pllm_notebook.engine.feed import Feed, Job
from pllm_notebook.engine.flight import Deadlines, Flight
from pllm_notebook.engine.limiter import Limiter

__all__ = ["Traffic"]


class Traffic:
    """The requests of one lane that are on the wire.

    Args:
        loop: Gives the time.
        limiter: The account's limits.

    Attributes:
        flights: By `Job.request`; of a call that was sent twice, the older one.
        requests: Their number, more than the flights by those that were sent a second time.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limiter: Limiter) -> None:
        self.flights: dict[tuple[str, int | None], Flight] = {}
        self.requests = 0
        self._limiter = limiter
        self._deadlines = Deadlines(loop, self.flights)

    def __repr__(self) -> str:
        return f"Traffic(calls={len(self.flights)}, requests={self.requests})"

    def gate(self, feed: Feed, job: Job, now: float) -> tuple[bool, float]:
        """Return whether the window is full, and the seconds for which limits keep a call back."""
        if self.requests >= int(self._limiter.window):
            return True, 0.0
        wait = self._limiter.wait_s(now, job.tokens)
        for ceiling in feed.ceilings:
            wait = max(wait, ceiling.wait_s(now, job.tokens))
        return False, wait

    def launch(self, feed: Feed, job: Job, now: float, passengers: list[tuple[Feed, Job]]) -> Flight:
        """Count a request as on the wire, and watch its time. Whoever launches it gives it a task."""
        for ceiling in feed.ceilings:
            ceiling.take(now, job.tokens)
        feed.in_flight += 1
        self.requests += 1
        flight = Flight(feed, job, self._limiter.charge(now, job.tokens), passengers)
        self._deadlines.add(flight)
        return flight

    def over(self, flight: Flight) -> None:
        """Count a request as on the wire no longer."""
        self.requests -= 1
        for ceiling in flight.ceilings:
            ceiling.release()

    def close(self) -> None:
        """Watch nothing any more."""
        self._deadlines.close()
