"""Hedging: a call that hangs is sent a second time, and the first answer counts.

Once both requests are on the wire, their order does not matter: each is the other's `hedge`, and both share one
list of waiters. The call ends when one is answered or both have failed. The other request is cancelled, and may
still be charged for.
"""

from __future__ import annotations

import logging

from pllm_notebook.engine.attempts import AttemptResult
from pllm_notebook.engine.in_flight import InFlight, InFlightTable
from pllm_notebook.engine.limits.limiter import Limiter
from pllm_notebook.engine.run_queue import RunQueue
from pllm_notebook.failures import Failure, FailureKind

__all__ = ["Hedging"]

logger = logging.getLogger("pllm_notebook")

_NEVER = float("inf")


class Hedging:
    """The second requests of one dispatcher. The dispatcher assigns their tasks."""

    def __init__(self, name: str, table: InFlightTable, limiter: Limiter) -> None:
        self._name = name
        self._table = table
        self._limiter = limiter

    def second(self, queue: RunQueue, now: float) -> tuple[InFlight | None, float]:
        """Start a second request for a run's oldest hanging call, if there is one and it may be sent.

        Returns:
            The second request or None, and the time to check again; infinity for not before a call completes.
        """
        long_s = queue.latencies.p99_s
        if long_s is None or queue.full or queue.waiting or queue.closed:
            return None, _NEVER
        for request in self._table.by_key.values():
            call = None if request.hedge is not None else request.call_of(queue)
            if call is None or call.hedged:
                continue
            if now - request.permit.sent_at <= long_s:
                return None, request.permit.sent_at + long_s  # the requests after it were sent later
            full, wait = self._table.admit(queue, call, now)
            if full or wait > 0:
                return None, _NEVER if full else now + wait
            if not queue.source.may_hedge(call):
                return None, _NEVER
            call.hedged = True
            call.funded += 1
            queue.hedges += 1
            second = self._table.start(queue, call, now, request.waiters)
            request.hedge, second.hedge = second, request
            request.owner = second.owner = (queue, call)
            logger.info("%s: no reply for %.1f s, sent a second time", self._name, now - request.permit.sent_at)
            return second, now
        return None, _NEVER

    def failed(self, request: InFlight, attempt: AttemptResult | None) -> None:
        """Count the failure of one of two requests; the other is now the only one.

        *attempt* is None if the request was cancelled.
        """
        other = request.hedge
        assert other is not None
        assert request.owner is not None
        queue, call = request.owner
        self._separate(request, other)
        self._table.by_key[request.key] = other
        other.detached = [*other.detached, *request.detached]
        call.sent += 1
        if attempt is None:
            call.maybe_paid += 1
        elif isinstance(attempt.result, Failure):
            call.count_charge(attempt.result)
            queue.refused += attempt.result.kind is FailureKind.RATE_LIMIT

    def abandon(self, request: InFlight) -> None:
        """Cancel one of two requests because the other is enough."""
        assert request.hedge is not None
        assert request.owner is not None
        _, call = request.owner
        # Calls of stopped runs end with the remaining request.
        request.hedge.detached = [*request.hedge.detached, *request.detached]
        self._limiter.ended(request.permit)
        self._table.by_key[request.key] = request.hedge
        self._separate(request, request.hedge)
        if request.started:
            call.sent += 1
            call.maybe_paid += 1
            request.task.cancel()

    def detach(self, request: InFlight, queue: RunQueue) -> None:
        """Cancel the second request of a call if the run that it was sent for is stopped."""
        if request.hedge is not None and request.owner is not None and request.owner[0] is queue:
            self.abandon(request.hedge)

    def _separate(self, request: InFlight, other: InFlight) -> None:
        assert request.owner is not None
        request.done = True
        request.owner[0].in_flight -= 1
        self._table.end(request)
        request.hedge = other.hedge = None
        request.owner = other.owner = None
