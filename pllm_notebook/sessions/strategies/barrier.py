"""Advance the batch calls of a program as far as possible in one run, and pause at pending answers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pllm_notebook.batch import Job, JobState
from pllm_notebook.execution import batch_service
from pllm_notebook.job_commands import BatchCommands
from pllm_notebook.sessions.paused import Paused, Summary
from pllm_notebook.sessions.sender import SessionSender
from pllm_notebook.sessions.session_call import SessionCall
from pllm_notebook.sessions.session_store import Pending, SessionStore
from pllm_notebook.sessions.throttler import Throttler

__all__ = ["StrategyContext", "advance", "await_jobs", "jobs_of"]

# Maximum wait for jobs to become idle before a pause; another kernel may be working on them.
_MAX_IDLE_WAIT_S = 2.0
_PROBE_OWNER = "resting"
_UNSENT = frozenset({JobState.PLANNED, JobState.UPLOADED, JobState.CREATING})


@dataclass(frozen=True)
class StrategyContext:
    """The state shared by the strategies of a session.

    Attributes:
        session_store: The store of the answers.
        sender: Starts runs.
        throttler: The caller's own rate limit, None for none.
        confirm: Whether to ask for confirmation before a batch is submitted.
        wait: Whether to wait for batch jobs instead of ending the block.
        keep: Whether answers are stored.
        max_in_flight: Maximum number of live calls in flight. None for no limit.
    """

    session_store: SessionStore
    sender: SessionSender
    throttler: Throttler | None
    confirm: bool
    wait: bool
    keep: bool
    max_in_flight: int | None = None


def await_jobs(context: StrategyContext, session_calls: Iterable[SessionCall]) -> None:
    """Check pending batch calls once, and pause if some are still pending.

    No strategy sends a call live that is paid for in a batch job.

    Raises:
        Paused: If some are still pending.
    """
    pending = [session_call for session_call in session_calls if session_call.stage == "pending"]
    if pending:
        advance(context, pending, submitted=())


def advance(context: StrategyContext, session_calls: Sequence[SessionCall], submitted: Sequence[SessionCall]) -> None:
    """Submit new calls as batch jobs, and fetch the results that are ready.

    Args:
        context: Shared by the session's strategies.
        session_calls: The calls that are not done.
        submitted: Those of them that are not in a job yet.

    Raises:
        Paused: If some are still pending. With `wait`, all are waited for instead.
    """
    sender = context.sender
    before = jobs_of(context, set(session_calls) - set(submitted))
    sender.send(session_calls, "batch")
    if context.wait:
        for session_call in session_calls:
            sender.wait(session_call.done)
        return
    sender.wait_until(lambda: _are_settled(context, session_calls))
    if before:
        running, store = sender.engine, context.session_store.store
        BatchCommands(running, store, batch_service(running, store)).fetch(list(before.values()))
        # Results are stored a moment later, and a repair turn goes into a separate job.
        sender.wait_until(lambda: _are_settled(context, session_calls))
    left = [session_call for session_call in session_calls if not session_call.done.is_set()]
    if left:
        sender.wait_until(_IdleJobs(context, left).is_idle)
        raise Paused(
            _summary(context, left, [session_call for session_call in submitted if not session_call.done.is_set()])
        )


def jobs_of(context: StrategyContext, session_calls: Iterable[SessionCall]) -> dict[str, Job]:
    """Return the jobs of pending calls, by id."""
    found = [context.session_store.retrieve(session_call.call, session_call.since) for session_call in session_calls]
    return {each.job.id: each.job for each in found if isinstance(each, Pending)}


def _are_settled(context: StrategyContext, session_calls: Sequence[SessionCall]) -> bool:
    """Return whether no call can advance for now: each is done, or in a job at its provider."""
    undone = [session_call for session_call in session_calls if not session_call.done.is_set()]
    jobs = context.session_store.jobs([session_call.key for session_call in undone])
    for session_call in undone:
        job = jobs.get(session_call.key)
        if job is None:
            # The call may now wait for a follow-up call: a repair turn, or the turn after a tool.
            found = session_call.refresh()
            job = found.job if isinstance(found, Pending) else None
        if not session_call.done.is_set() and (job is None or job.final or job.state in _UNSENT):
            return False
    return True


class _IdleJobs:
    """A check whether the jobs of some calls are idle.

    A job is polled as soon as it is submitted, and a process that ends in the middle of a poll holds its lease for a
    minute. A script ends right after this check, so it waits for the poll to finish.
    """

    def __init__(self, context: StrategyContext, session_calls: Sequence[SessionCall]) -> None:
        self._journal = context.session_store.journal
        self._jobs = list(jobs_of(context, session_calls))
        self._until = time.monotonic() + _MAX_IDLE_WAIT_S
        self._free = 0

    def is_idle(self) -> bool:
        """Return True once two checks in a row find every job free, or the time is up."""
        if self._journal is None or time.monotonic() > self._until:
            return True
        self._free = self._free + 1 if all(map(self._is_free, self._jobs)) else 0
        return self._free > 1

    def _is_free(self, job: str) -> bool:
        assert self._journal is not None
        # A lease that expires when it is granted blocks no other process.
        free = self._journal.lease(job, _PROBE_OWNER, time.time())
        if free:
            self._journal.release(job, _PROBE_OWNER)
        return free


def _summary(context: StrategyContext, left: Sequence[SessionCall], submitted: Sequence[SessionCall]) -> Summary:
    new, jobs = jobs_of(context, submitted), jobs_of(context, left)
    costs = [job.estimate_usd for job in new.values()]
    return Summary(
        context.session_store.directory,
        submitted=len(submitted),
        jobs=len(new),
        cost_usd=None if None in costs else sum((cost for cost in costs if cost is not None), 0.0),
        awaited=len(left),
        awaited_jobs=len(jobs),
        simulated=any(run.execution.simulated for run in context.sender.runs),
    )
