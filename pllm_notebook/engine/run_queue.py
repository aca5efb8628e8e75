"""One run's calls at a dispatcher: the next new call, calls to be sent again, and the user's own limits."""

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

# A 99th percentile of fewer replies means nothing.
_MIN_REPLIES = 20
# How slow a provider was an hour ago does not matter, and a million numbers cost memory.
_MAX_REPLIES = 10_000

# Adapted calls that are out until one is answered: the next may have to be adapted further, or be refused for good.
_MOST_UNPROVEN = 4


@dataclass(frozen=True, slots=True)
class SendPolicy:
    """How a run's calls are sent.

    Attributes:
        max_retries: Attempts beyond the first.
        timeout_s: For one request.
        concurrency: Maximum of this run's calls in flight, None for no limit of its own.
        hedge: Whether a call that hangs may be sent a second time.
        retry_bounds: The caller's own bounds for each call, None for the engine's.
    """

    max_retries: int
    timeout_s: float
    concurrency: int | None = None
    hedge: bool = False
    retry_bounds: RetryBounds | None = None


class RunQueue:
    """One run's queue at one dispatcher. It pulls new calls from *source* one at a time.

    Attributes:
        source: The run.
        policy: As given.
        user_limits: The user's limits that its calls count against, some of them shared with other queues.
        in_flight: Calls of this queue on the wire.
        retries: Number of times that a request was sent again.
        refused: Number of 429 responses.
        hedges: Number of second requests.
        later: Calls to be sent again: when each is due, its number and the call, as a heap.
        unfunded: Calls that are due again, and wait for money that is reserved for other calls.
        latencies: Of this run's replies; only recorded where hedging is on.
        unproven: Whether no reply has come since a call was last adapted to the server.
        closed: Whether nothing more is sent.
        paused: Whether nothing is sent for now, retries included.
        is_empty: Whether *source* had nothing when it was asked last; it is not asked again until it sets this back.
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
        """Whether as many of its calls are in flight as may be."""
        concurrency = self.policy.concurrency
        if concurrency is not None and self.in_flight >= concurrency:
            return True
        for limit in self.user_limits:  # noqa: SIM110  # a generator costs more, and this runs often for each call
            if limit.full:
                return True
        return False

    @property
    def waiting(self) -> int:
        """Calls that were put back and have not been sent again."""
        return len(self.later) + len(self._ready) + len(self.unfunded) + len(self._adapted)

    @property
    def adapted(self) -> int:
        """Of these, the calls that were adapted to the server."""
        return len(self._adapted)

    def add_limit(self, limit: UserRateLimit) -> None:
        """Count its calls against *limit* as well."""
        self.user_limits = (*self.user_limits, limit)

    def when_free(self, callback: Callable[[], None]) -> None:
        """Call *callback* when a user limit that is full now has room."""
        for limit in self.user_limits:
            if limit.full:
                limit.when_free(callback)

    def next(self, now: float) -> PendingCall | None:
        """Take the call to send next: retries that are due come before new calls."""
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
        """Send nothing for now, retries included, and leave what waits to other processes; or go on."""
        self.paused = paused
        if paused:
            for call in self._waiting():
                self._release(call)

    def push_front(self, call: PendingCall) -> None:
        """Put *call* back, to be sent next."""
        self._ready.appendleft(call)
        self._release_if_paused(call)

    def push_adapted(self, call: PendingCall) -> None:
        """Put *call* back, whose request the server refused and says it takes in another form."""
        self.unproven = True
        self._adapted.appendleft(call)
        self._release_if_paused(call)

    def push_later(self, call: PendingCall, due: float) -> None:
        """Put *call* back, to be sent no earlier than *due*."""
        heapq.heappush(self.later, (due, next(self._order), call))
        self._release_if_paused(call)

    def next_due(self) -> float | None:
        """Return the time at which a retry may be sent; None for none, or where there is no room for one.

        It must not be in the past then: the dispatcher would wake for it again and again.
        """
        return self.later[0][0] if self.later and not (self.closed or self.paused or self.full) else None

    def take_unfundable(self) -> list[PendingCall]:
        """Take out the calls that wait for money which cannot come.

        Only a call that is funded for a further request, or is on the wire, can release money.
        """
        if not self.unfunded or self.paused or self.in_flight or self._ready or self._adapted:
            return []
        if any(call.is_funded for _, _, call in self.later):
            return []
        unfundable = list(self.unfunded)
        self.unfunded.clear()
        return unfundable

    def close(self) -> list[PendingCall]:
        """Send nothing more; return the calls that were waiting to be sent again."""
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
        call.held = True  # so that the source is asked about it before it is sent
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

    A call hangs when it has been on the wire for longer than 99 of 100 of them.
    """

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
