"""What one run offers to a lane: its next call, its retries, and its own ceilings."""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pllm_notebook.engine.ceiling import Ceiling
from pllm_notebook.engine.patience import Patience
from pllm_notebook.engine.stragglers import Latencies
from pllm_notebook.records import Failure, FailureKind, LimitReport, RawReply, Reply

if TYPE_CHECKING:
    from pllm_notebook.engine.lane import Lane

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
        short: Whether it would have been sent again, had there been the money.
        output_limit: Tokens that the request let its answer have, where that is fewer than its call does; else None.
    """

    result: Reply | Failure
    raw: RawReply | None
    attempts: int
    latency_s: float
    maybe_paid: int = 0
    short: bool = False
    output_limit: int | None = None


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
        covered: Requests that the run has put by money for; the first is covered when the call is made.
        answer_tokens: What its answer will take, as estimated; 0.0 where nobody asks.
        output_limit: Tokens that the call lets its answer have, None for no limit.
        wire_limit: Tokens that its own request lets the answer have, where a ceiling on cost makes that fewer; else
            None. An answer that is cut off there is asked for again.
        refused_since: When a rate limit first turned it away.
        landed_then: Replies that the lane had had by then.
        hedged: Whether it was sent a second time while the first request was still out.
        last: How it came down the last time, None before it was to be sent again.
        failed_first: When it first failed, and how many replies its lane had had by then; None before, and where
            nobody's patience is bounded.
    """

    key: str
    content: Callable[[], bytes]
    tokens: float
    done: Callable[[Job, Landing], None]
    tag: Any = None
    sent: int = 0
    attempts: int = 0
    refusals: int = 0
    refused_since: float = 0.0
    landed_then: int = 0
    heals: int = 0
    maybe_paid: int = 0
    covered: int = 1
    answer_tokens: float = 0.0
    output_limit: int | None = None
    wire_limit: int | None = None
    hedged: bool = False
    last: Landing | None = None
    failed_first: tuple[float, int] | None = None

    def failed(self, kind: FailureKind, now: float, landed: int) -> None:
        """Count a request of this call that failed, at a lane that has had *landed* replies."""
        if kind is not FailureKind.RATE_LIMIT:
            self.attempts += 1
            return
        if not self.refusals:
            self.refused_since, self.landed_then = now, landed
        self.refusals += 1

    @property
    def request(self) -> tuple[str, int | None]:
        """What two calls share that can be one request; an answer may be cut off at a limit that is not the other's."""
        return self.key, self.output_limit


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
        concurrency: Most calls of this feed in flight, None for no limit of its own.
        ceilings: The caller's limits that it keeps, some of them together with other feeds.
        in_flight: Calls of this feed on the wire.
        retries: Times a request was sent again.
        refused: Times the provider said 429.
        fault: Called with what the lane itself raised, which no call is to blame for: the run must end.
        cover: Asked before a call is sent again whose requests so far may all have been paid: True says that the
            money for one more is put by. None: money is no object.
        answered: Asked before a call is sent again: True says that another run has brought its answer meanwhile, and
            that the call has ended with it.
        spare: Asked before a straggler is sent a second time; True says that the run has nothing else to
            send and has put by the money. None: stragglers are waited for.
        hedges: Times a straggler was sent a second time.
        latencies: Of this run's replies; kept only where there is a `spare`.
        patience: The caller's own bounds for each call, None for the engine's.
        whole: Asked by a lane that gathers calls: whether the run has no more to give until some have landed.
    """

    source: Callable[[], Job | None]
    max_retries: int
    timeout_s: float
    concurrency: int | None = None
    ceilings: tuple[Ceiling, ...] = ()
    in_flight: int = 0
    retries: int = 0
    refused: int = 0
    closed: bool = False
    fault: Callable[[Exception], None] | None = None
    cover: Callable[[Job], bool] | None = None
    answered: Callable[[Job], bool] | None = None
    spare: Callable[[Job], bool] | None = None
    hedges: int = 0
    latencies: Latencies = field(default_factory=Latencies)
    whole: Callable[[], bool] | None = None
    patience: Patience | None = None
    _ready: deque[Job] = field(default_factory=deque)
    _later: list[tuple[float, int, Job]] = field(default_factory=list)
    _order: Any = field(default_factory=itertools.count)
    # Due again, and waiting for money that is put by for other calls.
    _short: deque[Job] = field(default_factory=deque)

    def keep(self, *ceilings: Ceiling) -> None:
        """Keep these limits too."""
        self.ceilings = (*self.ceilings, *ceilings)

    def when_free(self, call: Callable[[], None]) -> None:
        """Call *call* when a ceiling that is full now has room."""
        for ceiling in self.ceilings:
            if ceiling.full:
                ceiling.when_free(call)

    def again(self, job: Job, due: float) -> None:
        """Put *job* back, to be sent not before *due*."""
        heapq.heappush(self._later, (due, next(self._order), job))

    def gives_up(self, job: Job, now: float, delay_s: float, lane: Lane) -> bool:
        """Return whether a call that could be tried again is not, by the caller's own bounds (see `Patience`)."""
        bounds = self.patience
        if bounds is None:
            return False
        # A pause of the whole account holds it back too.
        wait_s = max(delay_s, lane.limiter.wait_s(now, job.tokens))
        return bounds.is_over(job, now=now, delay_s=wait_s, landed=lane.landed, max_retries=self.max_retries)

    def first(self, job: Job) -> None:
        """Put *job* back at the front."""
        self._ready.appendleft(job)

    def next(self, now: float) -> Job | None:
        """Take the call to send next: what is due again before what is new."""
        if self.closed or self.full:
            return None
        if self._ready:
            return self._ready.popleft()
        if self._short and self._covers(self._short[0]):
            return self._short.popleft()
        while self._later and self._later[0][0] <= now:
            job = heapq.heappop(self._later)[2]
            if self._covers(job):
                return job
            self._short.append(job)
        return self.source()

    def due(self) -> float | None:
        """Return the moment at which a waiting retry may go; None for none, or while it would find no room.

        A moment that has passed must not be given then: the lane would wake for it again and again.
        """
        return self._later[0][0] if self._later and not self.closed and not self.full else None

    def stranded(self) -> list[Job]:
        """Take out the calls that wait for money which cannot come.

        Only a call that has money put by for a request to come, or on the wire, can give some of it back.
        """
        if not self._short or self.in_flight or self._ready or any(map(_funded, (job for _, _, job in self._later))):
            return []
        stranded = list(self._short)
        self._short.clear()
        return stranded

    def _covers(self, job: Job) -> bool:
        if _funded(job) or self.cover is None:
            return True
        if not self.cover(job):
            return False
        job.covered += 1
        return True

    @property
    def full(self) -> bool:
        """Whether as many of its calls are in flight as may be."""
        if self.concurrency is not None and self.in_flight >= self.concurrency:
            return True
        for ceiling in self.ceilings:  # noqa: SIM110  # a generator costs more, and this is asked often for each call
            if ceiling.full:
                return True
        return False

    @property
    def waiting(self) -> int:
        """Calls put back and not yet sent again."""
        return len(self._later) + len(self._ready) + len(self._short)

    def close(self) -> list[Job]:
        """Admit nothing more, and give back what was waiting to be sent again."""
        self.closed = True
        left = [*self._ready, *self._short, *(job for _, _, job in self._later)]
        self._ready.clear()
        self._short.clear()
        self._later.clear()
        return left


def _funded(job: Job) -> bool:
    """Return whether money is put by for one request more than may have been paid."""
    return job.maybe_paid < job.covered
