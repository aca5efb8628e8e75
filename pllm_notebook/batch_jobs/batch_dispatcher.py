"""A dispatcher that sends calls as batch jobs. To a run it looks like a live dispatcher.

Runs pass their calls as to a live dispatcher. The calls are collected until a run has no more, recorded in the
journal as jobs, and completed one by one when their answers arrive. A run's later calls (a repair turn, calls that
the budget had no room for) form the next job. If a row already waits in a job, planned by another kernel or
earlier, the run waits for that job.
"""

from __future__ import annotations

import asyncio
import logging
import time
import weakref
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from pllm_notebook.batch import Job as BatchJob
from pllm_notebook.batch import JobState
from pllm_notebook.batch_jobs.job_planner import JobPlanner
from pllm_notebook.engine import RunQueue, cancelled
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.formatting import format_duration
from pllm_notebook.pending_call import PendingCall
from pllm_notebook.protocols import BatchAPI
from pllm_notebook.types import Finish, JobProgress, RawReply, Reply

__all__ = ["BatchDispatcher"]

logger = logging.getLogger("pllm_notebook")

# Calls taken at a time, so that the loop can run other work in between.
_GROUP_LINES = 500
# Runs that start together, such as the members of an ensemble, share jobs.
_GATHER_S = 0.25

_UNSENT = frozenset({JobState.PLANNED, JobState.UPLOADED, JobState.CREATING})

_Results = Mapping[str, tuple[Reply | Failure, RawReply | None]]


@dataclass(eq=False, slots=True)
class _JobGroup:
    """Calls that are recorded in the journal together.

    Attributes:
        jobs: Ids of their jobs, from this kernel or another; None until known.
    """

    jobs: frozenset[str] | None = None


@dataclass(eq=False, slots=True)
class _WaitingCall:
    """A call that waits for an answer.

    Attributes:
        cohort: The group of calls with which it is recorded.
        waiters: The waiting runs, each with its call. A run that joins waits for the call's cohort.
    """

    cohort: _JobGroup
    waiters: list[tuple[RunQueue, PendingCall]]


