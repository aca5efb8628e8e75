"""Calls that go by batch: as far as they come in one run of a program, and the pause where they come no further."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pllm_notebook.batch import Job, State
from pllm_notebook.pipeline.pausing import Paused, Summary
from pllm_notebook.pipeline.questions import Question
from pllm_notebook.pipeline.retrieving import Pending, Place
from pllm_notebook.pipeline.sending import Courier
from pllm_notebook.pipeline.throttling import Throttler
from pllm_notebook.run.jobs.errands import Errands
from pllm_notebook.run.start import office

__all__ = ["Circumstances", "advance", "await_jobs", "jobs_of"]

# How long a pause waits for jobs to be left alone, at most; another kernel may be at them.
_REST_S = 2.0
_NOBODY = "resting"
_UNSENT = frozenset({State.PLANNED, State.UPLOADED, State.CREATING})


@dataclass(frozen=True)
class Circumstances:
    """What the strategies of one session have in common.

    Attributes:
        place: Where answers are.
        courier: Sends.
        throttler: The caller's own pace, None for none.
        confirm: Whether a person is asked before a batch is submitted.
        wait: Whether a batch is waited for, rather than ending the block.
        keep: Whether answers are stored.
        most: Live calls that are on their way at once, None for no ceiling.
    """

    place: Place
    courier: Courier
    throttler: Throttler | None
    confirm: bool
    wait: bool
    keep: bool
    most: int | None = None


def await_jobs(around: Circumstances, questions: Iterable[Question]) -> None:
    """Go on with what waits in batch jobs: look at these once, and pause where some go on.

    No strategy sends live what somebody has paid for in a batch.

    Raises:
        Paused: Where the block is to end here.
    """
    pending = [question for question in questions if question.stage == "pending"]
    if pending:
        advance(around, pending, submitted=())


def advance(around: Circumstances, questions: Sequence[Question], submitted: Sequence[Question]) -> None:
    """Answer calls by batch as far as that goes now.

    Args:
        around: Of the session.
        questions: Not done.
        submitted: Of them, those that wait in no job yet.

    Raises:
        Paused: Unless all are done.
    """
    courier = around.courier
    before = jobs_of(around, set(questions) - set(submitted))
    courier.send(questions, "batch")
    if around.wait:
        for question in questions:
            courier.wait(question.done)
        return
    courier.wait_until(lambda: _are_settled(around, questions))
    if before:
        running, store = courier.engine, around.place.store
        Errands(running, store, office(running, store)).fetch(list(before.values()))
        # What a job has brought lands a moment later, and a repair turn goes into a job of its own.
        courier.wait_until(lambda: _are_settled(around, questions))
    left = [question for question in questions if not question.done.is_set()]
    if left:
        courier.wait_until(_Rest(around, left).come)
        raise Paused(_summary(around, left, [question for question in submitted if not question.done.is_set()]))


def jobs_of(around: Circumstances, questions: Iterable[Question]) -> dict[str, Job]:
    """Return the jobs that calls wait in, by id."""
    found = [around.place.retrieve(question.call, question.since) for question in questions]
    return {each.job.id: each.job for each in found if isinstance(each, Pending)}


def _are_settled(around: Circumstances, questions: Sequence[Question]) -> bool:
    """Return whether nothing more becomes of calls for now: each is done, or with its provider in a job."""
    undone = [question for question in questions if not question.done.is_set()]
    jobs = around.place.jobs([question.key for question in undone])
    for question in undone:
        job = jobs.get(question.key)
        if job is None:
            # A call of its own may be what it waits for by now: a repair turn, or a tool's.
            found = question.look()
            job = found.job if isinstance(found, Pending) else None
        if not question.done.is_set() and (job is None or job.final or job.state in _UNSENT):
            return False
    return True


class _Rest:
    """Tells when nobody moves the jobs of some calls any more.

    A job is looked at as soon as it is submitted, and a process that ends in the middle of a step keeps its job for
    a minute. A program that is run from a script ends right here.
    """

    def __init__(self, around: Circumstances, questions: Sequence[Question]) -> None:
        self._journal = around.place.journal
        self._jobs = list(jobs_of(around, questions))
        self._until = time.monotonic() + _REST_S
        self._free = 0

    def come(self) -> bool:
        """Return whether it has come, or is not to be waited for: two looks in a row find every job free."""
        if self._journal is None or time.monotonic() > self._until:
            return True
        self._free = self._free + 1 if all(map(self._is_free, self._jobs)) else 0
        return self._free > 1

    def _is_free(self, job: str) -> bool:
        assert self._journal is not None
        # A lease that is over when it is given keeps nobody from taking the next.
        free = self._journal.lease(job, _NOBODY, time.time())
        if free:
            self._journal.release(job, _NOBODY)
        return free


def _summary(around: Circumstances, left: Sequence[Question], submitted: Sequence[Question]) -> Summary:
    new, jobs = jobs_of(around, submitted), jobs_of(around, left)
    costs = [job.estimate_usd for job in new.values()]
    return Summary(
        around.place.directory,
        submitted=len(submitted),
        jobs=len(new),
        cost_usd=None if None in costs else sum((cost for cost in costs if cost is not None), 0.0),
        awaited=len(left),
        awaited_jobs=len(jobs),
        simulated=any(run.course.simulated for run in around.courier.runs),
    )
