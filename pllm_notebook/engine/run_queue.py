"""One run's calls at a dispatcher: the next new call, calls to send again, and the user's limits."""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from pllm_notebook.engine.limits.user_limit import UserRateLimit
from pllm_notebook.engine.retry import RetryBounds
from pllm_notebook.pending_call import PendingCall
from pllm_notebook.protocols import CallSource

__all__ = ["LatencyTracker", "RunQueue", "SendPolicy"]

# A 99th percentile of fewer replies is meaningless.
_MIN_REPLIES = 20
# Latencies of an hour ago do not matter, and a million numbers cost memory.
_MAX_REPLIES = 10_000

# Maximum adapted calls in flight until one is answered: they may need further adaptation, or be rejected for good.
_MOST_UNPROVEN = 4


@dataclass(frozen=True, slots=True)
class SendPolicy:
    """Settings for sending a run's calls.

    Attributes:
        max_retries: Maximum attempts beyond the first.
        timeout_s: Timeout of one request.
        concurrency: Maximum number of this run's calls in flight, None for no limit.
        hedge: Whether a call that hangs may be sent a second time.
        retry_bounds: The caller's retry bounds for each call, None for the engine's.
    """

    max_retries: int
    timeout_s: float
    concurrency: int | None = None
    hedge: bool = False
    retry_bounds: RetryBounds | None = None