class BatchDispatcher:
    """Send the calls of one account and model as batch jobs. Used on the engine's loop.

    Args:
        planner: Plans the jobs.
        api: Opens the provider's batch API.
        planned: Called when jobs have been planned.
        in_thread: Runs a blocking function in a thread.

    Attributes:
        replies: Number of replies received, for all runs.
    """

    def __init__(
        self,
        planner: JobPlanner,
        api: Callable[[], BatchAPI],
        planned: Callable[[], None],
        in_thread: Callable[..., asyncio.Future[Any]],
    ) -> None:
        self.replies = 0
        self._open_api = api
        self._api: BatchAPI
        self._planner = planner
        self._planned = planned
        self._in_thread = in_thread
        self._loop = asyncio.get_running_loop()
        self._queues: list[RunQueue] = []
        self._coming: list[RunQueue] = []
        # Calls that are not in a job yet; and, by key, calls that wait for an answer.
        self._gathered: defaultdict[RunQueue, list[PendingCall]] = defaultdict(list)
        self._waiting_calls: dict[str, _WaitingCall] = {}
        self._out: Counter[RunQueue] = Counter()
        self._jobs: dict[str, BatchJob] = {}
        self._cohorts: defaultdict[RunQueue, set[_JobGroup]] = defaultdict(set)
        # The jobs that a detached run waited for.
        self._left: weakref.WeakKeyDictionary[RunQueue, tuple[JobProgress, ...]] = weakref.WeakKeyDictionary()
        self._ended: dict[str, BatchJob] = {}
        self._pumping = False
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"BatchDispatcher({self._planner.label}, jobs={len(self._jobs)}, waiting={len(self._waiting_calls)})"

    @property
    def jobs(self) -> list[BatchJob]:
        """The jobs for which calls of this dispatcher wait."""
        return list(self._jobs.values())

    def announce(self, queue: RunQueue) -> None:
        """Register a run that is being planned. Calls of other runs wait for it in order to share its jobs."""
        self._coming.append(queue)

    def attach(self, queue: RunQueue) -> None:
        """Start taking a run's calls.

        Raises:
            UsageError: If there is no batch API, key or package. Nothing was sent.
        """
        self._api = self._open_api()
        self._left.pop(queue, None)
        self._queues.append(queue)
        self.wake()

    def wake(self) -> None:
        """Schedule a check: a run has new calls or has no more."""
        if not self._pumping:
            self._pumping = True
            self._loop.call_soon(self._pump)

    def detach(self, queue: RunQueue) -> None:
        """Stop waiting for a run's calls, which end as cancelled. Their jobs continue, for the next run."""
        self._left[queue] = self.jobs_of(queue)
        for queues in (self._queues, self._coming):
            if queue in queues:
                queues.remove(queue)
        dropped = [*queue.close(), *self._gathered.pop(queue, [])]
        for key, waiting_call in list(self._waiting_calls.items()):
            dropped += [call for joined, call in waiting_call.waiters if joined is queue]
            waiting_call.waiters = [one for one in waiting_call.waiters if one[0] is not queue]
            if not waiting_call.waiters:
                del self._waiting_calls[key]
        self._out.pop(queue, None)
        self._cohorts.pop(queue, None)
        awaited = {job for groups in self._cohorts.values() for group in groups for job in group.jobs or ()}
        self._ended = {job: ended for job, ended in self._ended.items() if job in awaited}
        queue.in_flight = 0
        for call in dropped:
            queue.source.done(call, cancelled(call, 0.0))
        self.wake()  # calls of other runs may have waited for this run's plan

    def submitted(self, queue: RunQueue) -> bool:
        """Return whether all calls taken from a run are known to be submitted to the provider."""
        cohorts = self._cohorts.get(queue)
        if not cohorts or self._gathered.get(queue):
            return False
        return all(
            cohort.jobs is not None
            and all(self._jobs[one].state not in _UNSENT for one in cohort.jobs if one in self._jobs)
            for cohort in cohorts
        )

    def jobs_of(self, queue: RunQueue) -> tuple[JobProgress, ...]:
        """Return the jobs that a run waits for, or waited for when it was detached. Callable from any thread."""
        left = self._left.get(queue)
        if left is not None:
            return left
        ids = sorted({job for group in list(self._cohorts.get(queue, ())) for job in group.jobs or ()})
        jobs = [job for one in ids if (job := self._jobs.get(one) or self._ended.get(one)) is not None]
        return tuple(self._seen(job) for job in sorted(jobs, key=lambda job: job.created_at))

    def _seen(self, job: BatchJob) -> JobProgress:
        is_sent = job.state not in _UNSENT and not job.final
        price = job.cost_usd if job.final and job.cost_usd is not None else job.estimate_usd
        return JobProgress(
            id=job.id[:8],
            state=f"{job.state}, cancelling" if job.cancel_asked and not job.final else str(job.state),
            total=job.total,
            answered=job.answered if job.final else job.remote_succeeded,
            failed=job.failed if job.final else job.remote_failed,
            created_at=job.created_at,
            ends_at=(job.remote_created_at or job.created_at) + self._api.limits.window_s if is_sent else None,
            price_usd=price,
            is_open=not job.final,
            message=job.message,
        )

    def blocked_by(self, now: float) -> str:
        """Describe the jobs that calls wait for."""
        if not self._jobs:
            return ""
        states = Counter(job.state for job in self._jobs.values())
        counts = ", ".join(f"{count} {state}" for state, count in states.items())
        oldest = min(job.created_at for job in self._jobs.values())
        wrong = "".join(f"; {job.id[:8]}: {job.message}" for job in self._jobs.values() if job.message)
        return f"batch jobs: {counts}; {format_duration(time.time() - oldest)} since the first was planned{wrong}"

    def arrived(self, results: _Results, limits: Mapping[str, int] | None = None) -> None:
        """End calls whose answers are in the store, or which have finally failed.

        Args:
            results: The results by key.
            limits: Output limits of the requests in tokens, 0 for no limit; a missing one is the call's own. If an
                answer was cut off below its call's limit, the call goes into the next job.
        """
        for key, (result, raw) in results.items():
            waiting_call = self._waiting_calls.pop(key, None)
            for queue, call in () if waiting_call is None else waiting_call.waiters:
                self._out[queue] -= 1
                if limits is not None and key in limits and _is_cut_below(call, result, limits[key]):
                    self._gathered[queue].append(call)
                    continue
                queue.in_flight -= 1
                call.sent += 1
                if isinstance(result, Failure):
                    call.count_charge(result)
                # The call's own limit is the one at which the answer was, or would have been, cut off.
                queue.source.done(call, call.result(result, raw, 0.0, output_limit=call.wire_limit))
        self.wake()  # a cohort's next job may be due

    def answered(self, results: Mapping[str, tuple[Reply, RawReply]], limits: Mapping[str, int] | None = None) -> None:
        """End calls that were answered in another way and are in the store, by key (see `arrived`)."""
        rest: dict[str, tuple[Reply | Failure, RawReply | None]] = {}
        for key, result in results.items():
            waiting_call = self._waiting_calls.get(key)
            if waiting_call is None:
                continue
            self.replies += len(waiting_call.waiters)
            self._let_go(key, waiting_call)
            if key in self._waiting_calls:
                rest[key] = result
        self.arrived(rest, limits)

    def changed(self, job: BatchJob) -> None:
        """Record a job's new state."""
        if job.id in self._jobs:
            self._jobs[job.id] = job
            if job.final:
                self._ended[job.id] = self._jobs.pop(job.id)

    def waiting(self, keys: Sequence[str]) -> list[str]:
        """Return those of *keys* whose answers a run waits for."""
        return [key for key in keys if key in self._waiting_calls]

    def waiting_in(self, job_id: str, keys: Sequence[str]) -> set[str]:
        """Return those of *keys* that a run waits for in this job. Unanswered calls may already be in a later job."""
        calls = {key: self._waiting_calls[key] for key in self.waiting(keys)}
        return {key for key, call in calls.items() if call.cohort.jobs is not None and job_id in call.cohort.jobs}

    def _pump(self) -> None:
        self._pumping = False
        now = self._loop.time()
        ready = False
        for queue in list(self._queues):
            for _ in range(_GROUP_LINES):
                call = queue.next(now)
                if call is None:
                    break
                queue.in_flight += 1
                self._gathered[queue].append(call)
            else:
                self.wake()
                continue
            # Repair turns of the first answers wait for the last answer, so that one job has them all.
            ready = ready or bool(self._gathered[queue] and self._is_complete(queue))
        if ready and self._timer is None:
            self._timer = self._loop.call_later(_GATHER_S, self._submit)

    def _is_complete(self, queue: RunQueue) -> bool:
        return not self._out[queue] and queue.source.is_exhausted()

    def _submit(self) -> None:
        self._timer = None
        if not all(queue.source.is_exhausted() for queue in self._coming):
            return  # that run will wake the dispatcher
        cohort = _JobGroup()
        new: list[str] = []
        for queue in self._queues:
            if not (self._gathered[queue] and self._is_complete(queue)):
                continue
            for call in self._gathered.pop(queue):
                self._out[queue] += 1
                waiting_call = self._waiting_calls.get(call.key)
                if waiting_call is None:
                    waiting_call = self._waiting_calls[call.key] = _WaitingCall(cohort, [])
                    new.append(call.key)
                waiting_call.waiters.append((queue, call))
                self._cohorts[queue].add(waiting_call.cohort)
        if new:
            work = self._in_thread(self._planner.waiting, new)
            work.add_done_callback(partial(self._have_looked, cohort, new))

    def _have_looked(self, cohort: _JobGroup, new: Sequence[str], work: asyncio.Future[Any]) -> None:
        if not self._check_ended(cohort, work):
            return
        waiting: Mapping[str, BatchJob] = work.result()
        rest = []
        for key in new:
            waiting_call = self._waiting_calls.get(key)
            if key in waiting or waiting_call is None or waiting_call.cohort is not cohort:
                continue
            # A call in no job may have been answered since the run checked. Check the store after the journal, since
            # an answer is in the store before its line is done.
            self._let_go(key, waiting_call)
            # Take the first remaining waiter: the run that came first may have been stopped.
            rest += [call for _, call in waiting_call.waiters[:1]]
        adopted = {job.id: job for job in waiting.values()}
        planning = self._in_thread(self._planner.plan, self._api, rest)
        planning.add_done_callback(partial(self._have_planned, cohort, list(adopted.values())))

    def _let_go(self, key: str, waiting_call: _WaitingCall) -> None:
        """Remove the waiters of a call whose runs already have its answer."""
        for queue, call in list(waiting_call.waiters):
            if queue.source.end_if_answered(call):
                queue.in_flight -= 1
                self._out[queue] -= 1
                waiting_call.waiters = [one for one in waiting_call.waiters if one[1] is not call]
        if not waiting_call.waiters:
            self._waiting_calls.pop(key, None)

    def _have_planned(
        self,
        cohort: _JobGroup,
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
        counts = f"The request is longer than the {most:,} bytes that a batch job may have. Nothing was sent for it."
        self.arrived({key: (Failure(FailureKind.INPUT, counts), None) for key in large})
        self._planned()

    def _check_ended(self, cohort: _JobGroup, work: asyncio.Future[Any]) -> bool:
        error = work.exception()
        if error is not None:
            # Include runs that joined later: nothing else would report the error to them.
            for queue in [queue for queue, cohorts in self._cohorts.items() if cohort in cohorts]:
                if isinstance(error, Exception):
                    queue.source.fail(error)
        return error is None


def _is_cut_below(call: PendingCall, result: Reply | Failure, limit: int) -> bool:
    """Return whether an answer was cut off at a lower limit than that of the waiting call."""
    if not isinstance(result, Reply) or result.finish is not Finish.TRUNCATED or limit == 0:
        return False
    allowed = call.wire_limit or call.output_limit
    return not allowed or allowed > limit
