"""Take in a job's results: saved as they are first, then delivered in groups, joined to their lines by id alone.

Doing it again changes nothing: an answered line is left out, the rest is handed on once more. A group is
committed only after its receiver says that its answers are stored, and a job is not done while one of them
cannot be read from there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

from pllm_notebook.batch.job import Job, JobResult, LineOutcome, key_in
from pllm_notebook.batch.journal import InThread, Journal
from pllm_notebook.batch.spool import ResultFile
from pllm_notebook.protocols import BatchAPI
from pllm_notebook.types import BatchResult, RemoteJob

__all__ = ["AnswerSink", "Present", "Take", "deliver", "fetch", "missing_answers", "remote_of"]

T = TypeVar("T")

GROUP_LINES = 500
GROUP_BYTES = 8 << 20
_KEYS = 5000

Take = Callable[[Job, Sequence[JobResult]], Awaitable[Sequence[LineOutcome]]]
"""Stores the answers among some arrivals and says of each, in order, what became of it.

It returns only when they are on disk; whatever it raises leaves the group for another time. The same
arrival may come again.
"""

Present = Callable[[Sequence[str]], Collection[str]]
"""Tells which of some keys can be read from the store now. Called from a worker thread."""


@dataclass(frozen=True, slots=True)
class AnswerSink:
    """Where the answers of jobs go.

    Attributes:
        take: Stores what arrives.
        present: Returns which answers can be read from the store; None to rely on `take` alone.
    """

    take: Take
    present: Present | None = None


def remote_of(job: Job) -> RemoteJob:
    """Return the provider's job as the journal knows it."""
    return RemoteJob(
        job.remote,
        job.ending or "running",
        label=job.label,
        created_at=job.remote_created_at,
        total=job.total,
        succeeded=job.remote_succeeded,
        failed=job.remote_failed,
        message=job.message,
        files=job.files,
    )


async def fetch(journal: Journal, job: Job, api: BatchAPI, in_thread: InThread) -> None:
    """Save a job's results in the spool, streamed.

    Raises:
        BatchRefused, TransportFault: If they did not come whole; nothing is kept then.
    """
    file: ResultFile = await in_thread(ResultFile, journal.spool, job.id)
    try:
        async for group in _groups(api, remote_of(job)):
            await in_thread(file.add, group)
        await in_thread(file.finish)
    except BaseException:
        file.drop()
        raise


async def _groups(api: BatchAPI, remote: RemoteJob) -> Any:
    group: list[BatchResult] = []
    held = 0
    stream: Any = api.results(remote)
    async with aclosing(stream) as results:
        async for result in results:
            group.append(result)
            held += len(result.raw.body) if result.raw is not None else 0
            if len(group) >= GROUP_LINES or held >= GROUP_BYTES:
                yield group
                group, held = [], 0
    if group:
        yield group


async def deliver(journal: Journal, job: Job, take: Take, in_thread: InThread) -> int:
    """Deliver the saved results, group by group, and commit the outcome of each.

    Returns:
        How many had an id of no line; they are in a file of their own.
    """
    unknown, overwrite = 0, True
    groups = journal.spool.read_results(job.id, GROUP_LINES, GROUP_BYTES)
    while (group := await in_thread(next, groups, None)) is not None:
        job_results, unmatched = await in_thread(_join, journal, job, group)
        await in_thread(_save_unmatched, journal, job, unmatched, overwrite)
        unknown, overwrite = unknown + len(unmatched), False
        if job_results:
            outcomes = await take(job, job_results)
            pairs = [(one.line.key, outcome) for one, outcome in zip(job_results, outcomes, strict=True)]
            await in_thread(journal.lines.settle, job.lines_of, pairs)
    return unknown


def _join(journal: Journal, job: Job, group: Sequence[BatchResult]) -> tuple[list[JobResult], list[BatchResult]]:
    lines = journal.lines.find(job.lines_of, [key for result in group if (key := key_in(result.custom_id))])
    best: dict[str, JobResult] = {}
    unmatched = []
    for result in group:
        line = lines.get(key_in(result.custom_id))
        if line is None:
            unmatched.append(result)
        elif line.state != "answered":
            before = best.get(line.key)
            # Of two results for one line, an answer counts.
            if before is None or before.result.raw is None:
                best[line.key] = JobResult(line, result)
    return list(best.values()), unmatched


def _save_unmatched(journal: Journal, job: Job, unmatched: Sequence[BatchResult], overwrite: bool) -> None:
    journal.spool.quarantine(job.id, unmatched, overwrite=overwrite)


async def missing_answers(journal: Journal, job: Job, present: Present, in_thread: InThread) -> int:
    """Reopen the lines whose answers cannot be read from the store; return how many there are."""
    return int(await in_thread(_missing_answers, journal, job, present))


def _missing_answers(journal: Journal, job: Job, present: Present) -> int:
    lost = 0
    keys: list[str] = []

    def check() -> None:
        nonlocal lost
        there = present(keys)
        gone = [key for key in keys if key not in there]
        if gone:
            journal.lines.reopen(job.lines_of, gone)
        lost += len(gone)
        keys.clear()

    for line in journal.lines.of(job.lines_of, "answered"):
        keys.append(line.key)
        if len(keys) == _KEYS:
            check()
    if keys:
        check()
    return lost
