"""Commands on batch jobs, from any thread and in any kernel: refresh, fetch, cancel, abandon.

Each command blocks until it is done. Interrupting it stops only the wait, never a job: a request in flight is completed
in the background, because aborting it could leave a job that is not in the journal.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import CancelledError
from typing import TypeVar

from pllm_notebook.batch import Job, JobState
from pllm_notebook.batch_jobs import BatchService
from pllm_notebook.engine import EndEvent, Engine, block_until, engine
from pllm_notebook.exceptions import UsageError, guess
from pllm_notebook.execution import batch_service
from pllm_notebook.protocols import Store
from pllm_notebook.settings import current
from pllm_notebook.store import open_store

__all__ = ["BatchCommands", "commands", "has_journal", "load", "short_ids"]

T = TypeVar("T")

# Enough to distinguish the jobs of one user.
_SHOWN_DIGITS = 8
_FEWEST_DIGITS = 4
_AT_ONCE = 4


class BatchCommands:
    """The jobs of one cache directory, and the commands on them.

    Args:
        running: The engine for network work.
        store: The store of the answers.
        batch_service: Drives the jobs.
    """

    def __init__(self, running: Engine, store: Store, batch_service: BatchService) -> None:
        self.engine = running
        self.store = store
        self.batch_service = batch_service

    def jobs(self) -> list[Job]:
        """Return every job, newest first. Sends nothing."""
        return self.batch_service.journal.jobs()[::-1]

    def find(self, word: str) -> Job:
        """Return the job whose id begins with *word*.

        Raises:
            UsageError: Unless there is exactly one, or if *word* has fewer than 4 characters. Nothing was sent.
        """
        if not isinstance(word, str):
            raise UsageError(f"A batch job is named by its id, a string, not {word!r}. Nothing was sent.")
        jobs = self.jobs()
        found = [job for job in jobs if job.id.startswith(word)] if len(word) >= _FEWEST_DIGITS else []
        if len(found) == 1:
            return found[0]
        if found:
            raise UsageError(f"{len(found)} batch jobs begin with {word!r}: use more of the id. Nothing was sent.")
        known = short_ids(jobs)
        least = "" if len(word) >= _FEWEST_DIGITS else f" Give at least {_FEWEST_DIGITS} characters of its id."
        raise UsageError(f"There is no batch job {word!r}.{least}{guess(word, known.values())} Nothing was sent.")

    def refresh(self, jobs: Sequence[Job]) -> list[Job]:
        """Poll each job once now, advance it by one step, and return the updated jobs."""

        async def one(job: Job) -> Job:
            return await self.batch_service.driver.advance(job.id)

        return self._each(jobs, one)

    def fetch(self, jobs: Sequence[Job]) -> list[Job]:
        """Advance each job as far as possible, so that results of ended jobs are in the cache, and return the jobs.

        A planned job that was not sent because its kernel ended is submitted, since it was already confirmed.
        """

        async def one(job: Job) -> Job:
            return await self.batch_service.driver.drive(job.id)

        return self._each(jobs, one)

    def cancel(self, job: Job) -> Job:
        """Cancel a job. Answers received by then are paid for and kept."""
        return self.wait(lambda: self._report(self.batch_service.driver.cancel(self._reached(job).id)))

    def recreate(self, job: Job) -> Job:
        """Create an uncertain job once more. It may then be paid for twice (see `Driver.recreate`).

        Raises:
            UsageError: If the job is not uncertain, or its account is not available. Nothing was sent.
        """
        if job.state is not JobState.UNCERTAIN:
            raise UsageError(f"Batch job {job.id[:_SHOWN_DIGITS]} is {job.state}, not uncertain. Nothing was sent.")
        return self.wait(lambda: self._report(self.batch_service.driver.recreate(self._reached(job).id)))

    def abandon(self, job: Job) -> Job:
        """Abandon a job: its rows may be sent again, and its remaining answers are lost. Sends nothing."""
        reachable = self.batch_service.accounts.of(job) is not None
        return self.wait(lambda: self._report(self.batch_service.driver.abandon(job.id, reachable=reachable)))

    def wait(self, work: Callable[[], Awaitable[T]], stop: Callable[[], object] | None = None) -> T:
        """Run *work* on the engine's loop and wait for its end.

        Args:
            work: Called on the loop.
            stop: Called on the loop after an interrupt, for work that must not continue unattended; *work* is
                then awaited. None to let it continue in the background.

        Raises:
            KeyboardInterrupt: After an interrupt.
            Exception: Whatever *work* raised.
        """
        loop, ended = self.engine.loop, EndEvent()

        async def run() -> T:
            return await work()

        def interrupt() -> None:
            if stop is None:
                ended.set()
            else:
                loop.call(stop)

        if not loop.alive:
            raise loop.ended()
        running = asyncio.run_coroutine_threadsafe(run(), loop.loop)
        running.add_done_callback(lambda _: ended.set())
        block_until(ended, interrupt, loop=loop)
        try:
            return running.result()
        except CancelledError:
            raise loop.ended() from None

    def _reached(self, job: Job) -> Job:
        """Return *job*. Raises `UsageError` unless its account is available."""
        if not job.final:
            self.batch_service.api_of(job)
        return job

    def _each(self, jobs: Sequence[Job], move: Callable[[Job], Awaitable[Job]]) -> list[Job]:
        async def all_of_them() -> list[Job]:
            await load(self.batch_service, jobs)
            gate = asyncio.Semaphore(_AT_ONCE)

            async def one(job: Job) -> Job:
                async with gate:
                    return await self._report(move(job))

            tasks = [asyncio.ensure_future(one(job)) for job in jobs]
            # Each runs to its end, regardless of the others.
            done = await asyncio.gather(*tasks, return_exceptions=True)
            for each in done:
                if isinstance(each, BaseException):
                    raise each
            return [each for each in done if isinstance(each, Job)]

        return self.wait(all_of_them)

    async def _report(self, moved: Awaitable[Job]) -> Job:
        job = await moved
        self.batch_service.changed(job)
        return job


def commands(cache_dir: str | None = None) -> BatchCommands:
    """Return the commands on the jobs of a cache directory.

    Args:
        cache_dir: The cache directory. None for the current one.

    Raises:
        StoreError: If the cache or the journal cannot be opened. Nothing was sent.
    """
    store = open_store(current().cache_dir if cache_dir is None else cache_dir)
    running = engine(current().loop)
    return BatchCommands(running, store, batch_service(running, store))


def has_journal(directory: str) -> bool:
    """Return whether jobs were ever planned in a cache directory. Opens no database."""
    return os.path.exists(os.path.join(directory, "jobs.db"))


def short_ids(jobs: Sequence[Job]) -> dict[str, str]:
    """Return a unique prefix of each job's id, by full id. All have the same length, at least 8 characters."""
    digits = _SHOWN_DIGITS
    while len({job.id[:digits] for job in jobs}) < len(jobs):
        digits += 1
    return {job.id: job.id[:digits] for job in jobs}


async def load(batch_service: BatchService, jobs: Sequence[Job]) -> None:
    """Import the SDKs of the jobs' accounts in a thread, because an import would block the loop for a second."""
    for job in {(job.target, job.account): job for job in jobs}.values():
        target = batch_service.accounts.of(job)
        if target is not None:
            await asyncio.get_running_loop().run_in_executor(None, target.load)
