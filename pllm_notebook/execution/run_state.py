"""The state of one run: what each result changes, when it is over, and how it is stopped."""

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

# Stored answers of one spec that are looked at to learn how many tokens an answer takes.
_LEARNED_FROM = 64
NOT_CACHED = Failure(FailureKind.NOT_CACHED, "Not in the cache, and cache='only' sends nothing.")


class RunState:
    """One run on the engine's loop; what displays read may be read from any thread.

    Args:
        specs: What the rows are asked (see `MixedRows`), with the options of one run.
        rows: The rows.
        services: What it uses and does not own.
        isolates: Whether a model that cannot be asked fails its own rows alone, while the others go on.
        observer: Makes what sees the results, of their table; None for nothing.

    Attributes:
        results: The outcome of each call and row of the run, and their counts.
        table: The outcomes of what a person asked: `results`, but for an ensemble, whose decisions they are.
        counts: Counts of rows of `table`.
        model: The models that are asked, as a person writes them.
        simulated: Whether any answers are simulated.
        decider: What decides rows from several calls each, None where each has one.
        queues: The calls of each spec.
        tasks: Of this run, while it goes.
        state: "running" until it has ended.
        error: What ended it, for the caller to raise; None for nothing.
        broken: Whether an internal error ended it: what is still on its way can then not be counted on.
        warnings: Warnings to show at the end, besides rows that failed or were not saved.
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
        # Of a decider, a decided row ends the run, and not a sample that fails.
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
        # How it will end once what is on its way has come back; None while nothing stops it.
        self._stop: Halt | None = None
        self._is_short = False

    # What displays and callers read.

    @property
    def note(self) -> str:
        """One line of news for the display, "" for none."""
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
        """Whether everything that it asks is on its way: of a batch, with the provider."""
        return self.state != "running" or self.queues.are_submitted

    @property
    def kept(self) -> int:
        """Rows that have an answer."""
        return self.table.answered

    @property
    def unsaved(self) -> int:
        """Rows whose paid answer the cache could not keep."""
        return self.results.unsaved

    def look(self) -> None:
        """Set `note` to what holds calls back at this moment. For the display's clock."""
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
        """Return the spec whose reply is a row's answer, and the reply's key, "" where it is the row's own."""
        decided = None if self.decider is None else self.decider.reply_of(row)
        return decided or (self.spec_of(row), "")

    def retryable(self, kinds: set[FailureKind] | None) -> list[int]:
        """Return the calls that a retry would send: never ended, or failed in a way that can pass."""
        return self.table.retryable(kinds)

    # What the loop calls.

    def take_chunk(self, chunk: Chunk) -> None:
        """Record what the plan found; queue the rest."""
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
            reply: What was read.
            step: What becomes of it.
            is_new: Whether it came in this run; a stored failure is not noted again.
        """
        if isinstance(step, ToolCalls) and not self.is_stopping:
            assert self.tasks is not None
            assert queue.tools is not None  # it has offered those that are called
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
        # Else the run stops before the tools are run: the row stays pending.

    async def _run_tools(self, queue: CallQueue, calling: ToolCalls) -> None:
        assert queue.tools is not None
        step = await queue.tools.run(calling)
        self.take_step(queue, calling.reply, step)
        self.advance(queue)
        if not queue.tools.working:
            queue.announce()  # a dispatcher that gathers calls may have them all now

    def advance(self, queue: CallQueue) -> None:
        """Send what can be sent now, and end if that was all."""
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
        """End where nothing is left to wait for; *looked_at* is known to have nothing."""
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
        """Whether no call is under way, and none is to be planned or sent."""
        return self._is_idle()

    def _is_idle(self, looked_at: CallQueue | None = None) -> bool:
        if not self.results.planned or any(queue.recorder.open for queue in self.queues):
            return False
        others = [queue for queue in self.queues if queue is not looked_at]
        # A rejected call that is held is decided when its queue is looked at next.
        idle = not any(queue.order.has_calls or queue.recorder.rejections.held for queue in others)
        return idle or self._stop is not None

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to wait for."""
        return self.queues[0].recorder.replies.over

    def check_decided(self, decider: Decider) -> None:
        """Stop at the first failed row, where the caller asked for that."""
        if decider.raises and decider.first_failure is not None:
            self.stop("failed", row_error(*decider.first_failure))

    def _check_keys(self) -> None:
        """Stop where any model has no key: before the first call is sent, and not when the judge's turn has come."""
        for spec in self.specs:
            if spec.target.missing_key is not None:
                self.stop("failed", spec.target.missing_key)

    def pause(self, paused: bool) -> None:
        """Send no new calls for now, or go on. What is planned, read and recorded does not wait."""
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
        """Send nothing more and cancel what is on the wire; the first reason counts."""
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
        """Stop the run, or let the others go on without *queue*."""
        if queue.over_budget is not None:
            queue.recorder.fail_all(queue.over_budget)
        if len(self.queues) == 1 and not self._isolates:
            self.stop(*halt)
            return
        if halt.reason is None:  # over budget: that is no error, but a run that ended so is not done either
            self._is_short = True
            self._close_alone(queue)
            return
        if self.decider is not None and not self._isolates:  # answers to a row are no rows: counted at the end
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
        if not queue.recorder.open:  # those that were cancelled on the wire
            for call in self.results.calls_of(at):
                if self.results.outcomes[call] is None:
                    queue.recorder.fail_unsent(call, failure)

    def _close_alone(self, queue: CallQueue) -> None:
        """Close a queue while the run goes on: no answer will tell any more whether a rejection was the row's own."""
        queue.close()
        if queue.recorder.rejections.held:
            queue.recorder.fail_rejected(among_answers=queue.recorder.rejections.answered)

    def _abandon_later(self) -> None:
        """Stop to wait for the caller's validators, which may never return, in a run that stops."""
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
