"""Drive batch jobs, one step and one kernel at a time, and carry out the user's commands on jobs."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TypeVar

from pllm_notebook.batch.ingest import AnswerSink
from pllm_notebook.batch.job import Job, JobState
from pllm_notebook.batch.journal import JournalAccess, LeaseLostError
from pllm_notebook.batch.machine import Machine, Recreation
from pllm_notebook.exceptions import StoreError, UsageError
from pllm_notebook.protocols import BatchAPI

__all__ = ["Driver"]

_UNSENT = (JobState.PLANNED, JobState.UPLOADED, JobState.CREATING)
_AT_WORK = (JobState.SUBMITTED, JobState.RUNNING)
_ANSWERED = (JobState.ENDED, JobState.INGESTING)

_log = logging.getLogger("pllm_notebook.batch")

T = TypeVar("T")


class Driver:
    """Advance the jobs of one journal. Used on one event loop.

    Args:
        access: Access to the journal, which is shared with other kernels.
        apis: Returns the batch API of a job's account, or None if the account is not available here. The job is then
            not changed.
        answers: Stores the answers.
        recreation: When a lost job is created again.
    """

    def __init__(
        self,
        access: JournalAccess,
        apis: Callable[[Job], BatchAPI | None],
        answers: AnswerSink,
        recreation: Recreation = Recreation(),  # noqa: B008  # frozen
    ) -> None:
        self.journal = access.journal
        self._access = access
        self._apis = apis
        self._recreate_requested: set[str] = set()
        # Tasks of one kernel share a lease, so they take turns with these locks.
        self._lease_locks: dict[str, asyncio.Lock] = {}

        def allowed(job: Job) -> bool:
            return job.id in self._recreate_requested or recreation.allowed(job)

        self._machine = Machine(access, answers, replace(recreation, allowed=allowed))

    async def read(self, job_id: str) -> Job:
        """Return a job as the journal has it. Raises `KeyError` if no job has that id."""
        return await self._access.read(job_id)

    async def open_jobs(self) -> list[Job]:
        """Return the jobs that are not final, oldest first."""
        return await self._jobs(None, unfinished=True)

    async def advance(self, job_id: str) -> Job:
        """Perform a job's next step and return the updated job.

        A job that is final, whose account is not available, or that another kernel is advancing, is not changed. A
        failed request leaves the job unchanged except for a message.

        Raises:
            KeyError: If there is no such job.
            StoreError: If the journal cannot be written.
            Exception: Any exception of `take` or of opening the batch API. The job is unchanged.
        """
        job = await self.read(job_id)
        api = None if job.final else self._apis(job)
        if api is None:
            return job
        try:
            async with self._lease_held(job_id) as ours:
                # Read again, because the job may have advanced before it was our turn.
                job = await self.read(job_id)
                return job if job.final or not ours else await self._machine.step(job, api)
        except LeaseLostError:
            return await self.read(job_id)

    async def drive(self, job_id: str) -> Job:
        """Advance a job as long as its state changes, and return the updated job."""
        before: JobState | None = None
        job = await self.read(job_id)
        while not job.final and job.state is not before:
            before = job.state
            job = await self.advance(job_id)
        return job

    async def refresh(self, cohort: str | None = None) -> list[Job]:
        """Drive every unfinished job, of one cohort or of all, and return the updated jobs.

        A job that cannot be advanced does not affect the others; the reason is logged.
        """
        for job in await self._jobs(cohort, unfinished=True):
            await self.try_drive(job.id)
        return await self._jobs(cohort)

    async def try_drive(self, job_id: str) -> Job:
        """Drive a job like `drive`, but log errors instead of raising them."""
        try:
            return await self.drive(job_id)
        except StoreError:
            raise  # an error of the journal affects all jobs
        except Exception as error:
            _log.warning("Batch job %s cannot be advanced now: %s", job_id, error)
            return await self.read(job_id)

    async def cancel(self, job_id: str) -> Job:
        """Cancel a job: immediately if nothing was sent, otherwise by a request to the provider. Answers are kept.

        The cancellation is recorded first, so that a failed request is repeated with the job's later steps.
        """
        await self._access.in_thread(self.journal.ask_cancel, job_id)
        return await self.advance(job_id)

    async def recreate(self, job_id: str) -> Job:
        """Create an uncertain job once more, at the user's request. It may be paid for twice.

        If the job has been found in the meantime, it is used instead. A job that is not uncertain is not changed.

        Raises:
            UsageError: If it may still be found: its grace period is not over, a running job may be it, or the
                provider cannot be reached. Nothing was sent.
        """
        self._recreate_requested.add(job_id)
        try:
            job = await self.advance(job_id)
        finally:
            self._recreate_requested.discard(job_id)
        if job.state is JobState.UNCERTAIN:
            raise UsageError(
                f"Batch job {job_id} may still be found at the provider ({job.message or 'still searching'}), so "
                f"it was not created again. Try again later, or give it up with abandon. Nothing was sent."
            )
        return job if job.final else await self.drive(job_id)

    async def abandon(self, job_id: str, *, reachable: bool = True) -> Job:
        """Abandon a job, at the user's request: its rows may be sent again, and its answers are lost.

        Args:
            job_id: The job's id.
            reachable: Whether its account is available, so that it can be cancelled or fetched.

        Raises:
            UsageError: If another kernel is advancing it, or it can be cancelled or fetched instead. Nothing was
                changed.
        """
        async with self._lease_held(job_id) as ours:
            job = await self.read(job_id)
            if job.final:
                return job
            why = (_better_way(job) if reachable else "") if ours else "is being moved by another kernel"
            if why:
                raise UsageError(f"Batch job {job_id[:8]} {why}. Nothing was changed.")
            return await self._machine.end(job, JobState.ABANDONED, "missing", "abandoned", message="")

    async def superseded(self, keys: Sequence[str]) -> int:
        """Record that *keys* have been answered live, and return the number of lines freed (see `JobLines`)."""
        count: int = await self._access.in_thread(self.journal.lines.superseded, keys)
        return count

    @asynccontextmanager
    async def _lease_held(self, job_id: str) -> AsyncIterator[bool]:
        """Hold and renew a job's lease during a `with` block. Yield False if another kernel has it."""
        async with self._lease_locks.setdefault(job_id, asyncio.Lock()):
            renewal: asyncio.Task[None] | None = None
            # Assumed until the answer arrives: if the task is cancelled before that, the lease may be ours.
            ours = True
            try:
                ours = await _run_to_end(self._access.lease(job_id))
                if ours:
                    renewal = asyncio.get_running_loop().create_task(self._renew_lease(job_id))
                yield ours
            finally:
                if ours:
                    await _run_to_end(self._release_lease(job_id, renewal))

    async def _release_lease(self, job_id: str, renewal: asyncio.Task[None] | None) -> None:
        if renewal is not None:
            # The renewal must end before the release: otherwise it could take the lease once more.
            renewal.cancel()
            await asyncio.wait([renewal])
        await self._access.release(job_id)

    async def _renew_lease(self, job_id: str) -> None:
        while True:
            await asyncio.sleep(self._access.lease_s / 3)
            try:
                await _run_to_end(self._access.lease(job_id))
            except StoreError as error:
                _log.warning("The lease of batch job %s cannot be renewed: %s", job_id, error)

    async def _jobs(self, cohort: str | None, *, unfinished: bool = False) -> list[Job]:
        jobs: list[Job] = await self._access.in_thread(lambda: self.journal.jobs(cohort, unfinished=unfinished))
        return jobs


def _better_way(job: Job) -> str:
    """Return the alternative to abandoning a job, or "" if there is none.

    Abandoning loses paid answers, so it is only for stuck jobs: uncertain ones, those with an error message, and those
    that did not end after being cancelled.
    """
    if job.state in _UNSENT:
        return f"is {job.state}: cancel it instead"
    if job.message:
        return ""
    if job.state in _AT_WORK and not job.cancel_asked:
        return f"is {job.state}: cancel it instead, which keeps the answers so far"
    if job.state in _ANSWERED:
        return f"is {job.state}: fetch it instead, since its answers are paid for"
    return ""


async def _run_to_end(work: Awaitable[T]) -> T:
    """Wait for *work* to end, and only then raise a cancellation received in the meantime.

    A thread cannot be stopped: it writes even after its caller has left, so the cleanup must wait for it.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # read, so that asyncio does not warn that it was not
        raise cancelled
    return task.result()
