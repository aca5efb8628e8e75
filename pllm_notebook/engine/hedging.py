"""A call that hangs is sent a second time, and the first of the two answers counts.

Which of the two requests is the older one makes no difference once both are out: each is the other's
`twin`, both have one list of passengers, and the call ends when one of them is answered or both have
failed. The one that is not needed is cancelled, and may be paid all the same.
"""

from __future__ import annotations

import logging

from pllm_notebook.engine.feed import Exchange, Feed
from pllm_notebook.engine.flight import Flight
from pllm_notebook.engine.limiter import Limiter
from pllm_notebook.engine.traffic import Traffic
from pllm_notebook.records import Failure, FailureKind

__all__ = ["Hedging"]

logger = logging.getLogger("pllm_notebook")

_NEVER = float("inf")


class Hedging:
    """The second requests of one lane. Sends nothing by itself: the lane gives each flight its task.

    Args:
        name: For the log.
        traffic: What the lane has on the wire.
        limiter: The account's limits.
    """

    def __init__(self, name: str, traffic: Traffic, limiter: Limiter) -> None:
        self._name = name
        self._traffic = traffic
        self._limiter = limiter

    def second(self, feed: Feed, now: float) -> tuple[Flight | None, float]:
        """Launch a second request for a run's oldest straggler, if it has one and may.

        Args:
            feed: The run's; it has a `spare`.
            now: Seconds on the loop's clock.

        Returns:
            The second request, None for none; and when to look again (infinity: when something lands).
        """
        long_s = feed.latencies.p99_s
        if long_s is None or feed.full or feed.waiting or feed.closed:
            return None, _NEVER
        for flight in self._traffic.flights.values():
            job = None if flight.twin is not None else flight.job_of(feed)
            if job is None or job.hedged:
                continue
            if now - flight.stamp.sent_at <= long_s:
                return None, flight.stamp.sent_at + long_s  # those after it left later
            full, wait = self._traffic.gate(feed, job, now)
            if full or wait > 0:
                return None, _NEVER if full else now + wait
            assert feed.spare is not None
            if not feed.spare(job):
                return None, _NEVER
            job.hedged = True
            job.covered += 1
            feed.hedges += 1
            second = self._traffic.launch(feed, job, now, flight.passengers)
            flight.twin, second.twin = second, flight
            flight.payer = second.payer = (feed, job)
            logger.info("%s: no reply for %.1f s, sent a second time", self._name, now - flight.stamp.sent_at)
            return second, now
        return None, _NEVER

    def failed(self, flight: Flight, exchange: Exchange | None) -> None:
        """Take a failure of one of two requests, None for a cancelled one: the other is now the only one."""
        other = flight.twin
        assert other is not None
        assert flight.payer is not None
        feed, job = flight.payer
        self._part(flight, other)
        self._traffic.flights[flight.key] = other
        other.left = [*other.left, *flight.left]
        job.sent += 1
        if exchange is None or (isinstance(exchange.result, Failure) and exchange.result.kind.maybe_paid):
            job.maybe_paid += 1
        elif isinstance(exchange.result, Failure) and exchange.result.kind is FailureKind.RATE_LIMIT:
            feed.refused += 1

    def abandon(self, flight: Flight) -> None:
        """Cancel one of two requests, since the other is enough."""
        assert flight.twin is not None
        assert flight.payer is not None
        _, job = flight.payer
        # Calls of runs that were stopped end with the one that stays.
        flight.twin.left = [*flight.twin.left, *flight.left]
        self._limiter.ended(flight.stamp)
        self._traffic.flights[flight.key] = flight.twin
        self._part(flight, flight.twin)
        if flight.departed:
            job.sent += 1
            job.maybe_paid += 1
            flight.task.cancel()

    def leave(self, flight: Flight, feed: Feed) -> None:
        """Cancel the second request of a call where the run that wanted it is stopped."""
        if flight.twin is not None and flight.payer is not None and flight.payer[0] is feed:
            self.abandon(flight.twin)

    def _part(self, flight: Flight, other: Flight) -> None:
        assert flight.payer is not None
        flight.over = True
        flight.payer[0].in_flight -= 1
        self._traffic.over(flight)
        flight.twin = other.twin = None
        flight.payer = other.payer = None
