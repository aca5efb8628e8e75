"""What one run offers to a lane: its next call, its retries, and its own ceilings."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from pllm_notebook.engine.bucket import Bucket
from pllm_notebook.engine.stragglers import Latencies
from pllm_notebook.records import Failure, LimitReport, RawReply, Reply

__all__ = ["Exchange", "Feed", "Job", "Landing"]


@dataclass(slots=True)
class Landing:
    """How a call came down, with what it took.

    Attributes:
        result: The reply, or the failure after the last attempt.
        raw: The response as it came, None where there was none.
        attempts: Requests that were sent, refused ones included.
        latency_s: Of the last request.
        maybe_paid: Requests that may have been charged although they brought nothing.
    """

    result: Reply | Failure
    raw: RawReply | None
    attempts: int
    latency_s: float
    maybe_paid: int = 0


@dataclass(eq=False, slots=True)
class Job:
    """One call on its way.

    Attributes:
        key: Equal keys are sent once, whichever runs they come from.
        content: Makes the bytes for the wire; asked before every sending, since a server's quirks may
            have been learned meanwhile.
        tokens: What it will take of the token limit, as estimated.
        done: Called once, on the engine's loop, when it has ended.
        tag: The run's own.
        hedged: Whether it was sent a second time while the first request was still out.
    """

    key: str
    content: Callable[[], bytes]
    tokens: float
    done: Callable[[Job, Landing], None]
    tag: Any = None
    sent: int = 0
    attempts: int = 0
    refusals: int = 0
    heals: int = 0
    maybe_paid: int = 0
    hedged: bool = False


@dataclass(slots=True)
class Exchange:
    """One request and what became of it: what a lane needs to know of the provider's answer."""

    result: Reply | Failure
    raw: RawReply | None
    limits: LimitReport | None


@dataclass(eq=False, slots=True)
class Feed:
    """One run's queue at one lane.

    Attributes:
        source: Gives the next call, None when there is none now (`Lane.poke` when there is again).
        max_retries: Attempts beyond the first.
        timeout_s: For one request.
        concurrency: Ceiling for calls in flight, None for none.
        requests: The run's own ceiling; an unknown rate is none.
        tokens: Likewise.
        limited: Whether there is a ceiling of either kind.
        in_flight: Calls of this feed on the wire.
        retries: Times a request was sent again.
        refused: Times the provider said 429.
        spare: Asked before a straggler is sent a second time; True says that the run has nothing else to
            send and has put by the money. None: stragglers are waited for.
        hedges: Times a straggler was sent a second time.
        latencies: Of this run's replies; kept only where there is a `spare`.
    """

    source: Callable[[], Job | None]
    max_retries: int
    timeout_s: float
    concurrency: int | None = None
    requests: Bucket = field(default_factory=Bucket)
    tokens: Bucket = field(default_factory=Bucket)
    limited: bool = False
    in_flight: int = 0
    retries: int = 0
    refused: int = 0
    closed: bool = False
    spare: Callable[[Job], bool] | None = None
    hedges: int = 0
    latencies: Latencies = field(default_factory=Latencies)
    _ready: deque[Job] = field(default_factory=deque)
    _later: list[tuple[float, int, Job]] = field(default_factory=list)
    _order: Any = field(default_factory=itertools.count)

    def ceilings(self, now: float, requests_per_min: float | None, tokens_per_min: float | None) -> None:
        """Set the run's own rates; a second's worth may go at once."""
        for bucket, per_min in ((self.requests, requests_per_min), (self.tokens, tokens_per_min)):
            if per_min is not None:
                self.limited = True
                rate = per_min / 60
                bucket.rate, bucket.capacity, bucket.level, bucket.at = rate, max(1.0, rate), max(1.0, rate), now

    def again(self, job: Job, due: float) -> None:
        """Put *job* back, to be sent not before *due*."""
        heapq.heappush(self._later, (due, next(self._order), job))

    def first(self, job: Job) -> None:
        """Put *job* back at the front."""
        self._ready.appendleft(job)

    def next(self, now: float) -> Job | None:
        """Take the call to send next: what is due again before what is new."""
        if self.closed or (self.concurrency is not None and self.in_flight >= self.concurrency):
            return None
        if self._ready:
            return self._ready.popleft()
        if self._later and self._later[0][0] <= now:
            return heapq.heappop(self._later)[2]
        return self.source()

    def due(self) -> float | None:
        """Give the moment at which a waiting retry may go; None for none, or while it would find no room.

        A moment that has passed must not be given then: the lane would wake for it again and again.
        """
        return self._later[0][0] if self._later and not self.closed and not self._full else None

    @property
    def _full(self) -> bool:
        return self.concurrency is not None and self.in_flight >= self.concurrency

    @property
    def waiting(self) -> int:
        """Calls put back and not yet sent again."""
        return len(self._later) + len(self._ready)

    def close(self) -> list[Job]:
        """Admit nothing more, and give back what was waiting to be sent again."""
        self.closed = True
        left = [*self._ready, *(job for _, _, job in self._later)]
        self._ready.clear()
        self._later.clear()
        return left
