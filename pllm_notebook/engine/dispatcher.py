"""One dispatcher per account and model. It pulls calls from the runs and sends them within the rate limits.

`_dispatch` sends every call that may be sent now and sets one timer for the rest. It runs on the engine's loop
when a call completes, a run arrives or the timer fires. Only calls on the wire have tasks, and a task whose request
is done carries the next one. A task per call would cost more than building the call: bursts of tasks that end
and begin trigger Python's garbage collector again and again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from pllm_notebook.engine.attempts import AttemptResult, timed_out, unexpected_error
from pllm_notebook.engine.hedging import Hedging
from pllm_notebook.engine.in_flight import InFlight, InFlightTable, cancelled
from pllm_notebook.engine.limits.limit_division import LimitDivision
from pllm_notebook.engine.limits.limiter import Limiter
from pllm_notebook.engine.limits.user_limit import AccountRateLimit
from pllm_notebook.engine.request_completion import Endpoint, RequestCompletion
from pllm_notebook.engine.run_queue import RunQueue
from pllm_notebook.failures import Failure
from pllm_notebook.pending_call import PendingCall
from pllm_notebook.protocols import Transport, TransportFault
from pllm_notebook.types import JobProgress, RawReply

__all__ = ["Dispatcher", "EarliestTimer"]

logger = logging.getLogger("pllm_notebook")


class Dispatcher:
    """The sender of all runs' calls for one account and model.

    Attributes:
        limiter: The account's limits.
        account: The user limits set by all runs of this account; None if there are none.
        division: Divides the limits among the sending processes; None if processes cannot share them.
        on_idle: Called when the dispatcher becomes idle.
    """

    def __init__(self, endpoint: Endpoint, limiter: Limiter, rng: random.Random) -> None:
        self.limiter = limiter
        self.account: AccountRateLimit | None = None
        self.division: LimitDivision | None = None
        self.on_idle: Callable[[Dispatcher], None] | None = None
        self._endpoint = endpoint
        self._transport: Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._queues: deque[RunQueue] = deque()
        self._table = InFlightTable(self._loop, limiter)
        self._hedging = Hedging(endpoint.name, self._table, limiter)
        self._completion = RequestCompletion(endpoint, self._table, self._hedging, limiter, rng)
        self._timer = EarliestTimer(self._loop, self._dispatch)
        self._scheduled = False

    def __repr__(self) -> str:
        return f"Dispatcher({self.name}, runs={len(self._queues)}, in_flight={self.in_flight}, {self.limiter!r})"

    @property
    def name(self) -> str:
        """The model's name, for display."""
        return self._endpoint.name

    @property
    def replies(self) -> int:
        """Number of replies received, for all runs. A run compares it with its own count."""
        return self._completion.replies

    @property
    def in_flight(self) -> int:
        """Number of requests on the wire."""
        return self._table.count

    @property
    def idle(self) -> bool:
        """Whether no run uses the dispatcher and nothing is on the wire."""
        return not self._queues and not self._table.count

    @property
    def connected(self) -> bool:
        """Whether the connections are open."""
        return self._transport is not None

    def blocked_by(self, now: float) -> str:
        """Describe what delays calls; "" if nothing does."""
        return self.limiter.blocked_by(now)

    def announce(self, queue: RunQueue) -> None:
        """Register a run that is being planned. Only a batch dispatcher waits for it."""

    def jobs_of(self, queue: RunQueue) -> tuple[JobProgress, ...]:
        """Return an empty tuple: calls are sent one by one, not in jobs."""
        return ()

    def submitted(self, queue: RunQueue) -> bool:
        """Return whether every call taken from a run is on the wire."""
        return queue.waiting == 0

    def attach(self, queue: RunQueue) -> None:
        """Start sending a run's calls.

        Raises:
            UsageError: If the transport cannot be opened (no key, no package). Nothing was sent.
        """
        if self._transport is None:
            self._transport = self._endpoint.connect()
        if self.account is not None and queue.user_limits:
            stated = queue.user_limits
            queue.add_limit(self.account)
            self.account.register(self._loop.time(), queue, stated)
        self._queues.append(queue)
        self.wake()
        if self.division is not None:
            self.division.begin()

    def wake(self) -> None:
        """Schedule a dispatch: a run has new calls, or there is room for more."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._dispatch)

    def detach(self, queue: RunQueue) -> None:
        """Stop sending a run's calls. Drop the waiting ones and cancel requests that no other run waits for.

        Each dropped call ends with `FailureKind.CANCELLED`.
        """
        with suppress(ValueError):
            self._queues.remove(queue)
        for call in queue.close():
            queue.source.done(call, cancelled(call, 0.0))
        now = self._loop.time()
        for request in list(self._table.by_key.values()):
            self._hedging.detach(request, queue)
            if request.detach(queue) and not request.waiters:
                if request.started:
                    request.task.cancel()
                else:  # nothing was sent; its task will see that the request is done
                    self._complete(request, None, now, b"")
        if self.account is not None and queue.user_limits:
            self.account.unregister(now, queue)
        if self._queues:
            self.wake()
        self._notify_if_idle()

    async def disconnect(self) -> None:
        """Close the connections of an idle dispatcher; the next run opens new ones. Learned limits are kept."""
        if self.idle and self._transport is not None:
            transport, self._transport = self._transport, None
            await transport.aclose()

    async def aclose(self) -> None:
        """Cancel the requests on the wire and close the connections."""
        self._timer.cancel()
        for queue in list(self._queues):
            self.detach(queue)
        if self.division is not None:
            self.division.end()
        tasks = [request.task for request in self._table.by_key.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._table.close()
        if self._transport is not None:
            await self._transport.aclose()
            self._transport = None

    def _dispatch(self, carrier: asyncio.Task[None] | None = None) -> InFlight | None:
        """Send the calls that may be sent now (see `_send_ready`). An error ends every run."""
        try:
            return self._send_ready(carrier)
        except Exception as error:
            self._abort_runs(error)
            return None

    def _abort_runs(self, error: Exception) -> None:
        """End every run, so that an error in the dispatcher itself does not leave them waiting forever."""
        logger.error("%s: the dispatcher failed", self.name, exc_info=error)
        for queue in list(self._queues):
            queue.source.fail(error)

    def _send_ready(self, carrier: asyncio.Task[None] | None) -> InFlight | None:
        """Send the calls that may be sent now.

        Args:
            carrier: The running task, whose own request is done. It carries the first request sent.

        Returns:
            The carrier's next request, or None.
        """
        if carrier is None:
            self._scheduled = False
        now = self._loop.time()
        next_at = float("inf")
        idle = 0  # consecutive queues with nothing to send
        held = False
        mine: InFlight | None = None
        queues, table = self._queues, self._table
        while idle < len(queues):
            queue = queues[0]
            if len(queues) > 1:
                queues.rotate(-1)  # one call per queue in turn, so that a preview does not wait behind a long run
            call = queue.next(now)
            if call is None:
                idle += 1
                if queue.user_limits:
                    queue.when_free(self.wake)
                if queue.later:
                    due = queue.next_due()
                    next_at = next_at if due is None else min(next_at, due)
                if queue.unfunded:
                    for unfundable in queue.take_unfundable():
                        self._end_unfunded(queue, unfundable)
                continue
            # Joining is free, so neither a full window nor a limit prevents it. If the call did not join now, the
            # request might be done when its turn comes, and the call would be paid for again.
            joined = table.by_key.get((call.key, call.output_limit))
            if joined is not None:
                joined.join(queue, call)
                idle = 0
                continue
            full, wait = table.admit(queue, call, now)
            if full or wait > 0:
                queue.push_front(call)
                call.held = True
                next_at = next_at if full else min(next_at, now + wait)
                idle += 1
                held = True
                continue
            idle = 0
            if (call.held or call.attempts or call.refusals or call.adaptations) and queue.source.end_if_answered(call):
                continue
            request = table.start(queue, call, now, [(queue, call)])
            table.by_key[request.key] = request
            mine = self._assign(request, carrier, mine)
        if not held:
            for queue in list(queues):
                if queue.policy.hedge:
                    second, again = self._hedging.second(queue, now)
                    while second is not None:
                        mine = self._assign(second, carrier, mine)
                        second, again = self._hedging.second(queue, now)
                    next_at = min(next_at, again)
        self._timer.set(next_at)
        return mine

    def _assign(self, request: InFlight, carrier: asyncio.Task[None] | None, mine: InFlight | None) -> InFlight | None:
        """Assign a task to *request*: the carrier if it has no request yet, else a new task."""
        if carrier is not None and mine is None:
            request.task = carrier
            return request
        request.task = self._loop.create_task(self._worker(request))
        return mine

    async def _worker(self, first: InFlight) -> None:
        """Carry one request after another until there are none."""
        me = first.task
        request: InFlight | None = first
        while request is not None:
            if not request.done:
                try:
                    await self._send(request)
                except Exception as error:
                    self._completion.clean_up(request, error)
                    self._abort_runs(error)
            request = self._dispatch(me)

    async def _send(self, request: InFlight) -> None:
        loop, endpoint = self._loop, self._endpoint
        assert self._transport is not None
        request.started = True
        content = b""
        raw: RawReply | None = None
        try:
            call = request.waiters[0][1]
            request.wire_limit = call.wire_limit
            content = call.content()
            raw = await self._transport.post(endpoint.path, content)
            attempt = AttemptResult(endpoint.read(raw), raw, None)
            try:
                attempt.limits = endpoint.limits(raw.headers)
            except Exception:
                logger.debug("%s: the limits of a response could not be read", endpoint.name, exc_info=True)
        except asyncio.CancelledError:
            # Nothing arrived. No await follows an arrival, so an answer that has arrived is never cancelled.
            if not request.timed_out or request.task.uncancel():
                self._complete(request, None, loop.time(), content)
                self.wake()
                raise
            attempt = timed_out(request.timeout_s)
        except TimeoutError:  # raised by the transport itself
            attempt = timed_out(request.timeout_s)
        except TransportFault as fault:
            attempt = AttemptResult(Failure(fault.kind, fault.message), None, None)
        except Exception as error:  # an internal error must not leave rows waiting forever
            attempt = unexpected_error(endpoint.name, error, content, raw)
        self._complete(request, attempt, loop.time(), content)

    def _complete(self, request: InFlight, attempt: AttemptResult | None, now: float, content: bytes) -> None:
        self._completion.complete(request, attempt, now, content)
        self._notify_if_idle()

    def _end_unfunded(self, queue: RunQueue, call: PendingCall) -> None:
        """Schedule the end of a call that the budget does not allow to be sent again. Its run may then stop."""
        assert call.last_result is not None  # it has failed before: money for its first request was reserved
        self._loop.call_soon(queue.source.done, call, replace(call.last_result, over_budget=True))

    def _notify_if_idle(self) -> None:
        if not self._queues and self.idle:
            if self.division is not None:
                self.division.end()
            if self.on_idle is not None:
                self.on_idle(self)


class EarliestTimer:
    """A timer that calls *callback* at the earliest of the times set since the last call."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], object]) -> None:
        self._loop = loop
        self._callback = callback
        self._handle: asyncio.TimerHandle | None = None

    def set(self, at: float) -> None:
        """Fire no later than *at* on the loop's clock; infinity means never."""
        # A timer that fires slightly early would find nothing to do and spin.
        due = at + 1e-4
        if self._handle is not None:
            if not self._handle.cancelled() and self._handle.when() <= due:
                return  # it fires early enough and sets the next one
            self._handle.cancel()
            self._handle = None
        if at < float("inf"):
            self._handle = self._loop.call_at(due, self._on_timer)

    def cancel(self) -> None:
        """Cancel the timer."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _on_timer(self) -> None:
        self._handle = None
        self._callback()
