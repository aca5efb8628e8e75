"""Completion of a request: each waiting call gets its result or goes back into its queue."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pllm_notebook.engine.attempts import AttemptResult, error_text
from pllm_notebook.engine.hedging import Hedging
from pllm_notebook.engine.in_flight import InFlight, InFlightTable, cancelled
from pllm_notebook.engine.limits.limiter import Limiter, Permit
from pllm_notebook.engine.retry import paced_refusals, retried_as, retry_delay_s, with_wait
from pllm_notebook.engine.run_queue import RunQueue
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.pending_call import CallResult, PendingCall
from pllm_notebook.protocols import Transport
from pllm_notebook.types import LimitReport, RawReply, Reply

__all__ = ["Endpoint", "RequestCompletion"]

logger = logging.getLogger("pllm_notebook")

# A call is sent again in another form when it reveals a quirk of the server. More rounds than this reveal nothing new.
_MAX_ADAPTATIONS = 4


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The data and functions that a dispatcher needs for one model of one account.

    Attributes:
        name: Name for the log.
        path: URL path.
        connect: Opens a transport. Called when there is something to send.
        read: Converts a response to a reply or a failure.
        adapt: Learns from a rejected request, given the failure and its bytes; returns whether it may pass in another
            form. A call is sent again only if its bytes have changed.
        limits: Reads the rate limits from a response's headers; None if there are none.
    """

    name: str
    path: str
    connect: Callable[[], Transport]
    read: Callable[[RawReply], Reply | Failure]
    adapt: Callable[[Failure, bytes], bool]
    limits: Callable[[Mapping[str, str]], LimitReport | None]


