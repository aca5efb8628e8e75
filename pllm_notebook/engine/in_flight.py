"""The requests on the wire, the runs that wait for each, and their deadlines."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence

from pllm_notebook.engine.limits.limiter import Limiter, Permit
from pllm_notebook.engine.run_queue import RunQueue
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.pending_call import CallResult, PendingCall

__all__ = ["InFlight", "InFlightTable", "cancelled"]


class InFlight:
    """One request on the wire and the runs that wait for it.

    A call that is sent twice has two requests, which share one list of waiters. Each is the other's `hedge`.
    The table lists only the older one.

    Attributes:
        user_limits: The user limits that the request counts against until it is done.
        task: The task that carries the request. A task carries one request at a time.
        deadline: Time on the loop's clock at which the request is cancelled.
        started: Whether the provider may have seen the request.
        done: Whether the request has ended for every waiter. Its task may not have noticed yet.
        timed_out: Whether the request was cancelled at its deadline.
        detached: Calls of stopped runs, with their queues. They end with the request.
        wire_limit: `PendingCall.wire_limit` of the call whose body was sent, for every waiter.
        hedge: The other request of a call that was sent twice, else None.
        owner: The run and the call that a second request was sent for, else None.
    """

    __slots__ = (
        "deadline", "detached", "done", "hedge", "key", "owner", "permit", "started", "task", "timed_out", "timeout_s",
        "user_limits", "waiters", "wire_limit",
    )  # fmt: skip

    task: asyncio.Task[None]

    def __init__(
        self, queue: RunQueue, call: PendingCall, permit: Permit, waiters: list[tuple[RunQueue, PendingCall]]
    ) -> None:
        self.key = (call.key, call.output_limit)
        self.user_limits = queue.user_limits
        self.permit = permit
        self.timeout_s = queue.policy.timeout_s
        self.deadline = permit.sent_at + self.timeout_s
        self.started = self.done = self.timed_out = False
        self.waiters = waiters
        self.detached: Sequence[tuple[RunQueue, PendingCall]] = ()
        self.wire_limit: int | None = None
        self.hedge: InFlight | None = None
        self.owner: tuple[RunQueue, PendingCall] | None = None

    def join(self, queue: RunQueue, call: PendingCall) -> None:
        """Add a run's call to those that wait for this request."""
        self.waiters.append((queue, call))
        queue.in_flight += 1

    def detach(self, queue: RunQueue) -> bool:
        """Detach a run's calls, and return whether there were any. They end with the request."""
        mine = [waiter for waiter in self.waiters if waiter[0] is queue]
        self.waiters[:] = [waiter for waiter in self.waiters if waiter[0] is not queue]
        queue.in_flight -= len(mine)
        self.detached = [*self.detached, *mine]
        return bool(mine)

    def call_of(self, queue: RunQueue) -> PendingCall | None:
        """Return a run's call that waits for this request, or None."""
        return next((call for owner, call in self.waiters if owner is queue), None)


def cancelled(call: PendingCall, latency_s: float) -> CallResult:
    """Build the result of a call that its run no longer wants."""
    failure = Failure(FailureKind.CANCELLED, "Stopped before it was answered.")
    return call.result(failure, None, latency_s)


class InFlightTable:
    """The requests on the wire of one dispatcher, and whether more may be sent.

    Attributes:
        by_key: Requests by call key and output limit. Calls share a request only if both are equal, since an answer
            may be cut off at the limit. For a call that was sent twice, the older request.
        count: Number of requests, including second requests.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, limiter: Limiter) -> None:
        self.by_key: dict[tuple[str, int | None], InFlight] = {}
        self.count = 0
        self._limiter = limiter
        self._deadlines = _Deadlines(loop, self.by_key)

    def __repr__(self) -> str:
        return f"InFlightTable(calls={len(self.by_key)}, requests={self.count})"

    def admit(self, queue: RunQueue, call: PendingCall, now: float) -> tuple[bool, float]:
        """Return whether the window is full, and the seconds for which rate limits delay a call."""
        if self.count >= int(self._limiter.window):
            return True, 0.0
        wait = self._limiter.wait_s(now, call.tokens)
        for limit in queue.user_limits:
            wait = max(wait, limit.wait_s(now, call.tokens))
        return False, wait

    def start(
        self, queue: RunQueue, call: PendingCall, now: float, waiters: list[tuple[RunQueue, PendingCall]]
    ) -> InFlight:
        """Count a request as on the wire and watch its deadline. The caller assigns its task."""
        for limit in queue.user_limits:
            limit.take(now, call.tokens)
        queue.in_flight += 1
        self.count += 1
        request = InFlight(queue, call, self._limiter.charge(now, call.tokens), waiters)
        self._deadlines.add(request)
        return request

    def end(self, request: InFlight) -> None:
        """Count a request as no longer on the wire."""
        self.count -= 1
        for limit in request.user_limits:
            limit.release()

    def close(self) -> None:
        """Stop watching deadlines."""
        self._deadlines.close()


class _Deadlines:
    """The deadlines of the requests on the wire, with one timer for all. A request is cancelled at its deadline.

    A timer per request would cost more than all other work that a dispatcher does for it. This timer is set for
    the earliest deadline. When it fires, that request has nearly always been answered, and the timer is set to
    the earliest deadline of the requests that are then on the wire.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, requests: Mapping[tuple[str, int | None], InFlight]) -> None:
        self._loop = loop
        self._requests = requests
        self._timer: asyncio.TimerHandle | None = None
        self._at = float("inf")

    def add(self, request: InFlight) -> None:
        """Watch *request* until it is done."""
        if request.deadline < self._at:
            self._set(request.deadline)

    def close(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._at = None, float("inf")

    def _set(self, at: float) -> None:
        self.close()
        if at < float("inf"):
            self._timer, self._at = self._loop.call_at(at, self._on_timer), at

    def _on_timer(self) -> None:
        due = self._at  # not the current time, which may be slightly before it
        next_at = float("inf")
        for request in self._all():
            if request.timed_out:
                continue
            if request.deadline > due:
                next_at = min(next_at, request.deadline)
            elif request.started:
                request.timed_out = True
                request.task.cancel()
            else:  # its task has not taken its first step; check again as soon as it has
                next_at = min(next_at, self._loop.time())
        self._at = float("inf")
        self._set(next_at)

    def _all(self) -> Iterator[InFlight]:
        for request in self._requests.values():
            yield request
            if request.hedge is not None:
                yield request.hedge
