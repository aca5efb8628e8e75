"""The queue from which a dispatcher pulls one run's calls to one model.

A call can be delayed by the order, claims of other processes, a store that is behind, the first call that warms the
provider's cache, rejections, the budget, and serial mode.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial

from pllm_notebook.engine import cancelled
from pllm_notebook.exceptions import BudgetError, MissingKeyError, PllmError
from pllm_notebook.execution.budget import NOTHING, ModelBudget, Reservation, RunBudget
from pllm_notebook.execution.call_spec import BYTES_PER_TOKEN, DEFAULT_OUTPUT_TOKENS, CallSpec
from pllm_notebook.execution.follow_ups import NextTurn, WiderCall
from pllm_notebook.execution.next_call import NextCall, Tag
from pllm_notebook.execution.packing.packer import Pack
from pllm_notebook.execution.plan import Planner
from pllm_notebook.execution.prefetch import Prefetcher
from pllm_notebook.execution.prompt_cache_warmup import MAX_WAIT_S, Warmup, shared_prefix
from pllm_notebook.execution.rejections import FIRST_CALLS
from pllm_notebook.execution.replies import ReplyParser
from pllm_notebook.execution.reply_reader import ReplyReader
from pllm_notebook.execution.result_recorder import ResultRecorder
from pllm_notebook.execution.results import ResultTable
from pllm_notebook.execution.send_order import SendOrder
from pllm_notebook.execution.services import CallDispatcher, RunServices, attach
from pllm_notebook.execution.tool_runner import ToolRunner
from pllm_notebook.failures import Failure
from pllm_notebook.pending_call import CallResult, PendingCall
from pllm_notebook.types import Reply, Spent

__all__ = ["CallQueue"]

# If the writer falls this far behind, no new calls are sent. The calls in flight still fit in memory.
MOST_BACKLOG_BYTES = 64 * 2**20
_LOOK_AGAIN_S = 0.1
# How often the store is checked for answers to calls that another process sends.
_LOOK_ELSEWHERE_S = 0.25


class CallQueue:
    """The calls of one spec (see `protocols.CallSource`). Used only on the engine's loop.

    Attributes:
        spec: The spec of the calls.
        order: The calls waiting to be sent.
        recorder: Stores and records the results.
        budget: The calls' use of the run's budget.
        spent: Usage and cost of the calls.
        dispatcher: Sends the calls; set when the run begins. It has no connection until something must be sent.
        run_queue: The run's queue at the dispatcher.
        tools: Runs the tools called by replies, None if the spec offers none.
        reader: Reads replies.
        over_budget: Why the remaining calls are not sent, if the budget is insufficient; else None.
        before: In serial mode, the run's queues that must finish before this one starts.
    """

    # A class attribute, because a timer may still fire after a run's parts were released.
    _announced = False

    def __init__(
        self,
        spec: CallSpec,
        planner: Planner,
        results: ResultTable,
        services: RunServices,
        *,
        run_budget: RunBudget,
        raises: bool,
    ) -> None:
        options, store, loop = spec.options, services.store, services.engine.loop.loop
        self.spec, self.results = spec, results
        self._serial = options.mode == "sync"
        self._batch = options.mode == "batch"
        self.order = SendOrder(spec, planner, results, services)
        self.recorder = ResultRecorder(self.order, services, planner.rows, raises=raises)
        self.budget = ModelBudget(run_budget, spec.price, spec.output_limit, spec.target.label)
        self.spent = Spent()
        parser = ReplyParser(spec, store, planner.prompt)
        self.tools = None if spec.toolbox is None else ToolRunner(parser, services)
        self.reader = ReplyReader(parser, services)
        self.before: Sequence[CallQueue] = ()
        self._services = services
        self._store, self._loop = store, loop
        # Serial calls warm the cache anyway, and a batch is sent as a whole.
        warms = (spec.packed or spec).is_prefix_cached and not (self._serial or self._batch)
        self._warmup = Warmup() if warms else None
        self.over_budget: Failure | None = None
        self._looking: asyncio.TimerHandle | None = None
        self._share(False)
        self.run_queue = self.recorder.run_queue = services.run_queue(self, spec)
        self.dispatcher: CallDispatcher
        self._attached = False
        if options.images:
            self.order.prefetch = Prefetcher(self.order.encoded, self._loop, services.engine.workers, ready=self.send)

    def __repr__(self) -> str:
        return f"CallQueue({self.spec.target.label}, open={self.recorder.open}, requests={self.order.requests})"

    def begin(self) -> None:
        """Announce the run to its dispatcher, before the plan checks the store."""
        self.order.claims.begin()
        self.dispatcher = self._services.dispatcher(self.spec.target)
        self.order.recheck.begin(self.dispatcher)
        self.dispatcher.announce(self.run_queue)
        self._announced = True

    def retry(self, calls: list[int], can_pass: list[int]) -> None:
        """Restart with the calls of a retry (see `CacheRecheck.retry`)."""
        self.recorder.reset()
        self.over_budget = None
        self.order.recheck.retry(calls, can_pass)
        self.order.reset(calls)
        self.run_queue = self.recorder.run_queue = self._services.run_queue(self, self.spec)  # the old one stays closed

    def send(self) -> None:
        """Let the dispatcher pull the calls. It is opened only now: a run with only cache hits needs no key."""
        if not self._announced or self.recorder.halted is not None:
            return
        if self._attached:
            self.run_queue.is_empty = False
            self.dispatcher.wake()
            return
        try:
            attach(self.dispatcher, self.run_queue, self.spec.target.label)
            self._attached = True
        except MissingKeyError as error:
            # Built when all rows have been looked up, because it contains the number that need no key.
            self.recorder.halt("failed", partial(MissingKeyError, error.provider, error.variable))
        except PllmError as error:
            self.recorder.halt("failed", error)

    def announce(self) -> None:
        """Wake the dispatcher, since no more calls may come and a batch and the last pack are then complete.

        The loop is woken only if no call is open or will be sent, since the run may be over.
        """
        if not self.recorder.open and (self.recorder.halted is not None or not self.order.has_calls):
            self.recorder.replies.wake()
        self.run_queue.is_empty = False
        self.dispatcher.wake()

    def close(self) -> None:
        """Send nothing more. Each call in flight ends as cancelled, and tools are not waited for."""
        if self.tools is not None:
            self.recorder.open -= self.tools.abandon()
        # Detach even if nothing was sent: a batch dispatcher would wait for this run forever.
        if self._announced:
            self._announced = self._attached = False
            self.dispatcher.detach(self.run_queue)

    def fail(self, error: Exception) -> None:
        """End the run because of an internal error."""
        self.recorder.fail(error)

    # Read by displays.

    @property
    def submitted(self) -> bool:
        """Whether everything that can be sent has been sent, and nothing is left to plan.

        Calls over budget are sent when answers arrive; a batch that is not waited for gets none soon.
        """
        return self.is_exhausted() and (not self._attached or self.dispatcher.submitted(self.run_queue))

    def blocked_by(self) -> str:
        """Describe what delays calls now; "" if nothing does."""
        # A rate-limited call waits in the queue and is no longer pending; a call in a batch job is in flight.
        flying = 0 if self._batch else self.run_queue.in_flight
        if self.recorder.halted is not None or not (self.order.has_calls or self.recorder.open > flying):
            return ""
        if self._store is not None and self._store.is_behind(MOST_BACKLOG_BYTES):
            return "waiting for the cache to be written"
        rejection = self.recorder.rejections.suspected
        if rejection is not None:
            return f"every call is refused ({rejection.kind}): waiting for {self.recorder.open} in flight"
        if held := self.budget.held_by():
            return held
        if self.order.elsewhere and not self.run_queue.in_flight:
            return f"{len(self.order.elsewhere):,} calls are being answered elsewhere"
        return self.dispatcher.blocked_by(self._loop.time())

    # Called by the dispatcher (see `protocols.CallSource`).

    def next(self) -> PendingCall | None:
        """Return the next call, None if there is none to send now."""
        try:
            return self._next()
        except Exception as error:
            self.fail(error)
            return None

    def release_claims(self, call: PendingCall) -> None:
        """Release the claims of a call that waits to be sent again while the run is paused."""
        self.order.release_waiting(call.tag[0], call.key)

    def may_retry(self, call: PendingCall) -> bool:
        """Reserve money to send *call* again. All its requests so far may have been paid for."""
        return self.budget.admit(call.tag[1])

    def may_hedge(self, call: PendingCall) -> bool:
        """Reserve money to send *call* a second time. Return False while there are other calls to send."""
        all_sent = self.results.planned and not self.order.has_calls and not self._is_calling_tools
        return all_sent and not self.run_queue.paused and self.budget.admit(call.tag[1])

    def is_rejected(self) -> bool:
        """Return whether every call seems to be rejected for the same reason."""
        return self.recorder.rejections.suspected is not None

    def is_exhausted(self) -> bool:
        """Return whether no more calls will come until some have ended: all are sent, or over budget."""
        all_planned = self.results.planned and not self._is_calling_tools
        return all_planned and (not self.order.has_next or self.budget.is_over)

    @property
    def _is_calling_tools(self) -> bool:
        return self.tools is not None and self.tools.working > 0

    def end_if_answered(self, call: PendingCall) -> bool:
        """End a waiting call and return True if others have answered it or are sending it."""
        tag, bound, *_ = call.tag
        if self.order.is_still_wanted(tag, call.key):
            return False
        self._loop.call_soon(self.send)  # so that calls sent elsewhere are checked
        self.recorder.take_unsent()
        self.recorder.open -= 1
        self.recorder.replies.wake()
        _, spent = self.budget.settle_call(call, bound, cancelled(call, 0.0))
        self.spent += spent
        if self._warmup is not None:
            self._warmup.ended(self._loop.time(), replied=False)
        return True

    def done(self, call: PendingCall, result: CallResult) -> None:
        """Take the result of a call."""
        try:
            tag, bound, schema_level, version = call.tag
            reply = result.result
            if self._warmup is not None:
                self._warmup.ended(self._loop.time(), replied=isinstance(reply, Reply))
            cost_usd, spent = self.budget.settle_call(call, bound, result, is_counted=self._shares_money(result.joined))
            self.spent += spent
            if isinstance(reply, Reply) and self.budget.run_budget.ceiling_usd is not None:
                self._spec_of(tag).token_bounds.learn(reply, result.output_limit, version)
            self.recorder.take_result(call.key, tag, schema_level, result, cost_usd)
        except Exception as error:
            self.fail(error)

    def _shares_money(self, joined: object | None) -> bool:
        """Return whether a call joined a request of another queue with the same budget. *joined* is that queue."""
        return isinstance(joined, CallQueue) and joined.budget.run_budget is self.budget.run_budget

    # Reasons to hold calls back.

    def _next(self) -> PendingCall | None:
        recorder = self.recorder
        if recorder.halted is not None or recorder.rejections.suspected is not None or self._is_first_wave_out():
            return None
        if not self.order.has_calls:
            self.run_queue.is_empty = True  # until `send` or `announce`, one of which follows each addition of calls
            return None
        if self._serial and not self._is_its_turn():
            return None
        if self._store is not None and self._store.is_behind(MOST_BACKLOG_BYTES):
            recorder.check_store()
            self._loop.call_later(_LOOK_AGAIN_S, self.send)
            return None
        warmup = self._warmup
        if warmup is not None and warmup.waits and warmup.holds(self._loop.time(), self.order.requests):
            return None
        if not self.spec.shared and self.order.requests > 1:
            self._share(True)
        next_ = self.order.peek(planned=self.results.planned)
        if self.order.found or self.order.unsendable:
            recorder.take_unsent()
        if next_ is None and self.order.unclaimed:
            self._loop.call_soon(self.send)
        if self._looking is None and self.order.elsewhere:
            self._looking = self._loop.call_later(_LOOK_ELSEWHERE_S, self._look_elsewhere)
        if next_ is None:
            if not (self.recorder.open or self.order.has_next):
                self.recorder.replies.wake()  # all remaining calls wait in a batch job: the run may be over
            return None
        call = self._pending_call(next_)
        if call is not None:
            self.order.take(next_.tag)
        return call

    def _pending_call(self, next_: NextCall) -> PendingCall | None:
        size, tag = next_.size, next_.tag
        if isinstance(tag, Pack):
            assert self.order.packing is not None
            tokens = self.order.packing.tokens(tag)
        else:
            tokens = size / BYTES_PER_TOKEN + (self.spec.options.max_output_tokens or DEFAULT_OUTPUT_TOKENS)
        reserved: Reservation | None = NOTHING
        if self.budget.run_budget.ceiling_usd is not None:
            reserved = self.budget.reserve_for(self._spec_of(tag), next_)
        if reserved is None:
            if not self.recorder.open:
                self._loop.call_soon(self._guard, self._stop_over_budget)
            return None
        self.recorder.open += 1
        warmup = self._warmup
        if warmup is not None and not warmup.begun and warmup.begin(self._loop.time(), shared_prefix(self.spec)):
            self._loop.call_later(MAX_WAIT_S, self.send)
        spec, quirks = self._spec_of(tag), self.spec.target.quirks
        content = partial(next_.content, reserved.output_limit)
        call = PendingCall(next_.key, content, tokens, (tag, reserved.usd, spec.schema_level.level, quirks.version))
        if self._batch:  # for the displayed price of its job
            call.answer_tokens = self.spec.token_bounds.expected * (len(tag.calls) if isinstance(tag, Pack) else 1)
        call.output_limit = spec.output_limit
        if reserved.output_limit != call.output_limit:
            call.wire_limit = reserved.output_limit
        return call

    def _spec_of(self, tag: Tag) -> CallSpec:
        return self.spec.packed if isinstance(tag, Pack) and self.spec.packed is not None else self.spec

    def _guard(self, step: Callable[[], None]) -> None:
        """Run *step*, called by a timer. An exception ends only this run."""
        try:
            step()
        except Exception as error:
            self.fail(error)

    def _look_elsewhere(self) -> None:
        self._looking = None
        if self._announced and self.recorder.halted is None:
            self._guard(self._check_elsewhere)

    def _check_elsewhere(self) -> None:
        self.order.look_elsewhere(paused=self.run_queue.paused)
        self.recorder.take_unsent()
        if self.order.elsewhere:
            self._looking = self._loop.call_later(_LOOK_ELSEWHERE_S, self._look_elsewhere)
            self.recorder.replies.wake()
        else:
            self.announce()

    def _is_its_turn(self) -> bool:
        """Return whether the next call may be sent in a run that sends one at a time."""
        if self.recorder.open:
            return False
        if not self.before:
            return True
        return self.results.planned and not any(queue.recorder.open or queue.order.has_calls for queue in self.before)

    def _is_first_wave_out(self) -> bool:
        """Return whether no more calls may be sent before the first answer. Always False for a batch."""
        return not self.recorder.rejections.answered and self.recorder.open >= FIRST_CALLS and not self._batch

    def _share(self, shared: bool) -> None:
        """Set whether several calls will share a prefix, so that marking it for the provider's cache pays."""
        for spec in (self.spec, self.spec.packed):
            if spec is not None:
                spec.shared = shared and not spec.alone

    def _stop_over_budget(self) -> None:
        """Stop if nothing is on the wire and the next call could exceed the cost limit."""
        unfunded, self.budget.unfunded = self.budget.unfunded, None
        if self.recorder.open or self.recorder.halted is not None or unfunded is None:
            return
        run_budget = self.budget.run_budget
        if run_budget.requests:  # requests of other queues, which may cost less than was reserved
            run_budget.when_freed(self.send)
            return
        cut_at = unfunded.above if isinstance(unfunded, WiderCall) else None
        failure = run_budget.exhausted(self.spec.options.max_cost_usd, cut_at=cut_at)
        if isinstance(unfunded, WiderCall) or (isinstance(unfunded, NextTurn) and unfunded.first is not None):
            # This call is a repetition with a higher limit, or a second question: other calls may still fit.
            self.order.drop_first(unfunded)
            self.recorder.record_unsent(unfunded.call, unfunded.failed(failure))
            return
        # The run fails the waiting calls when it handles the halt: until then, the plan may still add calls.
        self.over_budget = failure
        self.recorder.halt("failed", partial(BudgetError, failure.message) if self.recorder.raises else None)
