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
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from pllm_notebook.batch import Job as BatchJob
from pllm_notebook.batch import JobState, Journal
from pllm_notebook.batch_jobs.job_planner import JobPlanner
from pllm_notebook.batch_jobs.waiting_calls import JobGroup, WaitingCall, truncated_below
from pllm_notebook.engine import Feed, Job, Landing
from pllm_notebook.engine.flight import cancelled
from pllm_notebook.formatting import format_duration
from pllm_notebook.prices import Rate
from pllm_notebook.protocols import BatchAPI
from pllm_notebook.providers import ResolvedModel
from pllm_notebook.records import Failure, FailureKind, RawReply, Reply

__all__ = ["BatchDispatcher"]

logger = logging.getLogger("pllm_notebook")

# Calls taken over at a time, so that the loop hears of other things in between.
_GROUP_LINES = 500
# Runs that begin together, as the members of an ensemble do, share jobs.
_GATHER_S = 0.25

_UNSENT = frozenset({JobState.PLANNED, JobState.UPLOADED, JobState.CREATING})

_Results = Mapping[str, tuple[Reply | Failure, RawReply | None]]


class BatchDispatcher:
    """One account's and model's calls by batch job. Used on the engine's loop.

    Args:
        target: The model.
        api: Opens its provider's batch API.
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
        target: ResolvedModel,
        api: Callable[[], BatchAPI],
        journal: Journal,
        rate: Rate | None,
        origin: str,
        planned: Callable[[], None],
        in_thread: Callable[..., asyncio.Future[Any]],
    ) -> None:
        self.landed = 0
        self._target = target
        self._open_api = api
        self._api: BatchAPI
        self._journal = journal
        self._planner = JobPlanner(target, journal, rate, origin)
        self._planned = planned
        self._in_thread = in_thread
        self._loop = asyncio.get_running_loop()
        self._feeds: list[Feed] = []
        self._coming: list[Feed] = []
        # Handed over and not yet in a job, and calls that wait for an answer, by key.
        self._gathered: defaultdict[Feed, list[Job]] = defaultdict(list)
        self._waiting_calls: dict[str, WaitingCall] = {}
        self._out: Counter[Feed] = Counter()
        self._jobs: dict[str, BatchJob] = {}
        self._cohorts: defaultdict[Feed, set[JobGroup]] = defaultdict(set)
        self._pumping = False
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"BatchDispatcher({self._target.label}, jobs={len(self._jobs)}, waiting={len(self._waiting_calls)})"

    @property
    def jobs(self) -> list[BatchJob]:
        """The jobs that calls of this lane wait for."""
        return list(self._jobs.values())

    def expect(self, feed: Feed) -> None:
        """Register a run that is being planned: what others hand over waits for it, to share its jobs."""
        self._coming.append(feed)

    def attach(self, feed: Feed) -> None:
        """Take over a run's calls.

        Raises:
            UsageError: Where there is no batch API, no key or no package. Nothing was sent.
        """
        self._api = self._open_api()
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
        for key, waiting_call in list(self._waiting_calls.items()):
            dropped += [job for aboard, job in waiting_call.waiters if aboard is feed]
            waiting_call.waiters = [(aboard, job) for aboard, job in waiting_call.waiters if aboard is not feed]
            if not waiting_call.waiters:
                del self._waiting_calls[key]
        self._out.pop(feed, None)
        self._cohorts.pop(feed, None)
        feed.in_flight = 0
        for job in dropped:
            job.done(job, cancelled(job, 0.0))
        self.poke()  # what others have handed over may have waited for this run's plan

    def submitted(self, feed: Feed) -> bool:
        """Return whether everything that a run has handed over is with the provider, as far as anybody knows."""
        cohorts = self._cohorts.get(feed)
        if not cohorts or self._gathered.get(feed):
            return False
        return all(
            cohort.jobs is not None
            and all(self._jobs[one].state not in _UNSENT for one in cohort.jobs if one in self._jobs)
            for cohort in cohorts
        )

    def holds(self, now: float) -> str:
        """Say what is waited for."""
        if not self._jobs:
            return ""
        states = Counter(job.state for job in self._jobs.values())
        told = ", ".join(f"{count} {state}" for state, count in states.items())
        oldest = min(job.created_at for job in self._jobs.values())
        wrong = "".join(f"; {job.id[:8]}: {job.message}" for job in self._jobs.values() if job.message)
        return f"batch jobs: {told}; {format_duration(time.time() - oldest)} since the first was planned{wrong}"

    def arrived(self, results: _Results, limits: Mapping[str, int] | None = None) -> None:
        """Land calls whose answers are in the store, or which have failed for good, by key.

        Args:
            results: What came.
            limits: Tokens that the requests let the answers have, 0 for no limit; one that is not here is the
                caller's own. A call with more room than the answer that was cut off had goes into the next job.
        """
        for key, (result, raw) in results.items():
            waiting_call = self._waiting_calls.pop(key, None)
            for feed, job in () if waiting_call is None else waiting_call.waiters:
                self._out[feed] -= 1
                if limits is not None and key in limits and truncated_below(job, result, limits[key]):
                    self._gathered[feed].append(job)
                    continue
                feed.in_flight -= 1
                job.sent += 1
                # Its own limit is what it was cut off at, or would have been.
                job.done(job, Landing(result, raw, job.sent, 0.0, output_limit=job.wire_limit))
        self.poke()  # a cohort's next job may be due

    def answered(self, results: Mapping[str, tuple[Reply, RawReply]], limits: Mapping[str, int] | None = None) -> None:
        """Land calls that were answered otherwise, at another price, and are in the store, by key (see `arrived`)."""
        rest: dict[str, tuple[Reply | Failure, RawReply | None]] = {}
        for key, result in results.items():
            waiting_call = self._waiting_calls.get(key)
            if waiting_call is None:
                continue
            self.landed += len(waiting_call.waiters)
            self._let_go(key, waiting_call)
            if key in self._waiting_calls:
                rest[key] = result
        self.arrived(rest, limits)

    def changed(self, job: BatchJob) -> None:
        """Note a job's new state."""
        if job.id in self._jobs:
            self._jobs[job.id] = job
            if job.final:
                del self._jobs[job.id]

    def waiting(self, keys: Sequence[str]) -> list[str]:
        """Return those of *keys* whose answers a run waits for."""
        return [key for key in keys if key in self._waiting_calls]

    def _pump(self) -> None:
        self._pumping = False
        now = self._loop.time()
        ready = False
        for feed in list(self._feeds):
            for _ in range(_GROUP_LINES):
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
        cohort = JobGroup()
        new: list[str] = []
        for feed in self._feeds:
            if not (self._gathered[feed] and self._whole(feed)):
                continue
            for job in self._gathered.pop(feed):
                self._out[feed] += 1
                waiting_call = self._waiting_calls.get(job.key)
                if waiting_call is None:
                    waiting_call = self._waiting_calls[job.key] = WaitingCall(cohort, [])
                    new.append(job.key)
                waiting_call.waiters.append((feed, job))
                self._cohorts[feed].add(waiting_call.cohort)
        if new:
            work = self._in_thread(self._journal.pending, new)
            work.add_done_callback(partial(self._have_looked, cohort, new))

    def _have_looked(self, cohort: JobGroup, new: Sequence[str], work: asyncio.Future[Any]) -> None:
        if not self._check_ended(cohort, work):
            return
        waiting: Mapping[str, BatchJob] = work.result()
        rest = []
        for key in new:
            waiting_call = self._waiting_calls.get(key)
            if key in waiting or waiting_call is None or waiting_call.cohort is not cohort:
                continue
            # What waits nowhere now may have been answered since the run looked: looked for after the journal, since
            # an answer is in the store before its line is done.
            self._let_go(key, waiting_call)
            # Of those that still wait: the run that came first may have been stopped.
            rest += [job for _, job in waiting_call.waiters[:1]]
        adopted = {job.id: job for job in waiting.values()}
        planning = self._in_thread(self._planner.plan, self._api, rest)
        planning.add_done_callback(partial(self._have_planned, cohort, list(adopted.values())))

    def _let_go(self, key: str, waiting_call: WaitingCall) -> None:
        """Take off a call those whose runs have its answer already."""
        for feed, job in list(waiting_call.waiters):
            if feed.answered is not None and feed.answered(job):
                feed.in_flight -= 1
                self._out[feed] -= 1
                waiting_call.waiters = [one for one in waiting_call.waiters if one[1] is not job]
        if not waiting_call.waiters:
            self._waiting_calls.pop(key, None)

    def _have_planned(
        self,
        cohort: JobGroup,
        adopted: Sequence[BatchJob],
        work: asyncio.Future[tuple[list[BatchJob], list[str]]],
    ) -> None:
        if not self._check_ended(cohort, work):
            return
        planned, large = work.result()
        jobs = [*adopted, *planned]
        self._jobs |= {job.id: job for job in jobs}
        cohort.jobs = frozenset(job.id for job in jobs)
        most = self._api.limits.bytes
        told = f"The request is longer than the {most:,} bytes that a batch job may have. Nothing was sent for it."
        self.arrived({key: (Failure(FailureKind.INPUT, told), None) for key in large})
        self._planned()

    def _check_ended(self, cohort: JobGroup, work: asyncio.Future[Any]) -> bool:
        error = work.exception()
        if error is not None:
            # Those too that have joined since: nobody else would tell them.
            for feed in [feed for feed, cohorts in self._cohorts.items() if cohort in cohorts]:
                if feed.fault is not None and isinstance(error, Exception):
                    feed.fault(error)
        return error is None
