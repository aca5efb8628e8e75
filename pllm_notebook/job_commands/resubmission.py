"""Resubmit the unanswered lines of an ended job, with their stored bytes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence

from pllm_notebook.batch import DraftLine, Job, JobDraft, JobLine, JobState, Journal, LineState
from pllm_notebook.batch_jobs import batch_rate
from pllm_notebook.exceptions import UsageError
from pllm_notebook.execution import Confirm, confirm_price, estimated_cost_usd, format_estimate
from pllm_notebook.job_commands.batch_commands import BatchCommands, load
from pllm_notebook.protocols import BatchAPI, Store

__all__ = ["open_batch_api", "resubmit", "unanswered", "unanswered_lines"]

_KEYS = 5_000
# States of a job that has ended at the provider but whose results have not been read completely.
_ENDED = (JobState.ENDED, JobState.INGESTING)
_READ_IN_S = 60.0
_POLL_S = 0.2


def resubmit(commands: BatchCommands, job: Job, *, confirm: Confirm = True) -> list[Job]:
    """Plan a job's failed, expired, cancelled and missing lines again and submit them.

    Lines that were answered meanwhile, or that wait in a later job, are left out.

    Args:
        commands: The commands of the job's directory.
        job: An ended job. If it has just ended, its results are read first, for at most a minute.
        confirm: Whether to ask first, with the price (see `confirmation.Confirm`).

    Returns:
        The new jobs. Empty if there is nothing to send.

    Raises:
        UsageError: If it has not ended, or its account is not available. Nothing was sent.
        NotConfirmedError: Unless the answer is yes. Nothing was sent.
    """
    name = job.id[:8]
    batch_service = commands.batch_service
    if job.state in _ENDED and batch_service.accounts.of(job) is not None:
        job = _read_in(commands, job)
    if not job.final:
        reason_unavailable = batch_service.accounts.reason_unavailable(job)
        if job.state in _ENDED:
            raise UsageError(
                f"Batch job {name} has ended, and its results are being read ({job.state}), so it is not known yet "
                f"which lines failed. {reason_unavailable or job.message or 'Try again in a minute.'} Nothing was sent."
            )
        raise UsageError(
            f"Batch job {name} is {job.state} and has not ended, so it is not known yet which lines failed. "
            f"{reason_unavailable or 'Cancel it first, or send it live.'} Nothing was sent."
        )
    journal = batch_service.journal
    api = commands.wait(lambda: open_batch_api(commands, job))
    target = batch_service.accounts.of(job)
    assert target is not None  # its batch API was opened
    wanted = set(unanswered_lines(commands, journal, job))
    sizes = [len(content) for line, content in _lines(journal, job) if line.key in wanted]
    if wanted and not sizes:
        raise UsageError(f"The requests of batch job {name} are no longer kept. Run the cell again. Nothing was sent.")
    if not sizes:
        return []
    rate = batch_rate(target)
    price = format_estimate(estimated_cost_usd(rate, len(sizes), sum(sizes)))
    lines = f"{len(sizes):,} of the {job.total:,} lines of batch job {name}"
    question = f"Submit {lines} again to {job.target}, for {price}?"
    confirm_price(question, f"{lines} would have been submitted for {price}", confirm)

    def outgoing() -> Iterator[DraftLine]:
        for line, content in _lines(journal, job):
            if line.key in wanted:
                yield DraftLine(line.key, content, line.output_limit, estimated_cost_usd(rate, 1, len(content)))

    cohort = f"{time.time_ns():x}"
    plan = JobDraft(cohort, job.provider, job.account, job.target, job.model, job.path, job.origin)
    planned = journal.plan(plan, outgoing(), api.limits)
    # The planned jobs are journalled by now: after an interrupt, the next poll submits them.
    jobs = commands.fetch(planned.jobs)
    commands.engine.loop.call(batch_service.wake)
    return jobs


def _read_in(commands: BatchCommands, job: Job) -> Job:
    """Wait for a limited time until the results of a job that has ended at its provider are read, and return it."""
    until = time.monotonic() + _READ_IN_S
    while True:
        (job,) = commands.fetch([job])
        if job.final or time.monotonic() >= until:
            return job
        commands.wait(lambda: asyncio.sleep(_POLL_S))  # another kernel, or this one's poller, reads them


def unanswered_lines(commands: BatchCommands, journal: Journal, job: Job) -> list[str]:
    """Return the keys of a job's lines that are still unanswered. Marks lines that were answered since."""
    keys = [line.key for line in journal.lines.to_resubmit(job.lines_of)]
    return unanswered(commands, job, keys)


def unanswered(commands: BatchCommands, job: Job, keys: Sequence[str]) -> list[str]:
    """Return the *keys* without a cached answer since the job was planned. The journal records the others."""
    since = job.created_at
    answered: list[str] = []
    for start in range(0, len(keys), _KEYS):
        answered += _answered(commands.store, keys[start : start + _KEYS], since)
    if answered:
        commands.batch_service.journal.lines.superseded(answered)
    known = set(answered)
    return [key for key in keys if key not in known]


def _answered(store: Store, keys: Sequence[str], since: float) -> list[str]:
    # Older answers are ignored: the job was meant to replace them.
    return [key for key, entry in store.get_many(keys).items() if entry.metadata["created_at"] >= since]


def _lines(journal: Journal, job: Job) -> Iterator[tuple[JobLine, bytes]]:
    states: tuple[LineState, ...] = ("failed", "missing")
    return journal.requests(job.lines_of, *states)


async def open_batch_api(commands: BatchCommands, job: Job) -> BatchAPI:
    """Open the batch API of a job's account, on the loop. Raises `UsageError` if it is not available."""
    await load(commands.batch_service, [job])
    return commands.batch_service.api_of(job)
