"""The life of a run: `execute` is the loop, `Execution` is its state and the ways to stop it.

Rows are planned in a worker thread. Calls that are missing from the cache are queued, and a dispatcher pulls them. Each
reply is stored when it arrives; what is on disk is read in a worker, and recorded. Everything here runs on the engine's
loop, so nothing needs a lock.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Container, Sequence
from contextlib import suppress
from functools import partial

from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution.arrivals import Arrival, Calling
from pllm_notebook.execution.budget import RunBudget
from pllm_notebook.execution.call_queue import CallQueue
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.course import Listener
from pllm_notebook.execution.outcomes import Ledger, Outcome
from pllm_notebook.execution.plan import Chunk, Planner
from pllm_notebook.execution.progress import RunProgress
from pllm_notebook.execution.replies import ReplyReader
from pllm_notebook.execution.row_source import RowSource
from pllm_notebook.execution.services import RunServices
from pllm_notebook.execution.settle import Repair, Settled
from pllm_notebook.execution.stop import Reason, State
from pllm_notebook.execution.user_code import ABANDON_AFTER_S, as_error
from pllm_notebook.records import Failure, FailureKind, Spent

__all__ = ["Execution", "execute"]

logger = logging.getLogger("pllm_notebook")

# Stored answers of one spec that are looked at to learn how many tokens an answer takes.
_LEARNED_FROM = 64


async def execute(run: Execution) -> None:
    """Answer every row; return when each has an outcome, or when the run was stopped and what arrived is recorded.

    Order is the promise: nothing counts before it is on disk, and what has arrived is never dropped.
    """
    async with asyncio.TaskGroup() as tasks:  # an internal error anywhere ends the run, with its traceback
        run.tasks = tasks
        tasks.create_task(_plan(run))
        tasks.create_task(_answer(run, run.queue))


async def _plan(run: Execution) -> None:
    """Plan the rows that have not been planned: keys, duplicates, cache hits. The next chunk while one is taken."""
    queue, planner = run.queue, run.planner
    loop, workers = run.services.engine.loop.loop, run.services.engine.workers
    next_chunk = partial(planner.next_chunk, lambda: run.is_stopping)
    work = loop.run_in_executor(workers, next_chunk)
    while True:
        try:
            chunk = await work
        except (asyncio.CancelledError, GeneratorExit):
            raise
        except BaseException as error:  # what the caller's own rows or types raised, SystemExit included
            run.stop("failed", as_error(error))
            break
        if chunk is None:
            break
        work = loop.run_in_executor(workers, next_chunk)
        run.take_chunk(chunk)
    run.results.planned = True
    queue.announce()
    queue.wake()


async def _answer(run: Execution, queue: CallQueue) -> None:
    """Read and record what comes back from one model, until the run is over."""
    async for replies in queue.finished():
        if replies:
            steps = await run.reader.read(replies)
            if steps is None:
                queue.open -= len(replies)  # abandoned: their rows stay pending, and the store has them
            else:
                for reply, step in zip(replies, steps, strict=True):
                    run.take_step(queue, reply, step)
        run.advance(queue)


class Execution:
    """One run on the engine's loop; what displays read may be read from any thread.

    Args:
        spec: What is asked of every row.
        rows: The rows.
        services: What it uses and does not own.
        on_end: Called when it has ended, however it did.
        listener: Hears what is planned and recorded; then a failed row ends nothing. None for no one.

    Attributes:
        results: The outcome of each row, and their counts.
        broken: Whether an internal error ended it: what is still on its way can then not be counted on.
        note: One line of news for the display, "" for none.
        warnings: What a person should be told at the end, besides rows that failed or were not saved.
    """

    def __init__(
        self,
        spec: CallSpec,
        rows: RowSource,
        services: RunServices,
        on_end: Callable[[], None],
        listener: Listener | None = None,
    ) -> None:
        options = spec.options
        self.ask = spec
        self.model = spec.target.label
        self.simulated = spec.target.simulated
        self.note = ""
        self.warnings: tuple[str, ...] = ()
        self.broken = False
        self.state: State = "running"
        self.error: BaseException | None = None
        self.services = services
        self.total = rows.total
        self.results = Ledger(rows.total)
        self.planner = Planner(spec, rows, self.results, services.store)
        raises = listener is None and (options.mode == "sync" or options.errors == "raise")
        self.run_budget = services.budget or RunBudget(options.max_cost_usd)
        self.queue = CallQueue(spec, self.planner, self.results, services, run_budget=self.run_budget, raises=raises)
        self.reader = ReplyReader(spec, services, self.planner.prompt)
        self._on_end = on_end
        self._listener = listener
        if listener is not None:
            self.results.observer = listener.recorded
        # The state that it will end in once what is on its way has come back, and why; None while nothing stops it.
        self._stopping: State | None = None
        self._reason: Reason = None
        self._task: asyncio.Task[None] | None = None
        self.tasks: asyncio.TaskGroup | None = None

    # What displays and callers read.

    @property
    def ledger(self) -> Ledger:
        """The outcomes."""
        return self.results

    @property
    def throughput(self) -> RunProgress:
        """Counts of rows."""
        return self.results.progress

    @property
    def is_stopping(self) -> bool:
        """Whether nothing more is to be planned or sent."""
        return self._stopping is not None

    @property
    def in_flight(self) -> int:
        """Calls on the wire."""
        return self.queue.in_flight

    @property
    def submitted(self) -> bool:
        """Whether everything that it asks is on its way."""
        return self.state != "running" or self.queue.submitted

    @property
    def kept(self) -> int:
        """Rows that have an answer."""
        return self.results.answered

    @property
    def unsaved(self) -> int:
        """Rows whose paid answer the cache could not keep."""
        return self.results.unsaved

    @property
    def spent(self) -> Spent:
        """What its calls have used and cost."""
        return self.queue.spent

    @property
    def reserved_usd(self) -> float:
        """US dollars reserved for requests that are out, under a ceiling."""
        return self.run_budget.reserved_usd

    def look(self) -> None:
        """Set `note` to what holds calls back at this moment. For the display's clock."""
        self.note = "" if self.is_stopping else self.queue.blocked_by()

    def ask_of(self, row: int) -> CallSpec:
        """Return what was asked of a row."""
        return self.ask

    def retryable(self, kinds: set[FailureKind] | None) -> list[int]:
        """Return the calls that `again` would send: never ended, or failed in a way that can pass."""
        return self.results.retryable(kinds)

    # Its life.

    def begin(self) -> None:
        """Start to plan; calls are sent as soon as the first chunk is planned."""
        self.run_budget.expect(self, self._requests_left)
        self.results.planned = False
        self.queue.begin()
        self._task = self.services.engine.loop.loop.create_task(self._main())

    def again(self, kinds: set[FailureKind] | None, among: Container[int] | None = None) -> None:
        """Send what failed once more (see `Run.retry`).

        Args:
            kinds: Of failures; None for those that can pass.
            among: The calls to look at, None for all.
        """
        self._stopping, self._reason, self.error, self.state = None, None, None, "running"
        calls = [call for call in self.retryable(kinds) if among is None or call in among]
        self.queue.retry(calls, can_pass=self.retryable(None))
        self.results.reopen(calls)
        self.begin()  # a run that was stopped may not have planned all its rows
        if self.ask.options.cache == "only":
            self._look_again(calls)
        self.queue.send()

    def stop(self, state: State, error: Reason) -> None:
        """Send nothing more and cancel what is on the wire; the first reason counts."""
        if self._stopping is not None or self.state != "running":
            return
        self._stopping, self._reason = state, error
        self.queue.stop(state, error)
        self.queue.close()
        self._check_over()
        # One that never began waits for nothing, and never ends.
        if self._task is not None and self.state == "running":
            self._abandon_later()

    def fail(self, error: Exception) -> None:
        """End at once by an internal error: waiting for what is still out could be for ever.

        What has arrived is stored all the same, and recorded when it has been read.
        """
        if isinstance(error, PllmError):
            logger.info("The run is ended: %s", error)
        else:
            logger.error("Internal error: the run is aborted", exc_info=error)
        if self.state != "running":
            return
        self.broken = True
        if self._stopping is None:
            self._stopping, self._reason = "failed", error
        self.queue.stop("failed", error)
        try:
            self.queue.close()
        finally:
            self._end()
            if self._task is not None and not self.queue.over:
                self.services.engine.loop.loop.call_later(ABANDON_AFTER_S, self._task.cancel)

    def release(self) -> None:
        """Let go of the parts of a run that has ended and that no one holds any more.

        Python finds circles late, and `gc_tuning` makes it look rarely.
        """
        # After an internal error, answers may still be on their way.
        if self.broken or self.state == "running":
            return
        self._on_end = _nothing
        self._listener = self.results.observer = None
        self.planner.release()
        for part in (self.queue.tools, self.queue, self.reader):
            vars(part).clear()

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
        """Record what had arrived before an internal error ended the run."""
        with suppress(Exception):
            async with asyncio.timeout(ABANDON_AFTER_S):
                await _answer(self, self.queue)

    # What the loop calls.

    def take_chunk(self, chunk: Chunk) -> None:
        """Record what the plan found; queue the rest."""
        queue, results = self.queue, self.results
        results.count_planned(chunk.weights, skipped=chunk.skipped, failed=chunk.failed)
        if self._listener is not None:
            self._listener.planned(results, chunk)
        for reply, _ in chunk.settled[:_LEARNED_FROM]:
            self.ask.token_bounds.answered(reply.entry.output_tokens)
        valid, rest = [], []
        for reply, step in chunk.settled:
            if isinstance(step, Outcome) and step.cached and step.failure is None:
                valid.append((reply.call, step))
            else:
                rest.append((reply, step))
        queue.any_cached = queue.any_cached or bool(valid)
        results.record_cached(valid)
        for reply, step in rest:
            queue.open += 1
            self.take_step(queue, reply, step, is_new=False)
        for call, outcome in chunk.rejected:
            queue.record(call, outcome)
        if chunk.failed:
            first = min(results.own_failures)
            queue.raise_at(first, results.own_failures[first])
        if self.ask.options.cache == "only":
            for call in chunk.missing:
                self._record_not_cached(call)
        else:
            queue.extend(chunk.missing)
        queue.send()

    def take_step(self, queue: CallQueue, reply: Arrival, step: Settled, *, is_new: bool = True) -> None:
        """Record an outcome, queue a follow-up call, or run tools.

        Args:
            queue: The queue of the call, which is open.
            reply: What was read.
            step: What becomes of it.
            is_new: Whether it came in this run; a stored failure is not noted again.
        """
        if isinstance(step, Calling) and not self.is_stopping:
            assert self.tasks is not None
            queue.tools.add(self.tasks.create_task(self._run_tools(queue, step)))
            return
        queue.open -= 1
        if isinstance(step, Outcome):
            if is_new:
                queue.note_failure(reply, step)
            queue.record(reply.call, step)
        elif isinstance(step, Repair):
            queue.push(step)
        # Else the run stops before the tools are run: the row stays pending.

    async def _run_tools(self, queue: CallQueue, calling: Calling) -> None:
        step = await queue.tools.run(calling)
        self.take_step(queue, calling.arrival, step)
        self.advance(queue)
        if not queue.tools.working:
            queue.announce()  # a dispatcher that gathers calls may have them all now

    def advance(self, queue: CallQueue) -> None:
        """Send what can be sent now, and end if that was all."""
        if queue.fault is not None and not self.broken:
            raise queue.fault
        if queue.halted is not None:
            self.stop(*queue.halted)
        queue.settle_refusals()
        queue.send()
        self._check_over()

    def _check_over(self) -> None:
        if not self.results.planned or self.queue.open:
            return
        if self._stopping is None and self.queue.has_calls:
            return
        self.queue.over = True
        self.queue.wake()

    def _look_again(self, calls: Sequence[int]) -> None:
        """Take what was stored since *calls* were planned; the rest fails, and nothing is sent."""
        self.queue.reset(())
        for call in calls:
            if not self.queue.take_if_stored(call, (self.results.keys[call],), None):
                self._record_not_cached(call)

    def _record_not_cached(self, call: int) -> None:
        failure = Failure(FailureKind.NOT_CACHED, "Not in the cache, and cache='only' sends nothing.")
        self.queue.record(call, Outcome(None, failure, self.results.keys[call], (), False))

    def _abandon_later(self) -> None:
        """Stop to wait for the caller's validators, which may never return, in a run that stops."""
        self.services.engine.loop.loop.call_later(ABANDON_AFTER_S, self._abandon)

    def _abandon(self) -> None:
        if self.state == "running" and self._stopping is not None:
            self.reader.abandon()
            self.queue.drop_committed()
            self._abandon_later()

    # The end.

    def _end(self) -> None:
        if self.state != "running":
            return
        self.queue.close()
        self.run_budget.forget(self)
        reason = self._reason
        if reason is not None and not isinstance(reason, BaseException):
            reason = reason(kept=self.kept, total=self.total)
        # The error first: another thread that sees the end may raise it at once.
        self.error = reason
        self.state = self._stopping or "done"
        self.results.progress.finish(time.monotonic())
        self.note = f"incomplete: {self.unsaved:,} unsaved" if self.unsaved else ""
        self.queue.claims.end()
        self.warnings = self._waiting_in_jobs()
        try:
            if not self.broken and self.queue.recheck.any_reply:
                with suppress(RuntimeError):  # at the end of the process there are no workers any more
                    self.services.keep_limits(self.ask.target)
        finally:
            self._on_end()

    def _requests_left(self) -> int:
        """Return the number of requests for rows that have not ended."""
        return -(-self.results.progress.left(self.total) // (self.ask.pack or 1))

    def _waiting_in_jobs(self) -> tuple[str, ...]:
        """Say which rows were not sent because they wait in a batch job, and what can be done."""
        rows: Counter[str] = Counter()
        for call, job in self.queue.in_jobs.items():
            rows[job] += self.results.weight[call]
        return tuple(
            f"{'1 row waits' if count == 1 else f'{count:,} rows wait'} in batch job {job[:8]}; nothing was sent for "
            f"{'it' if count == 1 else 'them'}. wait=True waits for the job, pllm.jobs().hurry({job[:8]!r}) sends now, "
            f"at the live price."
            for job, count in rows.items()
        )


def _first(error: BaseException) -> BaseException:
    """Return the first error of a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _nothing() -> None:
    """Do nothing: no one waits for the end any more."""