class RunQueue:
    """One run's queue at one dispatcher. It pulls new calls from `source` one at a time.

    Attributes:
        source: The run.
        policy: The send settings.
        user_limits: The user limits that its calls count against. Some are shared with other queues.
        in_flight: Number of this queue's calls on the wire.
        retries: Number of times that a request was sent again.
        refused: Number of 429 responses.
        hedges: Number of second requests.
        later: Calls to send again, as a heap of due time, sequence number and call.
        unfunded: Calls that are due again but wait for money reserved for other calls.
        latencies: Latencies of this run's replies; only recorded if hedging is on.
        unproven: Whether no reply has arrived since a call was last adapted to the server.
        closed: Whether the queue sends nothing more.
        paused: Whether the queue sends nothing for now, retries included.
        is_empty: Whether `source` returned no call last time. It is not polled again until it resets this.
    """

    __slots__ = (
        "__weakref__",
        "_adapted", "_order", "_ready", "closed", "hedges", "in_flight", "is_empty", "latencies", "later", "paused",
        "policy", "refused", "retries", "source", "unfunded", "unproven", "user_limits",
    )  # fmt: skip

    def __init__(self, source: CallSource, policy: SendPolicy, user_limits: tuple[UserRateLimit, ...] = ()) -> None:
        self.source = source
        self.policy = policy
        self.user_limits = user_limits
        self.in_flight = self.retries = self.refused = self.hedges = 0
        self.latencies = LatencyTracker()
        self.closed = self.paused = self.unproven = self.is_empty = False
        self._adapted: deque[PendingCall] = deque()
        self._ready: deque[PendingCall] = deque()
        self.later: list[tuple[float, int, PendingCall]] = []
        self._order = itertools.count()
        self.unfunded: deque[PendingCall] = deque()

    def __repr__(self) -> str:
        return f"RunQueue(in_flight={self.in_flight}, waiting={self.waiting}, retries={self.retries})"

    @property
    def full(self) -> bool:
        """Whether the maximum number of its calls is in flight."""
        concurrency = self.policy.concurrency
        if concurrency is not None and self.in_flight >= concurrency:
            return True
        for limit in self.user_limits:  # noqa: SIM110  # a generator costs more, and this runs several times a call
            if limit.full:
                return True
        return False

    @property
    def waiting(self) -> int:
        """Number of calls that were put back and not sent again yet."""
        return len(self.later) + len(self._ready) + len(self.unfunded) + len(self._adapted)

    @property
    def adapted(self) -> int:
        """Number of waiting calls that were adapted to the server."""
        return len(self._adapted)

    def add_limit(self, limit: UserRateLimit) -> None:
        """Count the queue's calls against *limit* as well."""
        self.user_limits = (*self.user_limits, limit)

    def when_free(self, callback: Callable[[], None]) -> None:
        """Call *callback* when a user limit that is now full has room again."""
        for limit in self.user_limits:
            if limit.full:
                limit.when_free(callback)

    def next(self, now: float) -> PendingCall | None:
        """Take the next call to send. Due retries come before new calls."""
        if self.closed or self.paused or self.full:
            return None
        if self._ready:
            return self._ready.popleft()
        if self.unfunded and self._fund(self.unfunded[0]):
            return self.unfunded.popleft()
        while self.later and self.later[0][0] <= now:
            call = heapq.heappop(self.later)[2]
            if self._fund(call):
                return call
            self.unfunded.append(call)
        if self._adapted:
            if self.unproven and (self.in_flight >= _MOST_UNPROVEN or self.source.is_rejected()):
                return None
            return self._adapted.popleft()
        return None if self.is_empty else self.source.next()

    def pause(self, paused: bool) -> None:
        """Pause or resume sending, retries included. A pause leaves the waiting calls to other processes."""
        self.paused = paused
        if paused:
            for call in self._waiting():
                self._release(call)

    def push_front(self, call: PendingCall) -> None:
        """Put *call* back as the next call to send."""
        self._ready.appendleft(call)
        self._release_if_paused(call)

    def push_adapted(self, call: PendingCall) -> None:
        """Put back a call whose request the server refused but accepts in another form."""
        self.unproven = True
        self._adapted.appendleft(call)
        self._release_if_paused(call)

    def push_later(self, call: PendingCall, due: float) -> None:
        """Put *call* back and send it no earlier than *due*."""
        heapq.heappush(self.later, (due, next(self._order), call))
        self._release_if_paused(call)

    def next_due(self) -> float | None:
        """Return the time at which the next retry may be sent; None if there is none, or no room for one.

        Without room it must be None, or the dispatcher would wake again and again for a time in the past.
        """
        return self.later[0][0] if self.later and not (self.closed or self.paused or self.full) else None

    def take_unfundable(self) -> list[PendingCall]:
        """Remove and return the calls that wait for money that cannot become available.

        Only a call that is on the wire or funded for another request can release money.
        """
        if not self.unfunded or self.paused or self.in_flight or self._ready or self._adapted:
            return []
        if any(call.is_funded for _, _, call in self.later):
            return []
        unfundable = list(self.unfunded)
        self.unfunded.clear()
        return unfundable

    def close(self) -> list[PendingCall]:
        """Close the queue; return the calls that were waiting to be sent again."""
        self.closed = True
        waiting = self._waiting()
        self._ready.clear()
        self._adapted.clear()
        self.unfunded.clear()
        self.later.clear()
        return waiting

    def _waiting(self) -> list[PendingCall]:
        return [*self._ready, *self._adapted, *self.unfunded, *(call for _, _, call in self.later)]

    def _release_if_paused(self, call: PendingCall) -> None:
        if self.paused:
            self._release(call)

    def _release(self, call: PendingCall) -> None:
        call.held = True  # so that the source is checked for an answer before the call is sent
        self.source.release_claims(call)

    def _fund(self, call: PendingCall) -> bool:
        if call.is_funded:
            return True
        if not self.source.may_retry(call):
            return False
        call.funded += 1
        return True


class LatencyTracker:
    """Latencies of a run's newest 10,000 replies.

    A call counts as hanging if it has been on the wire for longer than 99 of 100 of them took.
    """

    def __init__(self) -> None:
        self._seen: deque[float] = deque(maxlen=_MAX_REPLIES)
        self._count = 0
        self._p99_s: float | None = None
        self._again_at = _MIN_REPLIES

    def __repr__(self) -> str:
        return f"LatencyTracker({self._count:,} seen, p99_s={self.p99_s})"

    def add(self, latency_s: float) -> None:
        """Add the latency of one reply."""
        self._seen.append(latency_s)
        self._count += 1

    @property
    def p99_s(self) -> float | None:
        """Seconds within which 99 of 100 replies arrived; None before the 20th reply.

        Recomputed only when 1 % of the latencies are new, because it is read for every reply at a run's end.
        """
        if self._count >= self._again_at:
            self._again_at = self._count + max(1, len(self._seen) // 100)
            self._p99_s = sorted(self._seen)[math.ceil(0.99 * len(self._seen)) - 1]
        return self._p99_s
