"""Ingest a job's results: save them unchanged, then deliver them in groups, matched to their lines by id only.

Repeating it is safe: answered lines are skipped and the rest is delivered again. A group is committed only after
its answers are stored, and a job is not done while any of its answers cannot be read from the store.
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
"""Stores the answers among some arrivals and returns the outcome of each, in order.

It returns only when they are on disk. If it raises, the group is delivered again later. The same
arrival may come again.
"""

Present = Callable[[Sequence[str]], Collection[str]]
"""Returns which of some keys can be read from the store now. Called from a worker thread."""


@dataclass(frozen=True, slots=True)
class AnswerSink:
    """The receiver of job answers.

    Attributes:
        take: Stores the arrivals.
        present: Returns which answers can be read from the store; None to rely only on `take`.
    """

    take: Take
    present: Present | None = None


def remote_of(job: Job) -> RemoteJob:
    """Build the provider's job from the journal's record."""
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
    """Stream a job's results into the spool.

    Raises:
        BatchRefused, TransportFault: If they did not arrive completely. Nothing is kept then.
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
    """Deliver the saved results in groups, and commit the outcome of each.

    Returns:
        Number of results whose id matches no line. They are saved in a separate file.
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
            # If a line has two results, an answer takes precedence.
            if before is None or before.result.raw is None:
                best[line.key] = JobResult(line, result)
    return list(best.values()), unmatched


def _save_unmatched(journal: Journal, job: Job, unmatched: Sequence[BatchResult], overwrite: bool) -> None:
    journal.spool.quarantine(job.id, unmatched, overwrite=overwrite)


async def missing_answers(journal: Journal, job: Job, present: Present, in_thread: InThread) -> int:
    """Reopen the lines whose answers cannot be read from the store; return their number."""
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
