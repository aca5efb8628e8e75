"""The service that drives the batch jobs of one cache directory in this process, for all accounts.

A job's answers go to the store first and then to the runs that wait for them, if any. Jobs of earlier kernels are
handled in the same way.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from pllm_notebook.batch import AnswerSink, Driver, JobResult, Journal, JournalAccess, LineOutcome, Poller, PollTimes
from pllm_notebook.batch import Job as BatchJob
from pllm_notebook.batch_jobs.accounts import JobAccounts
from pllm_notebook.batch_jobs.batch_dispatcher import BatchDispatcher
from pllm_notebook.batch_jobs.batch_results import batch_rate, decode_reply, line_failure, line_outcome, read_results
from pllm_notebook.batch_jobs.job_planner import JobPlanner
from pllm_notebook.engine import Engine
from pllm_notebook.exceptions import PllmError, StoreError, UsageError
from pllm_notebook.failures import Failure, FailureKind
from pllm_notebook.protocols import BatchAPI, Store
from pllm_notebook.providers import ResolvedModel
from pllm_notebook.runtime import Slot
from pllm_notebook.settings import Options
from pllm_notebook.stored_reply import StoredReply
from pllm_notebook.types import RawReply, Reply

__all__ = ["BatchService", "batch_service_for"]

logger = logging.getLogger("pllm_notebook")

# A job is polled again after this time, and then at increasing intervals while nothing changes.
FIRST_LOOK_S = 5.0
_LOST = (
    "The batch job answered this request, but the answer is no longer in the cache, which was cleared or damaged "
    "since. Run the cell again to send the request again. Nothing more was sent."
)


class BatchService:
    """Drive the jobs of one journal. Used on the engine's loop unless stated otherwise.

    Args:
        engine: The engine it runs on.
        store: The store for answers.
        directory: The cache directory, which contains the journal.
        resolve: Resolves the model of a job (see `JobAccounts`).
    """

    def __init__(
        self, engine: Engine, store: Store, directory: str, resolve: Callable[[Options], ResolvedModel]
    ) -> None:
        self.journal = Journal.open(directory)
        self.accounts = JobAccounts(resolve)
        access = JournalAccess(self.journal, in_thread=self._in_thread)
        self.driver = Driver(access, self._api_of, AnswerSink(self._take, self._present))
        self._engine = engine
        self._store = store
        # By account and model, not by client: a run's job may be fetched by another client.
        self._dispatchers: dict[tuple[str, str, str], BatchDispatcher] = {}
        self._apis: dict[tuple[str, str, str], BatchAPI] = {}
        self._poller: Poller | None = None
        self._closing: asyncio.Task[None] | None = None
        self._concluding: set[asyncio.Task[None]] = set()
        # Whether the poller runs only in the background, without a request.
        self._unrequested = False
        # Calls of jobs that are also sent live: those without an answer yet, and those with a live answer.
        self.being_sent_live: set[str] = set()
        self.answered_live_first: set[str] = set()
        # Number of answers received from jobs.
        self.answered_by_jobs = 0

    def dispatcher(self, target: ResolvedModel, origin: str = "") -> BatchDispatcher:
        """Return the only batch dispatcher for an account and model."""
        self.accounts.register(target)
        account = (target.provider, target.account, target.model)
        dispatcher = self._dispatchers.get(account)
        if dispatcher is None:
            planner = JobPlanner(target, self.journal, batch_rate(target), origin)
            dispatcher = BatchDispatcher(planner, partial(self._open, target), self.wake, self._in_thread)
            self._dispatchers[account] = dispatcher
        return dispatcher

    def wake(self) -> None:
        """Poll every open job now, and continue polling."""
        if self._poller is None:
            times = PollTimes(first_s=FIRST_LOOK_S)
            self._poller = Poller(self.driver, times, changed=self.changed, sleep=self._wait_between_polls)
        self._engine.register(self)
        self._unrequested = False
        self._poller.start()
        self._poller.wake()

    async def start_polling(self) -> None:
        """Poll the open jobs of earlier kernels in the background. Has no effect if jobs are already polled."""
        for job in await self._in_thread(lambda: self.journal.jobs(unfinished=True)):
            target = self.accounts.of(job)
            if target is not None:
                # Importing an SDK would block the loop for a second.
                await self._in_thread(target.load)
        if self._poller is None or not self._poller.running:
            self.wake()
            self._unrequested = True

    async def leave(self) -> None:
        """Stop the background polling of `start_polling`, unless polling was requested since."""
        if self._unrequested and self._poller is not None:
            await self._poller.stop()

    def cancel(self) -> None:
        """Stop polling and close the connections. Jobs continue at their providers."""
        if self._closing is None:
            self._closing = self._engine.loop.loop.create_task(self._close())

    def abort(self) -> None:
        """Unregister at once."""
        self._engine.unregister(self)

    def fail(self, error: Exception) -> None:
        """Ignore the error: jobs are polled by separate tasks, which it does not affect."""

    async def _close(self) -> None:
        try:
            if self._poller is not None:
                await self._poller.stop()
            for api in self._apis.values():
                await api.aclose()
            self.journal.close()
        finally:
            self._engine.unregister(self)

    def _open(self, target: ResolvedModel) -> BatchAPI:
        api = self._apis.get(target.dispatcher_key)
        if api is None:
            if target.open_batch is None:
                raise UsageError(
                    f"mode='batch' cannot be used with {target.label}: {target.no_batch_reason} Nothing was sent."
                )
            api = self._apis[target.dispatcher_key] = target.open_batch()
            self._engine.register(self)
        return api

    def api_of(self, job: BatchJob) -> BatchAPI:
        """Open the batch API of a job's account.

        Raises:
            UsageError: If it is not available. Nothing was sent.
        """
        target = self.accounts.of(job)
        if target is None:
            raise UsageError(
                f"Batch job {job.id[:8]} cannot be reached: {self.accounts.reason_unavailable(job)} Nothing was sent."
            )
        return self._open(target)

    def _api_of(self, job: BatchJob) -> BatchAPI | None:
        target = self.accounts.of(job)
        if target is None:
            return None
        try:
            return self._open(target)
        except PllmError as error:
            logger.info("Batch job %s is left alone: %s", job.id, error)
            return None

    def _dispatcher_of(self, job: BatchJob) -> BatchDispatcher | None:
        return self._dispatchers.get((job.provider, job.account, job.model))

    async def _take(self, job: BatchJob, arrivals: Sequence[JobResult]) -> Sequence[LineOutcome]:
        """Store the answers among some arrivals, and end the calls that wait for them."""
        target = self.accounts.of(job)
        assert target is not None  # the results were fetched with its account
        read = await self._in_thread(read_results, target, arrivals)
        entries = {one.line.key: entry for one, (_, _, entry) in zip(arrivals, read, strict=True) if entry is not None}
        late = self.answered_live_first | {one.line.key for one in arrivals if one.line.state == "superseded"}
        late = await self._in_thread(self._store_duplicates, job, {key: entries[key] for key in late & entries.keys()})
        await self.keep({key: entry for key, entry in entries.items() if key not in late})
        self.being_sent_live -= entries.keys()
        self.answered_by_jobs += len(entries)
        dispatcher = self._dispatcher_of(job)
        if dispatcher is not None:
            arrived = zip(arrivals, read, strict=True)
            limits = {one.line.key: one.line.output_limit or 0 for one in arrivals}
            dispatcher.replies += sum(isinstance(result, Reply) for result, _, _ in read)
            dispatcher.arrived({arrival.line.key: (result, raw) for arrival, (result, raw, _) in arrived}, limits)
        rate = batch_rate(target)
        return [line_outcome(result, entry, rate) for result, _, entry in read]

    async def keep(self, entries: Mapping[str, StoredReply]) -> None:
        """Store answers, and return when all are on disk.

        Raises:
            StoreError: If one cannot be stored.
        """
        loop = self._engine.loop.loop
        kept: list[asyncio.Future[None]] = []
        for key, entry in entries.items():
            future: asyncio.Future[None] = loop.create_future()
            kept.append(future)
            self._store.put(key, entry, partial(self._engine.loop.call, _resolve, future))
        # All are awaited before the first error is raised: the others would be logged as never retrieved.
        errors = [error for error in await asyncio.gather(*kept, return_exceptions=True) if error is not None]
        if errors:
            raise errors[0]

    async def answered(self, results: Mapping[str, tuple[StoredReply, Reply, RawReply]]) -> None:
        """Record answers in the store that did not come from the jobs, but live or from a file."""
        await self.driver.superseded(list(results))
        limits = {key: entry.output_limit for key, (entry, _, _) in results.items()}
        for dispatcher in self._dispatchers.values():
            dispatcher.answered({key: results[key][1:] for key in dispatcher.waiting(list(results))}, limits)

    def _store_duplicates(self, job: BatchJob, late: Mapping[str, StoredReply]) -> set[str]:
        """Save duplicate answers to calls that were already answered live; return their keys. In a worker thread."""
        there = self._present(list(late)) | (self.answered_live_first & late.keys())
        self.journal.spool.keep_duplicates(job.id, "batch", {key: late[key].raw for key in there})
        return there

    def _present(self, keys: Sequence[str]) -> set[str]:
        return set(self._store.get_many(list(keys)))

    def changed(self, job: BatchJob) -> None:
        """Report a job's state to the runs that wait for it."""
        dispatcher = self._dispatcher_of(job)
        if dispatcher is None:
            return
        dispatcher.changed(job)
        if job.final:
            # Keep a reference: nothing else keeps the task from being collected.
            task = self._engine.loop.loop.create_task(self._conclude(job, dispatcher))
            self._concluding.add(task)
            task.add_done_callback(self._concluded)

    def _concluded(self, task: asyncio.Task[None]) -> None:
        self._concluding.discard(task)
        if not task.cancelled() and task.exception() is not None:
            # At the end of the process there are no workers any more. The next run finds the answers in the store.
            logger.info("The answers of a batch job were not handed on: %s", task.exception())

    async def _wait_between_polls(self, seconds: float) -> None:
        """Wait between two polls, and check for jobs that another kernel has ended, since they are no longer open."""
        try:
            for job in [job for dispatcher in self._dispatchers.values() for job in dispatcher.jobs]:
                now = await self._in_thread(self.journal.job, job.id)
                if (now.state, now.message) != (job.state, job.message):
                    self.changed(now)
        except StoreError as error:
            logger.warning("%s", error)
        await asyncio.sleep(seconds)

    async def _conclude(self, job: BatchJob, dispatcher: BatchDispatcher) -> None:
        """End the remaining calls of a final job: answered through another kernel, or never answered."""
        lines = await self._in_thread(lambda: list(self.journal.lines.of(job.lines_of)))
        waited = set(dispatcher.waiting([line.key for line in lines]))
        # If a run wanted an older answer refreshed, that answer does not count for a failed line.
        answered = {line.key for line in lines if line.key in waited and line.state in ("answered", "superseded")}
        found = await self._in_thread(self._store.get_many, list(answered))
        # Use the stored answers, with their stored cost.
        dispatcher.answered(
            {key: (decode_reply(entry), RawReply(200, {}, entry.raw)) for key, entry in found.items()},
            {key: entry.output_limit for key, entry in found.items()},
        )
        left = dispatcher.waiting_in(job.id, [line.key for line in lines])
        dispatcher.arrived(
            {
                line.key: (line_failure(line.failure, job.message), None)
                for line in lines
                if line.key in left and line.key not in found and line.state in ("failed", "missing")
            }
        )
        # They would be waited for without end: a final job brings nothing more.
        lost = [line.key for line in lines if line.key in left and line.key in answered and line.key not in found]
        dispatcher.arrived({key: (Failure(FailureKind.MISSING, _LOST, attempts=1), None) for key in lost})

    def _in_thread(self, work: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        try:
            return self._engine.loop.loop.run_in_executor(self._engine.workers, partial(work, *args))
        except RuntimeError:  # the engine is shutting down, and its threads have already ended
            raise asyncio.CancelledError from None


_SERVICES: Slot[dict[tuple[int, str], BatchService]] = Slot("batch services", dict)


def batch_service_for(
    engine: Engine, store: Store, directory: str, resolve: Callable[[Options], ResolvedModel]
) -> BatchService:
    """Return this process's batch service for a cache directory and engine.

    Raises:
        StoreError: If the job journal cannot be read or written. Nothing was sent.
    """
    services = _SERVICES.value
    key = (id(engine), directory)
    if key not in services:
        for old in [old for old, batch_service in services.items() if not batch_service._engine.loop.alive]:
            del services[old]
        services[key] = BatchService(engine, store, directory, resolve)
    return services[key]


def _resolve(future: asyncio.Future[None], error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(StoreError(f"A batch answer could not be stored: {error}."))
