"""Sending again what a job left without an answer: those lines, in the bytes that were kept, and no others."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from pllm_notebook.batch import Job, Journal, Line, Outgoing, Plan
from pllm_notebook.batch.jobs import LineState
from pllm_notebook.exceptions import UsageError
from pllm_notebook.protocols import BatchAPI, Store
from pllm_notebook.run.jobs.consent import Confirm, about_usd, agree, dollars
from pllm_notebook.run.jobs.errands import Errands, load
from pllm_notebook.run.jobs.reading import batch_rate

__all__ = ["answerless", "opened", "resubmit", "without_answer"]

_KEYS = 5_000


def resubmit(errands: Errands, job: Job, *, confirm: Confirm = True) -> list[Job]:
    """Plan a job's failed, expired, cancelled and missing lines anew and submit them.

    Lines that were answered meanwhile, or that wait in a later job, are left out.

    Args:
        errands: Of the job's directory.
        job: Has ended.
        confirm: Whether to ask first, with the price (see `consent.Confirm`).

    Returns:
        The new jobs; none where nothing is to be sent.

    Raises:
        UsageError: If it has not ended, or its account is not at hand. Nothing was sent.
        NotConfirmedError: If nobody said yes. Nothing was sent.
    """
    name = job.id[:8]
    office = errands.office
    if not job.final:
        absent = office.accounts.absent(job)
        raise UsageError(
            f"Batch job {name} is {job.state} and has not ended, so it is not known yet which lines failed. "
            f"{absent or 'Cancel it first, or hurry it.'} Nothing was sent."
        )
    journal = office.journal
    api = errands.wait(lambda: opened(errands, job))
    target = office.accounts.of(job)
    assert target is not None  # its batch API was opened
    wanted = set(without_answer(errands, journal, job))
    sizes = [len(content) for line, content in _lines(journal, job) if line.key in wanted]
    if wanted and not sizes:
        raise UsageError(f"The requests of batch job {name} are no longer kept. Run the cell again. Nothing was sent.")
    if not sizes:
        return []
    rate = batch_rate(target)
    price = dollars(about_usd(rate, len(sizes), sum(sizes)))
    told = f"{len(sizes):,} of the {job.total:,} lines of batch job {name}"
    question = f"Submit {told} again to {job.target}, for {price}?"
    agree(question, f"{told} would have been submitted for {price}", confirm)

    def outgoing() -> Iterator[Outgoing]:
        for line, content in _lines(journal, job):
            if line.key in wanted:
                yield Outgoing(line.key, content, line.output_limit, about_usd(rate, 1, len(content)))

    cohort = f"{time.time_ns():x}"
    plan = Plan(cohort, job.provider, job.account, job.target, job.model, job.path, job.origin)
    planned = journal.plan(plan, outgoing(), api.limits)
    # The planned jobs are safe by now: an interrupt of what follows leaves them to the next look.
    jobs = errands.fetch(planned.jobs)
    errands.engine.loop.call(office.wake)
    return jobs


def without_answer(errands: Errands, journal: Journal, job: Job) -> list[str]:
    """Return the keys of a job's lines that ended without an answer and have none since; marks those that have."""
    keys = [line.key for line in journal.lines.to_resubmit(job.lines_of)]
    return answerless(errands, job, keys)


def answerless(errands: Errands, job: Job, keys: Sequence[str]) -> list[str]:
    """Return those of *keys* that the cache has not answered since the job was planned; the journal notes the rest."""
    since = job.created_at
    answered: list[str] = []
    for start in range(0, len(keys), _KEYS):
        answered += _answered(errands.store, keys[start : start + _KEYS], since)
    if answered:
        errands.office.journal.lines.superseded(answered)
    known = set(answered)
    return [key for key in keys if key not in known]


def _answered(store: Store, keys: Sequence[str], since: float) -> list[str]:
    # An older answer is one that the job was to replace.
    return [key for key, entry in store.get_many(keys).items() if entry.about["created_at"] >= since]


def _lines(journal: Journal, job: Job) -> Iterator[tuple[Line, bytes]]:
    states: tuple[LineState, ...] = ("failed", "missing")
    return journal.requests(job.lines_of, *states)


async def opened(errands: Errands, job: Job) -> BatchAPI:
    """Open the batch API of a job's account, on the loop. Raises `UsageError` where it is not at hand."""
    await load(errands.office, [job])
    return errands.office.api_of(job)
