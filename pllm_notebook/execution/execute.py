"""The life cycle of a run: `execute` is its loop. Read this file first.

Rows are planned in a worker thread. Calls that are missing from the cache are queued, and a dispatcher pulls them. Each
reply is stored when it arrives. Replies on disk are read in a worker and recorded. Everything here runs on the engine's
loop, so no locks are needed.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress

from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution.call_queue import CallQueue
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.decider import Decider
from pllm_notebook.execution.evidence_turns import evidence_warning
from pllm_notebook.execution.outcome import ResultObserver
from pllm_notebook.execution.plan import is_own
from pllm_notebook.execution.results import ResultTable
from pllm_notebook.execution.row_source import RowSource
from pllm_notebook.execution.run_claims import job_warnings
from pllm_notebook.execution.run_state import NOT_CACHED, RunState
from pllm_notebook.execution.services import RunServices
from pllm_notebook.execution.user_code import ABANDON_AFTER_S, as_error
from pllm_notebook.failures import FailureKind

__all__ = ["Execution", "execute"]

logger = logging.getLogger("pllm_notebook")


async def execute(run: RunState) -> None:
    """Answer every row; return when each has an outcome, or when the run was stopped and arrived replies are recorded.

    Nothing counts before it is on disk, and arrived replies are never dropped.
    """
    async with asyncio.TaskGroup() as tasks:  # an internal error anywhere ends the run, with its traceback
        run.tasks = tasks
        for queue in run.queues:
            tasks.create_task(answer(run, queue))
        tasks.create_task(plan(run))
        if run.decider is not None:
            tasks.create_task(decide(run, run.decider))


async def plan(run: RunState) -> None:
    """Plan the remaining rows: keys, duplicates, cache hits. The next chunk is planned while one is processed."""
    loop, workers = run.services.engine.loop.loop, run.services.engine.workers
    work = loop.run_in_executor(workers, run.planner.next_chunks)
    while True:
        try:
            chunks = await work
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:  # raised by the caller's rows or types, possibly SystemExit
            run.stop("failed", as_error(error))
            break
        more = run.planner.at < run.rows.total and not run.is_stopping
        if more:
            work = loop.run_in_executor(workers, run.planner.next_chunks)
        for chunk in chunks:
            run.take_chunk(chunk)
        if not more:
            break
    # From here on only follow-up calls come, so batches and packs may be complete now.
    run.results.planned = True
    for queue in run.queues:
        queue.announce()


async def answer(run: RunState, queue: CallQueue) -> None:
    """Read and record the replies of one model until the run is over."""
    async for replies in queue.recorder.replies.groups():
        if replies:
            steps = await queue.reader.read(replies)
            if steps is None:
                queue.recorder.open -= len(replies)  # abandoned: their rows stay pending, and the store has them
            else:
                for reply, step in zip(replies, steps, strict=True):
                    run.take_step(queue, reply, step)
        run.advance(queue)


async def decide(run: RunState, decider: Decider) -> None:
    """Decide rows that have several calls each, until the run is over. Contested rows get further calls."""
    while not run.is_over:
        decider.woken.clear()
        await _decide_ready(run, decider)
        run.check_decided(decider)
        if not run.is_stopping and decider.add_rows(idle=run.is_idle) and run.results.planned:
            run.results.planned = False  # otherwise the running plan includes them
            assert run.tasks is not None
            run.tasks.create_task(plan(run))
        run.check_over()
        await decider.woken.wait()
    await _decide_ready(run, decider)  # a stopping run does not wait, but decides rows whose answers have all arrived


async def _decide_ready(run: RunState, decider: Decider) -> None:
    ready = decider.take_ready()
    if not ready:
        return
    engine = run.services.engine
    try:
        decided = await engine.loop.loop.run_in_executor(engine.workers, decider.decide, ready)
    except (asyncio.CancelledError, GeneratorExit):
        raise
    except BaseException as error:  # raised by the caller's types; rows must not wait forever
        logger.exception("Answers could not be decided")
        run.stop("failed", as_error(error))
        ready, decided = (), ()
    decider.record(ready, decided)


class Execution(RunState):
    """Execute one run from start to end, and again for retries. Used on the engine's loop.

    Args:
        specs: The specs of the calls, with the options of one run.
        rows: The rows.
        services: Shared services, which the run does not own.
        observer: Builds the observer of the results from their table; None for no observer.
        isolates: See `RunState`.

    Attributes:
        on_end: Called once when the run has ended in any way. Set by its creator.
    """

    def __init__(
        self,
        specs: Sequence[CallSpec],
        rows: RowSource,
        services: RunServices,
        *,
        observer: Callable[[ResultTable], ResultObserver] | None = None,
        isolates: bool = False,
    ) -> None:
        super().__init__(specs, rows, services, isolates=isolates, observer=observer)
        self.on_end: Callable[[], None] = _nothing
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Start planning; calls are sent as soon as the first chunk is planned."""
        if self.budget.ceiling_usd is not None:
            self.budget.expect(self, self._requests_left)
        self.results.planned = False
        for queue in self.queues:
            queue.begin()
        self._task = self.services.engine.loop.loop.create_task(self._main())

    def again(self, kinds: set[FailureKind] | None) -> None:
        """Send failed calls again: those of *kinds*, or None for those that may succeed now (see `Run.retry`)."""
        self._stop, self._is_short, self.error, self.state = None, False, None, "running"
        self.paused = self.planner.stopped = False
        calls = self.results.retryable(kinds) if self.decider is None else sorted(self.decider.reopen(kinds))
        shard = self.specs[0].options.shard
        calls = [call for call in calls if is_own(self.results.keys[call], shard)]
        can_pass, spec_of_call = self.results.retryable(None), self.results.spec_of_call
        for at, queue in enumerate(self.queues):
            queue.retry(*([call for call in some if spec_of_call[call] == at] for some in (calls, can_pass)))
        self.results.reopen(calls)
        self.begin()  # a run that was stopped may not have planned all its rows
        if self._only_cached:
            self._look_again(calls)
        for queue in self.queues:
            if queue.order.has_calls:
                queue.send()

    def fail(self, error: Exception) -> None:
        """End at once because of an internal error, since calls in flight might never end.

        Arrived replies are still stored, and recorded when they have been read.
        """
        # Python 3.12 starts no threads once the main thread has ended, not even for exit handlers.
        is_end = isinstance(error, RuntimeError) and not threading.main_thread().is_alive()
        if isinstance(error, PllmError) or is_end:
            logger.info("The run is ended: %s", error)
        else:
            logger.error("Internal error: the run is aborted", exc_info=error)
        if self.state != "running":
            return
        self.broken = True
        try:
            self.stop("failed", error)
        finally:
            self._end()
            if self._task is not None:
                self.services.engine.loop.loop.call_later(ABANDON_AFTER_S, self._task.cancel)

    def release(self) -> None:
        """Release the parts of an ended run that is no longer referenced.

        Python collects cycles late, and `gc_tuning` makes collections rare.
        """
        # After an internal error, answers may still arrive.
        if self.broken or self.state == "running":
            return
        self.results.observer = None
        for queue in self.queues:
            for part in (queue.tools, queue.reader, queue.order, queue.recorder, queue):
                if part is not None:
                    vars(part).clear()
        if self.decider is not None:
            self.decider.release()

    async def _main(self) -> None:
        try:
            await execute(self)
        except BaseExceptionGroup as group:
            error = _first(group)
            if not isinstance(error, Exception):
                raise
            self.fail(error)
            await self._drain()
        else:
            self._end()

    async def _drain(self) -> None:
        """Record the replies that had arrived before an internal error ended the run."""
        with suppress(Exception):
            async with asyncio.timeout(ABANDON_AFTER_S):
                await asyncio.gather(*(answer(self, queue) for queue in self.queues))

    def _look_again(self, calls: Sequence[int]) -> None:
        """Use the replies stored since *calls* were planned. The other calls fail, and nothing is sent."""
        for queue in self.queues:
            queue.order.reset(())
        for call in calls:
            queue = self.queues[self.results.spec_of_call[call]]
            if not queue.order.take_if_stored(call, (self.results.keys[call],), None):
                queue.recorder.fail_unsent(call, NOT_CACHED)
            queue.recorder.take_unsent()

    def _end(self) -> None:
        if self.state != "running":
            return
        for queue in self.queues:
            queue.close()
            queue.order.claims.end()
        if self.budget.ceiling_usd is not None:
            self.budget.forget(self)
        # Set the error before the state: another thread may raise it as soon as it sees the end.
        if self._stop is not None:
            self.error = self._stop.error(kept=self.kept, total=len(self.table.call_of_row))
            self.state = self._stop.state
        else:
            self.state = "failed" if self._is_short else "done"
        self.table.progress.finish(time.monotonic())
        self._note = f"incomplete: {self.results.unsaved:,} unsaved" if self.results.unsaved else ""
        unasked = sum(queue.recorder.unasked for queue in self.queues)
        in_jobs = sum((queue.order.rows_in_jobs() for queue in self.queues if queue.order.in_jobs), Counter[str]())
        self.warnings = [
            *(job_warnings(in_jobs) if in_jobs else ()),
            *((evidence_warning(unasked),) if unasked else ()),
            *(() if self.decider is None else self.decider.warnings()),
        ]
        try:
            if not self.broken:
                self.services.keep_limits(
                    [(each.spec.target, each.dispatcher) for each in self.queues if each.order.recheck.own_replies]
                )
        finally:
            # Break the reference cycle. Otherwise rows and answers would stay in memory until the next garbage
            # collection, which `relaxed_gc` makes rare.
            self.planner.on_miss = None
            on_end, self.on_end = self.on_end, _nothing
            on_end()


def _first(error: BaseException) -> BaseException:
    """Return the first error of a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _nothing() -> None:
    """Do nothing at the end: the default of `Execution.on_end`."""
