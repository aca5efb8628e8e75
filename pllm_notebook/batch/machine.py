"""The state machine: the request of each state's next step, and the commits before and after it.

Only creation costs money and cannot be undone, so only creation has a state for "unknown". The job is then
searched for at the provider. It is created again only if it is not found for longer than a list may lag, and
only if that is allowed.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

from pllm_notebook.batch.ingest import AnswerSink, deliver, fetch, missing_answers
from pllm_notebook.batch.job import Job, JobLine, JobState, LineState
from pllm_notebook.batch.journal import JournalAccess
from pllm_notebook.batch.orphans import OrphanSearch, find_orphans, since
from pllm_notebook.failures import FailureKind
from pllm_notebook.protocols import BatchAPI, BatchRefused, TransportFault
from pllm_notebook.types import RemoteJob

__all__ = ["GRACE_S", "Machine", "Recreation", "cheaper_than", "never"]

GRACE_S = 1800.0

_log = logging.getLogger("pllm_notebook.batch")

_GONE = frozenset({404, 410})


def never(job: Job) -> bool:
    """Allow no job to be created again automatically."""
    return False


def cheaper_than(most_usd: float) -> Callable[[Job], bool]:
    """Allow a job to be created again if it is known to cost no more than *most_usd*."""
    return lambda job: job.estimate_usd is not None and job.estimate_usd <= most_usd


@dataclass(frozen=True, slots=True)
class Recreation:
    """When to create a job again whose creation is uncertain and which was not found. It may be paid for twice.

    Attributes:
        allowed: Returns whether a job may be created again without asking.
        grace_s: Seconds for which it must not have been found; longer than a provider's list may lag.
    """

    allowed: Callable[[Job], bool] = never
    grace_s: float = GRACE_S


class Machine:
    """Perform the steps of the jobs of one journal. The caller must have the job's lease.

    Args:
        access: Access to the journal, where every step is committed.
        answers: The receiver of answers.
        recreation: When a lost job is created again.
    """

    def __init__(self, access: JournalAccess, answers: AnswerSink, recreation: Recreation) -> None:
        self._journal = access.journal
        self._owner = access.owner
        self._clock = access.clock
        self._run = access.in_thread
        self._read = access.read
        self._answers = answers
        self._recreation = recreation
        self._steps = {
            JobState.PLANNED: self._upload,
            JobState.UPLOADED: self._create,
            JobState.CREATING: self._doubt,
            JobState.UNCERTAIN: self._seek,
            JobState.SUBMITTED: self._look,
            JobState.RUNNING: self._look,
            JobState.ENDED: self._fetch,
            JobState.INGESTING: self._ingest,
        }

    async def step(self, job: Job, api: BatchAPI) -> Job:
        """Perform the next step of a job that is not final, and return the updated job.

        Raises:
            LeaseLostError: If another kernel has moved the job.
        """
        return await self._steps[job.state](job, api)

    async def end(self, job: Job, to: JobState, line: LineState, failure: str, **values: Any) -> Job:
        """Commit the last step of a job (see `Journal.end`)."""
        ended: Job = await self._run(lambda: self._journal.end(job, to, self._owner, line, failure, **values))
        return ended

    async def _upload(self, job: Job, api: BatchAPI) -> Job:
        if job.cancel_asked:
            return await self.end(job, JobState.DONE, "failed", "cancelled", ending="cancelled")
        if not await self._run(self._journal.spool.is_whole, job.id, job.sha256):
            message = "The request file is gone or was changed; nothing was sent."
            return await self.end(job, JobState.REJECTED, "failed", "rejected", message=message)
        try:
            uploaded = await api.upload(self._journal.spool.requests(job.id), job.label)
        except BatchRefused as refused:
            return await self.end(job, JobState.REJECTED, "failed", "rejected", message=refused.message)
        except TransportFault as fault:
            return await self._note(job, fault.message)
        return await self._move(job, JobState.UPLOADED, uploaded=uploaded, message="")

    async def _create(self, job: Job, api: BatchAPI) -> Job:
        if job.cancel_asked:
            await self._discard(job, api)
            return await self.end(job, JobState.DONE, "failed", "cancelled", ending="cancelled")
        now = self._clock()
        try:
            listed = await _list(api, since(now))
        except (BatchRefused, TransportFault) as fault:
            return await self._note(job, fault.message)
        mine = sorted((one for one in listed if one.label == job.label), key=lambda one: one.created_at)
        if api.keeps_labels and mine:
            return await self._adopt(job, mine)
        begun: Mapping[str, Any] = {}
        if not job.creating_at:
            # Only for the first attempt: a job listed since then may be that one, so the search begins at its time.
            begun = {"creating_at": now, "known": frozenset(one.id for one in listed)}
        job = await self._move(job, JobState.CREATING, message="", **begun)
        try:
            remote = await api.create(self._journal.spool.requests(job.id), job.uploaded, job.label)
        except BatchRefused as refused:
            await self._discard(job, api)
            return await self.end(job, JobState.REJECTED, "failed", "rejected", message=refused.message)
        except TransportFault as fault:
            # "Too many requests" is a rejection, though not a permanent one.
            if fault.kind is FailureKind.RATE_LIMIT:
                return await self._move(job, JobState.UPLOADED, message=fault.message)
            return await self._doubt(job, api, fault.message)
        return await self._adopt(job, [remote])

    async def _doubt(self, job: Job, api: BatchAPI, why: str = "The kernel ended while it was being created.") -> Job:
        # Count from now, not from the start of the creation: the request may have taken long.
        return await self._move(job, JobState.UNCERTAIN, uncertain_at=self._clock(), message=why)

    async def _seek(self, job: Job, api: BatchAPI) -> Job:
        try:
            found = await self._search(job, api)
        except (BatchRefused, TransportFault) as fault:
            return await self._note(job, fault.message)
        if found.ours:
            return await self._adopt(job, list(found.ours))
        if found.maybe or self._clock() - job.uncertain_at < self._recreation.grace_s:
            return await self._read(job.id)
        if job.cancel_asked:
            return await self.end(job, JobState.ABANDONED, "failed", "cancelled")
        if self._recreation.allowed(job):
            return await self._again(await self._read(job.id))
        return await self._note(job, "It was not found at the provider. It can be created again if you allow it.")

    async def _look(self, job: Job, api: BatchAPI) -> Job:
        try:
            if job.cancel_asked:
                await self._ask_cancel(job, api)
            remote = await api.look(job.remote)
            if job.attempt > 1 and not job.twin_of:
                # An earlier attempt may have succeeded after all: it was paid for, so ingest it as well.
                for twin in (await self._search(job, api)).ours:
                    await self._run(self._journal.created, job.id, twin)
        except BatchRefused as refused:
            gone = (
                f" The provider has no such job. If it is gone for good, pllm.jobs().abandon({job.id[:8]!r}) "
                f"gives the job up, and its rows can be sent again."
            )
            return await self._note(job, refused.message + (gone if refused.status in _GONE else ""))
        except TransportFault as fault:
            return await self._note(job, fault.message)
        await self._run(self._journal.spool.compress, job.id)
        seen: dict[str, Any] = {"remote_succeeded": remote.succeeded, "remote_failed": remote.failed}
        if remote.state == "running":
            seen["message"] = remote.message
            same = job.state is JobState.RUNNING and all(getattr(job, name) == value for name, value in seen.items())
            return job if same else await self._move(job, JobState.RUNNING, **seen)
        return await self._move(
            job, JobState.ENDED, ending=remote.state, files=remote.files, message=remote.message, **seen
        )

    async def _fetch(self, job: Job, api: BatchAPI) -> Job:
        try:
            await fetch(self._journal, job, api, self._run)
        except BatchRefused as refused:
            if job.ending == "ended":
                return await self._note(job, refused.message)
            # A job that failed or expired as a whole may have no results.
            await self._run(self._journal.spool.delete_results, job.id)
        except TransportFault as fault:
            return await self._note(job, fault.message)
        return await self._move(job, JobState.INGESTING)

    async def _ingest(self, job: Job, api: BatchAPI) -> Job:
        unknown = 0
        if await self._run(self._journal.spool.results(job.id).exists):
            unknown = await deliver(self._journal, job, self._answers.take, self._run)
        if self._answers.present is not None:
            lost = await missing_answers(self._journal, job, self._answers.present, self._run)
            if lost:
                return await self._note(
                    job, f"{lost:,} answers could not be read from the cache. They are stored again."
                )
        await self._discard(job, api)
        line: LineState = "missing" if job.ending == "ended" else "failed"
        why = "missing" if job.ending == "ended" else job.ending
        done = await self.end(job, JobState.DONE, line, why, unknown=unknown)
        await self._run(self._tidy, done)
        return done

    async def _adopt(self, job: Job, remotes: list[RemoteJob]) -> Job:
        for remote in remotes:
            job = await self._run(self._journal.created, job.id, remote)
        return job

    async def _again(self, job: Job) -> Job:
        return await self._move(job, JobState.UPLOADED, attempt=job.attempt + 1, message="")

    async def _search(self, job: Job, api: BatchAPI) -> OrphanSearch:
        taken = await self._run(self._journal.remotes, job)

        async def ours(keys: Sequence[str]) -> Mapping[str, JobLine]:
            lines: Mapping[str, JobLine] = await self._run(self._journal.lines.find, job.id, keys)
            return lines

        found = await find_orphans(job, api, taken, ours)
        if found.strangers:
            await self._move(job, job.state, known=job.known | found.strangers)
        return found

    async def _ask_cancel(self, job: Job, api: BatchAPI) -> None:
        # A job that has already ended cannot be cancelled; the next poll shows that.
        with suppress(BatchRefused):
            await api.cancel(job.remote)

    async def _discard(self, job: Job, api: BatchAPI) -> None:
        if job.uploaded:
            try:
                await api.discard(job.uploaded)
            except (BatchRefused, TransportFault) as fault:
                _log.info("The uploaded file %s could not be deleted at the provider: %s", job.uploaded, fault.message)

    def _tidy(self, job: Job) -> None:
        spool = self._journal.spool
        if self._answers.present is not None:
            spool.delete_results(job.id)
        if next(self._journal.lines.of(job.lines_of, "pending", "failed", "missing"), None) is None:
            spool.delete_requests(job.lines_of)

    async def _move(self, job: Job, to: JobState, **values: Any) -> Job:
        moved: Job = await self._run(lambda: self._journal.move(job, to, self._owner, **values))
        return moved

    async def _note(self, job: Job, message: str) -> Job:
        return job if message == job.message else await self._move(job, job.state, message=message)


async def _list(api: BatchAPI, since: float) -> list[RemoteJob]:
    stream: Any = api.recent(since)
    async with aclosing(stream) as listed:
        return [remote async for remote in listed]
