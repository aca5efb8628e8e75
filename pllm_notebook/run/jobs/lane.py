"""A lane whose calls go by batch job: to a run it is what a live lane is.

Runs hand over their calls as they would to a live one. They are gathered until a run has no more to give,
journalled as jobs, and landed one by one when their answers come; what a run asks next (a repair turn, what the
budget had no room for) makes its cohort's next job. Rows that wait in a job already, planned by another
kernel or yesterday, are waited for there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from pllm_notebook.batch import Job as BatchJob
from pllm_notebook.batch import Journal, Outgoing, PendingElsewhereError, Plan, State, custom_id
from pllm_notebook.engine import Feed, Job, Landing
from pllm_notebook.engine.flight import cancelled
from pllm_notebook.prices import Rate
from pllm_notebook.protocols import BatchDesk
from pllm_notebook.providers import Target
from pllm_notebook.records import Failure, FailureKind, RawReply, Reply, Usage
from pllm_notebook.run.ask import BYTES_PER_TOKEN, GUESSED_OUTPUT_TOKENS
from pllm_notebook.run.spans import span

__all__ = ["BatchLane"]

logger = logging.getLogger("pllm_notebook")

# Calls taken over at a time, so that the loop hears of other things in between.
_SLICE = 500
# Runs that begin together, as the members of an ensemble do, share jobs.
_GATHER_S = 0.25

_UNSENT = frozenset({State.PLANNED, State.UPLOADED, State.CREATING})


class BatchLane:
    """One account's and model's calls by batch job. Used on the engine's loop.

    Args:
        target: The model.
        desk: Opens its provider's batch API.
        journal: Where jobs are planned.
        rate: The model's price in a batch, None for unknown.
        origin: Where the calls come from, for a person who looks at the jobs.
        planned: Called when jobs have been planned.
        in_thread: Runs what may block.

    Attributes:
        landed: Replies that came back, whoever asked.
    """

    def __init__(
        self,
        target: Target,
        desk: Callable[[], BatchDesk],
        journal: Journal,
        rate: Rate | None,
        origin: str,
        planned: Callable[[], None],
        in_thread: Callable[..., asyncio.Future[Any]],
    ) -> None:
        self.landed = 0
        self._target = target
        self._open_desk = desk
        self._desk: BatchDesk
        self._journal = journal
        self._rate = rate
        self._origin = origin
        self._planned = planned
        self._in_thread = in_thread
        self._loop = asyncio.get_running_loop()
        self._feeds: list[Feed] = []
        self._coming: list[Feed] = []
        # Handed over and not yet in a job, and calls that wait for an answer, by key.
        self._gathered: defaultdict[Feed, list[Job]] = defaultdict(list)
        self._flights: dict[str, list[tuple[Feed, Job]]] = {}
        self._out: Counter[Feed] = Counter()
        self._jobs: dict[str, BatchJob] = {}
        self._cohorts: dict[Feed, set[str]] = {}
        self._pumping = False
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"BatchLane({self._target.label}, jobs={len(self._jobs)}, waiting={len(self._flights)})"

    @property
    def jobs(self) -> list[BatchJob]:
        """The jobs that calls of this lane wait for."""
        return list(self._jobs.values())

    def expect(self, feed: Feed) -> None:
        """Hear of a run that is being planned: what others hand over waits for it, to share its jobs."""
        self._coming.append(feed)

    def attach(self, feed: Feed) -> None:
        """Take over a run's calls.

        Raises:
            UsageError: Where there is no batch API, no key or no package. Nothing was sent.
        """
        self._desk = self._open_desk()
        self._feeds.append(feed)
        self.poke()

    def poke(self) -> None:
        """Look again soon: a run has something new, or has no more."""
        if not self._pumping:
            self._pumping = True
            self._loop.call_soon(self._pump)

    def detach(self, feed: Feed) -> None:
        """Wait no longer for a run's calls. Their jobs go on, and what they bring is kept for the next run."""
        for feeds in (self._feeds, self._coming):
            if feed in feeds:
                feeds.remove(feed)
        dropped = [*feed.close(), *self._gathered.pop(feed, [])]
        for key, passengers in list(self._flights.items()):
            dropped += [job for aboard, job in passengers if aboard is feed]
            left = [(aboard, job) for aboard, job in passengers if aboard is not feed]
            if left:
                self._flights[key] = left
            else:
                del self._flights[key]
        self._out.pop(feed, None)
        self._cohorts.pop(feed, None)
        feed.in_flight = 0
        for job in dropped:
            job.done(job, cancelled(job, 0.0))

    def submitted(self, feed: Feed) -> bool:
        """Tell whether everything that a run has handed over is with the provider, as far as anybody knows."""
        ids = self._cohorts.get(feed)
        if ids is None or self._gathered.get(feed):
            return False
        return all(self._jobs[one].state not in _UNSENT for one in ids if one in self._jobs)

    def holds(self, now: float) -> str:
        """Say what is waited for."""
        if not self._jobs:
            return ""
        states = Counter(job.state for job in self._jobs.values())
        told = ", ".join(f"{count} {state}" for state, count in states.items())
        oldest = min(job.created_at for job in self._jobs.values())
        return f"batch jobs: {told}; {span(time.time() - oldest)} since the first was planned"

    def arrived(self, results: Mapping[str, tuple[Reply | Failure, RawReply | None]]) -> None:
        """Land calls whose answers are in the store, or which have failed for good, by key."""
        for key, (result, raw) in results.items():
            for feed, job in self._flights.pop(key, ()):
                feed.in_flight -= 1
                self._out[feed] -= 1
                job.sent += 1
                job.done(job, Landing(result, raw, job.sent, 0.0))
        self.poke()  # a cohort's next job may be due

    def answered(self, results: Mapping[str, tuple[Reply, RawReply]]) -> None:
        """Land calls that were answered otherwise, at another price, and whose answers are in the store, by key."""
        rest: dict[str, tuple[Reply | Failure, RawReply | None]] = {}
        for key, result in results.items():
            left = []
            for feed, job in self._flights.pop(key, ()):
                self.landed += 1
                if feed.answered is not None and feed.answered(job):
                    feed.in_flight -= 1
                    self._out[feed] -= 1
                else:
                    left.append((feed, job))
            if left:
                self._flights[key], rest[key] = left, result
        self.arrived(rest)

    def changed(self, job: BatchJob) -> None:
        """Hear of a job's new state."""
        if job.id in self._jobs:
            self._jobs[job.id] = job
            if job.final:
                del self._jobs[job.id]

    def waiting(self, keys: Sequence[str]) -> list[str]:
        """Give those of *keys* whose answers a run waits for."""
        return [key for key in keys if key in self._flights]

    def _pump(self) -> None:
        self._pumping = False
        now = self._loop.time()
        ready = False
        for feed in list(self._feeds):
            for _ in range(_SLICE):
                job = feed.next(now)
                if job is None:
                    break
                feed.in_flight += 1
                self._gathered[feed].append(job)
            else:
                self.poke()
                continue
            # A repair turn of the first answers waits for the last of them: one job for all.
            ready = ready or bool(self._gathered[feed] and self._whole(feed))
        if ready and self._timer is None:
            self._timer = self._loop.call_later(_GATHER_S, self._submit)

    def _whole(self, feed: Feed) -> bool:
        return not self._out[feed] and (feed.whole is None or feed.whole())

    def _submit(self) -> None:
        self._timer = None
        if not all(feed.whole is None or feed.whole() for feed in self._coming):
            return  # it will say so itself
        new: dict[Job, Feed] = {}
        feeds = [feed for feed in self._feeds if self._gathered[feed] and self._whole(feed)]
        for feed in feeds:
            for job in self._gathered.pop(feed):
                self._out[feed] += 1
                passengers = self._flights.setdefault(job.key, [])
                if not passengers:
                    new[job] = feed
                passengers.append((feed, job))
        if new:
            work = self._in_thread(self._journal.pending, [job.key for job in new])
            work.add_done_callback(partial(self._have_looked, feeds, new))

    def _have_looked(self, feeds: Sequence[Feed], new: Mapping[Job, Feed], work: asyncio.Future[Any]) -> None:
        if not self._ended_well(feeds, work):
            return
        waiting: Mapping[str, BatchJob] = work.result()
        rest = []
        for job, feed in new.items():
            if job.key in waiting or job.key not in self._flights:
                continue
            # What waits nowhere now may have been answered since the run looked: looked for after the journal, since
            # an answer is in the store before its line is done.
            if feed.answered is not None and feed.answered(job):
                self._land(job.key, feed)
            else:
                rest.append(job)
        adopted = {job.id: job for job in waiting.values()}
        planning = self._in_thread(self._plan, rest)
        planning.add_done_callback(partial(self._have_planned, feeds, list(adopted.values())))

    def _land(self, key: str, feed: Feed) -> None:
        """Let go of a call whose run has its answer already."""
        feed.in_flight -= 1
        self._out[feed] -= 1
        left = [one for one in self._flights.pop(key, ()) if one[0] is not feed]
        if left:
            self._flights[key] = left

    def _plan(self, jobs: Sequence[Job]) -> tuple[list[BatchJob], list[str]]:
        """In a worker thread: journal what waits in no job. Nothing is sent."""
        target = self._target
        cohort = f"{time.time_ns():x}"
        plan = Plan(
            cohort, target.provider, target.account, target.label, target.model, target.path, origin=self._origin
        )
        adopted: dict[str, BatchJob] = {}
        waiting: Mapping[str, BatchJob] = {}
        while jobs:
            rest = (job for job in jobs if job.key not in waiting)
            try:
                planned = self._journal.plan(plan, self._outgoing(rest), self._desk.limits)
            except PendingElsewhereError:  # another kernel was quicker: its job is waited for
                waiting = self._journal.pending([job.key for job in jobs])
                adopted = {job.id: job for job in waiting.values()}
                continue
            return [*adopted.values(), *planned.jobs], list(planned.too_large)
        return [], []

    def _outgoing(self, jobs: Iterator[Job]) -> Iterator[Outgoing]:
        for job in jobs:
            content = job.content()
            usage = Usage(len(content) // BYTES_PER_TOKEN, GUESSED_OUTPUT_TOKENS)
            estimate = None if self._rate is None else self._rate.cost_usd(usage)
            yield Outgoing(job.key, self._desk.line(custom_id(job.key), content), job.output_limit, estimate)

    def _have_planned(
        self,
        feeds: Sequence[Feed],
        adopted: Sequence[BatchJob],
        work: asyncio.Future[tuple[list[BatchJob], list[str]]],
    ) -> None:
        if not self._ended_well(feeds, work):
            return
        planned, large = work.result()
        jobs = [*adopted, *planned]
        self._jobs |= {job.id: job for job in jobs}
        for feed in feeds:
            self._cohorts.setdefault(feed, set()).update(job.id for job in jobs)
        most = self._desk.limits.bytes
        told = f"The request is longer than the {most:,} bytes that a batch job may have. Nothing was sent for it."
        self.arrived({key: (Failure(FailureKind.INPUT, told), None) for key in large})
        self._planned()

    def _ended_well(self, feeds: Sequence[Feed], work: asyncio.Future[Any]) -> bool:
        error = work.exception()
        if error is not None:
            for feed in feeds:
                if feed.fault is not None and isinstance(error, Exception):
                    feed.fault(error)
        return error is None