class RequestCompletion:
    """The completion of one dispatcher's requests.

    Attributes:
        replies: Number of replies received, for all runs.
    """

    def __init__(
        self, endpoint: Endpoint, table: InFlightTable, hedging: Hedging, limiter: Limiter, rng: random.Random
    ) -> None:
        self.replies = 0
        self._endpoint = endpoint
        self._table = table
        self._hedging = hedging
        self._limiter = limiter
        self._rng = rng

    def complete(self, request: InFlight, attempt: AttemptResult | None, now: float, content: bytes) -> None:
        """End a request: update the limiter, then conclude each waiting call.

        *attempt* is None if the request was cancelled.
        """
        if request.done:
            return
        if attempt is None:
            self._limiter.ended(request.permit)
        else:
            self.replies += isinstance(attempt.result, Reply)
            self._update_limits(attempt, request.permit, now)
        if request.hedge is not None:
            if attempt is None or isinstance(attempt.result, Failure):
                self._hedging.failed(request, attempt)
                return
            self._hedging.abandon(request.hedge)
        request.done = True
        self._table.end(request)
        self._table.by_key.pop(request.key, None)
        latency_s = now - request.permit.sent_at
        rejected = None
        if (
            attempt is not None
            and isinstance(attempt.result, Failure)
            and attempt.result.kind is FailureKind.BAD_REQUEST
            and self._endpoint.adapt(attempt.result, content)
        ):
            rejected = content
        payer: object | None = None  # the request was sent for the first waiter; the others joined it
        while request.waiters:
            # Remove it first, so that no waiter gets a second result even if something fails here.
            queue, call = request.waiters.pop(0)
            queue.in_flight -= 1
            call.sent += 1 if payer is None else 0
            if attempt is not None:
                if not self._send_again(queue, call, attempt, now, latency_s, rejected):
                    self._finish(queue, call, attempt, latency_s, request.wire_limit, payer)
            elif queue.closed:
                queue.source.done(call, cancelled(call, latency_s))
            else:  # it joined after the others were detached and the request was cancelled
                queue.push_front(call)
            payer = payer or queue.source
        for queue, call in request.detached:
            call.maybe_paid += request.started
            queue.source.done(call, cancelled(call, latency_s))

    def _update_limits(self, attempt: AttemptResult, permit: Permit, now: float) -> None:
        """Update the limiter with the result of a request."""
        limiter, result = self._limiter, attempt.result
        if isinstance(result, Reply):
            tokens = None if result.usage is None else result.usage.input_tokens + result.usage.output_tokens
            limiter.replied(now, permit, attempt.limits, tokens)
            return
        paused_until = limiter.paused_until
        if result.kind is FailureKind.RATE_LIMIT:
            limiter.refused_at(now, permit, attempt.limits, result.retry_after_s)
        elif result.kind is FailureKind.OVERLOADED:
            limiter.overloaded(now, permit, result.retry_after_s)
        elif result.kind is FailureKind.TIMEOUT:
            limiter.timed_out(now, permit)
        else:
            limiter.ended(permit)
        if limiter.paused_until > max(now, paused_until):
            logger.info("%s: pausing %.2f s (%s)", self._endpoint.name, limiter.paused_until - now, result.kind)

    def _finish(
        self,
        queue: RunQueue,
        call: PendingCall,
        attempt: AttemptResult,
        latency_s: float,
        wire_limit: int | None,
        payer: object | None,
    ) -> None:
        result = attempt.result
        if isinstance(result, Failure):
            result = with_wait(result)
        else:
            queue.unproven = False
            if queue.policy.hedge:
                queue.latencies.add(latency_s)
        # Same as `PendingCall.result`, inlined because every answer passes here.
        ended = CallResult(
            result,
            attempt.raw,
            call.sent,
            latency_s,
            call.maybe_paid,
            call.failed_usage,
            output_limit=wire_limit,
            joined=payer,
        )
        queue.source.done(call, ended)

    def _send_again(
        self,
        queue: RunQueue,
        call: PendingCall,
        attempt: AttemptResult,
        now: float,
        latency_s: float,
        rejected: bytes | None,
    ) -> bool:
        """Put a failed call back into its queue if it should be sent again; return whether it should.

        *rejected* is the request's bytes if they were rejected but may pass in another form, else None.
        """
        failure = attempt.result
        if not isinstance(failure, Failure):
            return False
        call.count_charge(failure)
        may_adapt = rejected is not None and call.adaptations < _MAX_ADAPTATIONS and not queue.closed
        # The same bytes would be rejected again. What was learned need not concern them: a caller's own body may have
        # what is left out of other requests.
        if may_adapt and _bytes_of(call) != rejected:
            call.adaptations += 1
            queue.push_adapted(call)
            return True
        call.count_failure(failure.kind, now, self.replies)
        queue.refused += failure.kind is FailureKind.RATE_LIMIT
        delay_s = retry_delay_s(
            retried_as(failure),
            attempts=call.attempts,
            refusals=call.refusals,
            retry_after_s=failure.retry_after_s,
            max_retries=queue.policy.max_retries,
            draw=self._rng.random(),
            refused_for_s=now - call.refused_since if call.refusals else 0.0,
            others_pass=self.replies > call.replies_then,
            paced=paced_refusals(self._limiter.inference.noise.share),
        )
        if delay_s is None or queue.closed or self._exceeds_bounds(queue, call, now, delay_s):
            return False
        queue.retries += 1
        logger.info("%s: %s, again in %.2f s", self._endpoint.name, failure.kind, delay_s)
        call.last_result = call.result(failure, attempt.raw, latency_s)
        queue.push_later(call, now + delay_s)
        return True

    def _exceeds_bounds(self, queue: RunQueue, call: PendingCall, now: float, delay_s: float) -> bool:
        bounds = queue.policy.retry_bounds
        if bounds is None:
            return False
        # A pause of the whole account also delays the call.
        delay_s = max(delay_s, self._limiter.wait_s(now, call.tokens))
        return bounds.exceeded(
            call, now=now, delay_s=delay_s, replies=self.replies, max_retries=queue.policy.max_retries
        )

    def clean_up(self, request: InFlight, error: Exception) -> None:
        """Clean up after an error in completing a request, so that no later call joins a finished request."""
        if request.hedge is not None:
            self._hedging.abandon(request.hedge)
        if self._table.by_key.get(request.key) is request:
            del self._table.by_key[request.key]
        if not request.done:
            request.done = True
            self._table.end(request)
            for queue, _ in request.waiters:
                queue.in_flight -= 1
        self._fail_waiters(request, error)

    def _fail_waiters(self, request: InFlight, error: Exception) -> None:
        """Fail the calls that still wait for a request that could not be completed. Each may have been paid for."""
        failure = Failure(FailureKind.MALFORMED, error_text(error))
        ended = []
        while request.waiters:
            queue, call = request.waiters.pop()
            call.sent += 1
            call.maybe_paid += request.started
            ended.append((queue, call, call.result(failure, None, 0.0)))
        ended += [(queue, call, cancelled(call, 0.0)) for queue, call in request.detached]
        for queue, call, result in ended:
            try:
                queue.source.done(call, result)
            except Exception:
                logger.exception("%s: the result of a call could not be delivered", self._endpoint.name)


def _bytes_of(call: PendingCall) -> bytes | None:
    """Return the bytes of a call's next request, None if they cannot be built: sending it then says why."""
    try:
        return call.content()
    except Exception:
        return None
