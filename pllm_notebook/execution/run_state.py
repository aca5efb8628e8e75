"""The state of one run: how results change it, when it is over, and how it is stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from pllm_notebook.exceptions import PllmError
from pllm_notebook.execution.budget import RunBudget
from pllm_notebook.execution.call_queue import CallQueue
from pllm_notebook.execution.call_queues import CallQueues
from pllm_notebook.execution.call_spec import CallSpec
from pllm_notebook.execution.decider import Decider
from pllm_notebook.execution.follow_ups import FollowUp, ToolCalls, UnreadReply
from pllm_notebook.execution.outcome import Outcome, ResultObserver
from pllm_notebook.execution.plan import Chunk, Planner
from pllm_notebook.execution.replies import Step
from pllm_notebook.execution.results import ResultTable
from pllm_notebook.execution.row_source import MixedRows, RowSource
from pllm_notebook.execution.services import RunServices
from pllm_notebook.execution.stop import Halt, Reason, State, failure_of, row_error
from pllm_notebook.execution.user_code import ABANDON_AFTER_S
from pllm_notebook.failures import Failure, FailureKind

__all__ = ["NOT_CACHED", "RunState"]

# Maximum number of stored answers of one chunk used to learn how many tokens an answer takes.
_LEARNED_FROM = 64
NOT_CACHED = Failure(FailureKind.NOT_CACHED, "Not in the cache, and cache='only' sends nothing.")


class RunState:
    """One run on the engine's loop. The properties that displays read may be read from any thread.

    Args:
        specs: The specs of the rows (see `MixedRows`), with the options of one run.
        rows: The rows.
        services: Shared services, which the run does not own.
        isolates: Whether a model that cannot be called fails only its own rows, while the other models continue.
        observer: Builds the observer of the results from their table; None for no observer.

    Attributes:
        results: The outcome of each call and row of the run, and their counts.
        table: The outcomes of the user's rows: the decided outcomes of an ensemble, otherwise `results`.
        counts: Counts of the rows of `table`.
        model: The models that are called, as displays show them.
        simulated: Whether any answers are simulated.
        decider: Decides rows from several calls each, None if each row has one call.
        queues: The calls of each spec.
        tasks: The tasks of this run; None before it begins.
        state: "running" until it has ended.
        error: The error that ended it, for the caller to raise; None for none.
        broken: Whether an internal error ended it, so that calls in flight may never end.
        warnings: Warnings to show at the end, besides those about rows that failed or were not saved.
        paused: Whether no new calls are sent for now.
    """

    def __init__(
        self,
        specs: Sequence[CallSpec],
        rows: RowSource,
        services: RunServices,
        *,
        isolates: bool,
        observer: Callable[[ResultTable], ResultObserver] | None,
    ) -> None:
        options = specs[0].options
        self.specs = specs
        self.rows = rows
        self.services = services
        self.results = ResultTable(rows.total)
        observes = None if observer is None else observer(self.results)
        self.results.observer = observes
        self.decider = observes if isinstance(observes, Decider) else None
        self.table = self.results if self.decider is None else self.decider.table
        self.counts = self.table.progress
        asked = specs if self.decider is None else specs[: self.decider.members]
        self.model = ", ".join(dict.fromkeys(spec.model_in_words for spec in asked))
        self.simulated = any(spec.target.simulated for spec in asked)
        self.planner = Planner(specs, rows, self.results, services.store)
        self.budget = services.budget or RunBudget(options.max_cost_usd)
        # With a decider, a failed row ends the run when it is decided, not when one of its samples fails.
        raises = self.decider is None and (options.mode == "sync" or options.errors == "raise")
        self.queues = CallQueues(
            CallQueue(spec, self.planner, self.results, services, run_budget=self.budget, raises=raises)
            for spec in specs
        )
        self._serial = options.mode == "sync"
        if self._serial:
            for at, queue in enumerate(self.queues):
                queue.before = self.queues[:at]
        self.tasks: asyncio.TaskGroup | None = None
        self.state: State = "running"
        self.error: BaseException | None = None
        self.broken = self.paused = False
        self._note = ""
        self.warnings: Sequence[str] = ()
        self._isolates = isolates and not raises
        self._only_cached = options.cache == "only"
        # How the run will end once the calls in flight have ended; None while nothing stops it.
        self._stop: Halt | None = None
        self._is_short = False

    # Read by displays and callers.

    @property
    def note(self) -> str:
        """The display's status note, "" for none."""
        if self.decider is None:
            return self._note
        further = self.queues[self.decider.members :]
        spent = further[0].spent if further else None
        return self.decider.news(self._note, spent, self.queues.spent.cost_usd, ended=self.state != "running")

    @property
    def is_stopping(self) -> bool:
        """Whether nothing more is to be planned or sent."""
        return self._stop is not None

    @property
    def submitted(self) -> bool:
        """Whether all calls have been sent; for a batch, submitted to the provider."""
        return self.state != "running" or self.queues.are_submitted

    @property
    def kept(self) -> int:
        """Number of rows with an answer."""
        return self.table.answered

    @property
    def unsaved(self) -> int:
        """Number of rows whose paid answer the cache could not keep."""
        return self.results.unsaved

    def look(self) -> None:
        """Set `note` to what holds calls back at present. Called before each update of the displays."""
        if self.is_stopping:
            self._note = ""
        elif self.paused:
            self._note = "paused"
        else:
            self._note = self.queues.blocked_by()

    def spec_of(self, row: int) -> CallSpec:
        """Return the spec of a row."""
        if self.decider is None and isinstance(self.rows, MixedRows):
            return self.specs[self.rows.spec_of_row[row]]
        return self.specs[0]

    def answer_of(self, row: int) -> tuple[CallSpec, str]:
        """Return the spec whose reply is a row's answer, and the reply's key; "" if it is the row's own call."""
        decided = None if self.decider is None else self.decider.reply_of(row)
        return decided or (self.spec_of(row), "")

    def retryable(self, kinds: set[FailureKind] | None) -> list[int]:
        """Return the calls that a retry of *kinds* would send (see `ResultTable.retryable`)."""
        return self.table.retryable(kinds)

    # Called by the loop.

    def take_chunk(self, chunk: Chunk) -> None:
        """Record the outcomes that the plan found, and queue the other calls."""
        queue, results = self.queues[chunk.spec], self.results
        results.count_planned(chunk.rows, chunk.weights, skipped=chunk.skipped, failed=chunk.failed)
        for reply, _ in chunk.steps[:_LEARNED_FROM]:
            queue.spec.token_bounds.answered(reply.entry.output_tokens)
        valid, rest = [], []
        for reply, step in chunk.steps:
            if isinstance(step, Outcome) and step.cached and step.failure is None:
                valid.append((reply.call, step))
            else:
                rest.append((reply, step))
        queue.recorder.any_cached = queue.recorder.any_cached or bool(valid)
        results.record_cached(valid)
        for reply, step in rest:
            queue.recorder.open += 1
            self.take_step(queue, reply, step, is_new=False)
        for call, outcome in chunk.rejected:
            queue.recorder.record(call, outcome)
        if chunk.failed:
            first = min(results.own_failures)
            queue.recorder.raise_at(first, results.own_failures[first])
        if self.decider is not None:
            self.check_decided(self.decider)
            if chunk.missing and not (self._isolates or self._only_cached):
                self._check_keys()
        fails_with = NOT_CACHED if self._only_cached else queue.recorder.fails_with
        if fails_with is None:
            queue.order.extend(chunk.missing)
        else:
            for call in chunk.missing:
                queue.recorder.fail_unsent(call, fails_with)
        if queue.order.has_calls:
            queue.send()

    def take_step(self, queue: CallQueue, reply: UnreadReply, step: Step, *, is_new: bool = True) -> None:
        """Record an outcome, queue a follow-up call, or run tools.

        Args:
            queue: The queue of the call, which is open.
            reply: The reply that was read.
            step: The step that follows from it.
            is_new: Whether the reply arrived in this run; the failure of a stored reply is not stored again.
        """
        if isinstance(step, ToolCalls) and not self.is_stopping:
            assert self.tasks is not None
            assert queue.tools is not None  # the model can only call tools that were offered
            queue.tools.add(self.tasks.create_task(self._run_tools(queue, step)))
            return
        queue.recorder.open -= 1
        if isinstance(step, Outcome):
            if is_new and step.failure is not None:
                queue.recorder.note_failure(reply, step, step.failure)
            queue.recorder.record(reply.call, step)
        elif isinstance(step, FollowUp):
            if queue.recorder.fails_with is None:
                queue.order.push(step)
            else:
                queue.recorder.record_unsent(step.call, step.failed(queue.recorder.fails_with))
        # Otherwise the run is stopping and its tools do not run: the row stays pending.

    async def _run_tools(self, queue: CallQueue, calling: ToolCalls) -> None:
        assert queue.tools is not None
        step = await queue.tools.run(calling)
        self.take_step(queue, calling.reply, step)
        self.advance(queue)
        if not queue.tools.working:
            queue.announce()  # a batch dispatcher may have all calls now

    def advance(self, queue: CallQueue) -> None:
        """Send what can be sent now, and end the run if nothing is left."""
        if queue.recorder.fault is not None and not self.broken:
            raise queue.recorder.fault
        if queue.recorder.rejections.held:
            queue.recorder.settle_rejections()
        if queue.recorder.halted is not None and self._stop is None:
            self._take_halt(queue, queue.recorder.halted)
        has_calls = queue.order.has_calls
        if has_calls and queue.recorder.halted is None:
            queue.send()
        if queue.recorder.open or (self._stop is None and (has_calls or queue.recorder.rejections.held)):
            return
        if self.decider is not None:
            self.decider.woken.set()
        if self._serial:
            for each in self.queues:
                if each.order.has_calls:
                    each.send()
        self.check_over(queue)

    def check_over(self, looked_at: CallQueue | None = None) -> None:
        """End the run if nothing is left to wait for; *looked_at* is known to have nothing."""
        is_deciding = self.decider is not None and self.decider.is_busy and self._stop is None
        if is_deciding or not self._is_idle(looked_at):
            return
        for queue in self.queues:
            queue.recorder.replies.over = True
            queue.recorder.replies.wake()
        if self.decider is not None:
            self.decider.woken.set()

    @property
    def is_idle(self) -> bool:
        """Whether no call is open, and none is left to be planned or sent."""
        return self._is_idle()

    def _is_idle(self, looked_at: CallQueue | None = None) -> bool:
        if not self.results.planned or any(queue.recorder.open for queue in self.queues):
            return False
        others = [queue for queue in self.queues if queue is not looked_at]
        # A queue with held rejections is not idle: they are decided when the queue advances.
        idle = not any(queue.order.has_calls or queue.recorder.rejections.held for queue in others)
        return idle or self._stop is not None

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to wait for."""
        return self.queues[0].recorder.replies.over

    def check_decided(self, decider: Decider) -> None:
        """Stop at the first failed row if the caller requested that."""
        if decider.raises and decider.first_failure is not None:
            self.stop("failed", row_error(*decider.first_failure))

    def _check_keys(self) -> None:
        """Stop if any model has no key, before the first call is sent and not only when the judge is called."""
        for spec in self.specs:
            if spec.target.missing_key is not None:
                self.stop("failed", spec.target.missing_key)

    def pause(self, paused: bool) -> None:
        """Send no new calls for now, or continue. Planning, reading and recording are not paused."""
        if self.state == "running" and self._stop is None:
            self.paused = paused
            for queue in self.queues:
                queue.run_queue.pause(paused)
                if paused:
                    queue.order.release_unsent()
                else:
                    queue.announce()

    # Stopping.

    def stop(self, state: State, reason: Reason) -> None:
        """Send nothing more and cancel the calls on the wire. The first reason counts."""
        if self._stop is not None or self.state != "running":
            return
        self._stop = Halt(state, reason)
        self.planner.stopped = True
        for queue in self.queues:
            queue.recorder.halt(state, reason)
            queue.close()
        if self.tasks is not None:
            self._abandon_later()

    def _take_halt(self, queue: CallQueue, halt: Halt) -> None:
        """Stop the run, or let the other queues continue without *queue*."""
        if queue.over_budget is not None:
            queue.recorder.fail_all(queue.over_budget)
        if len(self.queues) == 1 and not self._isolates:
            self.stop(*halt)
            return
        if halt.reason is None:  # over budget: not an error, but the run's state must not be "done"
            self._is_short = True
            self._close_alone(queue)
            return
        if self.decider is not None and not self._isolates:  # the calls here are samples: count the rows at the end
            self.stop(*halt)
            return
        at = self.queues.index(queue)
        kept, total = self.results.counts_of(at)
        error = halt.error(kept=kept, total=total)
        if not self._isolates or not isinstance(error, PllmError):
            self.stop(halt.state, error)
            return
        self._close_alone(queue)
        failure = queue.recorder.fails_with or failure_of(error)
        queue.recorder.fail_all(failure)
        if not queue.recorder.open:  # fail the calls that were cancelled on the wire
            for call in self.results.calls_of(at):
                if self.results.outcomes[call] is None:
                    queue.recorder.fail_unsent(call, failure)

    def _close_alone(self, queue: CallQueue) -> None:
        """Close a queue while the run continues, and decide its held rejections, since no more answers will come."""
        queue.close()
        if queue.recorder.rejections.held:
            queue.recorder.fail_rejected(among_answers=queue.recorder.rejections.answered)

    def _abandon_later(self) -> None:
        """Stop waiting for the caller's validators after a while, in a stopping run: they may never return."""
        self.services.engine.loop.loop.call_later(ABANDON_AFTER_S, self._abandon)

    def _abandon(self) -> None:
        if self.state == "running" and self._stop is not None:
            for queue in self.queues:
                queue.reader.abandon()
                queue.recorder.drop_committed()
            self._abandon_later()

    def _requests_left(self) -> int:
        """Return the number of requests for rows that have not ended."""
        return -(-self.results.progress.left(len(self.results.call_of_row)) // (self.specs[0].pack or 1))
